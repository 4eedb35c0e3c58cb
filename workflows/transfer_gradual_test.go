package workflows_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/activities"
	"rehome/resilience"
)

// leaving is a ward whose rows leave their memory after their copies were made.
type leaving struct {
	ward    *ward
	retired resilience.Watermark
	retires []activities.SliceInput
}

func (l *leaving) ReadRetired(context.Context, activities.PlanInput) (at resilience.Watermark, err error) {
	err = l.ward.do("ReadRetired", func() { at = l.retired })
	return at, err
}

func (l *leaving) SwitchReferences(context.Context, activities.PlanInput) error {
	return l.ward.do("SwitchReferences")
}

func (l *leaving) RetireSlice(_ context.Context, in activities.SliceInput) (at resilience.Watermark, err error) {
	err = l.ward.do("RetireSlice", func() {
		l.retires = append(l.retires, in)
		l.retired.Last = min(l.retired.Last+l.ward.slice, l.retired.Total)
		at = l.retired
		at.Pulse = &resilience.Pulse{Batches: 1, Rows: l.ward.slice, ActiveMS: 1000, Servo: *in.Servo}
	})
	return at, err
}

// TestGradualTakesCareUntilTheLastRowHasLeft: rests and looks, and waits while
// the server is unwell, also when nothing but old rows is left to take away.
func TestGradualTakesCareUntilTheLastRowHasLeft(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	w.at.Total = 3000
	l := &leaving{ward: w, retired: resilience.Watermark{Total: 3000, Epoch: 1, Wish: resilience.WishRun}}
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
	in := planned()
	soak := resilience.Seconds(0)
	in.TransferOrder = resilience.TransferOrder{To: "archive", Soak: &soak}
	env.ExecuteWorkflow(gradually(), in)
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
