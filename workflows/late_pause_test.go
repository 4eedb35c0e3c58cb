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

// belated is an actor to whom a pause comes that was given up long ago, just before
// a step, which is refused while the plan is paused.
type belated struct {
	*actor
	step    string
	retired int64
}

func (b *belated) SwitchAliases(context.Context, activities.PlanInput) error {
	return b.executing("SwitchAliases")
}

func (b *belated) CompleteMigration(context.Context, activities.PlanInput) error {
	return b.executing("CompleteMigration")
}

// SwitchReferences and what follows are the last steps of a transfer.
func (b *belated) SwitchReferences(context.Context, activities.PlanInput) error {
	return b.do("SwitchReferences")
}

func (b *belated) ReadRetired(context.Context, activities.PlanInput) (at resilience.Watermark, err error) {
	err = b.do("ReadRetired", func() { at = b.leaving() })
	return at, err
}

func (b *belated) RetireSlice(context.Context, activities.SliceInput) (at resilience.Watermark, err error) {
	err = b.do("RetireSlice", func() {
		if b.at.Wish == resilience.WishRun {
			b.retired = b.at.Total
		}
		at = b.leaving()
	})
	return at, err
}

// leaving is the watermark of the rows that have left.
func (b *belated) leaving() resilience.Watermark {
	at := b.at
	at.Last = b.retired
	return at
}

func (b *belated) executing(step string) (err error) {
	if err := b.do(step); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if step == b.step {
		b.step, b.at.Wish = "", resilience.WishPause
	}
	if b.at.Wish != resilience.WishRun {
		return temporal.NewNonRetryableApplicationError("it does not execute", activities.Conflict, nil)
	}
	return nil
}

func rehearseBelated(t *testing.T, step string) (*testsuite.TestWorkflowEnvironment, *belated) {
	t.Helper()
	env := silent().NewTestWorkflowEnvironment()
	b := &belated{step: step, actor: newActor()}
	workflows.Register(env)
	env.RegisterActivity(b)
	return env, b
}

func TestAPauseThatComesLateIsWaitedOut(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"SwitchAliases", "CompleteMigration"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env, b := rehearseBelated(t, step)
			env.RegisterDelayedCallback(func() {
				require.Equal(t, []string{step, "ReadWatermark", "ReadWatermark"}, b.did()[len(b.did())-3:], "it waits")
				b.busy = 1 // its slot has gone to another
				env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{Author: "ana"})
			}, time.Hour)
			env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
			require.NoError(t, env.GetWorkflowError())
			require.NotContains(t, b.did(), "BeginUndo", "nobody wanted it undone")
			require.EqualValues(t, 30, b.at.Last)
			require.Equal(t, "CompleteMigration", b.did()[len(b.did())-2])
		})
	}
}

// TestAPauseThatComesLateToATransferIsWaitedOut, when its last row has left.
func TestAPauseThatComesLateToATransferIsWaitedOut(t *testing.T) {
	t.Parallel()
	env, b := rehearseBelated(t, "CompleteMigration")
	b.plan.Transfer = &resilience.Transferring{}
	in, soak := planned(), resilience.Seconds(0)
	in.TransferOrder = resilience.TransferOrder{To: "archive", Soak: &soak}
	env.RegisterDelayedCallback(func() {
		require.Equal(t, []string{"CompleteMigration", "ReadWatermark", "ReadRetired"}, b.did()[len(b.did())-3:], "it waits")
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{Author: "ana"})
	}, time.Hour)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), in)
	require.NoError(t, env.GetWorkflowError())
	require.NotContains(t, b.did(), "BeginUndo", "nobody wanted it undone")
	require.EqualValues(t, 30, b.retired)
	require.Equal(t, "CompleteMigration", b.did()[len(b.did())-2])
}

func TestAPauseThatComesLateIsAbortedToo(t *testing.T) {
	t.Parallel()
	env, b := rehearseBelated(t, "SwitchAliases")
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.AbortUpdate, "abort", t, workflows.Order{Author: "ana"})
	}, time.Hour)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
	require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana")
	require.Zero(t, b.at.Last)
	require.Contains(t, b.did(), "EndUndo")
}

// TestAPauseThatComesLateOutlivesItsHistory: the slot has gone to another, and until
// it is free the history gets too long. The next run takes the moves up again.
func TestAPauseThatComesLateOutlivesItsHistory(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"SwitchAliases", "CompleteMigration"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env, b := rehearseBelated(t, step)
			env.RegisterDelayedCallback(func() {
				b.busy = 1
				env.SetContinueAsNewSuggested(true)
				env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{Author: "ana"})
			}, time.Hour)
			env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
			var again *workflow.ContinueAsNewError
			require.ErrorAs(t, env.GetWorkflowError(), &again)
			var in workflows.MigrateInput
			require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))
			next := silent().NewTestWorkflowEnvironment()
			workflows.Register(next)
			next.RegisterActivity(b)
			before := len(b.did())
			next.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), in)
			require.NoError(t, next.GetWorkflowError())
			require.NotContains(t, b.did()[before:], "BeginMigration", "it has begun long ago")
			require.Equal(t, "CompleteMigration", b.did()[len(b.did())-2])
		})
	}
}
