package workflows_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// Orders that come when nobody seems to hear of them.

// deaf is an actor whose slice does not end by itself, and whose database is away when an
// abort is to be written to it.
type deaf struct {
	*actor
	over chan struct{} // the test is
}

func (d *deaf) MoveSlice(ctx context.Context, _ activities.SliceInput) (resilience.Watermark, error) {
	err := d.do("MoveSlice")
	select {
	case <-ctx.Done():
	case <-d.over:
	}
	return d.at, errors.Join(err, ctx.Err())
}

func (d *deaf) BeginUndo(ctx context.Context, in activities.PlanInput) (resilience.Watermark, error) {
	if count(d.did(), "BeginUndo") == 0 {
		if err := d.do("BeginUndo"); err != nil {
			return resilience.Watermark{}, err
		}
		return resilience.Watermark{}, temporal.NewTimeoutError(enums.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, nil)
	}
	return d.actor.BeginUndo(ctx, in)
}

// TestAnAbortThatPostgresDoesNotHearOfStopsTheSlice, which may be one transaction that keeps
// it from being heard; the plan goes back then.
func TestAnAbortThatPostgresDoesNotHearOfStopsTheSlice(t *testing.T) {
	t.Parallel()
	for _, strategy := range []resilience.Strategy{resilience.Immediate, resilience.Batch} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			env := silent().NewTestWorkflowEnvironment()
			d := &deaf{newActor(), make(chan struct{})}
			t.Cleanup(func() { close(d.over) })
			workflows.Register(env)
			env.RegisterActivity(d)
			env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
				if info.ActivityType.Name == "MoveSlice" {
					env.UpdateWorkflowNoRejection(workflows.AbortUpdate, "abort", t, workflows.Order{Author: "ana"})
				}
			})
			env.ExecuteWorkflow(workflows.MigrateName(strategy), planned())
			require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana")
			ran := strings.Join(d.did(), " ")
			require.Contains(t, ran, "MoveSlice BeginUndo BeginUndo RevertSlice")
			require.Contains(t, ran, "EndUndo")
			require.Equal(t, 1, strings.Count(ran, "MoveSlice"))
		})
	}
}

// TestARunThatIsResetAfterItsUndoEnds: it would order slices for ever, none of which moves
// anything.
func TestARunThatIsResetAfterItsUndoEnds(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.at.Wish = resilience.WishUndo
	env.ExecuteWorkflow(batch(), planned())
	require.ErrorContains(t, env.GetWorkflowError(), "turned round by another run, or before this one was reset")
	ran := a.did()
	require.Equal(t, "MoveSlice", ran[len(ran)-1], "there is nothing for it to undo")
	require.Equal(t, 1, count(ran, "MoveSlice"))
}

// TestACancelThatASliceDoesNotHearOfIsNotLost where the history is full, too, when the slice
// ends: the next run would not be cancelled.
func TestACancelThatASliceDoesNotHearOfIsNotLost(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 200)
	start := in.checksum()
	id, run := in.migrate(slowly(), rule("guide", "manual"))
	in.moving(id)
	in.faults.inject("MoveSlice", fault{after: true, times: 1, meets: func(int) {
		for range 5 { // orders so large that a history has room for a few only
			in.told(run, workflows.ThrottleUpdate, resilience.Pace{Author: strings.Repeat("ana", 400_000), Rate: new(0.0), BatchSize: new(1)})
		}
		if err := in.temporal.CancelWorkflow(t.Context(), run.GetID(), ""); err != nil {
			t.Error(err)
		}
		in.heard(run.GetID(), run.GetRunID())
	}})
	var cancelled *temporal.CanceledError
	require.ErrorAs(t, in.temporal.GetWorkflow(t.Context(), run.GetID(), "").Get(t.Context(), nil), &cancelled)
	require.Equal(t, resilience.RolledBack, in.plan(id).Status)
	require.Equal(t, start, in.checksum())
}

// heard waits until a run has asked its slice to end.
func (in *installation) heard(workflow, run string) {
	for deadline := time.Now().Add(wait); ; {
		for _, e := range in.history(workflow, run).Events {
			if e.EventType == enums.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED {
				return
			}
		}
		if time.Now().After(deadline) {
			in.Error("the run does not cancel its slice")
			return
		}
	}
}

// TestRowsThatKeepAStepOfATransferFromBeingTakenBackAreLeftOut, and not the whole step.
func TestRowsThatKeepAStepOfATransferFromBeingTakenBackAreLeftOut(t *testing.T) {
	t.Parallel()
	c := named(t, "transfer rollback")
	env, k := kept(t, c)
	k.fails["VerifyMigration"], k.fails["UnretireSlice"] = errInjected, errors.New("a row points to it")
	var left []string
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
		if info.ActivityType.Name == "NoteMigration" && count(k.did(), "UnretireSlice") == 10 {
			env.RegisterDelayedCallback(func() {
				env.UpdateWorkflowNoRejection(workflows.SkipUpdate, "skip", t, workflows.Order{Author: "ana", Reason: "it is known"})
			}, time.Second) // before it tries by itself
		}
		if info.ActivityType.Name != "UnretireSlice" {
			return
		}
		var in activities.SliceInput
		require.NoError(t, args.Get(&in))
		if in.Bounds.Leave != nil {
			left = append(left, in.Bounds.Leave.Reason)
			delete(k.fails, "UnretireSlice")
		}
	})
	c.run(env)
	require.ErrorContains(t, env.GetWorkflowError(), "injected", "why it was undone")
	require.NotEmpty(t, left)
	require.Equal(t, "it is known", left[0])
	require.Equal(t, resilience.RolledBack, k.status)
	require.Zero(t, k.retired)
}

// TestCopiesThatCannotBeMadeAgainAreLeftOutAtOnce where a table was changed: no row is met
// that could be left out alone, and the same would be said of the step without end.
func TestCopiesThatCannotBeMadeAgainAreLeftOutAtOnce(t *testing.T) {
	t.Parallel()
	c := named(t, "transfer rollback")
	env, k := kept(t, c)
	k.fails["VerifyMigration"] = errInjected
	k.fails["RevertSlice"] = temporal.NewNonRetryableApplicationError("column body is gone", activities.Changed, nil)
	skipped := false
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "NoteMigration" && !skipped {
			skipped = true
			env.RegisterDelayedCallback(func() {
				env.UpdateWorkflowNoRejection(workflows.SkipUpdate, "skip", t, workflows.Order{Author: "ana", Reason: "it is known"})
			}, time.Second) // before it tries by itself
		}
	})
	c.run(env)
	require.ErrorContains(t, env.GetWorkflowError(), "left out by ana: it is known (column body is gone)")
	require.Equal(t, 1, count(k.did(), "RevertSlice"))
	require.Equal(t, resilience.Failed, k.status)
}

// TestARollbackAnswersWhilePostgresIsAway, before it knows what it undoes.
func TestARollbackAnswersWhilePostgresIsAway(t *testing.T) {
	t.Parallel()
	c := named(t, "rollback")
	env, k := kept(t, c)
	k.fails["TakeOverMigration"] = errors.New("Postgres is away")
	env.RegisterDelayedCallback(func() {
		require.Equal(t, "Looking at migration m-0", shownPhase(t, env))
		env.UpdateWorkflow(workflows.AbortUpdate, "abort", rejection(t, "is being looked at; try again in a moment"), workflows.Order{Author: "ana"})
		env.UpdateWorkflow(workflows.PauseUpdate, "pause", rejection(t, "is being looked at"), workflows.Order{Author: "ana"})
		delete(k.fails, "TakeOverMigration")
	}, 3*time.Second)
	approving(t, env, "", nil)
	c.run(env)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, resilience.Completed, k.status)
}

// named is the course that is called so.
func named(t *testing.T, name string) course {
	t.Helper()
	all := courses()
	i := slices.IndexFunc(all, func(c course) bool { return c.name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return all[i]
}
