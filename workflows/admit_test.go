package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// risky is a plan that a person has to approve.
func risky() resilience.Plan {
	return resilience.Plan{Hash: "h1", Risk: resilience.Risk{Level: resilience.HighRisk, Score: 65}}
}

func batch() string { return workflows.MigrateName(resilience.Batch) }

func approve(t *testing.T, env *testsuite.TestWorkflowEnvironment, hash string) {
	t.Helper()
	env.UpdateWorkflowNoRejection(workflows.ApproveUpdate, "approve-"+hash, t, workflows.Approval{Hash: hash, Author: "ana"})
}

func TestARiskyPlanWaitsForApproval(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.plan = risky()
	env.RegisterDelayedCallback(func() {
		require.NotContains(t, a.did(), "QueueMigration")
		env.UpdateWorkflow(workflows.ApproveUpdate, "forged", rejection(t, "plan hash"), workflows.Approval{Hash: "h0"})
		env.UpdateWorkflow(workflows.ApproveUpdate, "nobody", rejection(t, "wants an author"), workflows.Approval{Hash: "h1"})
		approve(t, env, "h1")
	}, time.Hour)
	env.ExecuteWorkflow(batch(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 30, a.at.Last)
}

func TestAPlanThatNobodyApprovesIsDropped(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	in := planned()
	in.PlanOnly = true
	env.ExecuteWorkflow(batch(), in)
	require.ErrorContains(t, env.GetWorkflowError(), "nobody approved it within 7 days, so it was dropped, and nothing has moved; plan it again")
	require.Contains(t, a.did(), "CancelMigration")
	require.NotContains(t, a.did(), "MoveSlice")
}

func TestWhoStartsAPlanMayApproveIt(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.plan = risky()
	in := planned()
	in.Approve = true
	env.ExecuteWorkflow(batch(), in)
	require.NoError(t, env.GetWorkflowError())
	require.NotContains(t, a.did(), "RequestApproval")
}

// TestWhoStartsAPlanMayNotApproveIt, where somebody else has to.
func TestWhoStartsAPlanMayNotApproveIt(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.plan = risky()
	a.plan.Policy = resilience.Policy{Author: "ben", ByAnother: true}
	in := planned()
	in.Approve = true
	env.RegisterDelayedCallback(func() {
		require.NotContains(t, a.did(), "QueueMigration")
		approve(t, env, "h1")
	}, time.Hour)
	env.ExecuteWorkflow(batch(), in)
	require.NoError(t, env.GetWorkflowError())
	require.Contains(t, a.did(), "ApproveMigration")
}

func TestADriftedPlanIsApprovedAgain(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.drifts = []string{"3 of its 30 chunks are no longer where they were planned"}
	env.RegisterDelayedCallback(func() { approve(t, env, "") }, time.Hour)
	env.ExecuteWorkflow(batch(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{"QueueMigration", "TakeSlot", "BeginMigration", "RequestApproval", "ApproveMigration", "QueueMigration", "TakeSlot", "BeginMigration"},
		a.did()[1:9])
}

func TestAPlanWaitsForASlot(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.busy = 5
	env.RegisterDelayedCallback(func() {
		p, facts := asked(t, env)
		require.Contains(t, p.Phase, "Queued")
		require.Equal(t, "m-other at work, m-before before it", facts["Waits for"])
	}, time.Second)
	env.ExecuteWorkflow(batch(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.Zero(t, a.busy)
}

func TestAResumedPlanWaitsForASlot(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.at.Wish = resilience.WishPause
	a.busy = 0
	env.RegisterDelayedCallback(func() {
		a.busy = 3
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{})
		require.Zero(t, a.at.Last)
	}, time.Hour)
	env.ExecuteWorkflow(batch(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.Zero(t, a.busy)
	require.EqualValues(t, 30, a.at.Last)
}

func TestAbortInTheQueueCancels(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.busy = 1000
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.AbortUpdate, "abort", t, workflows.Order{Author: "ana"})
	}, time.Minute)
	env.ExecuteWorkflow(batch(), planned())
	require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana")
	require.Contains(t, a.did(), "CancelMigration")
	require.NotContains(t, a.did(), "BeginMigration")
}

func TestAnotherStrategyGoesOnAtTheSameWatermark(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.at.Wish, a.at.Last, a.now = resilience.WishPause, 10, risky()
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(workflows.StrategyUpdate, "change", t, workflows.NewStrategy{Strategy: resilience.Immediate, Approve: true, Author: "ana"})
	}, time.Hour)
	in := planned()
	in.Resume = &workflows.Resume{Phase: "moving chunks", Epoch: 1, Paused: true}
	env.ExecuteWorkflow(batch(), in)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	require.Equal(t, workflows.MigrateName(resilience.Immediate), again.WorkflowType.Name)
	require.EqualValues(t, 10, a.at.Last)
	require.Equal(t, activities.ChangeInput{
		PlanInput: activities.PlanInput{Migration: "m-1", Author: "ana"}, Strategy: resilience.Immediate, Approve: true,
	}, a.change)
	var next workflows.MigrateInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.Equal(t, risky().Risk, next.Resume.Shown.Risk, "the web UI shows what it is by the new one")
}

// TestAStrategyThatChangesWhileASlotIsTakenIsTakenUpFirst: no slice goes by the one before.
func TestAStrategyThatChangesWhileASlotIsTakenIsTakenUpFirst(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"TakeSlot", "BeginMigration"} {
		env, a := rehearsal(t)
		env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
			if info.ActivityType.Name == step {
				env.UpdateWorkflowNoRejection(workflows.StrategyUpdate, "change", t, workflows.NewStrategy{Strategy: resilience.Gradual, Author: "ana"})
			}
		})
		env.ExecuteWorkflow(workflows.MigrateName(resilience.Immediate), planned())
		var again *workflow.ContinueAsNewError
		require.ErrorAs(t, env.GetWorkflowError(), &again)
		require.Equal(t, workflows.MigrateName(resilience.Gradual), again.WorkflowType.Name)
		require.NotContains(t, a.did(), "MoveSlice")
	}
}

func TestAStrategyIsNotChangedWhileChunksMove(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.plan = risky()
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(workflows.StrategyUpdate, "change", rejection(t, "queued or paused"), workflows.NewStrategy{Strategy: resilience.Immediate})
		env.UpdateWorkflow(workflows.StrategyUpdate, "unknown", rejection(t, "want one of"), workflows.NewStrategy{Strategy: "magic"})
		approve(t, env, "h1")
	}, time.Hour)
	env.ExecuteWorkflow(batch(), planned())
	require.NoError(t, env.GetWorkflowError())
}

func TestFailurePolicies(t *testing.T) {
	t.Parallel()
	for policy, want := range map[resilience.OnFailure][]string{
		resilience.Stop:      {"MoveSlice", "PauseMigration", "ReadWatermark"},
		resilience.UndoGroup: {"MoveSlice", "PauseMigration", "ReadWatermark", "RevertSlice", "ReadWatermark"}, // to row 25 or below
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			env, a := rehearsal(t)
			a.at.Last = 20
			a.fails["MoveSlice"] = errInjected
			in := planned()
			in.Policy.OnFailure, in.Policy.GroupSize = policy, 25
			env.RegisterDelayedCallback(func() {
				require.Equal(t, want, a.did()[len(a.did())-len(want):])
				delete(a.fails, "MoveSlice")
				env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{})
			}, time.Hour)
			env.ExecuteWorkflow(batch(), in)
			require.NoError(t, env.GetWorkflowError())
			require.EqualValues(t, 30, a.at.Last)
		})
	}
}

// TestNobodyPausesOrResumesAPlanThatPutsAGroupBack: it is paused already, and what
// it still does would never end on a plan that goes on.
func TestNobodyPausesOrResumesAPlanThatPutsAGroupBack(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.fails["MoveSlice"] = errInjected
	in := planned()
	in.Policy.OnFailure = resilience.UndoGroup
	told := false
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "RevertSlice" && !told {
			told = true
			require.Equal(t, "Paused, and putting the group in work back", shownPhase(t, env))
			env.UpdateWorkflow(workflows.PauseUpdate, "pause", rejection(t, "paused already"), workflows.Order{Author: "ana"})
			env.UpdateWorkflow(workflows.ResumeUpdate, "resume", rejection(t, "not paused"), workflows.Order{Author: "ana"})
		}
	})
	env.RegisterDelayedCallback(func() {
		require.Equal(t, "Paused", shownPhase(t, env))
		delete(a.fails, "MoveSlice")
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "later", t, workflows.Order{Author: "ana"})
	}, time.Hour)
	env.ExecuteWorkflow(batch(), in)
	require.NoError(t, env.GetWorkflowError())
	require.True(t, told)
	require.EqualValues(t, 30, a.at.Last)
}

// TestAResumeThatComesLateEndsTheWayBackOfAGroup: an order that was given up long ago
// has its effect while the group is put back, and the plan goes on from there.
func TestAResumeThatComesLateEndsTheWayBackOfAGroup(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.fails["MoveSlice"] = errInjected
	a.at.Last = 20
	in := planned()
	in.Policy.OnFailure = resilience.UndoGroup
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "RevertSlice" {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.at.Wish = resilience.WishRun
			delete(a.fails, "MoveSlice")
		}
	})
	env.ExecuteWorkflow(batch(), in)
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 30, a.at.Last)
}

// rejection expects an update to be turned down with these words.
func rejection(t *testing.T, words string) *testsuite.TestUpdateCallback {
	return &testsuite.TestUpdateCallback{
		OnAccept:   func() { t.Errorf("accepted; want it turned down: %s", words) },
		OnReject:   func(err error) { require.ErrorContains(t, err, words) },
		OnComplete: func(any, error) {},
	}
}
