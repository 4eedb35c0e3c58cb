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
