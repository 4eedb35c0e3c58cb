package workflows_test

import (
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// How journeys end, and what must hold then.

// completes waits for the end of the run, and checks that every row is where it
// should be or is accounted for.
func (j *journey) completes() resilience.Plan {
	j.Helper()
	var plan resilience.Plan
	require.Empty(j, ends(j.T, j.run, &plan))
	require.Equal(j, resilience.Completed, plan.Status)
	j.accounted(j.id)
	j.intact(0)
	memory, dir := "docs", "manual"
	if j.way.transfer {
		memory, dir = "archive", "guide"
	}
	j.leads(memory, dir)
	require.Equal(j, steady/10, j.number(`SELECT count(*) FROM rehome.chunk_references WHERE memory = $1 AND referrer LIKE 'agent %'`, memory))
	require.Equal(j, steady, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = $1 AND ordinal <= $2 AND path = $3 || `+file, memory, steady, dir))
	if plan.Strategy == resilience.Intelligent && j.way.strategy == resilience.Intelligent {
		j.grouped()
	}
	return plan
}

// grouped checks that what is used had a group of its own, gradual while it is in use.
func (j *journey) grouped() {
	j.Helper()
	groups, err := j.store.Groups(j.Context(), j.id)
	require.NoError(j, err)
	require.Len(j, groups, 2)
	require.Equal(j, j.way.inUse, groups[1].Strategy == resilience.Gradual, groups[1].Reason)
}

// leads checks where the alias does.
func (j *journey) leads(memory, dir string) {
	j.Helper()
	require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.version_aliases WHERE memory = $1 AND original_path = 'once.md' AND current_path = $2 || '/f00.md'`, memory, dir))
}

// accounted checks that every planned row has one outcome, and returns those
// of the rows that did not move.
func (j *journey) accounted(id string) map[resilience.Outcome]int {
	j.Helper()
	plan := j.plan(id)
	left, err := j.store.Exceptions(j.Context(), id, 1000)
	require.NoError(j, err)
	outcomes := map[resilience.Outcome]int{}
	for _, e := range left {
		outcomes[e.Outcome]++
	}
	stayed := len(left) - outcomes[resilience.Edited] // these moved, and took an edit along
	require.Equal(j, plan.Moves, plan.Moved+int64(stayed), "%+v %v", plan, left)
	return outcomes
}

// intact checks that no chunk was lost, doubled or changed, and no edit forgotten.
// After the undo of a transfer, a copy that was written to since it was all there
// was stays beside the chunk that came home.
func (j *journey) intact(kept int) {
	j.Helper()
	j.mu.Lock()
	wrong, edits, cites := j.wrong, slices.Clone(j.edits[:]), slices.Clone(j.cites[:]) // these only grow
	j.mu.Unlock()
	require.Empty(j, wrong)
	var all, twice, whole, lost, others int
	require.NoError(j, j.pool.QueryRow(j.Context(), `
		WITH chunks AS (
			SELECT ordinal, count(*) AS n, bool_and(embedding = ARRAY[ordinal, ordinal % 7]::real[]) AS whole, max(substr(content, 6)::bigint) AS edit
			FROM rehome.chunks WHERE ordinal <= $1 GROUP BY 1)
		SELECT count(*), sum(n) - count(*), count(*) FILTER (WHERE whole), count(*) FILTER (WHERE edit < ($2::bigint[])[ordinal + 1]),
			(SELECT count(*) FROM rehome.chunks WHERE path = 'other.md' AND memory = 'docs' AND content = 'nobody''s business' AND ordinal BETWEEN 1001 AND 1005)
		FROM chunks`, steady, edits).Scan(&all, &twice, &whole, &lost, &others))
	require.Equal(j, []int{steady, kept, steady, 0, 5}, []int{all, twice, whole, lost, others}, "all, twice, whole, edits lost, others")
	require.Equal(j, steady/10, j.number(`
		SELECT count(*) FROM rehome.chunk_references r JOIN rehome.chunks c ON c.memory = r.memory AND c.id::text = r.chunk_id
		WHERE r.referrer = 'agent ' || c.ordinal AND c.ordinal % 10 = $1`, cited), "who refers to a chunk does so still")
	require.Zero(j, j.number(`
		WITH cited AS (
			SELECT split_part(referrer, ' ', 2)::int AS ordinal, sum(reference_count) AS n, bool_and(EXISTS (
				SELECT FROM rehome.chunks c WHERE c.memory = r.memory AND c.id::text = r.chunk_id)) AS there
			FROM rehome.chunk_references r WHERE referrer LIKE 'writer %' GROUP BY 1)
		SELECT count(*) FROM unnest($1::bigint[]) WITH ORDINALITY a (n, row) LEFT JOIN cited c ON c.ordinal = row - 1 WHERE c.n < a.n OR NOT c.there OR c.n IS NULL AND a.n > 0`,
		cites), "chunks to which it was referred where they are not, or that nobody remembers")
}

// undisturbed checks that the application saw nothing that must not be.
func (j *journey) undisturbed() {
	j.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	require.Empty(j, j.wrong)
	require.NotZero(j, j.reads)
}

// returned checks that the chunks are where they were, as they were but for what
// the application wrote, and but for those rows with which a test did something else.
func (j *journey) returned(but ...int) {
	j.Helper()
	j.undisturbed()
	want, is := maps.Clone(j.began), j.identities()
	for _, row := range but {
		delete(want, row)
		delete(is, row)
	}
	require.Equal(j, want, is)
	j.leads("docs", "guide")
	require.Equal(j, steady/10, j.number(`SELECT count(*) FROM rehome.chunk_references WHERE memory = 'docs' AND referrer LIKE 'agent %'`))
}

// fails waits for the end of a run that is to fail, and finds everything back.
func (j *journey) fails() string {
	j.Helper()
	err := j.run.Get(j.Context(), nil)
	require.Error(j, err)
	require.Equal(j, resilience.RolledBack, j.plan(j.id).Status, err)
	j.intact(j.copiesKept(int64(j.number(`SELECT count(*) FROM rehome.migration_exceptions WHERE plan_id = $1 AND undoing AND outcome = 'conflict'`, j.id))))
	j.returned()
	return err.Error()
}

// goesHome undoes a completed run.
func (j *journey) goesHome() resilience.Plan {
	j.Helper()
	var plan resilience.Plan
	_, undone := j.rollback(j.id)
	require.Empty(j, ends(j.T, undone, &plan))
	require.Equal(j, resilience.Completed, plan.Status)
	require.Equal(j, resilience.RolledBack, j.plan(j.id).Status)
	j.accounted(plan.ID)
	j.intact(j.copiesKept(plan.Conflicts))
	require.Zero(j, j.number(`
		SELECT count(*) FROM rehome.chunks c JOIN rehome.chunks home USING (ordinal)
		WHERE c.memory = 'archive' AND home.memory = 'docs' AND ordinal <= $1 AND home.content = 'edit 0'`, steady), "an edit of a copy could have come home")
	return plan
}

// copiesKept counts the copies that an undo left, since the application wrote to
// them meanwhile, and to the chunks that came home.
func (j *journey) copiesKept(conflicts int64) int {
	j.Helper()
	if !j.way.transfer {
		return 0
	}
	kept := j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'archive' AND ordinal <= $1`, steady)
	require.LessOrEqual(j, int64(kept), conflicts, "a copy that is not listed stayed")
	require.Zero(j, j.number(`
		SELECT count(*) FROM rehome.chunks c JOIN rehome.chunks home USING (ordinal)
		WHERE c.memory = 'archive' AND home.memory = 'docs' AND ordinal <= $1 AND c.content = home.content`, steady), "a copy that nobody wrote to stayed")
	return kept
}

// thereAndBack is the ordinary end of a test.
func (j *journey) thereAndBack() {
	j.Helper()
	j.completes()
	j.goesHome()
	j.returned()
}

// identities is what an application cannot change by an edit, of each row at home.
func (j *journey) identities() map[int][]string {
	j.Helper()
	rows, err := j.pool.Query(j.Context(), `
		SELECT ordinal, concat_ws('|', id, memory, path, embedding, created_at) FROM rehome.chunks WHERE memory = 'docs' AND (ordinal <= $1 OR ordinal > 1000) ORDER BY 1, 2`, travellers)
	require.NoError(j, err)
	all := map[int][]string{}
	var row int
	var identity string
	_, err = pgx.ForEachRow(rows, []any{&row, &identity}, func() error {
		all[row] = append(all[row], identity)
		return nil
	})
	require.NoError(j, err)
	return all
}
