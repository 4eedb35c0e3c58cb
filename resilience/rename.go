package resilience

import (
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

// CheckRenames refuses rules that cannot all be true at once: a path renamed
// onto itself or into itself, renamed twice, or two paths renamed onto one.
// Chains (a to b, b to c) and swaps are legal: rules say where things were
// before, all at the same moment.
func CheckRenames(rules []RenameRule) error {
	if len(rules) == 0 {
		return fmt.Errorf("no rename given: want at least one OLD=NEW")
	}
	from, to := map[string]string{}, map[string]string{}
	for _, r := range rules {
		if r.Old == r.New {
			return fmt.Errorf("rename %s: the old and the new path are the same", r)
		}
		if strings.HasPrefix(r.New, r.Old+"/") {
			return fmt.Errorf("rename %s: a directory cannot move into itself", r)
		}
		if strings.HasPrefix(r.Old, r.New+"/") {
			return fmt.Errorf("rename %s: a directory cannot take the place of the one it lies in", r)
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

// OrderRenames sorts rules so that what leaves a place comes before what takes
// it: chains run backwards. The rules of a cycle stay next to each other.
func OrderRenames(rules []RenameRule) []RenameRule {
	leaves := make(map[string]int, len(rules)) // old path to the rule that empties it
	for i, r := range rules {
		leaves[r.Old] = i
	}
	ordered := make([]RenameRule, 0, len(rules))
	visited := make([]bool, len(rules))
	for i := range rules {
		// Follow the chain from rule i to its far end, then emit it backwards.
		var chain []int
		for next := i; !visited[next]; {
			visited[next] = true
			chain = append(chain, next)
			after, ok := emptier(leaves, rules[next].New)
			if !ok {
				break
			}
			next = after
		}
		for _, at := range slices.Backward(chain) {
			ordered = append(ordered, rules[at])
		}
	}
	return ordered
}

// emptier finds the rule that moves away what stands at path or above it.
func emptier(leaves map[string]int, path string) (int, bool) {
	for {
		if at, ok := leaves[path]; ok {
			return at, true
		}
		cut := strings.LastIndexByte(path, '/')
		if cut < 0 {
			return 0, false
		}
		path = path[:cut]
	}
}
