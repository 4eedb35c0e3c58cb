package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rehome/internal/dev"
	"rehome/internal/dev/devtest"
)

func TestMain(m *testing.M) { devtest.Main(m) }

// again continues itself so many times.
func again(ctx workflow.Context, times int) error {
	if times == 0 {
		return nil
	}
	return workflow.NewContinueAsNewError(ctx, again, times-1)
}

func TestEventsOfAllRunsOfAWorkflowCount(t *testing.T) {
	t.Parallel()
	c := devtest.Temporal(t)
	w := worker.New(c, t.Name(), worker.Options{})
	w.RegisterWorkflow(again)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	r := &rig{stack: &dev.Stack{Running: dev.Running{TemporalAddress: devtest.TemporalAddress(t), Namespace: client.DefaultNamespace}}}
	for times, id := range []string{"once", "continued", "continued twice"} {
		run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: t.Name()}, again, times)
		require.NoError(t, err)
		require.NoError(t, run.Get(t.Context(), nil))
		events, err := r.events(t.Context(), id)
		require.NoError(t, err)
		require.EqualValues(t, 5*(times+1), events, "started; a task scheduled, started and completed; ended")
	}
}
