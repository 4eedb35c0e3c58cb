package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rehome/resilience"
	"rehome/workflows"
)

// asked queries a rehearsed run for its progress.
func asked(t *testing.T, env *testsuite.TestWorkflowEnvironment) (workflows.Progress, map[string]string) {
	t.Helper()
	value, err := env.QueryWorkflow(workflows.ProgressQuery)
	require.NoError(t, err)
	var p workflows.Progress
	require.NoError(t, value.Get(&p))
	facts := map[string]string{}
	for _, f := range p.Facts {
		facts[f.Name] = f.Value
	}
	return p, facts
}

// TestProgressFreezesWhilePaused: it says who paused, since when and why, and
// what is left is counted from when it goes on; across continue-as-new too.
func TestProgressFreezesWhilePaused(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	env.SetStartTime(noon)
	a.plan = resilience.Plan{Hash: "h1", Estimate: resilience.Estimate{P50MS: 60_000, P90MS: 90_000, Basis: "a test"}}
	env.OnActivity("MoveSlice", mock.Anything, mock.Anything).Return(a.MoveSlice).After(10 * time.Second)
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.PauseUpdate, "pause", t, workflows.Order{Author: "ana", Reason: "lunch"})
	}, 15*time.Second)
	env.RegisterDelayedCallback(func() {
		p, facts := asked(t, env)
		require.Equal(t, "Paused", p.Phase)
		require.EqualValues(t, 10, p.Done)
		require.EqualValues(t, 30, p.Total)
		require.Contains(t, facts["Paused"], "by ana since 2026-03-01 12:00:1")
		require.Contains(t, facts["Paused"], ": lunch")
		require.Equal(t, "20.0 s after it goes on", facts["ETA p50"], "20 rows at one a second")
	}, 16*time.Second)
	env.RegisterDelayedCallback(func() {
		_, facts := asked(t, env)
		require.Equal(t, "20.0 s after it goes on", facts["ETA p50"], "it is frozen")
		env.UpdateWorkflowNoRejection(workflows.StrategyUpdate, "change", t, workflows.NewStrategy{Strategy: resilience.Immediate})
	}, 3*time.Hour)
	env.ExecuteWorkflow(batch(), planned())
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next workflows.MigrateInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))

	env, b := rehearsal(t)
	env.SetStartTime(noon.Add(4 * time.Hour))
	b.at, b.slice = a.at, 5
	env.OnActivity("MoveSlice", mock.Anything, mock.Anything).Return(b.MoveSlice).After(10 * time.Second)
	env.RegisterDelayedCallback(func() {
		p, facts := asked(t, env)
		require.Equal(t, "Paused", p.Phase)
		require.Contains(t, facts["Paused"], "by ana since 2026-03-01 12:00:1", "the next run knows")
		require.Equal(t, "20.0 s after it goes on", facts["ETA p50"])
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{Author: "ben"})
	}, time.Hour)
	env.RegisterDelayedCallback(func() {
		p, facts := asked(t, env)
		require.Equal(t, "Moving chunks", p.Phase)
		require.NotContains(t, facts, "Paused")
		require.Equal(t, "0.64 chunks a second", facts["Rate"], "one a second before, half of that now; the pause does not count")
		require.Contains(t, facts["ETA p50"], "in ")
		require.Contains(t, facts["ETA p50"], ", at 2026-03-01 17:00:")
	}, time.Hour+25*time.Second)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), next)
	require.NoError(t, env.GetWorkflowError())
}

// TestAnUndoIsNotPaused, although the plan was when it was aborted.
func TestAnUndoIsNotPaused(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.at.Last, a.at.Wish = 20, resilience.WishPause
	env.RegisterDelayedCallback(func() {
		require.Equal(t, "Paused", shownPhase(t, env))
		env.UpdateWorkflowNoRejection(workflows.AbortUpdate, "abort", t, workflows.Order{Author: "ana"})
	}, time.Hour)
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "EndUndo" {
			p, facts := asked(t, env)
			require.Equal(t, "Looking whether every chunk is back", p.Phase)
			require.NotContains(t, facts, "Paused")
		}
	})
	env.ExecuteWorkflow(batch(), planned())
	require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana")
}

func TestWhoApprovesSeesTheRisk(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.plan = risky()
	a.plan.Risk.Reasons = []string{"20 points: an HNSW index", "15 points: all at once"}
	a.plan.Estimate = resilience.Estimate{P50MS: 60_000, P90MS: 90_000, Basis: "three runs like it"}
	env.RegisterDelayedCallback(func() {
		p, facts := asked(t, env)
		require.Contains(t, p.Phase, "Waiting for approval")
		require.Equal(t, "high, 65 of 100: 20 points: an HNSW index; 15 points: all at once", facts["Risk"])
		require.Equal(t, "1m0s, at most 1m30s in 9 of 10 runs; three runs like it", facts["Estimate"])
		require.Equal(t, "h1", facts["Plan hash"])
		approve(t, env, "h1")
	}, time.Hour)
	env.ExecuteWorkflow(batch(), planned())
	require.NoError(t, env.GetWorkflowError())
}

// TestAPauseTakesAResumeBack: told to go on, it waits for a slot, and is told to
// stay after all.
func TestAPauseTakesAResumeBack(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.at.Wish = resilience.WishPause
	env.RegisterDelayedCallback(func() {
		a.busy = 1000
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{Author: "ana"})
	}, time.Hour)
	env.RegisterDelayedCallback(func() {
		p, facts := asked(t, env)
		require.Contains(t, p.Phase, "waiting for another migration")
		require.Equal(t, "m-other at work", facts["Waits for"])
		env.UpdateWorkflowNoRejection(workflows.PauseUpdate, "pause", t, workflows.Order{Author: "ben"})
	}, time.Hour+time.Minute)
	var asks int
	env.RegisterDelayedCallback(func() { asks = len(a.did()) }, time.Hour+2*time.Minute)
	env.RegisterDelayedCallback(func() {
		require.Len(t, a.did(), asks, "it does not ask for a slot any more")
		require.Zero(t, a.at.Last)
		_, facts := asked(t, env)
		require.Contains(t, facts["Paused"], "by ben")
		a.busy = 0
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "again", t, workflows.Order{Author: "ana"})
	}, 2*time.Hour)
	env.ExecuteWorkflow(batch(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 30, a.at.Last)
}
