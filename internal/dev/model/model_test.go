package model_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev/model"
	"rehome/resilience"
)

// TestModel explores every way a migration can go.
func TestModel(t *testing.T) {
	t.Parallel()
	writes := int8(2)
	if testing.Short() {
		writes = 1
	}
	m := model.New(model.Limits{Writes: writes, Faults: 2, Pauses: 1, Fails: 1})
	require.Empty(t, m.Explore(), "a way to a broken promise")
	ends := m.Ends()
	t.Logf("%d states; ends: %v", m.States(), ends)
	for _, end := range []resilience.Status{resilience.Completed, resilience.RolledBack, resilience.Cancelled} {
		require.NotZero(t, ends[end], end)
	}
}

// TestModelNeedsEachGuard leaves guards out: the model finds what goes wrong.
func TestModelNeedsEachGuard(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pauses, faults int8
		without        []model.Guard
		breaks         string // the promise; empty: none
	}{
		{1, 1, []model.Guard{model.ByWatermark}, "completed, and row 1 moved 1 times, exception true"},
		{1, 1, []model.Guard{model.ByWish}, "rows moved during a pause"},
		{1, 1, []model.Guard{model.ByPlace}, "completed, and row 1 moved 0 times, exception false"},
		{1, 1, []model.Guard{model.BySkipped}, "rolled_back, and row 1 is at 0, not 1"},
		{1, 1, []model.Guard{model.ByStatus}, "a plan that has ended was changed: switch"},
		{1, 2, []model.Guard{model.ByPause}, "rolled_back, and nobody wanted it"},
		// The epoch and the wish each keep an old attempt from writing.
		{0, 1, []model.Guard{model.ByWish}, ""},
		{0, 1, []model.Guard{model.ByEpoch}, ""},
		{0, 1, []model.Guard{model.ByWish, model.ByEpoch}, "an attempt of an older epoch wrote"},
		{1, 1, []model.Guard{model.ByTable}, "a plan that has ended was changed: begin"},
		{1, 1, []model.Guard{model.ByAgain}, "ended as rolling_back"},
		{1, 1, []model.Guard{model.ByTurn}, "an undo is fenced off"},
		{1, 1, []model.Guard{model.ByVerifier}, "was back where it came from"},
		{1, 1, []model.Guard{model.ByBack}, "was back where it came from"},
		{1, 1, []model.Guard{model.ByHeed}, "rolled_back, and nobody wanted it"},
		{1, 1, []model.Guard{model.ByHold}, "a plan that has ended was changed: look at all rows"},
		{1, 1, []model.Guard{model.ByAnew}, "completed, and row 1 is listed as not moved back"},
		// Of these the order of the steps and the table of legal moves hold all that
		// they hold. But where one plan undoes another, aliases that go back late
		// lead readers astray: see TestALateUndoOfASwitchIsRefused.
		{1, 1, []model.Guard{model.ByRound, model.ByUndo, model.ByBottom, model.ByEnd}, ""},
	} {
		t.Run(fmt.Sprint(c.without, c.pauses), func(t *testing.T) {
			t.Parallel()
			way := model.New(model.Limits{Writes: 1, Faults: c.faults, Pauses: c.pauses, Fails: c.pauses}, c.without...).Explore()
			if c.breaks == "" {
				require.Empty(t, way)
				return
			}
			require.NotEmpty(t, way, "nothing breaks without: %s", c.without)
			require.Contains(t, way[len(way)-1], c.breaks, strings.Join(way, "\n"))
		})
	}
}
