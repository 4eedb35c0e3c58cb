package main

import (
	"fmt"
	"slices"
	"strings"
)

// report is what a run has found.
type report struct {
	scale   scale
	machine machine
	notes   []string
	left    string // what was not measured
	rows    []row
}

func (r report) missed() bool { return slices.ContainsFunc(r.rows, row.missed) }

// markdown is the whole of RESULTS.md.
func (r report) markdown() string {
	var b strings.Builder
	b.WriteString("# What rehome costs, against the same work by hand\n\n")
	b.WriteString("Written by `make bench`, which repeats it. It exits 1 when an aim is missed.\n\n")
	if !r.scale.judged {
		b.WriteString("This was a quick try with small counts: it shows that everything runs, not how fast it is.\n\n")
	}
	if r.left != "" {
		fmt.Fprintf(&b, "Not measured in this run: %s. `go run ./bench -only NAME` does.\n\n", r.left)
	}
	b.WriteString("| work | by hand | by rehome | compared | in the rounds | aim | |\n|---|--:|--:|--:|--:|--:|---|\n")
	for _, row := range r.rows {
		b.WriteString(row.markdown(r.scale.judged))
	}
	fmt.Fprintf(&b, `
Medians of the rounds, %d in all, and in brackets the least and the most. A round that does not
count goes before those of each kind of work, since a server and a worker that do it for the first
time are another thing than those that go on with it. Each side of a round starts from the same physical state, and they take turns
at being first. What is compared are the measures of one round.

`, r.scale.rounds)
	for _, note := range r.notes {
		b.WriteString("- " + note + "\n")
	}
	b.WriteString("\n" + r.machine.markdown())
	return b.String()
}

func (r row) markdown(judged bool) string {
	if r.skipped != "" {
		return fmt.Sprintf("| %s | | | | | %s | skipped: %s |\n", r.what, r.target(), r.skipped)
	}
	if r.aim.compared == alone {
		return fmt.Sprintf("| %s | | %s | | | %s | %s |\n", r.what, r.unit.ofAll(r.ours), r.target(), r.verdict(judged))
	}
	each := make([]string, len(r.outcomes))
	for i, outcome := range r.outcomes {
		each[i] = r.outcome(outcome)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |\n", r.what, r.unit.ofAll(r.plain), r.unit.ofAll(r.ours),
		r.outcome(median(r.outcomes)), strings.Join(each, " "), r.target(), r.verdict(judged))
}

func (r row) verdict(judged bool) string {
	switch {
	case r.target() == "":
		return ""
	case !judged:
		return "not judged"
	case r.missed():
		return "**missed**"
	default:
		return "met"
	}
}
