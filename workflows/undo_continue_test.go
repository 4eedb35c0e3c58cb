package workflows_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// inManyRuns goes through a course whose histories are all too long.
func inManyRuns(t *testing.T, c course, database any, each func(env *testsuite.TestWorkflowEnvironment, run int)) (runs int, err error) {
	t.Helper()
	return inRuns(t, c, database, func(env *testsuite.TestWorkflowEnvironment, run int) {
		env.SetContinueAsNewSuggested(true)
		each(env, run)
	})
}

// inRuns goes through a course, and returns how often it continued in a fresh history, and
// how the last ended. each is given the rehearsal of a run.
func inRuns(t *testing.T, c course, database any, each func(env *testsuite.TestWorkflowEnvironment, run int)) (runs int, err error) {
	t.Helper()
	var again *workflow.ContinueAsNewError
	for now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC); ; runs++ {
		require.Less(t, runs, 100)
		env := silent().NewTestWorkflowEnvironment()
		env.SetTestTimeout(patiently)
		env.SetStartTime(now)
		workflows.Register(env)
		env.RegisterActivity(database)
		each(env, runs)
		if runs == 0 {
			c.run(env)
		} else {
			var next workflows.MigrateInput
			require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
			env.ExecuteWorkflow(again.WorkflowType.Name, next)
		}
		require.True(t, env.IsWorkflowCompleted())
		if err = env.GetWorkflowError(); !errors.As(err, &again) || !workflow.IsContinueAsNewError(err) {
			return runs, err
		}
		now = env.Now()
	}
}

// approving says yes to the plan whenever a person is asked, and gives an order at a step.
func approving(t *testing.T, env *testsuite.TestWorkflowEnvironment, step string, order func()) {
	t.Helper()
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		switch info.ActivityType.Name {
		case "RequestApproval":
			(&voice{T: t, env: env}).approves(1)
		case step:
			order()
		}
	})
}

// TestAnUndoGoesOnInManyRuns, each in a history of its own: nothing is undone twice or left
// out, and the last run ends as the first would have.
func TestAnUndoGoesOnInManyRuns(t *testing.T) {
	t.Parallel()
	for _, c := range courses() {
		if c.breaks == "" {
			continue
		}
		for name, want := range map[string]string{"fails": "injected", "is aborted": "aborted by ana", "is cancelled": "canceled"} {
			t.Run(c.name+" "+name, func(t *testing.T) {
				t.Parallel()
				_, k := kept(t, c)
				if name == "fails" {
					k.fails[c.breaks] = errInjected
				}
				runs, err := inManyRuns(t, c, k, func(env *testsuite.TestWorkflowEnvironment, _ int) {
					approving(t, env, c.breaks, func() {
						switch name {
						case "is aborted":
							env.UpdateWorkflowNoRejection(workflows.AbortUpdate, "abort", t, workflows.Order{Author: "ana", Reason: "why not"})
						case "is cancelled":
							env.CancelWorkflow()
						}
					})
				})
				k.mu.Lock() // an activity may outlive a run that was cancelled
				defer k.mu.Unlock()
				ran := strings.Join(k.ran, " ")
				require.ErrorContains(t, err, want, ran)
				require.Equal(t, name == "is cancelled", temporal.IsCanceledError(err))
				if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
					require.Equal(t, map[string]string{"fails": "Injected", "is aborted": workflows.Aborted}[name], app.Type())
				}
				require.Greater(t, runs, 3)
				require.Equal(t, resilience.RolledBack, k.status, ran)
				require.Zero(t, k.at.Last+k.retired, ran)
				require.False(t, k.switched, ran)
				require.False(t, k.away, ran)
				for _, once := range []string{"UndoSwitchAliases", "UndoSwitchReferences", "BuildIndexes", "EndUndo"} {
					wanted := 0
					if c.undone(once) {
						wanted = 1
					}
					require.Equal(t, wanted, count(k.ran[slices.Index(k.ran, "BeginUndo"):], once), "%s: %s", once, ran)
				}
			})
		}
	}
}

// orphan is the keeper of a plan whose run was terminated when all had moved.
type orphan struct{ *keeper }

func (o *orphan) TakeOverMigration(context.Context, activities.PlanInput) (resilience.Plan, error) {
	plan := o.plan
	plan.ID, plan.Status = "m-1", resilience.Executing
	return plan, o.do("TakeOverMigration")
}

// TestARollbackOfATerminatedRunGoesOnInManyRuns, and ends well, since it is what was asked for.
func TestARollbackOfATerminatedRunGoesOnInManyRuns(t *testing.T) {
	t.Parallel()
	for _, c := range courses() {
		if c.breaks == "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, k := kept(t, c)
			k.at.Last, k.status, k.switched, k.away = k.at.Total, resilience.Executing, true, c.rebuild
			if c.transfer {
				k.retired = k.at.Total
			}
			c.undoes = true
			runs, err := inManyRuns(t, c, &orphan{k}, func(*testsuite.TestWorkflowEnvironment, int) {})
			require.NoError(t, err)
			require.Greater(t, runs, 1)
			require.Equal(t, resilience.RolledBack, k.status)
			require.Zero(t, k.at.Last+k.retired)
			require.False(t, k.switched)
			require.False(t, k.away)
			for _, once := range []string{"TakeOverMigration", "BeginUndo", "EndUndo", "ReadMigration"} {
				require.Equal(t, 1, count(k.did(), once), once)
			}
		})
	}
}

// TestAStuckUndoGoesOnInManyRuns: it stays stuck, what a person says is taken by whichever run
// is there, and what they left out is told by the last.
func TestAStuckUndoGoesOnInManyRuns(t *testing.T) {
	t.Parallel()
	c := courses()[0]
	_, k := kept(t, c)
	notNow := errors.New("not now")
	k.fails[c.breaks], k.fails["UndoSwitchAliases"], k.fails["RevertSlice"] = errInjected, notNow, notNow
	left := 0 // how often it was tried to move back all but the rows that cannot
	_, err := inManyRuns(t, c, k, func(env *testsuite.TestWorkflowEnvironment, _ int) {
		env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
			switch info.ActivityType.Name {
			case "RequestApproval":
				env.RegisterDelayedCallback(func() { approve(t, env, "h1") }, 1)
			case "RevertSlice":
				var in activities.SliceInput
				require.NoError(t, args.Get(&in))
				if in.Bounds.Leave == nil {
					return
				}
				if left++; left == 3 {
					delete(k.fails, "RevertSlice")
				}
			}
		})
		if count(k.did(), "UndoSwitchAliases") == 14 || count(k.did(), "RevertSlice") == 14 {
			env.RegisterDelayedCallback(func() {
				env.UpdateWorkflowNoRejection(workflows.SkipUpdate, "skip", t, workflows.Order{Author: "ana", Reason: "it is known"})
			}, time.Second) // before it tries by itself
		}
	})
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	require.Equal(t, workflows.RollbackFailed, app.Type())
	require.ErrorContains(t, app, "restore the aliases and the catalogue of files: left out by ana: it is known (not now)")
	require.Equal(t, resilience.Failed, k.status)
	require.Zero(t, k.at.Last)
	require.Equal(t, 15, count(k.did(), "UndoSwitchAliases"), "ten times, then once at a time")
	require.Equal(t, 3, left)
}

// TestACancelledUndoGoesOnInAFreshHistory of a real server, which does not cancel the run that
// follows: orders so large that a history has room for a few only make it long.
func TestACancelledUndoGoesOnInAFreshHistory(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	id, run := in.inTheSwitch()
	in.cancelledInTheSwitch(run)
	in.moving(id)
	first := run.GetRunID()
	latest := func() client.WorkflowRun { return in.temporal.GetWorkflow(t.Context(), run.GetID(), "") }
	for range 5 {
		in.told(run, workflows.ThrottleUpdate, resilience.Pace{Author: strings.Repeat("ana", 400_000), Rate: new(10.0), BatchSize: new(1)})
	}
	require.Eventually(t, func() bool { return latest().GetRunID() != first }, wait, tick)
	in.told(run, workflows.ThrottleUpdate, resilience.Pace{Rate: new(0.0)})
	var cancelled *temporal.CanceledError
	require.ErrorAs(t, latest().Get(t.Context(), nil), &cancelled)
	require.Equal(t, resilience.RolledBack, in.plan(id).Status)
	require.Equal(t, 60, in.count("guide"))
	for _, id := range []string{first, latest().GetRunID()} {
		replayer := worker.NewWorkflowReplayer()
		workflows.Register(replayer)
		require.NoError(t, replayer.ReplayWorkflowHistory(nil, in.history(run.GetID(), id)))
	}
}
