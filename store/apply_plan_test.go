package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// A batch finds its rows by index, whatever the planner knows of the table: its
// work grows neither with the table nor with the chunks of a file.
func TestABatchReadsNoTableWhole(t *testing.T) {
	t.Parallel()
	for name, analysed := range map[string]bool{"known": true, "new": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(200, "a.md", "c.md", "d.md")
			if analysed {
				m.exec(`ANALYZE`)
			}
			mover, _ := m.readied()
			plans, err := mover.Explain(t.Context())
			require.NoError(t, err)
			require.Len(t, plans, 2)
			for what, plan := range plans {
				require.NotContains(t, plan, "Seq Scan", what)
				require.NotContains(t, plan, "Hash Join", what)
				require.NotContains(t, plan, "Merge Join", what)
				require.NotContains(t, plan, "chunks_source", what)
				require.Contains(t, plan, "Index Scan using chunks_pkey", what)
				require.Contains(t, plan, "Index Scan using migration_runs_pkey", what)
			}
		})
	}
}

// TestACopyReadsNoTableWhole, on its way there or back: likewise.
func TestACopyReadsNoTableWhole(t *testing.T) {
	t.Parallel()
	m, id := copied(t, 600, 0)
	mover, _ := m.mover(id)
	plans, err := mover.Explain(t.Context())
	require.NoError(t, err)
	require.Len(t, plans, 2)
	for what, plan := range plans {
		require.NotContains(t, plan, "Seq Scan on chunks", what)
		require.NotContains(t, plan, "Seq Scan on migration_runs", what)
		require.NotContains(t, plan, "Hash Join", what)
		require.Contains(t, plan, "Index Scan using chunks_pkey", what)
	}
}
