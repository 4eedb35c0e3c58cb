package workflows_test

import (
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// lostScenarios are runs that know less of their plan than Postgres does, or the other way
// round, and undos from which something is left out.
func lostScenarios() map[string]scenario {
	reset := func(aborted bool) scenario {
		return func(in *installation) client.WorkflowRun {
			_, again := in.resetLate(aborted)
			return again
		}
	}
	return map[string]scenario{
		"transfer-reset-aborted": reset(true),
		"transfer-reset-failed":  reset(false),
		"migrate-turned-elsewhere": func(in *installation) client.WorkflowRun {
			id, run := in.movingOn()
			_, err := in.store.BeginUndo(in.Context(), id, "by another", "ana")
			require.NoError(in, err)
			return run
		},
		"migrate-abort-untold": func(in *installation) client.WorkflowRun { // for a minute
			_, run := in.movingOn()
			in.faults.inject("BeginUndo", fault{times: -1, err: errLost})
			in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
			in.faults.inject("BeginUndo", fault{})
			return run
		},
		"rollback-skips-rows": func(in *installation) client.WorkflowRun {
			return in.skipping("UnretireSlice", nil)
		},
		"rollback-skips-copies": func(in *installation) client.WorkflowRun {
			return in.skipping("RevertSlice", temporal.NewNonRetryableApplicationError("a column is gone", activities.Changed, nil))
		},
	}
}

// skipping is the rollback of a transfer that is itself undone, but for a step of that.
func (in *installation) skipping(step string, cause error) client.WorkflowRun {
	in.Helper()
	in.withArchive()
	id, run := in.transfer(resilience.Batch, 0)
	require.Empty(in, ends(in.T, run, nil))
	in.faults.inject("VerifyMigration", fault{times: 1})
	in.faults.inject(step, fault{times: 1, err: cause})
	_, run = in.rollback(id)
	in.skip(run, "it is known")
	return run
}
