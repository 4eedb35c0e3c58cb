package workflows_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// TestASliceKnowsTheHealthItBeginsWith, since it rests longer near a limit.
func TestASliceKnowsTheHealthItBeginsWith(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	w.near = func(look int) bool { return look == 4 }
	env.ExecuteWorkflow(gradually(), planned())
	require.NoError(t, env.GetWorkflowError())
	for i, s := range w.slices {
		require.Equal(t, i == 3, resilience.Strained(s.Health.Before.Gates), "slice %d", i+1)
		require.Equal(t, resilience.DefaultLimits(), s.Health.Limits)
	}
}

// TestASliceThatLookedNeedsNoOtherLook before the next begins, unless something took
// its time in between, or it saw what the server does not bear.
func TestASliceThatLookedNeedsNoOtherLook(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	shut := []resilience.Gate{{Name: resilience.WALGate, State: resilience.GateShut, Detail: "much is written", Since: w.now()}}
	w.ends = func(slice int) *resilience.HealthCheck {
		check := &resilience.HealthCheck{Calm: true, Health: resilience.Health{Baseline: resilience.Baseline{ProbeMS: 9}}}
		if slice == 20 {
			check.Shut, check.Health.Gates = shut, shut
		}
		return check
	}
	env.ExecuteWorkflow(gradually(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 100_000, w.at.Last)
	require.Equal(t, 1+5+1, w.looks, "before the first slice, after each soak, and until the server bears it again")
	require.Nil(t, w.asked[1].Pulse, "the slice has told that")
	require.InDelta(t, 9, w.asked[1].Before.Baseline.ProbeMS, 0)
	knows := func(in activities.HealthInput) bool {
		return len(in.Before.Gates) == 1 && in.Before.Gates[0].Name == resilience.WALGate
	}
	require.True(t, slices.ContainsFunc(w.asked, knows), "the look after the wait knows what was shut")
	require.True(t, w.slices[30].Calm)
}

func TestBadHealthWaitsAndUndoesNothing(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	w.unwell = func(look int) []resilience.GateName {
		if look > 3 && look <= 20 {
			return []resilience.GateName{resilience.WaitersGate, resilience.ProbeGate}
		}
		return nil
	}
	var shown workflows.Progress
	env.RegisterDelayedCallback(func() {
		value, err := env.QueryWorkflow(workflows.ProgressQuery)
		require.NoError(t, err)
		require.NoError(t, value.Get(&shown))
	}, 90*time.Second)
	env.ExecuteWorkflow(gradually(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 100_000, w.at.Last)
	require.NotContains(t, w.did(), "BeginUndo")
	require.NotContains(t, w.did(), "PauseMigration")
	require.Contains(t, shown.Phase, "Waiting for the server: it is waiters")
	require.Contains(t, shown.Phase, "it is probe", "every reason")
	names := map[string]string{}
	for _, f := range shown.Facts {
		names[f.Name] = f.Value
	}
	require.Contains(t, names["Waits"], "since 2026-03-02 12:0")
	require.Equal(t, "replica_lag: no replica is attached", names["Not available"])
}

func TestAfterSevenDaysOfBadHealthItAsks(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	ill := true
	w.unwell = func(look int) []resilience.GateName {
		if ill && look > 3 {
			return []resilience.GateName{resilience.WALGate}
		}
		return nil
	}
	in := planned()
	if testing.Short() {
		in.Tuning.Look = activities.Duration(10 * time.Minute) // 1000 looks where the full form has 20,000
	}
	began := env.Now()
	env.RegisterDelayedCallback(func() { require.NotContains(t, w.did(), "PauseMigration") }, 7*24*time.Hour)
	env.RegisterDelayedCallback(func() {
		require.Contains(t, w.did(), "PauseMigration")
		looks := w.looks
		env.RegisterDelayedCallback(func() {
			require.Equal(t, looks, w.looks, "nothing runs until a person answers")
			ill = false
			env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{})
		}, time.Hour)
	}, 7*24*time.Hour+30*time.Minute)
	env.ExecuteWorkflow(gradually(), in)
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 100_000, w.at.Last)
	require.Greater(t, env.Now().Sub(began), 7*24*time.Hour)
	require.NotContains(t, w.did(), "BeginUndo")
}

func TestOrdersAreHonouredWhileItWaits(t *testing.T) {
	t.Parallel()
	unwell := func(look int) []resilience.GateName {
		if look > 3 {
			return []resilience.GateName{resilience.ConnectionsGate}
		}
		return nil
	}
	const when = time.Hour + 7*time.Second // in the middle of a wait of 30 s
	t.Run("abort", func(t *testing.T) {
		t.Parallel()
		env, w := gradual(t)
		w.unwell, w.slice = unwell, 50_000
		var at time.Time
		env.RegisterDelayedCallback(func() {
			at = env.Now()
			env.UpdateWorkflowNoRejection(workflows.AbortUpdate, "abort", t, workflows.Order{Author: "ana"})
		}, when)
		env.ExecuteWorkflow(gradually(), planned())
		require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana")
		require.Less(t, env.Now().Sub(at), time.Second)
		require.Contains(t, w.did(), "RevertSlice")
	})
	t.Run("another strategy", func(t *testing.T) {
		t.Parallel()
		env, w := gradual(t)
		w.unwell = unwell
		var at time.Time
		env.RegisterDelayedCallback(func() {
			at = env.Now()
			env.UpdateWorkflowNoRejection(workflows.PauseUpdate, "pause", t, workflows.Order{})
			env.RegisterDelayedCallback(func() {
				env.UpdateWorkflowNoRejection(workflows.StrategyUpdate, "strategy", t, workflows.NewStrategy{Strategy: resilience.Batch})
			}, time.Second)
		}, when)
		env.ExecuteWorkflow(gradually(), planned())
		var again *workflow.ContinueAsNewError
		require.ErrorAs(t, env.GetWorkflowError(), &again)
		require.Equal(t, batch(), again.WorkflowType.Name)
		require.Less(t, env.Now().Sub(at), 2*time.Second)
	})
	t.Run("pause", func(t *testing.T) {
		t.Parallel()
		env, w := gradual(t)
		ill := true
		w.unwell = func(look int) []resilience.GateName {
			if ill {
				return unwell(look)
			}
			return nil
		}
		env.RegisterDelayedCallback(func() {
			env.UpdateWorkflowNoRejection(workflows.PauseUpdate, "pause", t, workflows.Order{})
			looks := w.looks
			env.RegisterDelayedCallback(func() {
				require.Equal(t, looks, w.looks)
				ill = false
				env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{})
			}, time.Hour)
		}, when)
		env.ExecuteWorkflow(gradually(), planned())
		require.NoError(t, env.GetWorkflowError())
		require.EqualValues(t, 100_000, w.at.Last)
	})
	t.Run("cancel", func(t *testing.T) {
		t.Parallel()
		env, w := gradual(t)
		w.unwell = unwell
		env.RegisterDelayedCallback(env.CancelWorkflow, when)
		env.ExecuteWorkflow(gradually(), planned())
		require.Error(t, env.GetWorkflowError())
		require.Contains(t, w.did(), "EndUndo")
	})
}

func TestDeadRowsAreVacuumed(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	w.unwell = func(int) []resilience.GateName {
		if w.at.Last > 20_000 && len(w.vacuums) < 2 {
			return []resilience.GateName{resilience.DeadGate}
		}
		return nil
	}
	env.ExecuteWorkflow(gradually(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.Len(t, w.vacuums, 2)
	require.InDelta(t, time.Minute.Seconds(), w.vacuums[1].Sub(w.vacuums[0]).Seconds(), 10, "soon again, since rows may be counted late")
}

func TestItWorksInItsHoursOnly(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	w.plan.Policy.Hours, w.cost = "22:00-23:00", 50 // 83 minutes of work, and four times that with rests
	env.OnActivity("MoveSlice", mock.Anything, mock.Anything).Return(w.MoveSlice).After(200 * time.Second)
	var wrong []time.Time
	hours, err := resilience.ParseHours(w.plan.Policy.Hours)
	require.NoError(t, err)
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "MoveSlice" && !hours.Open(env.Now()) {
			wrong = append(wrong, env.Now())
		}
	})
	var shown workflows.Progress
	env.RegisterDelayedCallback(func() {
		value, err := env.QueryWorkflow(workflows.ProgressQuery)
		require.NoError(t, err)
		require.NoError(t, value.Get(&shown))
	}, time.Hour)
	began := env.Now()
	env.ExecuteWorkflow(gradually(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.Empty(t, wrong)
	require.Equal(t, "Waiting until 2026-03-02 22:00:00 UTC, when its hours begin", shown.Phase)
	require.Greater(t, env.Now().Sub(began), 4*24*time.Hour)
	require.NotContains(t, w.did(), "PauseMigration", "night is not bad health")
}
