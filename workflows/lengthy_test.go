package workflows_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"

	"rehome/resilience"
	"rehome/workflows"
)

// TestWhatGrowsWithAPlanMayTakeLong: such a step is not given up after a minute
// and begun again, for ever; its heartbeats tell that somebody is at it.
func TestWhatGrowsWithAPlanMayTakeLong(t *testing.T) {
	t.Parallel()
	env, a := rehearsal(t)
	a.fails["CompleteMigration"] = errInjected
	beats := map[string]bool{}
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		beats[info.ActivityType.Name] = info.HeartbeatTimeout > 0
	})
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), planned())
	require.ErrorContains(t, env.GetWorkflowError(), "injected")
	for _, step := range []string{"PlanMigration", "MoveSlice", "SweepMigration", "VerifyMigration", "SwitchAliases", "CompleteMigration", "UndoSwitchAliases", "RevertSlice"} {
		require.Contains(t, beats, step)
		require.True(t, beats[step], step)
	}
}
