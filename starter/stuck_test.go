package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
)

// stuck aborts a migration whose chunks cannot go back, and returns its id once
// its undo is stuck. lift makes them able to.
func (b *bundle) stuck() (id string, lift func()) {
	b.t.Helper()
	id = b.slow()
	b.arrive(1)
	b.exec(`ALTER TABLE rehome.chunks ADD CONSTRAINT public_names CHECK (path <> 'guide/a.md') NOT VALID`)
	b.ok("migration", "abort", id, "--detach")
	b.happens(id, "stuck")
	return id, func() { b.exec(`ALTER TABLE rehome.chunks DROP CONSTRAINT public_names`) }
}

// happens waits until an event of a migration is noted.
func (b *bundle) happens(id, event string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		var found bool
		err := b.pool.QueryRow(b.t.Context(), `SELECT EXISTS (SELECT FROM rehome.migration_events WHERE plan_id = $1 AND event = $2)`, id, event).Scan(&found)
		return err == nil && found
	}, time.Minute, 20*time.Millisecond, event)
}

func TestRetryAStuckUndo(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id, lift := b.stuck()
	shown := b.ok("migration", "show", id).out
	require.Contains(t, shown, "public_names", "why")
	for _, way := range []string{"starter migration retry " + id, "starter migration skip " + id + " --reason WHY"} {
		require.Contains(t, shown, way)
	}
	lift()
	require.Equal(t, "rolling_back", b.has("migration retry "+id, "status")["status"])
	b.await(id, "rolled_back")
	shown = b.ok("migration", "show", id).out
	require.Contains(t, shown, "retried by "+author())
	require.NotContains(t, shown, "to try now")
	var away int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.chunks WHERE path LIKE 'handbook/%'`).Scan(&away))
	require.Zero(t, away)
	b.refuses(bad{"migration retry " + id, exitConflict, "is rolled_back; there is nothing to retry"})
	b.refuses(bad{"migration skip " + id + " --reason late", exitConflict, "is rolled_back; there is nothing to skip"})
}

// TestSkipWhatKeepsAStuckUndo: also when it is the rollback of a run that was
// terminated, which has another workflow.
func TestSkipWhatKeepsAStuckUndo(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id := b.slow()
	b.arrive(1)
	b.ok("migration", "pause", id)
	var workflow string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT workflow_id FROM rehome.migration_plans`).Scan(&workflow))
	require.NoError(t, devtest.Temporal(t).TerminateWorkflow(t.Context(), workflow, "", "test"))
	var away int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.chunks WHERE path LIKE 'handbook/%'`).Scan(&away))
	b.exec(`ALTER TABLE rehome.chunks ADD CONSTRAINT public_names CHECK (path <> 'guide/a.md') NOT VALID`)
	b.ok("migration", "rollback", id, "--detach")
	b.happens(id, "stuck")
	b.refuses(bad{"migration skip " + id, exitUsage, `required flag(s) "reason" not set`})
	b.refuses(bad{"migration skip " + id + " --reason ␢", exitUsage, "wants a reason"})
	for range away { // each row is stuck by itself
		require.Eventually(t, func() bool {
			return b.run("migration", "skip", id, "--reason", "that file may stay").code == exitDone
		}, time.Minute, 50*time.Millisecond)
	}
	b.await(id, "rolled_back")
	shown := b.ok("migration", "show", id).out
	require.Contains(t, shown, "skipped by "+author()+": that file may stay")
	require.Contains(t, shown, "public_names")
	var left int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.chunks WHERE path LIKE 'handbook/%'`).Scan(&left))
	require.Equal(t, away, left, "they stay")
}

func TestWhatIsNotStuckIsNotHelped(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id := b.slow()
	b.refuses(bad{"migration retry " + id, exitConflict, "and not stuck; there is nothing to retry"})
	b.refuses(bad{"migration skip " + id + " --reason why", exitConflict, "and not stuck; there is nothing to skip"})
	b.refuses(bad{"migration retry m-0", exitNotFound, "there is no migration m-0"})
	b.refuses(bad{"migration skip m-0 --reason why", exitNotFound, "there is no migration m-0"})
	b.refuses(bad{"migration retry", exitUsage, "want ID"})
	b.refuses(bad{"migration skip " + id, exitUsage, `required flag(s) "reason" not set`})
	b.ok("migration", "abort", id)
}
