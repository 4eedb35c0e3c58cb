package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
)

// TestARebuildThatIsTerminatedGetsItsIndexBack: a person ends the run in the web
// UI while the vector index is away, and rolls back what nobody else would.
func TestARebuildThatIsTerminatedGetsItsIndexBack(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	if _, err := b.pool.Exec(t.Context(), `CREATE EXTENSION vector`); err != nil {
		t.Skipf("this Postgres has no pgvector: %s", err)
	}
	b.exec(`CREATE TABLE public.notes (id bigint PRIMARY KEY, path text NOT NULL, body text NOT NULL, embedding vector(3) NOT NULL)`)
	b.exec(`INSERT INTO public.notes SELECT i, 'guide/a.md', 'text ' || i, ARRAY[i, 1, 2]::vector FROM generate_series(1, 100) i`)
	b.exec(`CREATE INDEX near ON public.notes USING hnsw (embedding vector_l2_ops) WITH (m = 8)`)
	index := func() (definition string) {
		require.NoError(t, b.pool.QueryRow(t.Context(), `
			SELECT coalesce(max(pg_get_indexdef(indexrelid)), '') FROM pg_index WHERE indexrelid = to_regclass('public.near') AND indisvalid`).Scan(&definition))
		return definition
	}
	there := index()
	require.Contains(t, there, "hnsw")
	b.ok("memory", "add", "docs", "--root", rootWith(t, "guide/a.md"), "--table", "notes", "--id", "id", "--content", "body", "--path", "path", "--embedding", "embedding")

	var left detached
	b.result(&left, "migrate", "--memory", "docs", "--rename", "guide=handbook", "--strategy", "intelligent", "--way", "rebuild", "--approve", "--rate", "5", "--batch-size", "1", "--detach")
	moved := func() (n int) {
		require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM public.notes WHERE path = 'handbook/a.md'`).Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return moved() > 0 }, 30*time.Second, 20*time.Millisecond)
	require.Empty(t, index(), "it is away while rows move")

	out, err := devtest.TemporalCommand(t, "workflow", "terminate", "--workflow-id", left.WorkflowID, "--reason", "a test").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "rolled_back", b.has("migration rollback "+left.Migration, "status")["status"])
	require.Zero(t, moved())
	require.Equal(t, there, index())
}
