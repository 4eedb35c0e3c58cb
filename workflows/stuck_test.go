package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"rehome/resilience"
	"rehome/workflows"
)

// skip waits until the undo of a run is stuck, and lets it go on without.
func (in *installation) skip(run client.WorkflowRun, reason string) {
	in.Helper()
	require.Eventually(in, func() bool {
		_, err := in.update(run, workflows.SkipUpdate, workflows.Order{Author: "ana", Reason: reason})
		return err == nil
	}, wait, tick)
}

// undoOf is a rehearsal whose aliases cannot be switched, so that it is undone.
func undoOf(t *testing.T, fails string, err error) (*testsuite.TestWorkflowEnvironment, *actor) {
	t.Helper()
	env, a := rehearsal(t)
	a.fails["SwitchAliases"] = errInjected
	a.fails[fails] = err
	return env, a
}

func shownPhase(t *testing.T, env *testsuite.TestWorkflowEnvironment) string {
	t.Helper()
	value, err := env.QueryWorkflow(workflows.ProgressQuery)
	require.NoError(t, err)
	var p workflows.Progress
	require.NoError(t, value.Get(&p))
	return p.Phase
}

func count(ran []string, name string) (n int) {
	for _, r := range ran {
		if r == name {
			n++
		}
	}
	return n
}

func TestAStuckUndoIsSeenAndGoesOnByItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		tries int // before it is stuck
	}{
		"WhatARetryMayMend": {errors.New("not now"), 10},
		"WhatNoRetryMends":  {errInjected, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, a := undoOf(t, "RevertSlice", c.err)
			env.SetOnTimerScheduledListener(func(string, time.Duration) {
				if count(a.did(), "NoteMigration stuck") == 1 && count(a.did(), "RevertSlice") == c.tries {
					require.Contains(t, shownPhase(t, env), "Stuck: it cannot move the chunks back, last moved first: ")
				}
				if count(a.did(), "RevertSlice") > c.tries+3 {
					delete(a.fails, "RevertSlice")
				}
			})
			env.ExecuteWorkflow(batch(), planned())
			require.ErrorContains(t, env.GetWorkflowError(), "injected", "why it was undone")
			require.Equal(t, []string{"RevertSlice", "NoteMigration goes on", "VerifyUndo", "VerifyUndo", "EndUndo", "ReadMigration"}, a.did()[len(a.did())-6:])
			require.Zero(t, a.at.Last)
		})
	}
}

// TestAnIndexThatCannotBeBuiltIsSeenInAnUndo, as any other step of it is: the disk may be
// full, say.
func TestAnIndexThatCannotBeBuiltIsSeenInAnUndo(t *testing.T) {
	t.Parallel()
	for update, end := range map[string]resilience.Status{workflows.RetryUpdate: resilience.RolledBack, workflows.SkipUpdate: resilience.Failed} {
		t.Run(update, func(t *testing.T) {
			t.Parallel()
			env, k := kept(t, course{rebuild: true})
			k.fails["VerifyMigration"], k.fails["BuildIndexes"] = errInjected, errors.New("not now")
			var tries []int // before each note
			env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
				if info.ActivityType.Name != "NoteMigration" {
					return
				}
				if tries = append(tries, count(k.did(), "BuildIndexes")); len(tries) != 2 {
					return
				}
				env.RegisterDelayedCallback(func() {
					require.Contains(t, shownPhase(t, env), "Stuck: it cannot build the vector indexes again: not now")
					delete(k.fails, "BuildIndexes")
					env.UpdateWorkflowNoRejection(update, update, t, workflows.Order{Author: "ana", Reason: "by hand"})
				}, time.Second) // before it tries by itself
			})
			in := planned()
			in.Approve, in.Policy.Way = true, resilience.Rebuild
			env.ExecuteWorkflow(batch(), in)
			require.Error(t, env.GetWorkflowError())
			require.Equal(t, end, k.status)
			require.Equal(t, []int{10, 11}, tries[:2], "ten times, then once at a time")
		})
	}
}

func TestAPersonHasAStuckUndoTriedAtOnce(t *testing.T) {
	t.Parallel()
	env, a := undoOf(t, "UndoSwitchAliases", errInjected)
	env.RegisterDelayedCallback(func() {
		delete(a.fails, "UndoSwitchAliases")
		env.UpdateWorkflow(workflows.SkipUpdate, "bare", rejection(t, "wants a reason"), workflows.Order{Author: "ana"})
		env.UpdateWorkflowNoRejection(workflows.RetryUpdate, "retry", t, workflows.Order{Author: "ana"})
	}, 3*time.Second) // before it tries by itself
	env.ExecuteWorkflow(batch(), planned())
	require.ErrorContains(t, env.GetWorkflowError(), "injected")
	require.Equal(t, []string{
		"BeginUndo", "UndoSwitchAliases", "NoteMigration stuck", "NoteMigration retried", "UndoSwitchAliases", "NoteMigration goes on",
		"RevertSlice", "RevertSlice", "RevertSlice", "VerifyUndo", "VerifyUndo", "EndUndo", "ReadMigration",
	}, a.did()[len(a.did())-13:])
}

func TestNothingIsRetriedOrSkippedThatIsNotStuck(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.plan = risky()
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(workflows.RetryUpdate, "retry", rejection(t, "not stuck"), workflows.Order{Author: "ana"})
		env.UpdateWorkflow(workflows.SkipUpdate, "skip", rejection(t, "not stuck"), workflows.Order{Author: "ana", Reason: "why not"})
		approve(t, env, "h1")
	}, time.Hour)
	env.ExecuteWorkflow(batch(), planned())
	require.NoError(t, env.GetWorkflowError())
}

// TestRowsThatCannotGoBackAreLeftWithAReason: the application made a rule since
// that one of the old paths breaks.
func TestRowsThatCannotGoBackAreLeftWithAReason(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 500)
	id, run := in.migrate(slowly(), rule("guide", "manual"))
	require.Eventually(t, func() bool { return in.count("manual") >= 25 }, wait, tick)
	_, err := in.pool.Exec(t.Context(), `ALTER TABLE rehome.chunks ADD CONSTRAINT public_names CHECK (ordinal NOT IN (7, 23) OR path <> 'guide/a.md') NOT VALID`)
	require.NoError(t, err)
	_, err = in.update(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, _ = in.update(run, workflows.SkipUpdate, workflows.Order{Author: "ana", Reason: "the owner said so"}) // it may not be stuck yet
		return in.plan(id).Status == resilience.RolledBack
	}, wait, tick)
	require.Equal(t, workflows.Aborted, ends(t, run, nil))
	require.Equal(t, resilience.RolledBack, in.plan(id).Status)
	require.Equal(t, 498, in.count("guide"))
	require.Equal(t, 2, in.count("manual"))
	left, err := in.store.Exceptions(t.Context(), id, 10)
	require.NoError(t, err)
	require.Len(t, left, 2)
	for _, row := range left {
		require.True(t, row.Undoing)
		require.Equal(t, resilience.Clashed, row.Outcome)
		require.Contains(t, row.Detail, "the owner said so")
		require.Contains(t, row.Detail, "public_names")
	}
}
