package main

import (
	"fmt"
	"io"
	"slices"

	"rehome/resilience"
)

// wayRows shows the way that a plan goes, and those that it does not go: each with
// what the whole plan is expected to take by it, or why it is closed.
func wayRows(w io.Writer, p resilience.Plan) {
	words := wayLines[p.Way]
	if p.Transfer != nil {
		words = copyLine(p)
	}
	if i := slices.IndexFunc(p.Estimate.Ways, func(c resilience.WayCost) bool { return c.Way == p.Way }); i >= 0 {
		words += ", expected to take " + resilience.Spell(p.Estimate.Ways[i].MS)
	}
	row(w, "way", words)
	open := false
	for _, c := range p.Estimate.Ways {
		switch {
		case c.Way == p.Way: // it stands above
		case c.Taken:
			row(w, "", fmt.Sprintf("and %s for some groups: %s", c.Way, c.Note))
		case c.Closed != "":
			row(w, "", fmt.Sprintf("not %s: %s", c.Way, c.Closed))
		default:
			open = true
			row(w, "", fmt.Sprintf("or %s, about %s: %s", c.Way, resilience.Spell(c.MS), c.Note))
		}
	}
	if open && p.Status == resilience.AwaitingApproval && p.Strategy != resilience.Intelligent {
		row(w, "", "for another: abort this plan, and plan with --strategy intelligent --way WAY")
	}
}

var wayLines = map[resilience.Way]string{
	resilience.Update:    "update: rows change in place",
	resilience.Turns:     "turns: rows change in place, those of a page in turns, so that few touch the indexes",
	resilience.Trickle:   "trickle: rows change in place, slowly",
	resilience.AliasOnly: "alias_only: rows keep their old path; ask rehome.current_path where they are",
	resilience.Rebuild:   "rebuild: the vector index is dropped before and built again after",
}
