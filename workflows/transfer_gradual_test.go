package workflows_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// leaving is an actor whose rows leave their memory after their copies were made.
type leaving struct {
	actor   *actor
	retired resilience.Watermark
	retires []activities.SliceInput
}

func (l *leaving) ReadRetired(context.Context, activities.PlanInput) (at resilience.Watermark, err error) {
	err = l.actor.do("ReadRetired", func() { at = l.retired })
	return at, err
}

func (l *leaving) SwitchReferences(context.Context, activities.PlanInput) error {
	return l.actor.do("SwitchReferences")
}

func (l *leaving) RetireSlice(_ context.Context, in activities.SliceInput) (at resilience.Watermark, err error) {
	err = l.actor.do("RetireSlice", func() {
		l.retires = append(l.retires, in)
		l.retired.Last = min(l.retired.Last+l.actor.slice, l.retired.Total)
		at = felt(l.retired, in)
	})
	return at, err
}

// TestGradualTakesCareUntilTheLastRowHasLeft: rests and looks, and waits while
// the server is unwell, also when nothing but old rows is left to take away.
func TestGradualTakesCareUntilTheLastRowHasLeft(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	w.at.Total = 3000
	l := &leaving{actor: w.actor, retired: resilience.Watermark{Total: 3000, Epoch: 1, Wish: resilience.WishRun}}
	w.plan.Transfer = &resilience.Transferring{}
	env.RegisterActivity(l)
	copied := 0
	w.unwell = func(look int) []resilience.GateName {
		if slices.Contains(w.ran, "SwitchReferences") && copied == 0 {
			copied = look
		}
		if copied > 0 && look > copied && look <= copied+5 {
			return []resilience.GateName{resilience.BlockedGate}
		}
		return nil
	}
	env.ExecuteWorkflow(gradually(), carried())
	require.NoError(t, env.GetWorkflowError())
	require.Len(t, l.retires, 3)
	for _, in := range l.retires {
		require.NotNil(t, in.Servo)
		require.NotNil(t, in.Health)
		require.InDelta(t, resilience.GradualNice, in.Nice, 0)
	}
	last := slices.Index(w.did(), "RetireSlice")
	after := slices.DeleteFunc(w.did()[last:], func(s string) bool { return s != "RetireSlice" && s != "CheckHealth" })
	require.Equal(t, []string{
		"RetireSlice", "CheckHealth", "CheckHealth", "CheckHealth", "CheckHealth", "CheckHealth", "CheckHealth", "RetireSlice", "CheckHealth", "RetireSlice",
	}, after)
}

// TestRowsOfAGroupThatTakesCareLeaveSo, and those of others at the plan's own pace.
func TestRowsOfAGroupThatTakesCareLeaveSo(t *testing.T) {
	t.Parallel()
	for strategy, careful := range map[resilience.Strategy]bool{resilience.Gradual: true, resilience.Batch: false} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			env, base := rehearsal(t)
			base.plan.Transfer = &resilience.Transferring{}
			a := &analyst{actor: base, groups: []resilience.Group{{Position: 1, Name: "all", Until: 30, Rows: 30, Way: resilience.Update, Strategy: strategy, BatchSize: 10, TargetMS: 25}}}
			l := &leaving{actor: base, retired: resilience.Watermark{Total: 30, Epoch: 1, Wish: resilience.WishRun}}
			env.RegisterActivity(a)
			env.RegisterActivity(l)
			env.ExecuteWorkflow(workflows.MigrateName(resilience.Intelligent), carried())
			require.NoError(t, env.GetWorkflowError())
			require.Len(t, l.retires, 3)
			for _, in := range l.retires {
				require.Equal(t, careful, in.Servo != nil)
				require.Equal(t, careful, in.Health != nil)
				require.Equal(t, careful, in.Nice == resilience.GradualNice)
				if careful {
					require.InDelta(t, 1, in.Health.Limits.DeadShare, 0, "the dead rows are the plan's own")
				}
			}
			last := slices.Index(base.did(), "RetireSlice")
			require.Equal(t, careful, slices.Contains(base.did()[last:], "CheckHealth"), "a look before each slice")
		})
	}
}
