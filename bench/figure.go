package main

import (
	"fmt"
	"slices"
	"strings"
)

// figure is something that is measured.
type figure struct {
	what string
	unit unit
	aim  aim
}

// unit says how a measure is written.
type unit string

const (
	seconds      unit = "%.2f s"
	milliseconds unit = "%.1f ms"
	perSecond    unit = "%.0f /s"
	mebibytes    unit = "%.0f MiB"
	number       unit = "%.0f"
	percent      unit = "%.0f %%"
)

func (u unit) of(measure float64) string { return fmt.Sprintf(string(u), measure) }

// ofAll writes the median of measures, and between which they lie.
func (u unit) ofAll(measures []float64) string {
	if len(measures) == 1 {
		return u.of(measures[0])
	}
	digits, _, _ := strings.Cut(string(u), " ")
	return fmt.Sprintf("%s ("+digits+"–"+digits+")", u.of(median(measures)), slices.Min(measures), slices.Max(measures))
}

// aim bounds what comes of comparing; the zero value does not.
type aim struct {
	sign  string
	limit float64
	compared
}

// compared is what is made of the measures of a round.
type compared int

const (
	ratio  compared = iota // ours divided by that by hand
	excess                 // ours less that by hand
	alone                  // ours, there is nothing to compare it with
)

// atMost and atLeast bound a ratio, unless by says otherwise.
func atMost(limit float64) aim  { return aim{sign: "≤", limit: limit} }
func atLeast(limit float64) aim { return aim{sign: "≥", limit: limit} }

func (a aim) by(c compared) aim { return aim{a.sign, a.limit, c} }

func (a aim) met(value float64) bool {
	switch a.sign {
	case "≤":
		return value <= a.limit
	case "≥":
		return value >= a.limit
	}
	return true
}

// target is the aim as it is written; empty for none.
func (f figure) target() string {
	switch {
	case f.aim.sign == "":
		return ""
	case f.aim.compared == ratio:
		return fmt.Sprintf("%s %g×", f.aim.sign, f.aim.limit)
	case f.aim.compared == excess:
		return f.aim.sign + " +" + f.unit.of(f.aim.limit)
	default:
		return f.aim.sign + " " + f.unit.of(f.aim.limit)
	}
}

// outcome writes what comes of comparing.
func (f figure) outcome(value float64) string {
	switch f.aim.compared {
	case ratio:
		return fmt.Sprintf("%.2f×", value)
	case excess:
		return "+" + f.unit.of(value)
	default:
		return f.unit.of(value)
	}
}

// row is a line of the table: what all rounds measured, or why none did.
type row struct {
	figure
	plain, ours []float64
	outcomes    []float64 // of comparing them, as the aim has it
	skipped     string
}

// add takes the measures of a round.
func (r *row) add(plain, ours float64) {
	r.plain, r.ours = append(r.plain, plain), append(r.ours, ours)
	switch r.aim.compared {
	case ratio:
		r.outcomes = append(r.outcomes, ours/plain)
	case excess:
		r.outcomes = append(r.outcomes, ours-plain)
	case alone:
		r.outcomes = append(r.outcomes, ours)
	}
}

// single is the row of a figure that was measured once, without a contest.
func single(f figure, measure float64) row {
	r := row{figure: f}
	r.add(0, measure)
	return r
}

func (r row) missed() bool { return r.skipped == "" && !r.aim.met(median(r.outcomes)) }

// last shows the newest round.
func (r row) last() string {
	n := len(r.ours) - 1
	if r.aim.compared == alone {
		return r.unit.of(r.ours[n])
	}
	return fmt.Sprintf("%s by hand, %s by rehome, %s", r.unit.of(r.plain[n]), r.unit.of(r.ours[n]), r.outcome(r.outcomes[n]))
}

// median of an odd number of measures, as rounds are.
func median(measures []float64) float64 {
	sorted := slices.Sorted(slices.Values(measures))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
