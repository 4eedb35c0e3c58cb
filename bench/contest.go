package main

import (
	"context"
	"fmt"
	"slices"
)

// contest is one piece of work, done by hand and, in one or more ways, by rehome.
type contest struct {
	// kind of work: what was done on this rig has warmed it for more of that.
	kind string
	// reset brings back the physical state from which every side starts.
	reset func(context.Context) error
	// plain does the work by hand, once in each round beside each of ours; nil where
	// ours are compared with each other alone.
	plain func(context.Context) (float64, error)
	ours  []side
}

// side is one way in which rehome does the work.
type side struct {
	figures []figure
	// run does it and returns a measure for each figure.
	run func(context.Context) ([]float64, error)
}

// run measures all sides in each round, after a round that does not count: a
// server and a worker that do something for the first time are another thing
// than those that go on with it. The sides take turns at being first: the others
// find a machine that the first has warmed.
func (c contest) run(ctx context.Context, r *rig) ([]row, error) {
	var rows []row
	for _, s := range c.ours {
		for _, f := range s.figures {
			rows = append(rows, row{figure: f})
		}
	}
	warmUps := r.warmUps
	if r.warm[c.kind] {
		warmUps = 0
	}
	for round := -warmUps; round < r.rounds; round++ {
		plain, ours, err := c.round(ctx, round%2 != 0)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			rows[i].add(plain, ours[i])
			r.say("  round %d: %s: %s", round+1, rows[i].what, rows[i].last())
		}
		if round < 0 {
			for i := range rows {
				rows[i] = row{figure: rows[i].figure}
			}
		}
	}
	if c.kind != "" {
		r.warm[c.kind] = true
	}
	return rows, nil
}

// round measures every side once, each from the same state, and the work by hand
// beside each of them, of which it returns the median: the pace of a machine
// changes within the minutes that a round takes.
func (c contest) round(ctx context.Context, reversed bool) (plain float64, ours []float64, err error) {
	measures := make([][]float64, len(c.ours))
	var byHand []float64
	var turns []func() error
	for i, s := range c.ours {
		if c.plain != nil {
			turns = append(turns, func() error {
				took, err := c.plain(ctx)
				byHand = append(byHand, took)
				return err
			})
		}
		turns = append(turns, func() (err error) { measures[i], err = s.run(ctx); return err })
	}
	if reversed {
		slices.Reverse(turns)
	}
	for _, turn := range turns {
		if err := c.reset(ctx); err != nil {
			return 0, nil, fmt.Errorf("bring back the state to start from: %w", err)
		}
		if err := turn(); err != nil {
			return 0, nil, err
		}
	}
	if c.plain != nil {
		plain = median(byHand)
	}
	return plain, slices.Concat(measures...), nil
}
