package workflows_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// TestGradualWaitsForARealServer: while sessions wait for a lock it keeps back,
// says why, and goes on by itself when they are gone.
func TestGradualWaitsForARealServer(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 400)
	before := in.checksum()
	tuning := quick()
	tuning.Soak = activities.Duration(2 * time.Second)
	run := in.start(workflows.MigrateID(in.id, "docs", "m-1"), workflows.MigrateName(resilience.Gradual), workflows.MigrateInput{
		Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: "m-1", Approve: true, Tuning: tuning,
		Renames: []resilience.RenameRule{{Old: "guide", New: "manual"}}, Policy: resilience.Policy{BatchSize: 10},
	})
	in.moving("m-1") // the canary has moved, and soaks

	session := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), in.pool.Config().ConnString())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return conn
	}
	holder := session()
	_, err := holder.Exec(t.Context(), `SELECT pg_advisory_lock(1)`)
	require.NoError(t, err)
	ended := make(chan error, 6)
	for range 6 {
		conn := session()
		go func() {
			_, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock_shared(1)`)
			ended <- err
		}()
	}
	require.Eventually(t, func() bool {
		gates, err := in.store.Gates(t.Context(), "m-1")
		require.NoError(t, err)
		return slices.ContainsFunc(gates, func(g resilience.Gate) bool {
			return g.Name == resilience.WaitersGate && g.State == resilience.GateShut && g.Detail == "6 sessions wait for locks; 0 did before"
		})
	}, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, resilience.Executing, in.plan("m-1").Status, "it waits; nobody paused it")
	require.Less(t, in.count("manual"), 400)

	_, err = holder.Exec(t.Context(), `SELECT pg_advisory_unlock(1)`)
	require.NoError(t, err)
	for range 6 {
		require.NoError(t, <-ended)
	}
	var plan resilience.Plan
	require.Empty(t, ends(t, run, &plan))
	require.Equal(t, resilience.Completed, plan.Status)
	require.Equal(t, 400, in.count("manual"))
	gates, err := in.store.Gates(t.Context(), "m-1")
	require.NoError(t, err)
	require.Empty(t, gates)

	undo, undone := in.rollback("m-1")
	require.Empty(t, ends(t, undone, &plan))
	require.Equal(t, resilience.RolledBack, in.plan("m-1").Status)
	require.Equal(t, undo, in.plan("m-1").UndoneBy)
	require.Equal(t, before, in.checksum())
}
