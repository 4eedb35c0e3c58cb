package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// listed is what a look at the memory found for a plan.
type listed struct {
	Moves    int64 // rows that were journalled
	Disagree int64 // rows whose locators disagree; left alone
	Bytes    int64 // of the text of the journalled rows
}

// mostOfRun is how many chunks a run holds at most: a batch reads all of a run
// for some of its chunks.
const mostOfRun = 100

// writeRuns journals, in an order, the runs that a query named from has as
// path_id, bytes and chunk_ids, after the row @after. It returns rows and bytes.
func writeRuns(from, order string) string {
	return fmt.Sprintf(`
			INSERT INTO rehome.migration_runs (plan, path_id, first, last, bytes, chunk_ids)
			SELECT @number, path_id, upto - cardinality(chunk_ids) + 1, upto, bytes, chunk_ids
			FROM (SELECT *, @after::bigint + sum(cardinality(chunk_ids)) OVER (ORDER BY %s ROWS UNBOUNDED PRECEDING) AS upto FROM %s) r
			RETURNING last - first + 1 AS rows, bytes`, order, from)
}

// writtenRuns sums up what writeRuns, named put, has written.
const writtenRuns = `SELECT coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint FROM put`

// rewrite writes the runs of the plan's journal anew, in another order, and returns how many
// rows they have: what a query makes of those taken, and of what is said of them with it.
func (j *journal) rewrite(ctx context.Context, with, runs, order string, args pgx.NamedArgs) (rows int64, err error) {
	var bytes int64
	args["after"] = 0
	err = j.tx.QueryRow(ctx, fmt.Sprintf(`
		WITH %s,
		taken AS (DELETE FROM rehome.migration_runs WHERE plan = @number RETURNING *),
		runs AS (%s),
		put AS (%s)
		%s`, with, runs, writeRuns("runs", order), writtenRuns), args).Scan(&rows, &bytes)
	return rows, err
}

// atSources picks the rows at the listed paths, under one more condition or none,
// whose locators agree or not: TRUE, or NOT TRUE.
func (j *journal) atSources(and, agree string) string {
	return fmt.Sprintf("FROM rehome.migration_paths p JOIN %s t ON %s = p.old_path WHERE p.plan_id = @plan AND %s %s AND %s IS %s",
		j.table.name(), j.table.path(), j.table.scope(), and, j.table.locatorsAre("p.old_path"), agree)
}

// returning are the rows of the journal that are taken along once more when they lie
// where they came from: those that batches have passed, but for rows that stay as they
// are or could not go, and those of knots, which would have to go together once more.
const returning = `
		SELECT (int8multirange(int8range(0, g.last, '(]')) - (` + staying + `)::int8multirange - coalesce((
			SELECT range_agg(int8range(lower(k), upper(k), '[]')) FROM unnest(p.knots) k), '{}') - coalesce((
			SELECT range_agg(int8range(e.ordinal, e.ordinal, '[]')) FROM rehome.migration_exceptions e
			WHERE e.plan_id = @plan AND NOT e.undoing AND e.outcome = 'conflict'), '{}'))::text
		FROM rehome.migration_plans p JOIN rehome.migration_progress g USING (plan_id) WHERE p.plan_id = @plan`

// mayTakeBack says whether rows that come back can be taken along: they are in the journal
// twice then. Of documents only one state is kept there, and a group that is to be tried again
// forgets what was said of its rows.
func (t table) mayTakeBack(p resilience.Policy) bool {
	return len(t.jsonColumns()) == 0 && p.OnFailure != resilience.UndoGroup
}

func (j *journal) takesBack() bool { return j.transfer == nil && j.table.mayTakeBack(j.policy) }

// listMoves journals the rows at the listed paths that are not in it yet, or that came
// back to where they were, in the order of the renames and, within one, of the table: by
// stretches of 256 pages, the chunks of a file together, so that a run has many of them.
func (j *journal) listMoves(ctx context.Context) (listed, error) {
	args := j.args(pgx.NamedArgs{"after": j.total, "most": mostOfRun})
	var found listed
	known, again := "", "{}"
	if j.total > 0 {
		known = "AND NOT EXISTS (SELECT FROM rehome.migration_moves k WHERE k.plan = @number AND k.chunk_id = " + j.table.id() +
			" AND NOT (k.path_id = p.path_id AND k.ordinal <@ @again::int8multirange))"
		if j.takesBack() {
			if err := j.tx.QueryRow(ctx, returning, args).Scan(&again); err != nil {
				return found, err
			}
		}
	}
	args["again"] = again
	if len(j.table.m.Locators) > 1 { // one always agrees with itself
		if err := j.tx.QueryRow(ctx, "SELECT count(*) "+j.atSources(known, "NOT TRUE"), args).Scan(&found.Disagree); err != nil {
			return found, err
		}
	}
	documents, kept := "", ""
	if len(j.table.jsonColumns()) > 0 {
		documents = ", " + j.table.documents() + " AS documents"
		kept = `, kept AS (
			INSERT INTO rehome.migration_documents (plan, chunk_id, documents) SELECT @number, chunk_id, documents FROM found)`
	}
	err := j.tx.QueryRow(ctx, fmt.Sprintf(`
		WITH found AS ( -- OFFSET 0: so that no texts are sorted
			SELECT p.rule, substring(tidsend(t.ctid) FOR 3) AS stretch, p.path_id, t.ctid AS place, octet_length(%s) AS bytes, %s AS chunk_id%s
			%s OFFSET 0),
		near AS (
			SELECT rule, min(place) AS place, path_id, sum(bytes) AS bytes, array_agg(chunk_id) AS chunk_ids, ((count(*) + @most - 1) / @most::integer)::integer AS pieces
			FROM (SELECT rule, stretch, path_id, place, bytes, chunk_id FROM found ORDER BY rule, stretch, path_id, place) f
			GROUP BY rule, stretch, path_id),
		runs AS (
			SELECT rule, place, path_id, piece, bytes * piece / pieces - bytes * (piece - 1) / pieces AS bytes,
				chunk_ids[(piece - 1) * @most + 1 : piece * @most] AS chunk_ids
			FROM (SELECT *, generate_series(1, pieces) AS piece FROM near) n),
		put AS (%s)%s
		%s`,
		j.table.text(), j.table.id(), documents, j.atSources(known, "TRUE"), writeRuns("runs", "rule, place, path_id, piece"), kept, writtenRuns), args).Scan(&found.Moves, &found.Bytes)
	j.total += found.Moves
	return found, err
}

// listUndone journals the rows that another plan moved, turned round: what the
// last of its rules moved comes first back, so that a chain is taken apart from its
// end; within a rule the table's order stays, in which indexes grow the faster.
// Chunks that were put at an old path since do not keep the others from coming home, but
// for those that have to change places with one, which go together.
func (j *journal) listUndone(ctx context.Context) error {
	args := j.args(pgx.NamedArgs{"undoes": j.undoes, "after": 0})
	_, err := j.tx.Exec(ctx, `
		INSERT INTO rehome.migration_paths (plan_id, old_path, old_key, new_path, new_key, rule)
		SELECT @plan, new_path, new_key, old_path, old_key, rule FROM rehome.migration_paths WHERE plan_id = @undoes`, args)
	if err != nil {
		return err
	}
	query := fmt.Sprintf(`
		WITH went AS MATERIALIZED ( -- the rows of the other that moved
			SELECT p.number, int8multirange(int8range(0, g.last, '(]')) - (`+staying+`)::int8multirange - coalesce((
				SELECT range_agg(int8range(e.ordinal, e.ordinal, '[]')) FROM rehome.migration_exceptions e
				WHERE e.plan_id = @undoes AND NOT e.undoing), '{}') AS rows
			FROM rehome.migration_plans p JOIN rehome.migration_progress g USING (plan_id) WHERE p.plan_id = @undoes),
		turned AS (
			SELECT min(m.last) OVER (PARTITION BY p.rule) AS began, m.last, back.path_id, m.bytes, cardinality(m.chunk_ids) AS of, ARRAY(
				SELECT u.id FROM unnest(m.chunk_ids) WITH ORDINALITY u (id, n) WHERE m.first + n - 1 <@ (SELECT rows FROM went) ORDER BY n) AS chunk_ids
			FROM rehome.migration_runs m
			JOIN rehome.migration_paths p USING (path_id)
			JOIN rehome.migration_paths back ON back.plan_id = @plan AND back.old_path = p.new_path AND back.new_path = p.old_path
			WHERE m.plan = (SELECT number FROM went) OFFSET 0),
		runs AS (
			SELECT began, last, path_id, bytes * cardinality(chunk_ids) / of AS bytes, chunk_ids FROM turned WHERE chunk_ids <> '{}'),
		put AS (%s)
		%s`, writeRuns("runs", "began DESC, last"), writtenRuns)
	var bytes int64
	if err := j.tx.QueryRow(ctx, query, args).Scan(&j.total, &bytes); err != nil {
		return err
	}
	if err := j.tie(ctx); err != nil {
		return err
	}
	if err := j.keepDocuments(ctx, args); err != nil {
		return err
	}
	_, err = j.tx.Exec(ctx, `UPDATE rehome.migration_plans SET moves = @total, bytes = @bytes WHERE plan_id = @plan`,
		j.args(pgx.NamedArgs{"total": j.total, "bytes": bytes}))
	return err
}

// keepDocuments keeps the json columns of the rows of a plan that undoes another,
// and what the other found in them where the table still has what it wrote.
func (j *journal) keepDocuments(ctx context.Context, args pgx.NamedArgs) error {
	t := j.table
	if len(t.jsonColumns()) == 0 {
		return nil
	}
	_, err := j.tx.Exec(ctx, fmt.Sprintf(`
		INSERT INTO rehome.migration_documents (plan, chunk_id, documents, restores)
		SELECT @number, m.chunk_id, %s, %s
		FROM (
			SELECT m.chunk_id, m.old_path AS new_path, d.documents, d.restores
			FROM rehome.migration_moves m LEFT JOIN rehome.migration_documents d
				ON d.chunk_id = m.chunk_id AND d.plan = (SELECT number FROM rehome.migration_plans WHERE plan_id = @undoes)
			WHERE m.plan = @number) m
		LEFT JOIN %s t ON %s AND %s`, t.documents(), t.verbatim("m"), t.name(), t.hasID("m.chunk_id"), t.scope()), args)
	return err
}
