package workflows_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/workflows"
)

// become waits until a plan has a status.
func (in *installation) become(id string, want resilience.Status) {
	in.Helper()
	require.Eventually(in, func() bool {
		status, _, err := in.store.Standing(in.Context(), id)
		return err == nil && status == want
	}, wait, tick, "%s should become %s", id, want)
}

// when says at which moment something happened to a plan.
func (in *installation) when(id, what string) time.Time {
	in.Helper()
	events, err := in.store.Events(in.Context(), id)
	require.NoError(in, err)
	for _, e := range events {
		if e.What == what {
			return e.At
		}
	}
	require.Fail(in, "it did not happen: "+what, "%s: %v", id, events)
	return time.Time{}
}

// TestMigrationsRunOneAfterAnother: with one slot they go in the order in which
// they came, and one whose run is terminated gives its slot back.
func TestMigrationsRunOneAfterAnother(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	_, err := in.pool.Exec(t.Context(), `INSERT INTO rehome.settings (key, value) VALUES ('max_concurrent_migrations', '1')`)
	require.NoError(t, err)
	for _, path := range []string{"a.md", "b.md", "c.md", "d.md"} {
		in.fill(path, 60)
	}
	var ids []string
	var runs []client.WorkflowRun
	for i, path := range []string{"a.md", "b.md", "c.md", "d.md"} {
		policy := slowly()
		if i == 0 {
			policy.Rate = 2 // it is still at work when all others have come
		}
		id, run := in.migrate(policy, rule(path, "moved/"+path))
		ids, runs = append(ids, id), append(runs, run)
		if len(ids) == 1 {
			in.moving(id)
		} else {
			in.become(id, resilience.Queued)
		}
	}
	require.NoError(t, in.temporal.TerminateWorkflow(t.Context(), runs[0].GetID(), "", "a test"))
	for _, run := range runs[1:] {
		require.Empty(t, ends(t, run, nil))
	}
	require.Equal(t, resilience.Executing, in.plan(ids[0]).Status, "nobody has told it")
	for i := 2; i < len(ids); i++ {
		before, after := in.when(ids[i-1], "completed"), in.when(ids[i], "started")
		require.False(t, after.Before(before), "%s started at %s, %s was completed at %s", ids[i], after, ids[i-1], before)
	}
	_, undone := in.rollback(ids[0])
	require.Empty(t, ends(t, undone, nil))
	var slots int
	require.NoError(t, in.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.migration_slots`).Scan(&slots))
	require.Zero(t, slots)
}

// TestAnotherClientApproves sends what the web UI's form and `temporal workflow
// update` send, over a connection of its own.
func TestAnotherClientApproves(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 20)
	run := in.start(workflows.MigrateID(in.id, "docs", "m-1"), workflows.MigrateName(resilience.Batch), workflows.MigrateInput{
		Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: "m-1", PlanOnly: true,
		Renames: []resilience.RenameRule{rule("guide", "manual")}, Policy: resilience.Policy{BatchSize: 10}, Tuning: quick(),
	})
	in.become("m-1", resilience.AwaitingApproval)
	plan := in.plan("m-1")

	other, err := client.Dial(client.Options{HostPort: devtest.TemporalAddress(t), Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	require.NoError(t, err)
	t.Cleanup(other.Close)
	send := func(hash string) error {
		handle, err := other.UpdateWorkflow(t.Context(), updateOf(run.GetID(), "approve", map[string]any{"plan_hash": hash, "author": "ana"}))
		if err == nil {
			err = handle.Get(t.Context(), nil)
		}
		return err
	}
	require.ErrorContains(t, send("0000"), plan.Hash, "a forged approval")
	require.NoError(t, send(plan.Hash))
	require.Empty(t, ends(t, run, nil))
	require.Equal(t, 20, in.count("manual"))
	approved := in.plan("m-1").Approval
	require.Equal(t, "ana", approved.By)
	require.Equal(t, plan.Hash, approved.Hash)
}
