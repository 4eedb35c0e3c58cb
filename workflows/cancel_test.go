package workflows_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"rehome/resilience"
)

// cancelled cancels a run by Temporal's own request, and waits until it has ended so.
func (in *installation) cancelled(run client.WorkflowRun) {
	in.Helper()
	require.NoError(in, in.temporal.CancelWorkflow(in.Context(), run.GetID(), ""))
	var cancelled *temporal.CanceledError
	require.ErrorAs(in, run.Get(in.Context(), nil), &cancelled)
}

func TestATransferIsCancelledInItsSoak(t *testing.T) {
	t.Parallel()
	in, start, id, run := inASoak(t)
	in.shows(run, "Soaking: the chunks stand in both memories")
	require.NotEqual(t, start, in.checksum())
	in.cancelled(run)
	require.Equal(t, start, in.checksum())
	require.Equal(t, resilience.RolledBack, in.plan(id).Status)
}

func TestAMigrationIsCancelledInTheQueue(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 20)
	first, second := in.inLine()
	in.cancelled(second)
	require.Equal(t, 20, in.count("guide"))
	require.Equal(t, resilience.Cancelled, in.plan("m-2").Status)
	in.cancelled(first)
	require.Equal(t, 200, in.count("other.md"))
	require.Equal(t, resilience.RolledBack, in.plan("m-1").Status)
	require.Zero(t, in.number(`SELECT count(*) FROM rehome.migration_slots`))
	require.Zero(t, in.number(`SELECT count(*) FROM rehome.migration_plans WHERE queued_at IS NOT NULL`), "nobody stands in the queue")
}
