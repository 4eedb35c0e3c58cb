package resilience_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// healthy is a server with nothing to complain of, and calm its baseline.
func healthy() resilience.Sample {
	return resilience.Sample{
		At: noon, Waiters: 1, ProbeMS: 1, Replicas: 1, LagMS: 10, LagBytes: 1000,
		WALRate: 2 << 20, Connections: 0.3, Dead: 100, Live: 100_000, OwnMS: 40,
	}
}

var calm = resilience.Baseline{At: noon, ProbeMS: 1, Waiters: 1, WALRate: 1 << 20, OwnMS: 30}

func gate(t *testing.T, gates []resilience.Gate, name resilience.GateName) resilience.Gate {
	t.Helper()
	for _, g := range gates {
		if g.Name == name {
			return g
		}
	}
	require.Fail(t, "no gate", "%s in %v", name, gates)
	return resilience.Gate{}
}

func TestEveryGateOpensWarnsAndShuts(t *testing.T) {
	t.Parallel()
	type sample = resilience.Sample
	for _, c := range []struct {
		gate   resilience.GateName
		change func(*sample)
		want   resilience.GateState
	}{
		{resilience.SampleGate, func(s *sample) { s.At = noon.Add(-15 * time.Second) }, resilience.GateOpen},
		{resilience.SampleGate, func(s *sample) { s.At = noon.Add(-15*time.Second - 1) }, resilience.GateShut},
		{resilience.SampleGate, func(s *sample) { s.At = time.Time{} }, resilience.GateShut},
		{resilience.BlockedGate, func(s *sample) { s.BlockedMS = 200 }, resilience.GateOpen},
		{resilience.BlockedGate, func(s *sample) { s.BlockedMS = 201 }, resilience.GateNear},
		{resilience.BlockedGate, func(s *sample) { s.BlockedMS = 1001 }, resilience.GateShut},
		{resilience.WaitersGate, func(s *sample) { s.Waiters = 4 }, resilience.GateOpen},
		{resilience.WaitersGate, func(s *sample) { s.Waiters = 5 }, resilience.GateNear},
		{resilience.WaitersGate, func(s *sample) { s.Waiters = 6 }, resilience.GateShut},
		{resilience.ProbeGate, func(s *sample) { s.ProbeMS = 4 }, resilience.GateOpen},
		{resilience.ProbeGate, func(s *sample) { s.ProbeMS = 5 }, resilience.GateNear},
		{resilience.ProbeGate, func(s *sample) { s.ProbeMS = 11.1 }, resilience.GateShut},
		{resilience.ReplicaGate, func(s *sample) { s.LagMS = 1250 }, resilience.GateOpen},
		{resilience.ReplicaGate, func(s *sample) { s.LagMS = 1300 }, resilience.GateNear},
		{resilience.ReplicaGate, func(s *sample) { s.LagMS = 5001 }, resilience.GateShut},
		{resilience.ReplicaGate, func(s *sample) { s.LagBytes = 65 << 20 }, resilience.GateNear},
		{resilience.ReplicaGate, func(s *sample) { s.LagBytes = 257 << 20 }, resilience.GateShut},
		{resilience.ReplicaGate, func(s *sample) { s.Unreadable = 1 }, resilience.GateShut},
		{resilience.ReplicaGate, func(s *sample) { s.Replicas = 0 }, resilience.GateNotAvailable},
		{resilience.WALGate, func(s *sample) { s.WALRate = 17 << 20 }, resilience.GateOpen},
		{resilience.WALGate, func(s *sample) { s.WALRate = 18 << 20 }, resilience.GateNear},
		{resilience.WALGate, func(s *sample) { s.WALRate = 27 << 20 }, resilience.GateShut},
		{resilience.WALGate, func(s *sample) { s.WALRate = -1 }, resilience.GateNotAvailable},
		{resilience.ConnectionsGate, func(s *sample) { s.Connections = 0.69 }, resilience.GateOpen},
		{resilience.ConnectionsGate, func(s *sample) { s.Connections = 0.75 }, resilience.GateNear},
		{resilience.ConnectionsGate, func(s *sample) { s.Connections = 0.86 }, resilience.GateShut},
		{resilience.DeadGate, func(s *sample) { s.Dead, s.Live = 10_000, 90_000 }, resilience.GateOpen},
		{resilience.DeadGate, func(s *sample) { s.Dead, s.Live = 15_000, 85_000 }, resilience.GateNear},
		{resilience.DeadGate, func(s *sample) { s.Dead, s.Live = 21_000, 79_000 }, resilience.GateShut},
		{resilience.DeadGate, func(s *sample) { s.Dead, s.Live = 999, 1 }, resilience.GateOpen}, // too few for autovacuum
		{resilience.DeadGate, func(s *sample) { s.Dead, s.Live = 0, 0 }, resilience.GateNotAvailable},
		{resilience.OwnGate, func(s *sample) { s.OwnMS = 100 }, resilience.GateOpen},
		{resilience.OwnGate, func(s *sample) { s.OwnMS = 101 }, resilience.GateNear},
		{resilience.OwnGate, func(s *sample) { s.OwnMS = 201 }, resilience.GateShut},
		{resilience.OwnGate, func(s *sample) { s.OwnMS = 0 }, resilience.GateNotAvailable},
	} {
		s := healthy()
		c.change(&s)
		gates := resilience.Judge(noon, s, calm, resilience.DefaultLimits())
		g := gate(t, gates, c.gate)
		require.Equal(t, c.want, g.State, "%s: %s", c.gate, g.Detail)
		require.NotEmpty(t, g.Detail)
		shut := 0
		if c.want == resilience.GateShut {
			shut = 1
		}
		require.Len(t, resilience.Shut(gates), shut, "no other gate shuts for that")
	}
}

// TestABaselineMovesTheLimits: what was so before is not our doing.
func TestABaselineMovesTheLimits(t *testing.T) {
	t.Parallel()
	busy := resilience.Baseline{ProbeMS: 40, Waiters: 10, WALRate: 100 << 20, OwnMS: 100}
	s := healthy()
	s.ProbeMS, s.Waiters, s.WALRate, s.OwnMS = 110, 19, 125<<20, 390
	require.Empty(t, resilience.Shut(resilience.Judge(noon, s, busy, resilience.DefaultLimits())))
	s.ProbeMS, s.Waiters, s.WALRate, s.OwnMS = 121, 21, 127<<20, 401
	require.Len(t, resilience.Shut(resilience.Judge(noon, s, busy, resilience.DefaultLimits())), 4)
	far := resilience.Baseline{ProbeMS: 300}
	s = healthy()
	s.ProbeMS = 310
	require.Equal(t, resilience.GateOpen, gate(t, resilience.Judge(noon, s, far, resilience.DefaultLimits()), resilience.ProbeGate).State, "it is far away, not slow")
}

// TestAReplicaThatWasThereIsMissed: it lags more than any that can be seen.
func TestAReplicaThatWasThereIsMissed(t *testing.T) {
	t.Parallel()
	one, two := healthy(), healthy()
	one.Replicas, two.Replicas = 3, 2
	h := resilience.Health{}.First(noon, one, two, resilience.Rules{Limits: resilience.DefaultLimits()})
	require.Equal(t, 2, h.Baseline.Replicas, "one came and went before")
	for left, want := range map[int]resilience.GateState{0: resilience.GateShut, 1: resilience.GateShut, 2: resilience.GateOpen, 3: resilience.GateOpen} {
		s := healthy()
		s.Replicas = left
		g := gate(t, resilience.Judge(noon, s, h.Baseline, resilience.DefaultLimits()), resilience.ReplicaGate)
		require.Equal(t, want, g.State)
		if want == resilience.GateShut {
			require.Contains(t, g.Detail, fmt.Sprintf("%d of 2 replicas are not attached any more", 2-left))
		}
	}
}

// TestAReplicaThatStaysAwayWasRemoved: nobody waits for it for ever, but for as long
// whatever was wrong with it before, and each time.
func TestAReplicaThatStaysAwayWasRemoved(t *testing.T) {
	t.Parallel()
	rules := resilience.Rules{Limits: resilience.DefaultLimits()}
	h, now := resilience.Health{}.First(noon, healthy(), healthy(), rules), noon
	see := func(replicas int, lag float64) resilience.GateState {
		now = now.Add(10 * time.Second)
		s := healthy()
		s.At, s.Replicas, s.LagMS = now, replicas, lag
		h = h.After(now, s, nil, rules)
		return gate(t, h.Gates, resilience.ReplicaGate).State
	}
	for range 120 { // it lags for twenty minutes
		require.Equal(t, resilience.GateShut, see(1, 60_000))
	}
	for range 2 {
		gone := now
		for see(0, 0) == resilience.GateShut {
			require.Less(t, now.Sub(gone), time.Hour)
		}
		require.Greater(t, now.Sub(gone), 15*time.Minute)
		require.Less(t, now.Sub(gone), 16*time.Minute)
		for range 3 { // it comes back
			require.Equal(t, resilience.GateOpen, see(1, 0))
		}
	}
}

func TestAnOldSampleSaysWhyThereIsNoNewer(t *testing.T) {
	t.Parallel()
	s := healthy()
	s.At, s.Failure = noon.Add(-time.Minute), "connection refused"
	g := gate(t, resilience.Judge(noon, s, calm, resilience.DefaultLimits()), resilience.SampleGate)
	require.Equal(t, "the newest look at the server is 1m0s old: connection refused", g.Detail)
}

func TestRatesComeFromTwoSamples(t *testing.T) {
	t.Parallel()
	before := resilience.Sample{At: noon, WALBytes: 1000}
	after := resilience.Sample{At: noon.Add(4 * time.Second), WALBytes: 9000}
	require.InDelta(t, 2000, after.Since(before).WALRate, 0.001)
	require.InDelta(t, -1, after.Since(resilience.Sample{}).WALRate, 0, "none before")
	require.InDelta(t, -1, after.Since(after).WALRate, 0, "no time between")
	require.Zero(t, before.Since(resilience.Sample{At: noon.Add(-time.Second), WALBytes: 5000}).WALRate, "another server took over")
}

// TestAGateOpensAfterThreeGoodSamples, and its start stays while it is shut.
func TestAGateOpensAfterThreeGoodSamples(t *testing.T) {
	t.Parallel()
	var gates []resilience.Gate
	for i, step := range []struct {
		waiters int
		want    resilience.GateState
		since   int // the step at which this state began
	}{
		{0, resilience.GateOpen, 0},
		{9, resilience.GateShut, 1},
		{4, resilience.GateShut, 1}, // good
		{4, resilience.GateShut, 1}, // good
		{5, resilience.GateShut, 1}, // under the limit, not under four fifths of it: counted anew
		{4, resilience.GateShut, 1},
		{4, resilience.GateShut, 1},
		{4, resilience.GateOpen, 7}, // the third
		{5, resilience.GateNear, 8},
		{5, resilience.GateNear, 8},
		{6, resilience.GateShut, 10},
	} {
		now := noon.Add(time.Duration(i) * time.Second)
		s := healthy()
		s.At, s.Waiters = now, step.waiters
		gates = resilience.Follow(gates, resilience.Judge(now, s, calm, resilience.DefaultLimits()), now)
		g := gate(t, gates, resilience.WaitersGate)
		require.Equal(t, step.want, g.State, "step %d", i)
		require.Equal(t, noon.Add(time.Duration(step.since)*time.Second), g.Since, "step %d", i)
	}
}

// TestOneGoodLookIsEnoughAfterAVacuum of the table.
func TestOneGoodLookIsEnoughAfterAVacuum(t *testing.T) {
	t.Parallel()
	bad := healthy()
	bad.At, bad.Dead, bad.Live = noon, 90_000, 10_000
	rules := resilience.Rules{Limits: resilience.DefaultLimits()}
	shut := resilience.Health{}.First(noon, bad, bad, rules)
	require.Len(t, resilience.Shut(shut.Gates), 1)
	for vacuumed, want := range map[bool]int{false: 1, true: 0} {
		h := shut
		if vacuumed {
			h = h.Vacuumed()
		}
		good := healthy()
		good.At = noon.Add(time.Second)
		require.Len(t, resilience.Shut(h.After(good.At, good, nil, rules).Gates), want)
	}
	require.Zero(t, gate(t, shut.Gates, resilience.DeadGate).Good, "what it was made of is as it was")
}

// TestAFreshSampleIsEnough: what it says is judged by the other gates.
func TestAFreshSampleIsEnough(t *testing.T) {
	t.Parallel()
	old := resilience.Follow(nil, resilience.Judge(noon, resilience.Sample{}, calm, resilience.DefaultLimits()), noon)
	require.Len(t, resilience.Shut(old), 1)
	require.Empty(t, resilience.Shut(resilience.Follow(old, resilience.Judge(noon, healthy(), calm, resilience.DefaultLimits()), noon)))
}

// TestASignalThatCeasedIsGood: without batches of ours there is no latency.
func TestASignalThatCeasedIsGood(t *testing.T) {
	t.Parallel()
	s := healthy()
	s.OwnMS = 1000
	gates := resilience.Follow(nil, resilience.Judge(noon, s, calm, resilience.DefaultLimits()), noon)
	s.OwnMS = 0
	for range 2 {
		gates = resilience.Follow(gates, resilience.Judge(noon, s, calm, resilience.DefaultLimits()), noon)
		require.Len(t, resilience.Shut(gates), 1)
	}
	gates = resilience.Follow(gates, resilience.Judge(noon, s, calm, resilience.DefaultLimits()), noon)
	require.Empty(t, resilience.Shut(gates))
}

func TestCalmTakesAWhile(t *testing.T) {
	t.Parallel()
	judge := func(waiters int) []resilience.Gate {
		s := healthy()
		s.Waiters = waiters
		return resilience.Judge(noon, s, calm, resilience.DefaultLimits())
	}
	gates := resilience.Follow(nil, judge(0), noon)
	require.False(t, resilience.Calm(gates, noon.Add(14*time.Second)))
	require.True(t, resilience.Calm(gates, noon.Add(15*time.Second)))
	near := resilience.Follow(gates, judge(5), noon.Add(20*time.Second))
	require.True(t, resilience.Strained(near))
	require.False(t, resilience.Calm(near, noon.Add(time.Hour)), "near its limit for an hour")
	again := resilience.Follow(near, judge(0), noon.Add(30*time.Second))
	require.False(t, resilience.Strained(again))
	require.False(t, resilience.Calm(again, noon.Add(31*time.Second)))
	require.True(t, resilience.Calm(again, noon.Add(45*time.Second)))
}

func TestItRestsLongerNearALimit(t *testing.T) {
	t.Parallel()
	for state, want := range map[resilience.GateState]float64{
		resilience.GateOpen: 3, resilience.GateNotAvailable: 3, resilience.GateNear: 6, resilience.GateShut: 6,
	} {
		gates := []resilience.Gate{{State: resilience.GateOpen}, {State: state}}
		require.InDelta(t, want, resilience.Nice(3, gates), 0, state)
		require.InDelta(t, want-3, resilience.Nice(0, gates), 0, state)
	}
}

func TestReasonsNameTheirStart(t *testing.T) {
	t.Parallel()
	s := healthy()
	s.Waiters, s.BlockedMS, s.Blocked = 9, 1500, 2
	gates := resilience.Follow(nil, resilience.Judge(noon, s, calm, resilience.DefaultLimits()), noon)
	require.Equal(t, "2 sessions wait for a batch of ours, the longest for 1500 ms (since 2026-11-24 12:00:00 UTC); "+
		"9 sessions wait for locks; 1 did before (since 2026-11-24 12:00:00 UTC)", resilience.Reasons(gates))
}

func TestBatchesGrowOnlyWhileNobodyWaits(t *testing.T) {
	t.Parallel()
	var w resilience.Waits
	require.True(t, w.Calm(noon), "nobody was seen to wait")
	w = w.Seen(noon, 200)
	require.True(t, w.Calm(noon), "a fifth of a second is nothing")
	w = w.Seen(noon, 201)
	require.False(t, w.Calm(noon.Add(14*time.Second)))
	w = w.Seen(noon.Add(14*time.Second), 0)
	require.True(t, w.Calm(noon.Add(15*time.Second)), "since the one that waited")
	w = w.Seen(noon.Add(15*time.Second), 5000)
	require.False(t, w.Calm(noon.Add(29*time.Second)))
}
