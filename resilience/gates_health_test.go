package resilience_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestHealthTravelsFromLookToLook(t *testing.T) {
	t.Parallel()
	rules := resilience.Rules{Limits: resilience.DefaultLimits()}
	one, two := healthy(), healthy()
	one.At, one.Waiters, one.WALBytes = noon.Add(-time.Second), 2, 0
	two.WALBytes = 3 << 20
	h := resilience.Health{}.First(noon, one, two, rules)
	require.Equal(t, resilience.Baseline{At: noon, ProbeMS: 1, Waiters: 2, WALRate: 3 << 20, Replicas: 1}, h.Baseline)
	require.Empty(t, resilience.Shut(h.Gates))

	look := healthy()
	look.At = noon.Add(2 * time.Second)
	troubled := h.After(look.At, look, &resilience.Pulse{Batches: 3, P95MS: 260, Trouble: resilience.LockTimeout, Blocked: 2, BlockedMS: 1500}, rules)
	require.Zero(t, troubled.Baseline.OwnMS, "batches in trouble are no baseline")
	require.Equal(t, resilience.GateShut, gate(t, troubled.Gates, resilience.OwnGate).State)
	require.Equal(t, resilience.GateShut, gate(t, troubled.Gates, resilience.BlockedGate).State)
	good := h.After(look.At, look, &resilience.Pulse{Batches: 3, P95MS: 60}, rules)
	require.InDelta(t, 60, good.Baseline.OwnMS, 0)
	require.InDelta(t, 60, good.After(look.At, look, &resilience.Pulse{Batches: 3, P95MS: 90}, rules).Baseline.OwnMS, 0, "the first batches are")

	unseen := h.Unseen(noon.Add(15*time.Second), "refused", rules)
	require.Empty(t, resilience.Shut(unseen.Gates))
	unseen = unseen.Unseen(noon.Add(20*time.Second), "refused", rules)
	require.Equal(t, "the newest look at the server is 20s old: refused", gate(t, unseen.Gates, resilience.SampleGate).Detail)
	unseen = unseen.Unseen(noon.Add(25*time.Second), "refused", rules)
	require.Equal(t, noon.Add(20*time.Second), gate(t, unseen.Gates, resilience.SampleGate).Since)
}

func TestStretchesOfASliceAddUp(t *testing.T) {
	t.Parallel()
	shrunk := resilience.Adjustment{From: 200, To: 100, Why: "a lock"}
	one := resilience.Pulse{Batches: 2, Rows: 20, ActiveMS: 90, LockMS: 5, P95MS: 50, Blocked: 1, BlockedMS: 300, Trouble: resilience.LockTimeout, Adjusted: shrunk}
	two := resilience.Pulse{Batches: 3, Rows: 30, ActiveMS: 60, LockMS: 2, P95MS: 20, Blocked: 2, BlockedMS: 100, Servo: resilience.Servo{Size: 100}}
	require.Equal(t, resilience.Pulse{
		Batches: 5, Rows: 50, ActiveMS: 150, LockMS: 7, P95MS: 50, Blocked: 2, BlockedMS: 300,
		Trouble: resilience.LockTimeout, Adjusted: shrunk, Servo: resilience.Servo{Size: 100},
	}, one.And(two))
}

func TestHoursShutAGateAndOpenItAtOnce(t *testing.T) {
	t.Parallel()
	hours, err := resilience.ParseHours("22:00-06:00")
	require.NoError(t, err)
	rules := resilience.Rules{Limits: resilience.DefaultLimits(), Hours: hours}
	h := resilience.Health{Baseline: calm}.After(noon, healthy(), nil, rules)
	g := gate(t, h.Gates, resilience.HoursGate)
	require.Equal(t, resilience.GateShut, g.State)
	require.Equal(t, "outside the hours of this plan, until 2026-11-24 22:00 UTC", g.Detail)
	night := healthy()
	night.At = noon.Add(10 * time.Hour)
	require.Empty(t, resilience.Shut(h.After(night.At, night, nil, rules).Gates))
}
