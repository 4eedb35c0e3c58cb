package store_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

func TestSettledBatchesAreOnDisk(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', current_database()); END $$`)
	awaiting, err := pgxpool.NewWithConfig(t.Context(), m.pool.Config()) // sessions that wait for the disk, as they do by default
	require.NoError(t, err)
	t.Cleanup(awaiting.Close)
	m.pool, m.store = awaiting, store.New(awaiting)
	m.fill(300, "a.md", "b.md")

	id, err := m.plan("", rule("a.md", "c.md"))
	require.NoError(t, err)
	m.apply(id, -1)
	var end string
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT pg_current_wal_insert_lsn()::text`).Scan(&end))
	require.NoError(t, m.store.Settle(t.Context(), id))
	var settled bool
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn`, end).Scan(&settled))
	require.True(t, settled)
}
