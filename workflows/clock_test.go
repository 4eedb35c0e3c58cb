package workflows_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"rehome/resilience"
	"rehome/workflows"
)

// TestHoursGoByTheClockAsItIsNow puts the clock of the worker forward or back by
// an hour: chunks move when its hours have come by that clock, and stop when it
// is not their time any more, whatever it was when the wait began.
func TestHoursGoByTheClockAsItIsNow(t *testing.T) {
	t.Parallel()
	const noon = 12 * time.Hour // the rehearsal begins at 12:00, and its hours at 22:00
	for _, c := range []struct {
		name     string
		after    time.Duration
		jump     time.Duration
		from, to time.Duration // of the day, by the other clocks: when the first slice comes
		resumes  time.Duration // the first slice after the jump
	}{
		{"forward while it waits", time.Hour, time.Hour, 21 * time.Hour, 21*time.Hour + 15*time.Minute, 21 * time.Hour},
		{"back while it waits", 9*time.Hour + 30*time.Minute, -time.Hour, 23 * time.Hour, 23*time.Hour + 15*time.Minute, 23 * time.Hour},
		{"back while it works", 10*time.Hour + time.Minute, -time.Hour, 22 * time.Hour, 22*time.Hour + time.Minute, 23 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env, w := gradual(t)
			began := env.Now()
			w.plan.Policy.Hours = "22:00-06:00"
			var jump atomic.Int64
			w.now = func() time.Time { return env.Now().Add(time.Duration(jump.Load())) }
			env.RegisterDelayedCallback(func() { jump.Store(int64(c.jump)) }, c.after)
			var slices []time.Duration // when each began, since noon
			looks := 0                 // before the first
			env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
				switch info.ActivityType.Name {
				case "MoveSlice":
					slices = append(slices, env.Now().Sub(began))
				case "CheckHealth":
					if len(slices) == 0 {
						looks++
					}
				}
			})
			env.ExecuteWorkflow(gradually(), planned())
			require.NoError(t, env.GetWorkflowError())
			require.EqualValues(t, 100_000, w.at.Last)
			require.GreaterOrEqual(t, noon+slices[0], c.from)
			require.LessOrEqual(t, noon+slices[0], c.to)
			require.Less(t, looks, 60, "one in 15 minutes, and no storm of them where clocks differ")
			for _, at := range slices {
				if at > c.after {
					require.GreaterOrEqual(t, noon+at, c.resumes)
				}
			}
		})
	}
}

// TestAnETAIsNeverBeforeNow: between two runs the clock of the server is put back
// by an hour, while the plan is paused.
func TestAnETAIsNeverBeforeNow(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	env, a := rehearsal(t)
	env.SetStartTime(noon)
	env.OnActivity("MoveSlice", mock.Anything, mock.Anything).Return(a.MoveSlice).After(10 * time.Second)
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.PauseUpdate, "pause", t, workflows.Order{Author: "ana"})
	}, 15*time.Second)
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.StrategyUpdate, "change", t, workflows.NewStrategy{Strategy: resilience.Immediate})
	}, time.Minute)
	env.ExecuteWorkflow(batch(), planned())
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next workflows.MigrateInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))

	env, b := rehearsal(t)
	env.SetStartTime(noon.Add(-time.Hour))
	b.at, b.slice = a.at, 5
	env.OnActivity("MoveSlice", mock.Anything, mock.Anything).Return(b.MoveSlice).After(5 * time.Second)
	env.RegisterDelayedCallback(func() {
		_, facts := asked(t, env)
		require.Equal(t, "20.0 s after it goes on", facts["ETA p50"])
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{Author: "ana"})
	}, time.Minute)
	env.RegisterDelayedCallback(func() {
		_, facts := asked(t, env)
		require.Equal(t, "1 chunks a second", facts["Rate"])
		require.Equal(t, "in 15.0 s, at 2026-03-01 11:01:20 UTC", facts["ETA p50"])
	}, time.Minute+7*time.Second)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), next)
	require.NoError(t, env.GetWorkflowError())
}
