package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// TestTheLastStepKeepsToTheRate, on the way there and back: a batch has no more rows than
// a second allows, as one of the moves.
func TestTheLastStepKeepsToTheRate(t *testing.T) {
	t.Parallel()
	m, id := toNotes(t, 9)
	m.apply(id, -1)
	require.NoError(t, m.store.SwitchReferences(t.Context(), id))
	m.exec(`UPDATE rehome.migration_progress SET rate = 1.5`)
	retirer, err := m.store.Retirer(t.Context(), id)
	require.NoError(t, err)
	at, err := m.store.Retired(t.Context(), id)
	require.NoError(t, err)
	step := func(to int64, take func() (resilience.Watermark, error)) {
		t.Helper()
		at, err = take()
		require.NoError(t, err)
		require.Equal(t, to, at.Last)
	}
	on := func() (resilience.Watermark, error) {
		return retirer.Apply(t.Context(), at, store.Bounds{Batch: 50})
	}
	step(2, on)
	m.exec(`UPDATE rehome.migration_progress SET throttle_until = 'infinity', throttle_rate = 0`)
	step(9, on)
	m.exec(`UPDATE rehome.migration_progress SET throttle_rate = 3, wish = 'undo'`)
	step(6, func() (resilience.Watermark, error) { return retirer.Revert(t.Context(), at, store.Bounds{Batch: 50}) })
}

// TestWhatAThrottleLeavesOutStays, for as long as it was ordered for.
func TestWhatAThrottleLeavesOutStays(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 60)
	m.exec(`UPDATE rehome.migration_progress SET rate = 10, batch_size = 6`)
	order := func(p resilience.Pace) {
		t.Helper()
		require.NoError(t, p.Check())
		require.NoError(t, m.store.Throttle(t.Context(), id, p))
	}
	var last int64
	moves := func(rows int64, rate float64, b store.Bounds) {
		t.Helper()
		mover, at := m.mover(id)
		at, err := mover.Apply(t.Context(), at, b)
		require.NoError(t, err)
		require.Equal(t, last+rows, at.Last)
		require.InDelta(t, rate, at.Rate, 0)
		last = at.Last
		now, err := m.store.Watermark(t.Context(), id)
		require.NoError(t, err)
		if b.Rate == 0 {
			require.InDelta(t, rate, now.Rate, 0)
		}
	}
	trickle := store.Bounds{Batch: 5, Rate: 3}
	moves(6, 10, store.Bounds{})

	order(resilience.Pace{BatchSize: new(2)})
	moves(2, 10, store.Bounds{})
	moves(2, 3, trickle)
	require.Equal(t, &resilience.Throttle{Pace: resilience.Pace{BatchSize: new(2)}}, m.read(id).Throttle)

	order(resilience.Pace{Rate: new(5.0), Expires: 3600})
	moves(2, 5, trickle)
	throttle := m.read(id).Throttle
	require.Equal(t, resilience.Pace{Rate: new(5.0), BatchSize: new(2)}, throttle.Pace)
	require.NotNil(t, throttle.Until)
	require.Nil(t, throttle.BatchUntil, "for good, as it was ordered")

	order(resilience.Pace{BatchSize: new(8), Expires: 60})
	moves(5, 5, store.Bounds{})
	m.exec(`UPDATE rehome.migration_progress SET throttle_batch_until = now() - interval '1 second'`)
	moves(5, 5, store.Bounds{})
	moves(5, 5, trickle)
	require.Equal(t, resilience.Pace{Rate: new(5.0)}, m.read(id).Throttle.Pace)

	order(resilience.Pace{Rate: new(0.0), BatchSize: new(3)})
	moves(3, 0, trickle)
	order(resilience.Pace{BatchSize: new(0)})
	moves(6, 0, store.Bounds{})
	require.Equal(t, &resilience.Throttle{Pace: resilience.Pace{Rate: new(0.0)}}, m.read(id).Throttle)
	m.exec(`UPDATE rehome.migration_progress SET throttle_until = now() - interval '1 second'`)
	moves(3, 3, trickle)
	require.Nil(t, m.read(id).Throttle)
}
