package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// TestRunsHoldEveryChunkOnce: however the chunks of files lie among each other,
// the journal has each of them once, those of a file together and not too many in
// a run, and what was left out of the middle of a run stays out of its undo.
func TestRunsHoldEveryChunkOnce(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.exec(`
		INSERT INTO rehome.chunks (memory, path, ordinal, content)
		SELECT 'docs', CASE WHEN i % 2 = 0 THEN 'd/large.md' WHEN i % 50 = 1 THEN 'd/small.md' ELSE 'd/middling.md' END, i, repeat('x', i) FROM generate_series(1, 500) i`)
	m.fill(1, "d/alone.md", "elsewhere.md")
	start := m.rows("rehome.chunks")
	id, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	var runs []int64
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT array_agg(last - first + 1) FROM rehome.migration_runs`).Scan(&runs))
	require.ElementsMatch(t, []int64{100, 100, 50, 100, 100, 40, 10, 1}, runs)
	const numbered = `
		SELECT count(*) FROM rehome.migration_moves m JOIN rehome.migration_plans p ON p.number = m.plan
		WHERE p.plan_id = $1 AND p.moves = 501 AND p.bytes = (SELECT sum(octet_length(content)) FROM rehome.chunks WHERE path <> 'elsewhere.md')
			AND p.bytes = (SELECT sum(bytes) FROM rehome.migration_runs WHERE plan = p.number)
			AND m.ordinal BETWEEN 1 AND 501 AND EXISTS (SELECT FROM rehome.chunks c WHERE c.id::text = m.chunk_id AND c.path = m.old_path)`
	require.Equal(t, 501, m.count(numbered, id))
	require.Equal(t, 501, m.count(`SELECT count(DISTINCT ordinal) FROM rehome.migration_moves`))
	require.Equal(t, 501, m.count(`SELECT count(DISTINCT chunk_id) FROM rehome.migration_moves`))

	m.apply(id, 20) // batches of 3 end within runs
	m.exec(`UPDATE rehome.chunks SET path = 'taken.md' WHERE path LIKE 'd/%' AND ordinal % 100 = 7`)
	m.apply(id, -1)
	plan := m.complete(id)
	drifted := int64(m.at()["taken.md"])
	require.Positive(t, drifted)
	require.Equal(t, 501-drifted, plan.Moved)

	back, err := m.plan(id)
	require.NoError(t, err)
	var there, here []string
	require.NoError(t, m.pool.QueryRow(t.Context(), `
		SELECT array_agg(m.chunk_id ORDER BY m.ordinal) FROM rehome.migration_moves m JOIN rehome.migration_plans p ON p.number = m.plan
		WHERE p.plan_id = $1 AND m.chunk_id NOT IN (SELECT id::text FROM rehome.chunks WHERE path = 'taken.md')`, id).Scan(&there))
	require.NoError(t, m.pool.QueryRow(t.Context(), `
		SELECT array_agg(m.chunk_id ORDER BY m.ordinal) FROM rehome.migration_moves m JOIN rehome.migration_plans p ON p.number = m.plan WHERE p.plan_id = $1`, back).Scan(&here))
	require.Equal(t, there, here, "in the table's order")
	m.apply(back, -1)
	m.complete(back)
	m.exec(`UPDATE rehome.chunks SET path = 'd/' || CASE WHEN ordinal % 2 = 0 THEN 'large.md' ELSE 'middling.md' END WHERE path = 'taken.md'`)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// chained is a table that takes no two chunks at one place, and a chain of renames
// in it, planned.
func chained(t *testing.T) (m *migrations, chain string) {
	t.Helper()
	m = newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(400, "a.md", "b.md", "c.md")
	m.exec(`CREATE UNIQUE INDEX ON rehome.chunks (path, ordinal)`)
	chain, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "c.md"), rule("c.md", "d.md"))
	require.NoError(t, err)
	return m, chain
}

// TestAnUndoTakesAChainApart, and so does the undo of the undo.
func TestAnUndoTakesAChainApart(t *testing.T) {
	t.Parallel()
	m, chain := chained(t)
	start := m.rows("rehome.chunks")
	m.apply(chain, -1)
	plans := []resilience.Plan{m.complete(chain)}
	moved := m.rows("rehome.chunks")
	plans = append(plans, m.migrate(chain))
	require.Equal(t, start, m.rows("rehome.chunks"))
	plans = append(plans, m.migrate(plans[1].ID))
	require.Equal(t, moved, m.rows("rehome.chunks"))
	for _, plan := range plans {
		require.EqualValues(t, 1200, plan.Moved)
	}
	require.Zero(t, m.count(`SELECT count(*) FROM rehome.migration_exceptions`))
}

// TestAnAbortTakesAChainApart, also when one batch has all of it.
func TestAnAbortTakesAChainApart(t *testing.T) {
	t.Parallel()
	m, chain := chained(t)
	start := m.rows("rehome.chunks")
	m.apply(chain, -1)
	require.Equal(t, map[string]int{"b.md": 400, "c.md": 400, "d.md": 400}, m.at())
	at, err := m.store.BeginUndo(t.Context(), chain, "a test", "")
	require.NoError(t, err)
	mover, err := m.store.Mover(t.Context(), chain)
	require.NoError(t, err)
	at, err = mover.Revert(t.Context(), at, store.Bounds{Batch: 1200})
	require.NoError(t, err)
	require.Zero(t, at.Last)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestAnAbortOfAChainLeavesOnlyWhatCannotGoBack: a stranger at one place keeps one
// row of each file away from home, and no other.
func TestAnAbortOfAChainLeavesOnlyWhatCannotGoBack(t *testing.T) {
	t.Parallel()
	m, chain := chained(t)
	m.apply(chain, -1)
	at, err := m.store.BeginUndo(t.Context(), chain, "a test", "")
	require.NoError(t, err)
	m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'a.md', 7, 'a stranger')`)
	mover, err := m.store.Mover(t.Context(), chain)
	require.NoError(t, err)
	all := store.Bounds{Batch: 1200}
	_, err = mover.Revert(t.Context(), at, all)
	require.ErrorContains(t, err, "duplicate key")
	all.Leave = &store.Leave{At: at.Last, Reason: "a test"}
	at, err = mover.Revert(t.Context(), at, all)
	require.NoError(t, err)
	require.Zero(t, at.Last)
	require.Equal(t, map[string]int{"a.md": 400, "b.md": 400, "c.md": 400, "d.md": 1}, m.at())
	require.Equal(t, 3, m.count(`SELECT count(*) FROM rehome.migration_exceptions WHERE undoing`))
}

// TestALateRowThatStaysLeavesNoDocument: the next sweep finds it once more.
func TestALateRowThatStaysLeavesNoDocument(t *testing.T) {
	t.Parallel()
	m := jsonTable(t)
	id, err := m.plan("", rule("guide", "manual"))
	require.NoError(t, err)
	m.apply(id, -1)
	add := func(path string) {
		m.exec(`
			INSERT INTO public.data_docs (kind, text, metadata_, src)
			SELECT 'doc', 'late', ('{"file_path":"' || p || '", "doc": {"source" : "' || p || '"}}')::json, p FROM (SELECT $1 AS p) x`, "/srv/docs/"+path)
	}
	add("guide/taken.md")
	add("guide/free.md")
	add("manual/taken.md")
	for range 2 {
		left, err := m.store.Sweep(t.Context(), id)
		require.NoError(t, err)
		require.EqualValues(t, 1, left)
	}
	require.Equal(t, 11, m.count(`SELECT count(*) FROM rehome.migration_documents`))
	m.apply(id, -1)
	require.EqualValues(t, 11, m.complete(id).Moved)
}
