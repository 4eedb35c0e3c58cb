package resilience

import (
	"fmt"
	"strings"
)

// SampleSize is how many of a table's paths are looked for before a memory is
// trusted to be about a tree.
const SampleSize = 200

// CheckSample refuses a root in which fewer than half of the sampled paths are
// files: chunks of another tree would all look like orphans. It shows three
// that were not found and, when exists knows the rest of most of them, the
// prefix that stands before it in the table.
func CheckSample(found, missing []string, exists func(path string) bool) error {
	sampled := len(found) + len(missing)
	if len(found)*2 >= sampled {
		return nil
	}
	shown := missing[:min(3, len(missing))]
	way := "check the root and the path locators"
	if prefix := PrefixToStrip(missing, exists); prefix != "" {
		way = fmt.Sprintf("strip the prefix %q from the paths", prefix)
	}
	return fmt.Errorf("only %d of %d sampled paths are files under the root; not found: %s; %s",
		len(found), sampled, strings.Join(shown, ", "), way)
}

// PrefixToStrip returns what stands before most of the paths and without which
// they exist, or an empty string.
func PrefixToStrip(missing []string, exists func(path string) bool) string {
	votes := map[string]int{}
	for _, path := range missing {
		for i := range len(path) {
			if path[i] == '/' && exists(path[i+1:]) {
				votes[path[:i+1]]++
				break
			}
		}
	}
	for prefix, n := range votes {
		if n*2 > len(missing) {
			return prefix
		}
	}
	return ""
}
