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
	words := wayLine(p)
	if i := slices.IndexFunc(p.Estimate.Ways, func(c resilience.WayCost) bool { return c.Way == p.Way }); i >= 0 {
		words += ", expected to take " + took(p.Estimate.Ways[i].MS)
	}
	row(w, "way", words)
	open := false
	for _, c := range p.Estimate.Ways {
		switch {
		case c.Way == p.Way:
		case c.Taken:
			row(w, "", fmt.Sprintf("and %s for some groups: %s", c.Way, c.Note))
		case c.Closed != "":
			row(w, "", fmt.Sprintf("not %s, which is closed: %s", c.Way, c.Closed))
		default:
			open = true
			row(w, "", fmt.Sprintf("not %s, about %s: %s", c.Way, took(c.MS), c.Note))
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

func wayLine(p resilience.Plan) string {
	switch {
	case p.Transfer == nil:
		return wayLines[p.Way]
	case p.Transfer.Back:
		return fmt.Sprintf("copy: rows come back to memory %s, and their copies in memory %s go", p.Memory, p.Transfer.To)
	}
	return fmt.Sprintf("copy: rows are copied to memory %s, and those of memory %s go to quarantine after the soak", p.Transfer.To, p.Memory)
}

// transferRows says of a transfer that it is one, between which memories, and for
// how long both have the chunks.
func transferRows(w io.Writer, p resilience.Plan) {
	t := p.Transfer
	if t == nil {
		return
	}
	if t.Back {
		row(w, "kind", "transfer, back home")
		row(w, "target", fmt.Sprintf("memory %s, from memory %s", p.Memory, t.To))
		return
	}
	row(w, "kind", "transfer")
	target := fmt.Sprintf("memory %s, for all chunks", t.To)
	if t.Prefix != "" {
		target += " at or under " + t.Prefix
	}
	row(w, "target", target)
	if soak := t.Lasts(); soak > 0 {
		row(w, "soak", fmt.Sprintf("%s after the switch, in which both memories have the chunks", soak))
	} else {
		row(w, "soak", "none")
	}
}

// rollbackRows shows what puts a plan back, in the order in which it would be done.
// What is over is undone by a plan of its own.
func rollbackRows(w io.Writer, p resilience.Plan) {
	if p.Status.Ended() {
		return
	}
	name := "rollback"
	for i, step := range p.Steps {
		row(w, name, fmt.Sprintf("%d. %s", i+1, step))
		name = ""
	}
}
