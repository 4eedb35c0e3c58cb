package resilience_test

import (
	"fmt"
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
// both are of one cycle, and no rule is lost.
func TestOrderRenames(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(r, "rules")
		to := rapid.Permutation(rapid.SliceOfNDistinct(rapid.IntRange(0, 15), n, n, rapid.ID[int]).Draw(r, "targets")).Draw(r, "order")
		var rules []resilience.RenameRule
		next := map[string]string{}
		for i := range n {
			if to[i] != i {
				rules = append(rules, rename(fmt.Sprint("p", i), fmt.Sprint("p", to[i])))
				next[fmt.Sprint("p", i)] = fmt.Sprint("p", to[i])
			}
		}
		ordered := resilience.OrderRenames(rules)
		require.ElementsMatch(r, rules, ordered)
		left := map[string]bool{}
		for _, rule := range ordered {
			if _, leaves := next[rule.New]; leaves && !inCycle(next, rule.Old) {
				require.True(r, left[rule.New], "%s before %s has left: %v", rule, rule.New, ordered)
			}
			left[rule.Old] = true
		}
	})
}

func inCycle(next map[string]string, start string) bool {
	for at, steps := next[start], 0; at != "" && steps <= len(next); at, steps = next[at], steps+1 {
		if at == start {
			return true
		}
	}
	return false
}
