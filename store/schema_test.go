package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/store"
)

// TestCheckSchemaWhileAWorkerStarts looks at the schema as the first worker
// makes it: whoever comes too early is told to wait.
func TestCheckSchemaWhileAWorkerStarts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := devtest.Connect(t, devtest.EmptyDatabase(t))
	data := store.New(pool)
	early := func(says string) {
		t.Helper()
		err := data.CheckSchema(ctx)
		require.ErrorIs(t, err, store.ErrSchema)
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "wait until it says serving")
	}
	early("is not in this database")
	_, err := pool.Exec(ctx, `CREATE SCHEMA rehome; CREATE TABLE rehome.schema_version AS SELECT 0 AS version`)
	require.NoError(t, err)
	early("not installed yet")
	_, err = pool.Exec(ctx, `UPDATE rehome.schema_version SET version = 1`)
	require.NoError(t, err)
	early("at version 1")
}
