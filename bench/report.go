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
	rows    []row
}

func (r report) missed() bool { return slices.ContainsFunc(r.rows, row.missed) }

func (r row) missed() bool { return r.skipped == "" && !r.aim.met(median(r.ratios)) }

// last shows the newest round.
func (r row) last() string {
	n := len(r.ratios) - 1
	return fmt.Sprintf(string(r.unit)+" by hand, "+string(r.unit)+" by rehome, %.2f×", r.plain[n], r.ours[n], r.ratios[n])
}

// markdown is the whole of RESULTS.md.
func (r report) markdown() string {
	var b strings.Builder
	b.WriteString("# What rehome costs, against the same work by hand\n\n")
	b.WriteString("Written by `make bench`, which repeats it. It exits 1 when an aim is missed.\n\n")
	if !r.scale.judged {
		b.WriteString("This was a quick try with small counts: it shows that everything runs, not how fast it is.\n\n")
	}
	b.WriteString("| work | by hand | by rehome | ratio | of the rounds | aim | |\n|---|--:|--:|--:|--:|--:|---|\n")
	for _, row := range r.rows {
		b.WriteString(row.markdown(r.scale.judged))
	}
	fmt.Fprintf(&b, `
Medians of the rounds, %d in all. Each side of a round starts from the same physical state,
and they take turns at being first. A ratio is the median of the rounds' ratios.

- **apply**: first batch to last commit by the server's clock, verification included.
- **planning**: conflicts, journal and hash of the plan.
- **end to end**: the command, from its start to its exit; both and the orchestration.
- By hand a rename is one `+"`UPDATE … FROM`"+` a ready, analysed table of (id, old path, new path).
- By hand an ingest is a walk that reads and cuts the files while one COPY stores the same chunks.
- By hand a path is looked up by primary key in a table of the old and the new paths. Of ten paths
  asked for, five have an alias, four are living files, and one was never heard of.

`, r.scale.rounds)
	b.WriteString(r.machine.markdown())
	return b.String()
}

func (r row) markdown(judged bool) string {
	if r.skipped != "" {
		return fmt.Sprintf("| %s | | | | | %s | skipped: %s |\n", r.what, r.aim, r.skipped)
	}
	each := make([]string, len(r.ratios))
	for i, ratio := range r.ratios {
		each[i] = fmt.Sprintf("%.2f", ratio)
	}
	return fmt.Sprintf("| %s | "+string(r.unit)+" | "+string(r.unit)+" | %.2f× | %s | %s | %s |\n",
		r.what, median(r.plain), median(r.ours), median(r.ratios), strings.Join(each, " "), r.aim, r.verdict(judged))
}

func (r row) verdict(judged bool) string {
	switch {
	case r.aim == aim{}:
		return ""
	case !judged:
		return "not judged"
	case r.missed():
		return "**missed**"
	default:
		return "met"
	}
}

// String is empty for no aim.
func (a aim) String() string {
	if a.sign == "" {
		return ""
	}
	return fmt.Sprintf("%s %.1f×", a.sign, a.limit)
}
