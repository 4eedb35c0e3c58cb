package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// section is what one benchmark has found: a part of RESULTS.md. A run replaces
// the sections of what it measures, and leaves the others as they are.
type section struct {
	benchmark
	scale   scale
	machine machine
	rows    []row
}

func (s section) missed() bool { return slices.ContainsFunc(s.rows, row.missed) }

func (s section) markdown() string {
	var b strings.Builder
	b.WriteString(string(s.machine) + "\n\n")
	if !s.scale.judged {
		b.WriteString("This was a quick try with small counts: it shows that everything runs, not how fast it is.\n\n")
	}
	b.WriteString("| work | by hand | by rehome | compared | in the rounds | aim | |\n|---|--:|--:|--:|--:|--:|---|\n")
	for _, row := range s.rows {
		b.WriteString(row.markdown(s.scale.judged))
	}
	for i, note := range s.notes {
		if i == 0 {
			b.WriteString("\n")
		}
		b.WriteString("- " + note + "\n")
	}
	return b.String()
}

const (
	introduction = `# What rehome costs, against the same work by hand

Written by ` + "`make bench`" + `, which repeats it and exits 1 when an aim is missed. ` + "`go run ./bench -only NAME`" + `
repeats one section.

Each figure is the median of the rounds, and in brackets stand the least and the most. A round that
does not count goes before those of each kind of work, since a server and a worker that do it for
the first time are another thing than those that go on with it. Each side of a round starts from the
same physical state, and they take turns at being first. The work is done by hand beside each of ours;
what is compared with ours is the median of these runs of a round.
`
	heading = "\n## " // of a section, before its name
)

// document is the whole of RESULTS.md, made of the texts of its sections.
func document(sections map[string]string) string {
	var b strings.Builder
	b.WriteString(introduction)
	for _, of := range benchmarks {
		text := cmp.Or(sections[of.name], "Not measured yet.")
		b.WriteString(heading + of.name + "\n\n" + text + "\n")
	}
	return b.String()
}

// sectionsOf takes a document apart again.
func sectionsOf(document string) map[string]string {
	sections := map[string]string{}
	for _, part := range strings.Split(document, heading)[1:] {
		name, text, _ := strings.Cut(part, "\n")
		sections[name] = strings.TrimSpace(text)
	}
	return sections
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
