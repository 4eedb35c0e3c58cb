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

// TestARunThatIsResetUndoesWhatTheRunBeforeItDid, though it has not come as far itself.
func TestARunThatIsResetUndoesWhatTheRunBeforeItDid(t *testing.T) {
	t.Parallel()
	for _, aborted := range []bool{true, false} {
		t.Run(fmt.Sprint("aborted before: ", aborted), func(t *testing.T) {
			t.Parallel()
			in := newInstallation(t)
			in.withArchive()
			in.fill("guide/a.md", 40)
			start := in.checksum()
			var id string
			var run client.WorkflowRun
			begun, retired, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
			in.faults.inject("RetireSlice", fault{after: true, times: 1, meets: func(int) {
				<-begun
				if aborted {
					if _, err := in.update(run, workflows.AbortUpdate, workflows.Order{Author: "ana"}); err != nil {
						t.Error(err)
					}
				}
				close(retired)
				if !aborted {
					<-over // or the run would complete
				}
			}})
			if aborted {
				in.faults.inject("UnretireSlice", fault{times: 1}) // stuck, so that it is not back when it is reset
			}
			id, run = in.transfer(resilience.Batch, 0)
			close(begun)
			<-retired
			require.Zero(t, in.of("docs"))
			want := workflows.Aborted
			if aborted {
				require.Eventually(t, func() bool {
					return in.number(`SELECT count(*) FROM rehome.migration_events WHERE plan_id = $1 AND event = 'stuck'`, id) > 0
				}, wait, tick)
			} else {
				want = "Injected"
				in.faults.inject("SweepMigration", fault{times: 1})
			}
			again := in.reset(run, "MoveSlice")
			close(over)
			require.Equal(t, want, ends(t, again, nil))
			require.Equal(t, resilience.RolledBack, in.plan(id).Status)
			require.Equal(t, start, in.checksum())
			require.Zero(t, in.of("archive"))
		})
	}
}
