package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// What the application wrote to a copy comes home when the copy goes: the fit is
// turned round. Whether all of it can be carried is not reasoned about but tried:
// only where the source row, as it would be, makes exactly this copy again does it
// take what was written. Else the copy stays.

// writable are the columns of the source, by their names, that can take something
// home, with their whole types: what does not fit is then cut where it is compared.
type writable map[string]string

// readWritable leaves out what the role may not write, or nobody can.
func readWritable(ctx context.Context, q querier, t table) (writable, error) {
	rows, err := q.Query(ctx, `
		SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity <> 'a'
			AND has_column_privilege(attrelid, attnum, 'UPDATE')`, t.name())
	if err != nil {
		return nil, err
	}
	all := writable{}
	var column, kind string
	_, err = pgx.ForEachRow(rows, []any{&column, &kind}, func() error { all[column] = kind; return nil })
	return all, err
}

// homecoming writes the SQL by which what was written to a copy comes home. In
// it p is a row of edited, of which f0, w1, w2 … are the copy's columns and path is
// the copy's, and t is the row of the source. A copy whose path was changed stays: it
// is of another file now.
type homecoming struct {
	*transfer
	writable writable
}

// sources are the columns of the source that the copies are made of.
func (h homecoming) sources() []string {
	columns := slices.Clone(h.fit.Extras)
	for _, f := range h.fit.Fills {
		columns = append(columns, f.From)
	}
	slices.Sort(columns)
	return slices.DeleteFunc(slices.Compact(columns), func(c string) bool { return c == "" })
}

// takes are those of them that can change.
func (h homecoming) takes() []string {
	return slices.DeleteFunc(h.sources(), func(c string) bool { return h.turned(c) == h.from.column(c) })
}

// turned is what a column of the source is to hold.
func (h homecoming) turned(column string) string {
	own, kind := h.from.column(column), h.writable[column]
	if kind == "" || column == h.from.m.ID || slices.ContainsFunc(h.from.m.Scope, func(s resilience.Scope) bool { return s.Column == column }) {
		return own
	}
	if i := slices.IndexFunc(h.fit.Fills, func(f resilience.Fill) bool { return f.From == column }); i > 0 {
		return h.back(i, own, kind)
	}
	return own
}

// back is what was written to the column of fill i, as the source keeps it.
func (h homecoming) back(i int, own, kind string) string {
	f, was, now := h.fit.Fills[i], fmt.Sprintf("b.f%d", i), fmt.Sprintf("p.w%d", i)
	switch f.Means {
	case resilience.MeansDocument:
		if kind != "jsonb" { // of json not all would be kept that was not changed
			return own
		}
		now = h.documentBack(f, own, was+"::jsonb", now+"::jsonb")
	case resilience.MeansContent:
		now = fmt.Sprintf("%s::text::%s", now, kind)
	case resilience.MeansVector, resilience.MeansSame:
		now = fmt.Sprintf("%s::%s", now, kind)
	case resilience.MeansID, resilience.MeansPath, resilience.MeansScope, resilience.MeansAccess, resilience.MeansOrdinal:
		return own
	}
	return fmt.Sprintf("CASE WHEN %s THEN %s ELSE %s END", h.same(i, was), own, now)
}

// documentBack is the source's, with the changes that were made to the copy's, apart
// from what is the copy's own in it.
func (h homecoming) documentBack(f resilience.Fill, own, was, now string) string {
	bare := h.bare(f.From)
	plain := func(document string) string {
		return fmt.Sprintf("coalesce(jsonb_typeof(%s), 'null') IN ('object', 'null')", document)
	}
	apart := func(document string) string {
		document = fmt.Sprintf("CASE jsonb_typeof(%[1]s) WHEN 'object' THEN %[1]s ELSE '{}' END", document)
		for _, l := range h.to.m.Locators {
			if l.Column == f.Column {
				document = fmt.Sprintf("(%s #- %s)", document, literals(l.Keys))
			}
		}
		if f.Column == h.to.m.Home() && len(h.fit.Extras) > 0 {
			document = fmt.Sprintf("(%s - 'rehome')", document)
		}
		return document
	}
	changed := fmt.Sprintf("rehome.jsonb_changed(%s, %s, %s)", object(bare), apart(was), apart(now))
	for _, l := range h.from.m.Locators {
		if l.Column == f.From {
			changed = fmt.Sprintf("rehome.jsonb_put(%s, %s, p.home)", changed, literals(l.Keys))
		}
	}
	return fmt.Sprintf("CASE WHEN %s AND %s AND jsonb_typeof(%s) = 'object' THEN %s ELSE %s END", plain(bare), plain(was), now, changed, own)
}

// same holds where fill i of a row that could be written is bit for bit what the
// copy has; how often it was used is no matter.
func (h homecoming) same(i int, value string) string {
	f, copied := h.fit.Fills[i], fmt.Sprintf("p.w%d", i)
	switch f.Means {
	case resilience.MeansAccess:
		return "true"
	case resilience.MeansDocument:
		value, copied = h.withoutAccess(value), h.withoutAccess(copied)
	case resilience.MeansID, resilience.MeansContent, resilience.MeansVector, resilience.MeansPath, resilience.MeansScope, resilience.MeansSame, resilience.MeansOrdinal:
	}
	return fmt.Sprintf("(ROW(%s)::record) *= (ROW(%s)::record)", value, copied)
}

// differing names the columns of the copy that a row f1, f2 … under an alias
// differs from it in. They may be more than a function takes arguments.
func (h homecoming) differing(alias string) string {
	var names []string
	for i, f := range h.fit.Fills[1:] {
		names = append(names, fmt.Sprintf("CASE WHEN NOT (%s) THEN %s END", h.same(i+1, fmt.Sprintf("%s.f%d", alias, i+1)), literal(f.Column)))
	}
	return "array_to_string(ARRAY[" + strings.Join(names, ", ") + "]::text[], ', ')"
}

// parts of the statement that brings home what was written.
func (h homecoming) parts() *strings.Replacer {
	var wrote, turned, row, sets []string
	for i, f := range h.fit.Fills[1:] {
		wrote = append(wrote, fmt.Sprintf("%s AS w%d", h.to.column(f.Column), i+1))
	}
	takes := h.takes()
	for i, c := range h.sources() {
		turned = append(turned, fmt.Sprintf("%s AS c%d", h.turned(c), i))
		row = append(row, fmt.Sprintf("n.c%d AS %s", i, quote(c)))
		if slices.Contains(takes, c) {
			sets = append(sets, fmt.Sprintf("%s = p.c%d", quote(c), i))
		}
	}
	names := make([]string, len(turned))
	for i := range names {
		names[i] = fmt.Sprintf("n.c%d", i)
	}
	return strings.NewReplacer(
		"{wrote}", strings.Join(wrote, ", "), "{turned}", strings.Join(turned, ", "), "{row}", strings.Join(row, ", "), "{takes}", strings.Join(sets, ", "), "{turned names}", strings.Join(names, ", "),
		"{copy's path}", h.targetPath(),
		"{changed}", h.differing("b"), "{lost}", h.differing("a"), "{expected v}", h.expected("v"),
		"{id type}", h.to.m.IDType,
		"{meddled}", strings.ReplaceAll(beforeUpdate, "@relations", "@home_relations"))
}

// keepCopies is what stands for bringHome where nothing comes home.
const keepCopies = `
		judged AS MATERIALIZED (
			SELECT ordinal, 'it was written to' AS why FROM state WHERE safe AND present AND NOT ours),
		brought AS MATERIALIZED (
			SELECT ordinal, '' AS changed, true AS verified FROM planned WHERE false),`

// An edited copy stands beside what its source would make as it is, b, and as it
// would be, a, of which n are the columns.
const bringHome = `
		edited AS MATERIALIZED (
			SELECT p.ordinal, p.origin, p.chunk_id, p.made, p.home, p.new_path, p.more, p.target_id::{id type} AS f0, {copy's path} AS path, {written} AS print, {wrote}
			FROM state p JOIN {target} t ON {is target}
			WHERE p.safe AND p.present AND NOT p.ours),
		judged AS MATERIALIZED (
			SELECT p.ordinal, p.origin, p.chunk_id, p.f0, p.print, p.new_path, {turned names}, {changed} AS changed,
				CASE WHEN p.path IS DISTINCT FROM p.new_path THEN 'its path was changed in the target'
					WHEN NOT ({at home} AND {expected} = p.made) THEN 'the chunk that came home was changed too'
					WHEN concat(a.lost, p.more) <> '' THEN 'what was written to ' || concat_ws(', ', nullif(a.lost, ''), nullif(p.more, '')) || ' does not fit into memory ' || @source::text
					WHEN {meddled} THEN 'a trigger or a rule of memory ' || @source::text || ' changes what is written' ELSE '' END AS why
			FROM edited p JOIN {source} t ON {is source}
			CROSS JOIN LATERAL (SELECT p.f0, {values} OFFSET 0) b
			CROSS JOIN LATERAL (SELECT {turned} OFFSET 0) n
			CROSS JOIN LATERAL (
				SELECT {lost} AS lost FROM (SELECT {row}) t CROSS JOIN LATERAL (SELECT {values} OFFSET 0) a OFFSET 0) a),
		brought AS (
			UPDATE {source} t SET {takes} FROM judged p WHERE p.why = '' AND {is source}
			RETURNING p.ordinal, p.changed, (SELECT {expected v} FROM (SELECT p.f0, {values}) v) = p.print AS verified),`
