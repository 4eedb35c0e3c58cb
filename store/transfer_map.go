package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// shape reads the columns of a memory's table.
func shape(ctx context.Context, q querier, memory resilience.Memory) (resilience.Shape, error) {
	const query = `
		SELECT a.attname::text, CASE a.atttypid WHEN 'bpchar'::regtype THEN 'bpchar' WHEN 'bit'::regtype THEN '"bit"' ELSE format_type(a.atttypid, NULL) END, -- a cast to it cuts nothing short
			a.atttypmod, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '',
			a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false),
			CASE WHEN a.attgenerated <> '' THEN '' WHEN a.attidentity <> ''
				THEN format('nextval(%L::regclass)', pg_get_serial_sequence($1::text, a.attname)) ELSE coalesce(pg_get_expr(d.adbin, d.adrelid), '') END,
			has_column_privilege(a.attrelid, a.attnum, 'SELECT'), has_column_privilege(a.attrelid, a.attnum, 'INSERT'),
			y.typtype = 'd'
		FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`
	rows, err := q.Query(ctx, query, quote(memory.Mapping.Schema, memory.Mapping.Table))
	if err != nil {
		return resilience.Shape{}, err
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Column])
	return resilience.Shape{Name: memory.Name, Mapping: memory.Mapping, Columns: columns}, err
}

// carriage writes the SQL by which rows of one table become rows of another.
// Source and target are read in queries of their own, so both have the alias t
// there; the target's parameters are apart.
type carriage struct {
	from, to table
	fit      resilience.Fit
	prints   string // how they are made
}

// args are the parameters of both sides.
func (c carriage) args(extra pgx.NamedArgs) pgx.NamedArgs {
	args := c.from.args(extra)
	for i, s := range c.to.m.Scope {
		args[fmt.Sprintf("to_scope%d", i)] = s.Value
	}
	args["to_prefix"] = c.to.m.StripPrefix
	return args
}

// targetScope holds for the rows of the target memory.
func (c carriage) targetScope() string {
	all := []string{"true"}
	for i, s := range c.to.m.Scope {
		all = append(all, fmt.Sprintf("%s = @to_scope%d", c.to.column(s.Column), i))
	}
	return "(" + strings.Join(all, " AND ") + ")"
}

// columns of the target that a copy fills, quoted, the id first.
func (c carriage) columns() []string {
	names := make([]string, len(c.fit.Fills))
	for i, f := range c.fit.Fills {
		names[i] = quote(f.Column)
	}
	return names
}

// values are what the columns get, under the names f1, f2 …, from the source's
// row t and the journal's row p. The id, f0, is chosen later.
func (c carriage) values() string {
	return c.valued(func(_ resilience.Fill, value string) string { return value })
}

// valuesAtHand are they for who uses them more than once: what a column gives of an
// embedding is where it lies, apart from its row, and each use reads it there. Joined to no
// other, an array is in memory.
func (c carriage) valuesAtHand() string {
	return c.valued(func(f resilience.Fill, value string) string {
		if ofNumbers(f) {
			return "array_cat(" + value + ", NULL)"
		}
		return value
	})
}

func (c carriage) valued(as func(resilience.Fill, string) string) string {
	var all []string
	for i, f := range c.fit.Fills[1:] {
		all = append(all, fmt.Sprintf("%s AS f%d", as(f, c.kept(f)), i+1))
	}
	return strings.Join(all, ", ")
}

// ofNumbers says whether a column has embeddings as arrays.
func ofNumbers(f resilience.Fill) bool {
	return f.Means == resilience.MeansVector && strings.HasSuffix(f.Type, "[]")
}

// kept is what a column gets, as it will have it.
func (c carriage) kept(f resilience.Fill) string {
	return asKept(f, fmt.Sprintf("(%s)::%s", c.value(f), f.Type))
}

func (c carriage) value(f resilience.Fill) string {
	switch f.Means {
	case resilience.MeansPath:
		return "p.new_path"
	case resilience.MeansOrdinal:
		return "p.origin"
	case resilience.MeansScope:
		for i, s := range c.to.m.Scope {
			if s.Column == f.Column {
				return fmt.Sprintf("@to_scope%d::text", i)
			}
		}
	case resilience.MeansDocument:
		return c.document(f)
	case resilience.MeansID, resilience.MeansContent, resilience.MeansVector, resilience.MeansAccess, resilience.MeansSame:
	}
	return c.from.column(f.From)
}

// document is the source's metadata without its path, with what has no column
// in the target, and with the path where the target keeps it.
func (c carriage) document(f resilience.Fill) string {
	document, displaced := "NULL::jsonb", ""
	beside := f.Column == c.to.m.Home() && len(c.fit.Extras) > 0
	if f.From != "" {
		document = c.bare(f.From)
		displaced = c.displaced(f, "("+object(document)+")", beside)
	}
	var merged, put []string
	switch {
	case beside && displaced != "":
		merged = append(merged, "jsonb_build_object('rehome', "+c.extras()+" || "+displaced+")")
	case beside:
		merged = append(merged, "jsonb_build_object('rehome', "+c.extras()+")")
	case displaced != "":
		merged = append(merged, displaced)
	}
	for _, l := range c.to.m.Locators {
		switch {
		case l.Column != f.Column:
		case len(l.Keys) == 1:
			merged = append(merged, "jsonb_build_object("+literal(l.Keys[0])+", p.new_path)")
		default:
			put = append(put, literals(l.Keys))
		}
	}
	if len(merged)+len(put) > 0 && (f.From != "" || len(merged) == 0) { // the source's comes first
		merged = slices.Insert(merged, 0, object(document))
	}
	if len(merged) > 0 {
		document = strings.Join(merged, " || ")
	}
	for _, keys := range put {
		document = fmt.Sprintf("rehome.jsonb_put(%s, %s, p.new_path)", document, keys)
	}
	if f.NotNull {
		document = "coalesce(" + document + ", '{}')"
	}
	return document
}

// displaced is a document of what the source's metadata, an object, has where the copy has
// something of its own: it is kept under the name of its column, as what has no column in
// the target is. Empty: there is nothing like that.
func (c carriage) displaced(f resilience.Fill, metadata string, beside bool) string {
	var some []string
	which := []string{"key = 'rehome'"}
	if beside {
		some = append(some, metadata+" ? 'rehome'")
	}
	for _, l := range c.to.m.Locators {
		if l.Column == f.Column && len(l.Keys) > 0 {
			over := overwrites(metadata, l.Keys)
			some = append(some, over)
			which = append(which, fmt.Sprintf("key = %s AND (%s)", literal(l.Keys[0]), over))
		}
	}
	if len(some) == 0 {
		return ""
	}
	displaced := fmt.Sprintf("jsonb_build_object(%s, (SELECT jsonb_object_agg(key, value) FROM jsonb_each(%s) WHERE %s))", literal(f.From), metadata, strings.Join(which, " OR "))
	if !beside {
		displaced = "jsonb_build_object('rehome', " + displaced + ")"
	}
	return fmt.Sprintf("CASE WHEN %s THEN %s ELSE '{}' END", strings.Join(some, " OR "), displaced)
}

// overwrites holds where a path that is put at keys of a document would take the place of
// something, and not only stand in an object beside it.
func overwrites(document string, keys []string) string {
	over := []string{fmt.Sprintf("%s #> %s IS NOT NULL", document, literals(keys))}
	for i := 1; i < len(keys); i++ {
		over = append(over, fmt.Sprintf("jsonb_typeof(%s #> %s) <> 'object'", document, literals(keys[:i])))
	}
	return strings.Join(over, " OR ")
}

// mostArguments is what Postgres lets a function have.
const mostArguments = 100

// extras is a document of the columns that have a value and no column in the target.
func (c carriage) extras() string {
	var parts []string
	for names := range slices.Chunk(c.fit.Extras, mostArguments/2) {
		parts = append(parts, c.fields(names))
	}
	return strings.Join(parts, " || ")
}

// fields is a document of those columns of the source that have a value.
func (c carriage) fields(names []string) string {
	var columns, fields, empty []string
	for _, name := range names {
		column := c.from.column(name)
		columns = append(columns, column)
		fields = append(fields, literal(name)+", "+column)
		empty = append(empty, fmt.Sprintf("CASE num_nulls(%s) WHEN 1 THEN %s END", column, literal(name)))
	}
	return fmt.Sprintf("CASE num_nulls(%s) WHEN 0 THEN jsonb_build_object(%[2]s) ELSE jsonb_build_object(%[2]s) - ARRAY[%s] END",
		strings.Join(columns, ", "), strings.Join(fields, ", "), strings.Join(empty, ", "))
}

// withoutAccess is a document of the target without how often the source was
// used, which may stand in it.
func (c carriage) withoutAccess(document string) string {
	for _, column := range c.fit.Extras {
		if column == c.from.m.Accessed || column == c.from.m.AccessCount {
			document = fmt.Sprintf("(%s::jsonb #- %s)", document, literals([]string{"rehome", column}))
		}
	}
	return document
}

// bare is a document of the source, as jsonb, without the paths in it.
func (c carriage) bare(column string) string {
	document := c.from.column(column) + "::jsonb"
	for _, l := range c.from.m.Locators {
		if l.Column == column && len(l.Keys) > 0 {
			document = fmt.Sprintf("(%s #- %s)", document, literals(l.Keys))
		}
	}
	return document
}

// object makes a document that others can be merged into.
func object(document string) string {
	if document == "NULL::jsonb" {
		return "'{}'::jsonb"
	}
	return fmt.Sprintf("CASE coalesce(jsonb_typeof(%[1]s), 'null') WHEN 'object' THEN %[1]s WHEN 'null' THEN '{}' ELSE jsonb_build_object('metadata', %[1]s) END", document)
}

func literal(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func literals(keys []string) string {
	quoted := make([]string, len(keys))
	for i, k := range keys {
		quoted[i] = literal(k)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]"
}

// chosenID is the id of a copy: the one it had before, that of the source where
// the target's type takes it, or a fresh one; NULL when there is none.
func (c carriage) chosenID(row string) string {
	var choice strings.Builder
	take := func(id string) {
		fmt.Fprintf(&choice, " WHEN %s IS NOT NULL AND NOT EXISTS (SELECT FROM %s t WHERE %s) THEN (%[1]s)::%[4]s", id, c.to.name(), c.to.hasID(id), c.to.m.IDType)
	}
	take(row + ".target_id")
	if c.fit.KeepID {
		take(row + ".chunk_id")
	}
	if c.fit.FreshID != "" {
		fmt.Fprintf(&choice, " ELSE (%s)::%s", c.fit.FreshID, c.to.m.IDType)
	}
	return "CASE" + choice.String() + " END"
}

// soleID is the id of a copy of the source's row t where it can have no other than that row.
func (c carriage) soleID() (id string, known bool) {
	return fmt.Sprintf("(%s)::%s", c.from.id(), c.to.m.IDType), c.fit.KeepID && c.fit.FreshID == ""
}
