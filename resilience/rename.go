package resilience

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// RenameRule says that what was at Old, a file or a whole directory, is now at
// New. Both are canonical paths relative to the memory's root.
type RenameRule struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// String gives the rule as it is written on the command line.
func (r RenameRule) String() string { return r.Old + "=" + r.New }

// Check refuses a rule that cannot be true: a path renamed onto itself, into
// itself, or onto what it lies in.
func (r RenameRule) Check() error {
	switch {
	case r.Old == r.New:
		return fmt.Errorf("rename %s: the old and the new path are the same", r)
	case strings.HasPrefix(r.New, r.Old+"/"):
		return fmt.Errorf("rename %s: a directory cannot move into itself", r)
	case strings.HasPrefix(r.Old, r.New+"/"):
		return fmt.Errorf("rename %s: a directory cannot take the place of the one it lies in", r)
	}
	return nil
}

// CheckRenames refuses rules that cannot all be true at once: one that cannot
// be true itself, a path renamed twice, or two paths renamed onto one. Chains (a
// to b, b to c) and swaps are legal: rules say where things were before, all at
// the same moment.
func CheckRenames(rules []RenameRule) error {
	if len(rules) == 0 {
		return fmt.Errorf("no rename given: want at least one OLD=NEW")
	}
	from, to := map[string]string{}, map[string]string{}
	for _, r := range rules {
		if err := r.Check(); err != nil {
			return err
		}
		if other, taken := from[r.Old]; taken {
			return fmt.Errorf("%s is renamed twice: to %s and to %s", r.Old, other, r.New)
		}
		if other, taken := to[r.New]; taken {
			return fmt.Errorf("%s and %s are both renamed to %s", other, r.Old, r.New)
		}
		from[r.Old], to[r.New] = r.New, r.Old
	}
	return nil
}

// Waiting says that After may only go when Before has left the place that After
// takes. Both are numbers: of rules, or of files.
type Waiting struct{ After, Before int64 }

// OrderRenames sorts those that wait for another so that each comes after the one it
// waits for: chains run backwards. Those of a cycle stay next to each other. Each waits
// for one other at most.
func OrderRenames(waiting []Waiting) []int64 {
	byAfter := func(a, b Waiting) int { return cmp.Compare(a.After, b.After) }
	if !slices.IsSortedFunc(waiting, byAfter) { // a million of them are not copied for nothing
		waiting = slices.SortedFunc(slices.Values(waiting), byAfter)
	}
	ordered := make([]int64, 0, len(waiting))
	visited := make([]bool, len(waiting))
	var chain []int64
	for i := range waiting {
		// Follow the chain from i to its far end, then emit it backwards.
		chain = chain[:0]
		for at, found := i, true; found && !visited[at]; {
			visited[at] = true
			chain = append(chain, waiting[at].After)
			at, found = slices.BinarySearchFunc(waiting, waiting[at].Before, func(w Waiting, before int64) int { return cmp.Compare(w.After, before) })
		}
		slices.Reverse(chain)
		ordered = append(ordered, chain...)
	}
	return ordered
}
