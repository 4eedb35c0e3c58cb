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
	// back undoes by hand what plain did, some time later; nil where none of ours do.
	back func(context.Context) (float64, error)
	ours []side
}

// side is one way in which rehome does the work.
type side struct {
	figures []figure
	// run does it and returns a measure for each figure.
	run func(context.Context) ([]float64, error)
	// back are figures after those, of undoing it, which is compared with that by hand.
	back []figure
}

// run measures all sides in each round, after a round that does not count: a
// server and a worker that do something for the first time are another thing
// than those that go on with it. The sides take turns at being first: the others
// find a machine that the first has warmed.
func (c contest) run(ctx context.Context, r *rig) ([]row, error) {
	var rows []row
	var ways []int // of the rows
	for _, s := range c.ours {
		for way, figures := range [...][]figure{there: s.figures, andBack: s.back} {
			for _, f := range figures {
				rows, ways = append(rows, row{figure: f}), append(ways, way)
			}
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
			rows[i].add(plain[ways[i]], ours[i])
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

// What is measured of a work: that it is done, and that it is undone.
const (
	there = iota
	andBack
)

// byHand is how long each way takes by hand.
func (c contest) byHand(ctx context.Context) (took [2]float64, err error) {
	if took[there], err = c.plain(ctx); err == nil && c.back != nil {
		took[andBack], err = c.back(ctx)
	}
	return took, err
}

// round measures every side once, each from the same state, and the work by hand
// beside each of them, of which it returns the medians: the pace of a machine
// changes within the minutes that a round takes.
func (c contest) round(ctx context.Context, reversed bool) (plain [2]float64, ours []float64, err error) {
	measures := make([][]float64, len(c.ours))
	var byHand [2][]float64
	var turns []func() error
	for i, s := range c.ours {
		if c.plain != nil {
			turns = append(turns, func() error {
				took, err := c.byHand(ctx)
				for way := range took {
					byHand[way] = append(byHand[way], took[way])
				}
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
			return plain, nil, fmt.Errorf("bring back the state to start from: %w", err)
		}
		if err := turn(); err != nil {
			return plain, nil, err
		}
	}
	if c.plain != nil {
		for way := range plain {
			plain[way] = median(byHand[way])
		}
	}
	return plain, slices.Concat(measures...), nil
}
