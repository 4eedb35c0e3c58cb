package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"rehome/resilience"
)

var estimatesNotes = []string{
	"**Estimates** are compared with what `starter migration show` tells when the plan has ended: the time from its start to its end, planning before it.",
}

// Runs of different sizes, in rows: the first teach, the others are foretold.
var (
	teaching = []int{20_000, 35_000, 25_000}
	foretold = []int{30_000, 15_000, 40_000, 22_000, 12_000, 35_000, 18_000, 50_000, 26_000, 44_000}
)

// Aims of estimates.
const (
	mostOff     = 0.25 // from the p50, in the median
	leastWithin = 9    // runs of ten that take no longer than the p90
)

// estimates lets directories of a table be renamed one after another, and
// compares what was expected of each with what it took.
func estimates(ctx context.Context, r *rig) ([]row, error) {
	table := "public.foretold"
	sizes := append(append([]int{}, teaching...), foretold...)
	for i := range sizes {
		sizes[i] = r.part(sizes[i])
	}
	if err := fillDirectories(ctx, r, table, sizes); err != nil {
		return nil, fmt.Errorf("fill the table: %w", err)
	}
	var off []float64
	inside := 0
	for i, rows := range sizes {
		plan, err := foretell(ctx, r, i, rows)
		if err != nil {
			return nil, err
		}
		took := float64(plan.took().Milliseconds())
		r.say("  %d rows: %.0f ms of %d, at most %d expected: %s", rows, took, plan.Estimate.P50MS, plan.Estimate.P90MS, plan.Estimate.Basis)
		if i < len(teaching) {
			continue
		}
		off = append(off, 100*math.Abs(took/float64(plan.Estimate.P50MS)-1))
		if took <= float64(plan.Estimate.P90MS) {
			inside++
		}
	}
	what := fmt.Sprintf("estimates of %d runs, batch at 1000, after %d: ", len(foretold), len(teaching))
	return []row{
		single(figure{what + "off the p50, in the median", percent, atMost(100 * mostOff).by(alone)}, median(off)),
		single(figure{what + "within the p90", number, atLeast(leastWithin).by(alone)}, float64(inside)),
	}, nil
}

// fillDirectories makes a table with a directory for each run.
func fillDirectories(ctx context.Context, r *rig, table string, sizes []int) error {
	err := r.exec(ctx, `CREATE TABLE `+table+` (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, path text NOT NULL, content text NOT NULL)`)
	if err != nil {
		return err
	}
	for i, rows := range sizes {
		err := r.exec(ctx, fmt.Sprintf(`INSERT INTO %s (path, content) SELECT format('run-%d/page-%%s.md', n / 20), repeat(md5(n::text), 12) FROM generate_series(1, %d) n`, table, i, rows))
		if err != nil {
			return err
		}
	}
	if err := r.exec(ctx, `CREATE INDEX ON `+table+` (path)`); err != nil {
		return err
	}
	return r.overTable(ctx, resilience.Mapping{Table: "foretold"}, "path")
}

// shown is what `starter migration show` says of a plan.
type shown struct {
	resilience.Plan
	Events []resilience.Event `json:"events"`
}

// took is how long the plan was at work.
func (s shown) took() time.Duration {
	var began, ended time.Time
	for _, e := range s.Events {
		switch e.What {
		case "started":
			began = e.At
		case "completed":
			ended = e.At
		}
	}
	return ended.Sub(began)
}

// foretell renames the directory of a run.
func foretell(ctx context.Context, r *rig, run, rows int) (shown, error) {
	var plan shown
	if err := r.exec(ctx, `VACUUM ANALYZE`, `CHECKPOINT`); err != nil {
		return plan, err
	}
	_, err := r.starter(ctx, &plan, "migrate", "--memory", "foretold", "--batch-size", "1000", "--rename", fmt.Sprintf("run-%[1]d=done-%[1]d", run), "--approve")
	if err != nil {
		return plan, err
	}
	if _, err := r.starter(ctx, &plan, "migration", "show", plan.ID); err != nil {
		return plan, err
	}
	if plan.Status != resilience.Completed || plan.Moved != int64(rows) {
		return plan, fmt.Errorf("migration %s is %s with %d of %d chunks moved: %s", plan.ID, plan.Status, plan.Moved, rows, plan.Reason)
	}
	return plan, nil
}
