package workflows_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"rehome/resilience"
	"rehome/workflows"
)

// reset lets a run begin anew where it first ordered an activity, as the web UI does. What
// was ordered of it since is ordered again.
func (in *installation) reset(run client.WorkflowRun, activity string) client.WorkflowRun {
	in.Helper()
	var task int64
	for _, e := range in.history(run.GetID(), run.GetRunID()).Events {
		if e.EventType == enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			task = e.EventId
		}
		if e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == activity {
			break
		}
	}
	answer, err := in.temporal.WorkflowService().ResetWorkflowExecution(in.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace:         client.DefaultNamespace,
		WorkflowExecution: &common.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
		Reason:            "a test", RequestId: fmt.Sprint(in.id, task), WorkflowTaskFinishEventId: task,
	})
	require.NoError(in, err)
	return in.temporal.GetWorkflow(in.Context(), run.GetID(), answer.RunId)
}

// resetLate is a transfer whose run is reset to its first copies after source rows have
// left: aborted by then, and stuck in its undo, or to fail in the new run.
func (in *installation) resetLate(aborted bool) (id string, again client.WorkflowRun) {
	in.Helper()
	in.withArchive()
	all := in.of("docs")
	var run client.WorkflowRun
	begun, left, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	in.faults.inject("RetireSlice", fault{after: true, times: 1, meets: func(int) {
		<-begun
		if aborted {
			if _, err := in.update(run, workflows.AbortUpdate, workflows.Order{Author: "ana"}); err != nil {
				in.Error(err)
			}
		}
		close(left)
		if !aborted {
			<-over // or the run would complete
		}
	}})
	if aborted {
		in.faults.inject("UnretireSlice", fault{times: 1})
	}
	id, run = in.transfer(resilience.Batch, 0)
	close(begun)
	<-left
	require.Less(in, in.of("docs"), all)
	if aborted {
		require.Eventually(in, func() bool {
			return in.number(`SELECT count(*) FROM rehome.migration_events WHERE plan_id = $1 AND event = 'stuck'`, id) > 0
		}, wait, tick)
	} else {
		in.faults.inject("SweepMigration", fault{times: 1})
	}
	again = in.reset(run, "MoveSlice")
	close(over)
	return id, again
}

// TestARunThatIsResetUndoesWhatTheRunBeforeItDid, though it has not come as far itself.
func TestARunThatIsResetUndoesWhatTheRunBeforeItDid(t *testing.T) {
	t.Parallel()
	for aborted, want := range map[bool]string{true: workflows.Aborted, false: "Injected"} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			in := newInstallation(t)
			in.fill("guide/a.md", 40)
			start := in.checksum()
			id, again := in.resetLate(aborted)
			require.Equal(t, want, ends(t, again, nil))
			require.Equal(t, resilience.RolledBack, in.plan(id).Status)
			require.Equal(t, start, in.checksum())
			require.Zero(t, in.of("archive"))
		})
	}
}

// TestARunThatIsResetToItsPlanningKnowsWhatItUndoes, though it does not get to plan: the
// index that the run before it took away is built again.
func TestARunThatIsResetToItsPlanningKnowsWhatItUndoes(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 40)
	start := in.checksum()
	in.withVectorIndex()
	moved, over := make(chan struct{}), make(chan struct{})
	in.faults.inject("MoveSlice", fault{after: true, times: 1, meets: func(int) {
		close(moved)
		<-over
	}})
	run := in.rebuilding()
	<-moved
	built := `SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('rehome.near')`
	require.Zero(t, in.number(built))
	in.faults.inject("PlanMigration", fault{times: 1})
	again := in.reset(run, "PlanMigration")
	close(over)
	require.Equal(t, "Injected", ends(t, again, nil))
	require.Equal(t, resilience.RolledBack, in.plan("m-1").Status)
	require.Equal(t, 1, in.number(built))
	require.Equal(t, start, in.checksum())
}
