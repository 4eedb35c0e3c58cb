package workflows_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
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
	mu     sync.Mutex    // local activities run beside the others
	ran    []string      // in order
	until  chan struct{} // planning takes until then; nil is at once
	fails  map[string]error
	at     resilience.Watermark
	slice  int64 // rows that one slice moves
	turned int64 // rows that had moved when it was turned round
	sweeps []int64
	late   bool            // the look at all chunks is to tell of those that are swept no more
	comes  int64           // rows that come back to where they were while all are looked at
	plan   resilience.Plan // as planning returns it
	now    resilience.Plan // as it stands later
	busy   int             // how many times there is no slot
	drifts []string        // why a beginning is refused, one for each try
	change activities.ChangeInput
}

func (a *actor) do(name string, effect ...func()) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ran = append(a.ran, name)
	for _, change := range effect {
		change()
	}
	return a.fails[name]
}

// did is what ran until now. A local activity that is over may not have been waited for.
func (a *actor) did() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.ran)
}

func (a *actor) PlanMigration(context.Context, activities.PlanMigrationInput) (resilience.Plan, error) {
	if a.until != nil {
		<-a.until
	}
	return a.plan, a.do("PlanMigration")
}

func (a *actor) MoveSlice(context.Context, activities.SliceInput) (at resilience.Watermark, err error) {
	err = a.do("MoveSlice", func() {
		if a.at.Wish == resilience.WishRun {
			a.at.Last = min(a.at.Last+a.slice, a.at.Total)
		}
		at = a.at
	})
	return at, err
}

func (a *actor) RevertSlice(context.Context, activities.SliceInput) (at resilience.Watermark, err error) {
	err = a.do("RevertSlice", func() {
		a.at.Last = max(a.at.Last-a.slice, 0)
		at = a.at
	})
	return at, err
}

func (a *actor) SweepMigration(context.Context, activities.PlanInput) (found int64, err error) {
	err = a.do("SweepMigration", func() {
		if len(a.sweeps) > 0 {
			found, a.sweeps = a.sweeps[0], a.sweeps[1:]
			a.at.Total += found
		}
	})
	return found, err
}

func (a *actor) VerifyMigration(_ context.Context, in activities.VerifyInput) (at resilience.Verified, err error) {
	err = a.do("VerifyMigration", func() {
		at = in.At
		at.Total, at.Last = a.at.Total, a.at.Total
		at.Done = true
		a.late = in.Late
	})
	if a.comes > 0 {
		a.sweeps, a.comes = append(a.sweeps, a.comes), 0
		return at, errReturned
	}
	return at, err
}

func (a *actor) VerifyUndo(_ context.Context, in activities.VerifyInput) (at resilience.Verified, err error) {
	err = a.do("VerifyUndo", func() { // in slices of 20
		at.Total = a.turned
		at.Last = min(in.At.Last+20, at.Total)
		at.Done = at.Last == at.Total
	})
	return at, err
}

func (a *actor) BeginUndo(context.Context, activities.PlanInput) (at resilience.Watermark, err error) {
	err = a.do("BeginUndo", func() {
		if a.at.Wish != resilience.WishUndo {
			a.turned = a.at.Last
		}
		a.at.Wish = resilience.WishUndo
		at = a.at
	})
	return at, err
}

func (a *actor) PauseMigration(context.Context, activities.PlanInput) error {
	return a.do("PauseMigration", func() { a.at.Wish = resilience.WishPause })
}

func (a *actor) ResumeMigration(context.Context, activities.PlanInput) (turn activities.Turn, err error) {
	err = a.do("ResumeMigration", func() {
		if a.busy > 0 {
			a.busy--
			turn.Wait.AtWork = []string{"m-other"}
			return
		}
		a.at.Wish, turn.Granted = resilience.WishRun, true
	})
	return turn, err
}

func (a *actor) ReadWatermark(context.Context, activities.PlanInput) (at resilience.Watermark, err error) {
	err = a.do("ReadWatermark", func() { at = a.at })
	return at, err
}

func (a *actor) QueueMigration(context.Context, activities.QueueInput) error {
	return a.do("QueueMigration")
}

func (a *actor) TakeSlot(context.Context, activities.PlanInput) (turn activities.Turn, err error) {
	err = a.do("TakeSlot", func() {
		if turn.Granted = a.busy == 0; !turn.Granted {
			a.busy--
			turn.Wait = resilience.Wait{AtWork: []string{"m-other"}, First: []string{"m-before"}}
		}
	})
	return turn, err
}

func (a *actor) RequestApproval(context.Context, activities.PlanInput) error {
	return a.do("RequestApproval")
}

func (a *actor) ApproveMigration(context.Context, activities.ApproveInput) error {
	return a.do("ApproveMigration")
}

func (a *actor) ChangeStrategy(_ context.Context, in activities.ChangeInput) (string, error) {
	return "changed", a.do("ChangeStrategy", func() { a.change = in })
}

func (a *actor) ReadMigration(context.Context, activities.PlanInput) (resilience.Plan, error) {
	return a.now, a.do("ReadMigration")
}

func (a *actor) BeginMigration(context.Context, activities.BeginInput) (b activities.Beginning, err error) {
	err = a.do("BeginMigration", func() {
		b = activities.Beginning{Begun: true}
		if len(a.drifts) > 0 {
			b, a.drifts = activities.Beginning{Why: a.drifts[0]}, a.drifts[1:]
		}
	})
	return b, err
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

func (a *actor) NoteMigration(_ context.Context, in activities.NoteInput) error {
	return a.do("NoteMigration " + in.What)
}
func (a *actor) EndUndo(context.Context, activities.PlanInput) error  { return a.do("EndUndo") }
func (a *actor) FailUndo(context.Context, activities.PlanInput) error { return a.do("FailUndo") }

// silent are test environments that do not tell of each timer, of which there
// are thousands.
func silent() *testsuite.WorkflowTestSuite {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	return &suite
}

// newActor has a plan of 30 rows, of which a slice moves 10.
func newActor() *actor {
	return &actor{fails: map[string]error{}, slice: 10, at: resilience.Watermark{Total: 30, Epoch: 1, Wish: resilience.WishRun}}
}

// rehearsal is its migration.
func rehearsal(t *testing.T) (*testsuite.TestWorkflowEnvironment, *actor) {
	t.Helper()
	env := silent().NewTestWorkflowEnvironment()
	a := newActor()
	workflows.Register(env)
	env.RegisterActivity(a)
	return env, a
}

func planned() workflows.MigrateInput {
	return workflows.MigrateInput{Memory: "docs", Migration: "m-1"}
}

var errReturned = temporal.NewNonRetryableApplicationError("chunks are back", activities.Returned, nil)

var errInjected = temporal.NewNonRetryableApplicationError("injected", "Injected", nil)

func TestCompensationsRunNewestFirst(t *testing.T) {
	t.Parallel()
	for step, want := range map[string][]string{
		"PlanMigration":     {"CancelMigration"},
		"MoveSlice":         {"BeginUndo", "RevertSlice", "VerifyUndo", "EndUndo", "ReadMigration"},
		"VerifyMigration":   {"BeginUndo", "RevertSlice", "RevertSlice", "RevertSlice", "VerifyUndo", "VerifyUndo", "EndUndo", "ReadMigration"},
		"SwitchAliases":     {"BeginUndo", "UndoSwitchAliases", "RevertSlice", "RevertSlice", "RevertSlice", "VerifyUndo", "VerifyUndo", "EndUndo", "ReadMigration"},
		"CompleteMigration": {"BeginUndo", "UndoSwitchAliases", "RevertSlice", "RevertSlice", "RevertSlice", "VerifyUndo", "VerifyUndo", "EndUndo", "ReadMigration"},
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env, a := rehearsal(t)
			a.fails[step] = errInjected
			env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
			require.ErrorContains(t, env.GetWorkflowError(), "injected")
			require.Equal(t, want, a.did()[len(a.did())-len(want):])
		})
	}
}

func TestAFailedCompensationDoesNotKeepTheOthersFromRunning(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.fails["CompleteMigration"], a.fails["UndoSwitchAliases"] = errInjected, errInjected
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.SkipUpdate, "skip", t, workflows.Order{Author: "ana", Reason: "nobody reads them"})
	}, time.Hour)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
	var app *temporal.ApplicationError
	require.ErrorAs(t, env.GetWorkflowError(), &app)
	require.Equal(t, workflows.RollbackFailed, app.Type())
	require.ErrorContains(t, app, "restore the aliases")
	require.Contains(t, a.did(), "RevertSlice")
	require.Contains(t, a.did(), "FailUndo")
	require.NotContains(t, a.did(), "EndUndo", "it is not rolled back")
}

func TestSweepsEnd(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.sweeps = []int64{5, 5, 5, 5, 5, 5, 5, 5, 5}
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
	require.NoError(t, env.GetWorkflowError())
	require.Len(t, a.sweeps, 4, "five rounds, however fast the application is")
	require.True(t, a.late, "what comes after them is told of")
	require.Equal(t, a.at.Total, a.at.Last, "what was swept was moved")
}

// TestWhatComesBackDuringTheLastLookIsTakenAlong, as long as there are rounds left.
func TestWhatComesBackDuringTheLastLookIsTakenAlong(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.comes = 5
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
	require.NoError(t, env.GetWorkflowError())
	require.False(t, a.late, "nothing comes any more")
	require.Equal(t, []string{
		"MoveSlice", "MoveSlice", "MoveSlice", "SweepMigration", "VerifyMigration", // it finds them
		"ReadWatermark", "SweepMigration", "ReadWatermark", "MoveSlice", "SweepMigration", "VerifyMigration", "SwitchAliases", "CompleteMigration", "ReadMigration",
	}, a.did()[5:])

	env, a = rehearsal(t)
	a.fails["VerifyMigration"] = errReturned
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
	require.ErrorContains(t, env.GetWorkflowError(), "chunks are back")
	require.Equal(t, 5, strings.Count(strings.Join(a.did(), " "), "VerifyMigration"))
	require.Contains(t, a.did(), "EndUndo")
}

func TestStateCrossesContinueAsNew(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	env.SetContinueAsNewSuggested(true)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	require.Equal(t, workflows.MigrateName(resilience.Batch), again.WorkflowType.Name)
	var next workflows.MigrateInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))

	env, b := rehearsal(t)
	b.at = a.at
	b.fails["CompleteMigration"] = errInjected
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), next)
	require.ErrorContains(t, env.GetWorkflowError(), "injected")
	require.Equal(t, []string{
		"ReadWatermark", "MoveSlice", "MoveSlice", "SweepMigration", "VerifyMigration", "SwitchAliases", "CompleteMigration", // neither planned nor begun again
		"BeginUndo", "UndoSwitchAliases", "RevertSlice", "RevertSlice", "RevertSlice", "VerifyUndo", "VerifyUndo", "EndUndo", "ReadMigration", // all that both runs owe
	}, b.did())
}

func TestAPausedRunStaysPausedAcrossContinueAsNew(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.at.Wish = resilience.WishPause
	in := planned()
	in.Resume = &workflows.Resume{Phase: "moving chunks", Epoch: 1, Paused: true}
	env.RegisterDelayedCallback(func() {
		require.Equal(t, []string{"ReadWatermark"}, a.did(), "nothing runs while it is paused")
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{})
	}, 48*time.Hour)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), in)
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
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 30, a.at.Last)
}

func TestAbortWhilePlanningChangesNothing(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.until = make(chan struct{})
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.AbortUpdate, "abort", t, workflows.Order{Author: "ana"})
		close(a.until)
	}, 0)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
	require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana")
	require.NotContains(t, a.did(), "MoveSlice")
}
