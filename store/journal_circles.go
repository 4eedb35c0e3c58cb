package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// onePlace is a unique index that holds a path.
type onePlace struct {
	Name    string
	Beside  []string // its columns that hold no path
	Unknown bool     // it is of expressions or documents, and nobody knows which rows are equal by it
	Of      string   // which rows it has: a condition
}

// onePlaces lists the unique indexes of the table and its partitions by which two chunks
// may not stand at one place. One of a document with locators is taken for one of the path,
// unless it is an expression that takes another key from it.
func (j *journal) onePlaces(ctx context.Context) ([]onePlace, error) {
	keys := []string{}
	for _, l := range j.table.m.Locators {
		if len(l.Keys) > 0 {
			keys = append(keys, l.Keys[len(l.Keys)-1])
		}
	}
	rows, err := j.tx.Query(ctx, parts+`
		SELECT min(i.indexrelid::regclass::text), k.beside, k.document OR e.is IS NOT NULL, coalesce(pg_get_expr(i.indpred, i.indrelid), 'true')
		FROM parts JOIN pg_index i ON i.indrelid = parts.relid
		CROSS JOIN LATERAL (SELECT pg_get_expr(i.indexprs, i.indrelid) AS is) e
		CROSS JOIN LATERAL (
			SELECT coalesce(array_agg(a.attname::text ORDER BY a.attname) FILTER (WHERE a.attname <> ALL (@paths)), '{}') AS beside,
				coalesce(bool_or(a.attname = ANY (@paths)), false) AS path, coalesce(bool_or(a.attname = ANY (@documents)), false) AS document
			FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[:i.indnkeyatts - 1])) k
		CROSS JOIN LATERAL ( -- what the expressions are made of stands in pg_depend only
			SELECT coalesce(bool_or(a.attname = ANY (@paths)), false) AS path, coalesce(bool_or(a.attname = ANY (@documents)), false) AS document
			FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
			WHERE e.is IS NOT NULL AND d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid) d
		WHERE i.indisunique AND (k.path OR k.document OR d.path OR d.document AND (
			e.is !~ '->|#>' OR EXISTS (SELECT FROM unnest(@keys::text[]) key WHERE position(key IN e.is) > 0)))
		GROUP BY 2, 3, 4 ORDER BY 1`,
		pgx.NamedArgs{"table": j.table.name(), "paths": j.table.pathColumns(), "documents": j.table.documentColumns(), "keys": keys})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[onePlace])
}

// stepAside is added to a path to make a place that no file is at, for as long as a
// transaction takes.
const stepAside = "~rehome"

// findCircles looks for files that go where another still is when their turn comes, whose
// chunks a unique index lets not stand together: of a chain the files go from its end, but
// a circle has none. The other file steps aside for them. Where it cannot, that is a
// conflict; what goes back is tried all the same.
func (j *journal) findCircles(ctx context.Context) error {
	places, err := j.onePlaces(ctx)
	if err != nil || len(places) == 0 {
		return err
	}
	later := ">="
	if j.undoes != "" { // the last rule comes first
		later = "<="
	}
	met := make([]string, len(places))
	for i, place := range places {
		met[i] = fmt.Sprintf("SELECT old_key, new_key, %s::text AS name, %t AS unknown FROM links l%s", literal(place.Name), place.Unknown, j.meet(place))
	}
	query := fmt.Sprintf(`
		WITH links AS MATERIALIZED (
			SELECT p.old_key, p.new_key, p.old_path, p.new_path, n.path_id
			FROM rehome.migration_paths p JOIN rehome.migration_paths n ON n.plan_id = @plan AND n.old_key = p.new_key
			WHERE p.plan_id = @plan AND n.rule %s p.rule AND n.old_key <> p.old_key),
		met AS MATERIALIZED (SELECT DISTINCT ON (old_key) * FROM (%s) m ORDER BY old_key, unknown DESC, name),
		judged AS (
			SELECT *, CASE
				WHEN unknown THEN format('the unique index %%s, which is of an expression or a document, may take no two chunks at one', name)
				WHEN %t THEN format('the unique index %%s takes no two chunks at one, while a file can step aside only where its path has a column of its own', name)
				WHEN EXISTS (
					SELECT FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
					WHERE c.contype = 'f' AND c.conrelid = @table::regclass AND a.attname = ANY (@locators))
					THEN format('the unique index %%s takes no two chunks at one, while a foreign key lets no file step aside', name)
				WHEN length(new_key) + %d > (
					SELECT min(atttypmod - 4) FROM pg_attribute -- as Postgres keeps a length
					WHERE attrelid = @table::regclass AND attname = ANY (@locators) AND atttypid = 'varchar'::regtype AND atttypmod > 0)
					THEN format('the unique index %%s takes no two chunks at one, while the path of %%s leaves no room in its column to step aside', name, new_key)
				END AS closed
			FROM met),
		aside AS (
			UPDATE rehome.migration_paths n SET aside = true
			FROM judged WHERE n.plan_id = @plan AND n.old_key = judged.new_key AND closed IS NULL)
		SELECT 'circle', old_key, new_key, closed, count(*) OVER () FROM judged WHERE closed IS NOT NULL AND %t ORDER BY old_key LIMIT @kept`,
		later, strings.Join(met, " UNION ALL "), j.table.rewritesDocuments(), len(stepAside), j.undoes == "")
	_, err = j.find(ctx, query)
	return err
}

// meet joins the chunks of two files of a link l that may not stand at one place.
func (j *journal) meet(index onePlace) string {
	if index.Unknown {
		return ""
	}
	t := j.table
	columns := []string{t.path() + " AS place"}
	equal := []string{"(SELECT EXISTS (SELECT FROM links))", "here.place = l.old_path", "there.place = l.new_path"} // without links the table is not read
	for i, c := range index.Beside {
		columns = append(columns, fmt.Sprintf("%s AS c%d", t.column(c), i))
		equal = append(equal, fmt.Sprintf("here.c%[1]d = there.c%[1]d", i))
	}
	chunks := fmt.Sprintf("SELECT DISTINCT %s FROM %s t WHERE %s", strings.Join(columns, ", "), t.name(), t.scope())
	// Whether the index will have those that come may depend on where they come to.
	return fmt.Sprintf(", (%s) here, (%s AND (%s)) there WHERE %s", chunks, chunks, index.Of, strings.Join(equal, " AND "))
}

// mostTied is how many rows one transaction takes at most for the sake of files that
// change places, where not all rows of the plan go in one anyway.
const mostTied = 10_000

// tie records which rows step aside, and which go in one transaction therefore: a knot is
// from the first row of a file that goes where another is to the last row of that one.
func (j *journal) tie(ctx context.Context) error {
	args := j.args(nil)
	var some bool
	err := j.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM rehome.migration_paths WHERE plan_id = @plan AND aside)`, args).Scan(&some)
	if err != nil || !some {
		return err
	}
	_, err = j.tx.Exec(ctx, `
		WITH runs AS MATERIALIZED (
			SELECT r.first, r.last, p.old_key, p.new_key, p.aside
			FROM rehome.migration_runs r JOIN rehome.migration_paths p USING (path_id) WHERE r.plan = @number),
		knots AS (
			SELECT int8range(min(first), max(last), '[]') AS rows
			FROM (
				SELECT old_key AS place, first, last FROM runs WHERE aside
				UNION ALL
				SELECT new_key, first, last FROM runs WHERE new_key IN (SELECT old_key FROM runs WHERE aside)) r
			GROUP BY place)
		UPDATE rehome.migration_plans
		SET knots = (SELECT coalesce(range_agg(rows), '{}') FROM knots),
			aside = (SELECT coalesce(range_agg(int8range(first, last, '[]')), '{}') FROM runs WHERE aside)
		WHERE plan_id = @plan`, args)
	if err != nil || j.undoes != "" || j.strategy == resilience.Immediate {
		return err
	}
	_, err = j.find(ctx, fmt.Sprintf(`
		WITH large AS (
			SELECT lower(k) AS first, upper(k) - lower(k) AS rows
			FROM rehome.migration_plans, unnest(knots) k WHERE plan_id = @plan AND upper(k) - lower(k) > %d)
		SELECT 'circle', m.old_key, m.new_key, format('the chunks meet in a unique index: %%s of them would have to go in one transaction, more than %d (immediate takes more)', l.rows), count(*) OVER ()
		FROM large l CROSS JOIN LATERAL (
			SELECT p.old_key, p.new_key FROM rehome.migration_runs r JOIN rehome.migration_paths p USING (path_id)
			WHERE r.plan = @number AND r.last >= l.first ORDER BY r.last LIMIT 1) m
		ORDER BY l.first LIMIT @kept`, mostTied, mostTied))
	return err
}

// span is rows (lo, hi] of the journal.
type span struct{ lo, hi int64 }

// spans are apart from each other, in ascending order.
type spans []span

// readSpans reads a multirange of ordinals, given as text.
func readSpans(ctx context.Context, q querier, multirange string) (spans, error) {
	if multirange == "{}" {
		return nil, nil
	}
	rows, err := q.Query(ctx, `SELECT lower(r) - 1, upper(r) - 1 FROM unnest($1::text::int8multirange) r`, multirange)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s span, err error) { return s, row.Scan(&s.lo, &s.hi) })
}

// within are those that lie in rows (lo, hi].
func (s spans) within(lo, hi int64) spans {
	var in spans
	for _, one := range s {
		if lo <= one.lo && one.hi <= hi {
			in = append(in, one)
		}
	}
	return in
}

// between are what they leave of rows (lo, hi], in which all of them lie.
func (s spans) between(lo, hi int64) spans {
	var left spans
	for _, one := range append(slices.Clone(s), span{hi, hi}) {
		if lo < one.lo {
			left = append(left, span{lo, one.lo})
		}
		lo = one.hi
	}
	return left
}

// around is the one that has rows on both sides of a cut after row at.
func (s spans) around(at int64) (span, bool) {
	for _, one := range s {
		if one.lo < at && at < one.hi {
			return one, true
		}
	}
	return span{}, false
}
