package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// A clock that was put forward or back by an hour is as good as times that were
// written down an hour earlier or later.

// TestTheQueueKeepsItsOrderWhenTheClockIsPutBack: those who come afterwards come
// after all others, and so do those who go on.
func TestTheQueueKeepsItsOrderWhenTheClockIsPutBack(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.concurrent("1")
	ids := m.queues(3)
	m.takes(ids[0])
	require.NoError(t, m.store.Begin(t.Context(), ids[0]))
	m.exec(`UPDATE rehome.migration_plans SET queued_at = queued_at + interval '1 hour'`)

	m.fill(3, "late.md")
	late, err := m.plan("", rule("late.md", "late/moved.md"))
	require.NoError(t, err)
	require.NoError(t, m.store.Queue(t.Context(), late))
	require.Equal(t, ids, m.takes(late))
	require.NoError(t, m.store.Pause(t.Context(), ids[0], "ana", ""))
	resumed, before, err := m.store.Resume(t.Context(), ids[0], "ana", "", nil)
	require.NoError(t, err)
	require.False(t, resumed)
	require.Equal(t, []string{ids[1], ids[2], late}, named(before))
	require.Empty(t, m.takes(ids[1]))
	require.NoError(t, m.store.Queue(t.Context(), late), "a retry")
	require.Equal(t, []string{ids[1], ids[2]}, m.takes(late), "it keeps its place")
}

// TestAThrottleEndsByTheClockAsItIsNow: put forward past its end the pace is the
// plan's own from the next batch on; put back, the throttle holds on.
func TestAThrottleEndsByTheClockAsItIsNow(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(9, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	require.NoError(t, m.store.Throttle(t.Context(), id, resilience.Pace{Rate: new(0.5), BatchSize: new(1), Expires: 1800}))
	for _, jump := range []struct {
		by   time.Duration
		rate float64
		last int64
	}{
		{-time.Hour, 0.5, 1},
		{time.Hour, 0.5, 2}, // and forward again, to where it was
		{time.Hour, 0, 5},
	} {
		m.exec(`UPDATE rehome.migration_progress SET throttle_until = throttle_until - $1::interval, throttle_batch_until = throttle_batch_until - $1::interval`, jump.by)
		at := m.apply(id, 1)
		require.InDelta(t, jump.rate, at.Rate, 0)
		require.Equal(t, jump.last, at.Last)
	}
}
