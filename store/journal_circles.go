package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// onePlace is a unique index, or one of an exclusion, that holds a path.
type onePlace struct {
	Beside  []string // its columns that hold no path
	Unknown bool     // it is of an exclusion, or of what is made of others: nobody knows which rows meet by it
	Nulls   bool     // it takes no two that are NULL
	Of      string   // which rows it has: a condition
}

// onePlaces lists the indexes of the table and its partitions by which two chunks may not
// stand at one place. A column that Postgres makes of the path, or of a document with
// locators, is taken for one of the path. So is such a document, unless the index is an
// expression that takes another key from it.
func (j *journal) onePlaces(ctx context.Context) ([]onePlace, error) {
	rows, err := j.tx.Query(ctx, parts+`,
		attributes AS (
			SELECT a.attrelid, a.attnum, a.attname, coalesce(a.attname = ANY (@paths) OR m.path, false) AS path,
				coalesce(a.attname = ANY (@documents) OR m.path OR m.document, false) AS made
			FROM parts JOIN pg_attribute a ON a.attrelid = parts.relid
			CROSS JOIN LATERAL (
				SELECT bool_or(c.attname = ANY (@paths)) AS path, bool_or(c.attname = ANY (@documents)) AS document
				FROM `+madeOf+` WHERE a.attgenerated <> '' AND g.adrelid = a.attrelid AND g.adnum = a.attnum) m)
		SELECT k.beside, k.document OR e.is IS NOT NULL OR i.indisexclusion,
			coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false), coalesce(pg_get_expr(i.indpred, i.indrelid), 'true')
		FROM parts JOIN pg_index i ON i.indrelid = parts.relid
		CROSS JOIN LATERAL (SELECT pg_get_expr(i.indexprs, i.indrelid) AS is) e
		CROSS JOIN LATERAL (
			SELECT coalesce(array_agg(a.attname::text ORDER BY a.attname) FILTER (WHERE a.attname <> ALL (@paths)), '{}') AS beside,
				coalesce(bool_or(a.path), false) AS path, coalesce(bool_or(a.made), false) AS document
			FROM attributes a WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[:i.indnkeyatts - 1])) k
		CROSS JOIN LATERAL ( -- what the expressions are made of stands in pg_depend only
			SELECT coalesce(bool_or(a.path), false) AS path, coalesce(bool_or(a.made), false) AS document
			FROM pg_depend d JOIN attributes a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
			WHERE e.is IS NOT NULL AND d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid) d
		WHERE (i.indisunique OR i.indisexclusion) AND (k.path OR k.document OR d.path OR d.document AND (
			e.is !~ '->|#>' OR EXISTS (SELECT FROM unnest(@keys::text[]) key WHERE position(key IN e.is) > 0)))
		GROUP BY 1, 2, 3, 4`,
		pgx.NamedArgs{"table": j.table.name(), "paths": j.table.pathColumns(), "documents": j.table.documentColumns(), "keys": j.table.lastKeys()})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[onePlace])
}

// tie lets files change places. Of a chain they go from its end, but a circle has none:
// some go where another still is when their turn comes. Where a unique index lets chunks
// of both not stand together, the other steps aside for them, and all that happens
// between the turns of the two, a knot, is for one transaction. What cannot be done so is
// a conflict, but for what goes back, which is tried all the same.
func (j *journal) tie(ctx context.Context) error {
	if j.policy.Way == resilience.AliasOnly || j.transfer != nil {
		return nil
	}
	var linked bool
	if err := j.tx.QueryRow(ctx, `SELECT `+chained, j.args(nil)).Scan(&linked); err != nil || !linked {
		return err
	}
	places, err := j.onePlaces(ctx)
	if err != nil || len(places) == 0 {
		return err
	}
	if err := j.fileByFile(ctx); err != nil {
		return err
	}
	if _, err := j.tx.Exec(ctx, `UPDATE rehome.migration_plans SET chained = true WHERE plan_id = @plan`, j.args(nil)); err != nil {
		return err
	}
	tag, err := j.tx.Exec(ctx, `
		WITH `+j.meetings(places)+`
		UPDATE rehome.migration_paths n SET aside = true FROM met WHERE n.plan_id = @plan AND n.old_key = met.new_key`, j.args(nil))
	if err != nil || tag.RowsAffected() == 0 { // chains only, in which nobody has to step aside
		return err
	}
	if _, err := j.tx.Exec(ctx, knots, j.args(nil)); err != nil || j.undoes != "" {
		return err
	}
	if err := j.tryAside(ctx); err != nil || j.strategy == resilience.Immediate {
		return err
	}
	_, err = j.find(ctx, tooLarge)
	return err
}

// fileByFile writes the journal in another order, in which files that take the places of
// others come last, each after the one whose place it takes: so that chains run backwards,
// and the files of a circle come together. The renames are in such an order; but those of
// directories tie as many files to each other, of which few are a circle. A file, of
// however many spellings, goes by the first of its path_ids.
func (j *journal) fileByFile(ctx context.Context) error {
	rows, err := j.tx.Query(ctx, `
		WITH files AS MATERIALIZED (
			SELECT old_key, min(new_key) AS new_key, min(path_id) AS file FROM rehome.migration_paths WHERE plan_id = @plan GROUP BY 1)
		SELECT takes.file, leaves.file FROM files takes JOIN files leaves ON leaves.old_key = takes.new_key ORDER BY 1`, j.args(nil))
	if err != nil {
		return err
	}
	waiting, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Waiting])
	if err != nil {
		return err
	}
	const placed = `placed AS MATERIALIZED (
			SELECT p.path_id, o.turn
			FROM unnest(@order::bigint[]) WITH ORDINALITY o (file, turn)
			JOIN rehome.migration_paths first ON first.plan_id = @plan AND first.path_id = o.file
			JOIN rehome.migration_paths p ON p.plan_id = @plan AND p.old_key = first.old_key)`
	written, err := j.rewrite(ctx, placed, `SELECT t.*, p.turn FROM taken t LEFT JOIN placed p USING (path_id)`, "turn NULLS FIRST, last",
		j.args(pgx.NamedArgs{"order": resilience.OrderRenames(waiting)}))
	if err == nil && written != j.total {
		err = problem(ErrVerify, "the journal of %s had %d rows and has %d in another order: others changed it (rehome.migration_runs) while it was planned; nothing has moved, so plan it again", j.plan, j.total, written)
	}
	return err
}

// meetings are the places at which a file arrives where another still is, and chunks of
// both would meet in an index. Which of two comes first, their rows say.
func (j *journal) meetings(places []onePlace) string {
	met := make([]string, len(places))
	for i, place := range places {
		met[i] = "SELECT new_key FROM links l" + j.meet(place)
	}
	return fmt.Sprintf(`turns AS MATERIALIZED (
			SELECT path_id, min(first) AS first, max(last) AS last FROM rehome.migration_runs WHERE plan = @number GROUP BY 1),
		links AS MATERIALIZED (
			SELECT p.old_key, p.new_key, p.old_path, p.new_path
			FROM rehome.migration_paths p JOIN turns comes ON comes.path_id = p.path_id
			JOIN rehome.migration_paths n ON n.plan_id = @plan AND n.old_key = p.new_key JOIN turns goes ON goes.path_id = n.path_id
			WHERE p.plan_id = @plan AND goes.last > comes.first AND n.old_key <> p.old_key),
		met AS MATERIALIZED (%s)`, strings.Join(met, " UNION "))
}

// meet joins the chunks of two files of a link l that may not stand at one place. Where
// nobody knows which those are, any may.
func (j *journal) meet(index onePlace) string {
	t := j.table
	if index.Unknown || t.rewritesDocuments() {
		return ""
	}
	columns := []string{t.path() + " AS place"}
	equal := []string{"(SELECT EXISTS (SELECT FROM links))", "here.place = l.old_path", "there.place = l.new_path"} // without links the table is not read
	are := "here.c%[1]d = there.c%[1]d"
	if index.Nulls {
		are = "here.c%[1]d IS NOT DISTINCT FROM there.c%[1]d"
	}
	for i, c := range index.Beside {
		columns = append(columns, fmt.Sprintf("%s AS c%d", t.column(c), i))
		equal = append(equal, fmt.Sprintf(are, i))
	}
	chunks := fmt.Sprintf("SELECT DISTINCT %s FROM %s t WHERE %s", strings.Join(columns, ", "), t.name(), t.scope())
	// Whether the index will have those that come may depend on where they come to.
	return fmt.Sprintf(", (%s) here, (%s AND (%s)) there WHERE %s", chunks, chunks, index.Of, strings.Join(equal, " AND "))
}

// knots records which rows step aside, and after which rows no batch may end: between
// the first row of two files that change places and the last one.
const knots = `
		WITH runs AS MATERIALIZED (
			SELECT r.first, r.last, p.old_key, p.new_key, p.aside
			FROM rehome.migration_runs r JOIN rehome.migration_paths p USING (path_id) WHERE r.plan = @number),
		knots AS (
			SELECT int8range(min(first), max(last)) AS cuts
			FROM (
				SELECT old_key AS place, first, last FROM runs WHERE aside
				UNION ALL
				SELECT new_key, first, last FROM runs WHERE new_key IN (SELECT old_key FROM runs WHERE aside)) r
			GROUP BY place)
		UPDATE rehome.migration_plans
		SET knots = (SELECT coalesce(range_agg(cuts), '{}') FROM knots),
			aside = (SELECT coalesce(range_agg(int8range(first, last, '[]')), '{}') FROM runs WHERE aside)
		WHERE plan_id = @plan`

// mostTied is how many rows one transaction takes at most for the sake of files that
// change places, where not all rows of the plan go in one anyway.
const mostTied = 10_000

// tiedRows is how many rows a knot k has.
const tiedRows = `(upper(k) - lower(k) + 1)`

// tooLarge lists the knots of too many rows, by their first file.
var tooLarge = fmt.Sprintf(`
		WITH large AS (
			SELECT lower(k) AS first, %[1]s AS rows FROM rehome.migration_plans, unnest(knots) k WHERE plan_id = @plan AND %[1]s > %[2]d)
		SELECT 'circle', m.old_key, m.new_key,
			format('a unique index may take no two of their chunks at one: %%s chunks would have to go in one transaction, more than %[2]d (immediate takes more)', l.rows), count(*) OVER ()
		FROM large l CROSS JOIN LATERAL (
			SELECT p.old_key, p.new_key FROM rehome.migration_runs r JOIN rehome.migration_paths p USING (path_id)
			WHERE r.plan = @number AND r.last >= l.first ORDER BY r.last LIMIT 1) m
		ORDER BY l.first LIMIT @kept`, tiedRows, mostTied)

// tryAside lets one chunk step aside, as far as any has to, and takes that back: only so
// is it known whether the column has room for that, and what constraints and triggers say.
// One that somebody else writes to for more than a second is let be.
func (j *journal) tryAside(ctx context.Context) error {
	out := forward
	out.to = sideways
	mark, err := j.tx.Begin(ctx)
	if err != nil {
		return err
	}
	refused := execAll(ctx, mark, j.args(nil), `SET LOCAL lock_timeout = '1s'`, `SET LOCAL enable_nestloop = on`, checkAtOnce, fmt.Sprintf(`
		UPDATE %s t SET %s
		FROM (
			SELECT m.old_path, %s, r.chunk_ids[1] AS chunk_id
			FROM rehome.migration_paths m JOIN rehome.migration_runs r USING (path_id)
			WHERE m.plan_id = @plan AND m.aside AND r.plan = @number ORDER BY length(m.old_path) DESC LIMIT 1) p
		WHERE %s`, j.table.name(), j.table.assignments(out), steppingAside, j.table.isHere(out)))
	if err := mark.Rollback(ctx); err != nil || refused == nil || TroubleOf(refused) == resilience.LockTimeout {
		return err
	}
	if !rowRefused(refused) {
		return fmt.Errorf("try whether a chunk can step aside: %w", interpret(refused))
	}
	_, err = j.find(ctx, fmt.Sprintf(`
		SELECT 'circle', old_key, new_key, 'a unique index takes no two of their chunks at one, and none can step aside: ' || %s::text, 1::bigint
		FROM rehome.migration_paths WHERE plan_id = @plan AND aside ORDER BY length(old_path) DESC LIMIT 1`, literal(said(refused))))
	return err
}
