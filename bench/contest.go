package main

import (
	"context"
	"fmt"
	"slices"
)

// contest is one piece of work, done by hand and by rehome.
type contest struct {
	figures []figure
	// reset brings back the physical state from which either side starts.
	reset func(context.Context) error
	// plain does the work by hand.
	plain func(context.Context) (float64, error)
	// ours does it by rehome and returns a measure for each figure.
	ours func(context.Context) ([]float64, error)
}

// figure is what is compared: ours divided by plain.
type figure struct {
	what string
	unit unit
	aim  aim
}

// unit says how a measure is written.
type unit string

const (
	seconds   unit = "%.2f s"
	perSecond unit = "%.0f /s"
)

// aim bounds a ratio; the zero value does not.
type aim struct {
	sign  string
	limit float64
}

func atMost(limit float64) aim  { return aim{"≤", limit} }
func atLeast(limit float64) aim { return aim{"≥", limit} }

func (a aim) met(ratio float64) bool {
	switch a.sign {
	case "≤":
		return ratio <= a.limit
	case "≥":
		return ratio >= a.limit
	}
	return true
}

// row is a line of the table: the measures of all rounds, or why there are none.
type row struct {
	figure
	plain, ours, ratios []float64
	skipped             string
}

// run measures both sides in each round. They take turns at being first: the
// second finds a machine that the first has warmed.
func (c contest) run(ctx context.Context, r *rig) ([]row, error) {
	rows := make([]row, len(c.figures))
	for i, f := range c.figures {
		rows[i].figure = f
	}
	for round := range r.rounds {
		var plain float64
		var ours []float64
		sides := []func() error{
			func() (err error) { plain, err = c.plain(ctx); return err },
			func() (err error) { ours, err = c.ours(ctx); return err },
		}
		if round%2 == 1 {
			slices.Reverse(sides)
		}
		for _, side := range sides {
			if err := c.reset(ctx); err != nil {
				return nil, fmt.Errorf("bring back the state to start from: %w", err)
			}
			if err := side(); err != nil {
				return nil, err
			}
		}
		for i := range rows {
			rows[i].plain, rows[i].ours = append(rows[i].plain, plain), append(rows[i].ours, ours[i])
			rows[i].ratios = append(rows[i].ratios, ours[i]/plain)
			r.say("  round %d: %s: %s", round+1, rows[i].what, rows[i].last())
		}
	}
	return rows, nil
}

// median of an odd number of measures, as rounds are.
func median(measures []float64) float64 {
	return slices.Sorted(slices.Values(measures))[len(measures)/2]
}
