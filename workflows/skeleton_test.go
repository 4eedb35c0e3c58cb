package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// actor stands in for the activities, under their names, where a test needs
// skipped time or orders of events that a database would not give.
type actor struct {
	ran    []string // in order
	fails  map[string]error
	at     resilience.Watermark
	slice  int64 // rows that one slice moves
	sweeps []int64
}

func (a *actor) do(name string) error {
	a.ran = append(a.ran, name)
	return a.fails[name]
}

func (a *actor) PlanMigration(context.Context, activities.PlanMigrationInput) (resilience.Plan, error) {
	return resilience.Plan{}, a.do("PlanMigration")
}

func (a *actor) MoveSlice(context.Context, activities.SliceInput) (resilience.Watermark, error) {
	err := a.do("MoveSlice")
	if a.at.Wish == resilience.WishRun {
		a.at.Last = min(a.at.Last+a.slice, a.at.Total)
	}
	return a.at, err
}

func (a *actor) RevertSlice(context.Context, activities.SliceInput) (resilience.Watermark, error) {
	err := a.do("RevertSlice")
	a.at.Last = max(a.at.Last-a.slice, 0)
	return a.at, err
}

func (a *actor) SweepMigration(context.Context, activities.PlanInput) (int64, error) {
	err := a.do("SweepMigration")
	if len(a.sweeps) == 0 {
		return 0, err
	}
	found := a.sweeps[0]
	a.sweeps = a.sweeps[1:]
	a.at.Total += found
	return found, err
}

func (a *actor) BeginUndo(context.Context, activities.PlanInput) (resilience.Watermark, error) {
	err := a.do("BeginUndo")
	a.at.Wish = resilience.WishUndo
	return a.at, err
}

func (a *actor) PauseMigration(context.Context, activities.PlanInput) error {
	a.at.Wish = resilience.WishPause
	return a.do("PauseMigration")
}

func (a *actor) ResumeMigration(context.Context, activities.PlanInput) error {
	a.at.Wish = resilience.WishRun
	return a.do("ResumeMigration")
}

func (a *actor) ReadMigration(context.Context, activities.PlanInput) (resilience.Plan, error) {
	return resilience.Plan{Moves: a.at.Total, Moved: a.at.Last}, a.do("ReadMigration")
}

func (a *actor) BeginMigration(context.Context, activities.PlanInput) error {
	return a.do("BeginMigration")
}
func (a *actor) CancelMigration(context.Context, activities.PlanInput) error {
	return a.do("CancelMigration")
}
func (a *actor) SwitchAliases(context.Context, activities.PlanInput) error {
	return a.do("SwitchAliases")
}
func (a *actor) UndoSwitchAliases(context.Context, activities.PlanInput) error {
	return a.do("UndoSwitchAliases")
}
func (a *actor) CompleteMigration(context.Context, activities.PlanInput) error {
	return a.do("CompleteMigration")
}
func (a *actor) EndUndo(context.Context, activities.PlanInput) error  { return a.do("EndUndo") }
func (a *actor) FailUndo(context.Context, activities.PlanInput) error { return a.do("FailUndo") }

// rehearsal is a migration of 30 rows, 10 a slice, played by an actor.
func rehearsal(t *testing.T) (*testsuite.TestWorkflowEnvironment, *actor) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	a := &actor{fails: map[string]error{}, slice: 10, at: resilience.Watermark{Total: 30, Epoch: 1, Wish: resilience.WishRun}}
	workflows.Register(env)
	env.RegisterActivity(a)
	return env, a
}

func planned() workflows.MigrateInput {
	return workflows.MigrateInput{Memory: "docs", Migration: "m-1"}
}

var errInjected = temporal.NewNonRetryableApplicationError("injected", "Injected", nil)

func TestCompensationsRunNewestFirst(t *testing.T) {
	t.Parallel()
	for step, want := range map[string][]string{
		"PlanMigration":     {"CancelMigration"},
		"MoveSlice":         {"BeginUndo", "RevertSlice", "EndUndo", "ReadMigration"},
		"SwitchAliases":     {"BeginUndo", "UndoSwitchAliases", "RevertSlice", "RevertSlice", "RevertSlice", "EndUndo", "ReadMigration"},
		"CompleteMigration": {"BeginUndo", "UndoSwitchAliases", "RevertSlice", "RevertSlice", "RevertSlice", "EndUndo", "ReadMigration"},
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env, a := rehearsal(t)
			a.fails[step] = errInjected
			env.ExecuteWorkflow(workflows.MigrateBatchName, planned())
			require.ErrorContains(t, env.GetWorkflowError(), "injected")
			require.Equal(t, want, a.ran[len(a.ran)-len(want):])
		})
	}
}

func TestAFailedCompensationDoesNotKeepTheOthersFromRunning(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.fails["CompleteMigration"], a.fails["UndoSwitchAliases"] = errInjected, errInjected
	env.ExecuteWorkflow(workflows.MigrateBatchName, planned())
	var app *temporal.ApplicationError
	require.ErrorAs(t, env.GetWorkflowError(), &app)
	require.Equal(t, workflows.RollbackFailed, app.Type())
	require.ErrorContains(t, app, "restore the aliases")
	require.Contains(t, a.ran, "RevertSlice")
	require.Contains(t, a.ran, "FailUndo")
}

func TestSweepsEnd(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.sweeps = []int64{5, 5, 5, 5, 5, 5, 5, 5, 5}
	env.ExecuteWorkflow(workflows.MigrateBatchName, planned())
	require.NoError(t, env.GetWorkflowError())
	require.Len(t, a.sweeps, 4, "five rounds, however fast the application is")
	require.Equal(t, a.at.Total, a.at.Last, "what was swept was moved")
}

// TestStateCrossesContinueAsNew pauses a migration for two days, lets it go on
// in a new run, and checks that the new run neither plans nor begins again.
func TestStateCrossesContinueAsNew(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	env.SetContinueAsNewSuggested(true)
	env.ExecuteWorkflow(workflows.MigrateBatchName, planned())
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	require.Equal(t, workflows.MigrateBatchName, again.WorkflowType.Name)
	var next workflows.MigrateInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.NotNil(t, next.Resume)

	env, b := rehearsal(t)
	b.at = a.at
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.PauseUpdate, "pause", t, workflows.Order{Author: "ana"})
	}, 0)
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{Author: "ana"})
	}, 48*time.Hour)
	start := env.Now()
	env.ExecuteWorkflow(workflows.MigrateBatchName, next)
	require.NoError(t, env.GetWorkflowError())
	require.GreaterOrEqual(t, env.Now().Sub(start), 48*time.Hour)
	require.NotContains(t, b.ran, "PlanMigration")
	require.NotContains(t, b.ran, "BeginMigration")
	require.Contains(t, b.ran, "CompleteMigration")
	require.EqualValues(t, 30, b.at.Last)
}

func TestAPausedRunStaysPausedAcrossContinueAsNew(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.at.Wish = resilience.WishPause
	in := planned()
	in.Resume = &workflows.Resume{Epoch: 1, Paused: true}
	env.RegisterDelayedCallback(func() {
		require.Empty(t, a.ran, "nothing runs while it is paused")
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{})
	}, time.Hour)
	env.ExecuteWorkflow(workflows.MigrateBatchName, in)
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 30, a.at.Last)
}

// TestAPauseFromBeforeAResetHolds: the run was never told of the pause that
// stands in Postgres.
func TestAPauseFromBeforeAResetHolds(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.at.Wish = resilience.WishPause
	env.RegisterDelayedCallback(func() {
		require.Zero(t, a.at.Last)
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{})
	}, time.Hour)
	env.ExecuteWorkflow(workflows.MigrateBatchName, planned())
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 30, a.at.Last)
}

func TestAbortWhilePlanningChangesNothing(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.AbortUpdate, "abort", t, workflows.Order{Author: "ana"})
	}, 0)
	env.ExecuteWorkflow(workflows.MigrateBatchName, planned())
	require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana")
	require.NotContains(t, a.ran, "MoveSlice")
}
