package store_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// migrations is a memory in a database of its own, and what tests do with it.
type migrations struct {
	*testing.T
	pool  *pgxpool.Pool
	store *store.Store
	made  int
}

func newMigrations(t *testing.T, mapping resilience.Mapping) *migrations {
	t.Helper()
	pool := devtest.Pool(t)
	m := &migrations{T: t, pool: pool, store: store.New(pool)}
	require.NoError(t, m.store.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: mapping.Schema == "rehome", Mapping: mapping}))
	return m
}

func (m *migrations) exec(query string, args ...any) {
	m.Helper()
	_, err := m.pool.Exec(m.Context(), query, args...)
	require.NoError(m, err)
}

// fill gives each path of the builtin memory n chunks with embeddings.
func (m *migrations) fill(n int, paths ...string) {
	m.Helper()
	for _, p := range paths {
		m.exec(`
			INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
			SELECT 'docs', $1, i, 'text ' || i || ' of ' || $1, ARRAY[i, length($1)]::real[] FROM generate_series(1, $2::int) i`, p, n)
	}
}

// rows is the whole table as text, row by row.
func (m *migrations) rows(table string) []string {
	m.Helper()
	rows, err := m.pool.Query(m.Context(), fmt.Sprintf(`SELECT t::text FROM %s t ORDER BY 1`, table))
	require.NoError(m, err)
	var all []string
	for rows.Next() {
		var row string
		require.NoError(m, rows.Scan(&row))
		all = append(all, row)
	}
	require.NoError(m, rows.Err())
	return all
}

// at counts the builtin chunks at each path.
func (m *migrations) at() map[string]int {
	m.Helper()
	counts := map[string]int{}
	rows, err := m.pool.Query(m.Context(), `SELECT path, count(*) FROM rehome.chunks GROUP BY 1`)
	require.NoError(m, err)
	for rows.Next() {
		var path string
		var n int
		require.NoError(m, rows.Scan(&path, &n))
		counts[path] = n
	}
	return counts
}

func rule(old, new string) resilience.RenameRule { return resilience.RenameRule{Old: old, New: new} }

// plan journals a new plan in batches of 3 and returns its id.
func (m *migrations) plan(undoes string, rules ...resilience.RenameRule) (string, error) {
	return m.planIn("docs", undoes, rules...)
}

func (m *migrations) planIn(memory, undoes string, rules ...resilience.RenameRule) (string, error) {
	m.made++
	id := fmt.Sprintf("m-%d", m.made)
	err := m.store.CreatePlan(m.Context(), store.NewPlan{
		ID: id, Memory: memory, Strategy: resilience.Batch, Renames: rules, Undoes: undoes,
		Policy: resilience.Policy{BatchSize: 3}, WorkflowID: "w/" + id, RunID: "r-" + id, Rollback: []string{"undo"},
	})
	require.NoError(m, err)
	return id, m.store.Journal(m.Context(), id)
}

// apply moves up to n batches forward, all when n is negative.
func (m *migrations) apply(id string, n int) resilience.Watermark {
	m.Helper()
	ctx := m.Context()
	plan, err := m.store.Plan(ctx, id)
	require.NoError(m, err)
	if plan.Status == resilience.Pending {
		require.NoError(m, m.store.Queue(ctx, id))
	}
	require.NoError(m, m.store.Begin(ctx, id))
	mover, err := m.store.Mover(ctx, id)
	require.NoError(m, err)
	at, err := m.store.Watermark(ctx, id)
	require.NoError(m, err)
	for ; at.Last < at.Total && n != 0; n-- {
		at, err = mover.Apply(ctx, at, store.Bounds{})
		require.NoError(m, err)
	}
	return at
}

// complete finishes a plan that was applied.
func (m *migrations) complete(id string) resilience.Plan {
	m.Helper()
	ctx := m.Context()
	_, err := m.store.MarkApplied(ctx, id)
	require.NoError(m, err)
	require.NoError(m, m.store.Switch(ctx, id))
	require.NoError(m, m.store.Complete(ctx, id))
	plan, err := m.store.Plan(ctx, id)
	require.NoError(m, err)
	return plan
}

// revert puts everything of a plan back and closes it.
func (m *migrations) revert(id string) {
	m.Helper()
	m.putBack(id)
	require.Zero(m, m.looked(id, true).Since)
	require.NoError(m, m.store.EndUndo(m.Context(), id))
}

// putBack moves all rows of a plan back.
func (m *migrations) putBack(id string) {
	m.Helper()
	ctx := m.Context()
	at, err := m.store.BeginUndo(ctx, id, "a test", "")
	require.NoError(m, err)
	mover, err := m.store.Mover(ctx, id)
	require.NoError(m, err)
	for at.Last > 0 {
		at, err = mover.Revert(ctx, at, store.Bounds{})
		require.NoError(m, err)
	}
}

// migrate plans, applies and completes.
func (m *migrations) migrate(undoes string, rules ...resilience.RenameRule) resilience.Plan {
	m.Helper()
	id, err := m.plan(undoes, rules...)
	require.NoError(m, err)
	m.apply(id, -1)
	return m.complete(id)
}
