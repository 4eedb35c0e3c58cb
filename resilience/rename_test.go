package resilience_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
)

func rename(old, new string) resilience.RenameRule { return resilience.RenameRule{Old: old, New: new} }

func TestCheckRenames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules []resilience.RenameRule
		says  string // empty: legal
	}{
		{nil, "no rename"},
		{[]resilience.RenameRule{rename("a", "a")}, "the same"},
		{[]resilience.RenameRule{rename("a", "a/b")}, "into itself"},
		{[]resilience.RenameRule{rename("a/b", "a")}, "the place of the one it lies in"},
		{[]resilience.RenameRule{rename("a", "b"), rename("a", "c")}, "renamed twice"},
		{[]resilience.RenameRule{rename("a", "c"), rename("b", "c")}, "both renamed"},
		{[]resilience.RenameRule{rename("docs", "docs2")}, ""},
		{[]resilience.RenameRule{rename("a", "b"), rename("b", "c")}, ""},
		{[]resilience.RenameRule{rename("a", "b"), rename("b", "a")}, ""},
		{[]resilience.RenameRule{rename("a", "b"), rename("a/x", "c")}, ""},
	} {
		err := resilience.CheckRenames(c.rules)
		if c.says == "" {
			require.NoError(t, err, c.rules)
		} else {
			require.ErrorContains(t, err, c.says, c.rules)
		}
	}
}

// TestOrderRenames: whatever leaves a place comes before what takes it, unless
// both are of one cycle; those stay together, and no rule is lost.
func TestOrderRenames(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(r, "rules")
		before := map[int64]int64{}
		var waiting []resilience.Waiting
		var rules []int64
		for i := range int64(n) {
			if b := rapid.Int64Range(0, 15).Draw(r, "waits for"); b != i { // that of 12 and above waits for nothing
				before[i] = b
				waiting = append(waiting, resilience.Waiting{After: i, Before: b})
				rules = append(rules, i)
			}
		}
		ordered := resilience.OrderRenames(rapid.Permutation(waiting).Draw(r, "given"))
		require.ElementsMatch(r, rules, ordered)
		place := map[int64]int{}
		for at, rule := range ordered {
			place[rule] = at
		}
		for _, rule := range rules {
			cycle := cycleOf(before, rule)
			if len(cycle) == 0 {
				if at, waits := place[before[rule]]; waits {
					require.Less(r, at, place[rule], "%d before %d has left: %v", rule, before[rule], ordered)
				}
				continue
			}
			places := make([]int, len(cycle))
			for i, c := range cycle {
				places[i] = place[c]
			}
			require.Equal(r, len(cycle)-1, slices.Max(places)-slices.Min(places), "the cycle %v is torn: %v", cycle, ordered)
		}
	})
}

// cycleOf lists the rules that wait for each other and for start, if start is one of them.
func cycleOf(before map[int64]int64, start int64) []int64 {
	cycle := []int64{start}
	for at, ok := before[start]; ok && len(cycle) <= len(before); at, ok = before[at] {
		if at == start {
			return cycle
		}
		cycle = append(cycle, at)
	}
	return nil
}

// TestOrderRenamesOfAMillion is one chain through all of them, given from its
// wrong end.
func TestOrderRenamesOfAMillion(t *testing.T) {
	t.Parallel()
	waiting := make([]resilience.Waiting, resilience.MaxMoves)
	for i := range waiting {
		waiting[i] = resilience.Waiting{After: int64(i), Before: int64(i + 1)}
	}
	ordered := resilience.OrderRenames(waiting)
	require.Len(t, ordered, len(waiting))
	require.EqualValues(t, len(waiting)-1, ordered[0])
	require.True(t, slices.IsSortedFunc(ordered, func(a, b int64) int { return int(b - a) }))
}
