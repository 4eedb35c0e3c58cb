package workflows

import (
	"fmt"
	"strings"

	"rehome/activities"
	"rehome/resilience"
)

// decisions is a table of the first groups for the web UI, in the order in which
// they move: how each of them moves, why, from what, and what else it could have
// been.
func decisions(groups []resilience.Group) string {
	if len(groups) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n| | group | moves | why | from | else |\n|---|---|---|---|---|---|\n")
	shown := groups[:min(len(groups), activities.GroupsTold)]
	for _, g := range shown {
		others := make([]string, len(g.Alternatives))
		for i, a := range g.Alternatives {
			others[i] = a.String()
		}
		fmt.Fprintf(&b, "| %d | %s: %d chunks | %s | %s | %s | %s |\n", g.Position, cell.Replace(fmt.Sprintf("%.200s", g.Name)), g.Rows,
			g.Decision(), cell.Replace(g.Reason), cell.Replace(g.Inputs.String()), cell.Replace(strings.Join(others, "; ")))
	}
	if more := len(groups) - len(shown); more > 0 {
		fmt.Fprintf(&b, "\nand %d groups more: `starter migration show` has all\n", more)
	}
	return b.String()
}
