package resilience_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestRest(t *testing.T) {
	t.Parallel()
	known := resilience.Estimate{P50MS: 100_000, P90MS: 160_000}
	for _, c := range []struct {
		name        string
		estimate    resilience.Estimate
		left, total int64
		rate        float64
		p50, p90    time.Duration
		unknown     bool
	}{
		{name: "nothing is known", left: 100, total: 100, unknown: true},
		{name: "only the estimate", estimate: known, left: 100, total: 100, p50: 100 * time.Second, p90: 160 * time.Second},
		{name: "the estimate's share", estimate: known, left: 50, total: 100, p50: 50 * time.Second, p90: 67500 * time.Millisecond},
		{name: "only the rate", left: 100, total: 100, rate: 10, p50: 10 * time.Second, p90: 25 * time.Second},
		{name: "the rate goes before the estimate", estimate: known, left: 100, total: 100, rate: 10, p50: 10 * time.Second, p90: 16 * time.Second},
		{name: "halfway it is surer", left: 50, total: 100, rate: 10, p50: 5 * time.Second, p90: 9 * time.Second},
		{name: "at the end almost sure", left: 1, total: 1_000_000, rate: 1, p50: time.Second, p90: 1100 * time.Millisecond},
		{name: "an estimate without spread", estimate: resilience.Estimate{P50MS: 1000, P90MS: 1000}, left: 10, total: 10, rate: 1, p50: 10 * time.Second, p90: 11 * time.Second},
		{name: "done", estimate: known, left: 0, total: 100, rate: 10},
		{name: "an empty plan", estimate: known},
		{name: "swept rows are left beyond the total", left: 200, total: 100, rate: 10, p50: 20 * time.Second, p90: 50 * time.Second},
	} {
		var lately resilience.Tempo
		if c.rate > 0 {
			lately = resilience.Tempo{Rows: c.rate, Seconds: 1}
		}
		for _, paused := range []bool{false, true} {
			eta, ok := c.estimate.Rest(c.left, c.total, lately, paused)
			require.Equal(t, !c.unknown, ok, c.name)
			require.InDelta(t, c.p50, eta.P50, float64(time.Millisecond), c.name)
			require.InDelta(t, c.p90, eta.P90, float64(time.Millisecond), c.name)
			require.Equal(t, paused, eta.Frozen, c.name)
		}
	}
}

func TestRestOfARateNextToNothing(t *testing.T) {
	t.Parallel()
	eta, ok := resilience.Estimate{}.Rest(1<<62, 1<<62, resilience.Tempo{Rows: 1e-9, Seconds: 1}, false)
	require.True(t, ok)
	require.Positive(t, eta.P50)
	require.GreaterOrEqual(t, eta.P90, eta.P50)
}

func TestTempo(t *testing.T) {
	t.Parallel()
	var tempo resilience.Tempo
	require.Zero(t, tempo.Rate())
	tempo.Add(0, time.Second)
	tempo.Add(10, 0)
	tempo.Add(10, -time.Second)
	require.Zero(t, tempo.Rate())

	for range 30 {
		tempo.Add(2000, 20*time.Second)
	}
	require.InDelta(t, 100, tempo.Rate(), 0.001, "a steady run has its own rate")
	tempo.Add(200, 20*time.Second)
	require.InDelta(t, 74, tempo.Rate(), 2, "one slow slice of three")
	for range 20 {
		tempo.Add(200, 20*time.Second)
	}
	require.InDelta(t, 10, tempo.Rate(), 1, "after some minutes only the new rate counts")
}
