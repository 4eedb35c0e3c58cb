package resilience_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// TestALookFromTheFutureIsNotBelieved: the clock is put back by an hour, and from
// then on the server cannot be seen. What was seen before is of an unknown age.
func TestALookFromTheFutureIsNotBelieved(t *testing.T) {
	t.Parallel()
	rules := resilience.Rules{Limits: resilience.DefaultLimits()}
	h := resilience.Health{Baseline: calm}.After(noon, healthy(), nil, rules)
	require.Empty(t, resilience.Shut(h.Gates))
	for _, back := range []time.Duration{time.Second, time.Hour} {
		unseen := h.Unseen(noon.Add(-back), "refused", rules)
		g := gate(t, unseen.Gates, resilience.SampleGate)
		require.Equal(t, resilience.GateShut, g.State, back)
		require.Equal(t, noon.Add(-back), g.Since, "not since a time that is still to come")
		require.Contains(t, g.Detail, "is "+back.String()+" ahead of the clock, which was put back: refused")
	}
	look := healthy()
	look.At = noon.Add(-time.Hour)
	again := h.Unseen(look.At, "refused", rules).After(look.At, look, nil, rules)
	require.Empty(t, resilience.Shut(again.Gates), "a look by the clock as it is now is enough")
	require.Less(t, again.Sample.WALRate, 0.0, "no rate is made of an hour that never was")
}

// TestGatesAreCalmSoonAfterTheClockIsPutBack: how long they have been open counts
// from then, not from an hour that is still to come.
func TestGatesAreCalmSoonAfterTheClockIsPutBack(t *testing.T) {
	t.Parallel()
	judge := func(before []resilience.Gate, now time.Time) []resilience.Gate {
		s := healthy()
		s.At = now
		return resilience.Follow(before, resilience.Judge(now, s, calm, resilience.DefaultLimits()), now)
	}
	gates := judge(nil, noon)
	back := noon.Add(-time.Hour)
	gates = judge(gates, back)
	require.False(t, resilience.Calm(gates, back))
	for _, g := range gates {
		require.False(t, g.Since.After(back), g.Name)
	}
	require.True(t, resilience.Calm(judge(gates, back.Add(15*time.Second)), back.Add(15*time.Second)))
	forward := judge(gates, noon.Add(time.Hour))
	require.Empty(t, resilience.Shut(forward))
}

// TestAnETAOutlivesAClockThatJumps: 1,000 rows a second, until one second of work
// seems to have taken an hour, or to have ended before it began.
func TestAnETAOutlivesAClockThatJumps(t *testing.T) {
	t.Parallel()
	var known resilience.Estimate
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		var lately resilience.Tempo
		work := func(seconds int) {
			for range seconds {
				lately.Add(1000, time.Second)
			}
		}
		rest := func() float64 {
			eta, ok := known.Rest(100_000, 200_000, lately, false)
			require.True(t, ok)
			require.GreaterOrEqual(t, eta.P90, eta.P50)
			return eta.P50.Seconds()
		}
		work(120)
		require.InDelta(t, 100, rest(), 1)
		lately.Add(1000, time.Second+jump)
		require.InDelta(t, 300, rest(), 201, "right after it, no more than five times as long")
		work(120)
		require.InDelta(t, 100, rest(), 25, "two minutes later it is forgotten")
	}
}
