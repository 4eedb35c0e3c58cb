package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// The longest rename of a path wins, whether few renames are compared with each
// path or each path looks for its own among many.
func TestTheLongestRenameWins(t *testing.T) {
	t.Parallel()
	for _, more := range []int{0, 10} {
		t.Run(fmt.Sprint(more), func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(1, "guide/a.md", "guide/sub/b.md", "guide/sub/c.md", "guided.md", "guide-2/d.md")
			rules := []resilience.RenameRule{rule("guide", "manual"), rule("guide/sub", "parts"), rule("guide/sub/c.md", "c.md")}
			for i := range more {
				m.fill(1, fmt.Sprintf("other-%d.md", i))
				rules = append(rules, rule(fmt.Sprintf("other-%d.md", i), fmt.Sprintf("another-%d.md", i)))
			}
			id, err := m.plan("", rules...)
			require.NoError(t, err)
			m.apply(id, -1)
			at := m.at()
			require.Len(t, at, 5+more)
			for _, path := range []string{"manual/a.md", "parts/b.md", "c.md", "guided.md", "guide-2/d.md"} {
				require.Equal(t, 1, at[path], path)
			}
		})
	}
}
