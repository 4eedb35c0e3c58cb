package workflows_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/resilience"
	"rehome/workflows"
)

// TestWhoDoesNotSayWhoTheyAreIsNotThePlan: each order, as a form of the web UI sends it that
// was left empty.
func TestWhoDoesNotSayWhoTheyAreIsNotThePlan(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 4000)
	id, run := in.migrate(slowly(), rule("guide", "manual"))
	in.moving(id)
	in.unsigned(run, workflows.PauseUpdate, nil)
	require.Eventually(t, func() bool { return in.says(run, "Paused", "by "+resilience.Somebody+" since ") }, wait, tick)
	in.unsigned(run, workflows.ThrottleUpdate, map[string]any{"rate": 90})
	in.unsigned(run, workflows.StrategyUpdate, map[string]any{"strategy": "gradual"})
	in.unsigned(run, workflows.ResumeUpdate, nil)
	in.faults.inject("RevertSlice", fault{times: -1})
	in.unsigned(run, workflows.AbortUpdate, nil)
	in.unsigned(run, workflows.RetryUpdate, nil)
	in.unsigned(run, workflows.SkipUpdate, map[string]any{"reason": "a test"})
	require.Eventually(t, func() bool {
		return in.number(`SELECT count(*) FROM rehome.migration_events WHERE event = 'skipped'`) == 1
	}, wait, tick)
	in.faults.inject("RevertSlice", fault{})
	require.ErrorContains(t, run.Get(t.Context(), nil), "aborted by "+resilience.Somebody)

	events, err := in.store.Events(t.Context(), id)
	require.NoError(t, err)
	by := map[string]string{}
	for _, e := range events {
		by[e.What] = e.Author
	}
	for _, what := range []string{"paused", "throttled", "strategy changed", "resumed", "rolling back", "retried", "skipped"} {
		require.Equal(t, resilience.Somebody, by[what], what)
	}
	for _, what := range []string{"created", "started", "stuck", "goes on"} {
		require.Contains(t, by, what)
		require.Empty(t, by[what], what)
	}
}

// unsigned gives an order without an author, as soon as it is taken.
func (in *installation) unsigned(run client.WorkflowRun, name string, arg map[string]any) {
	in.Helper()
	if arg == nil {
		arg = map[string]any{}
	}
	require.Eventually(in, func() bool {
		handle, err := in.temporal.UpdateWorkflow(in.Context(), updateOf(run.GetID(), name, arg))
		return err == nil && handle.Get(in.Context(), nil) == nil
	}, wait, tick, name)
}

// says reports whether a fact of a run's progress begins so.
func (in *installation) says(run client.WorkflowRun, fact, begins string) bool {
	in.Helper()
	for _, f := range in.progress(run).Facts {
		if f.Name == fact && strings.HasPrefix(f.Value, begins) {
			return true
		}
	}
	return false
}
