package activities

import (
	"context"
	"slices"

	"rehome/resilience"
	"rehome/store"
)

// Analysis is what a look at a plan's journal led to: the plan as it stands now,
// and its groups, of which the first have all that people are shown.
type Analysis struct {
	Plan   resilience.Plan    `json:"plan"`
	Groups []resilience.Group `json:"groups"`
}

// GroupsTold is how many groups a run is told the inputs and the alternatives of,
// so that it can show them. Of the others it knows how they move; all are in
// Postgres.
const GroupsTold = 20

// AnalyseInput names a plan, and what undoes one that rebuilds its indexes.
type AnalyseInput struct {
	PlanInput
	Rebuilding []string `json:"rebuilding"` // the compensations, newest first
}

// AnalyseMigration splits a plan into groups, decides how each of them moves,
// and orders the journal by them. It has no effect on the memory. A plan that
// has its groups keeps them.
func (a *Database) AnalyseMigration(ctx context.Context, in AnalyseInput) (Analysis, error) {
	plan, err := a.Store.Plan(ctx, in.Migration)
	if err != nil {
		return Analysis{}, classify("read the plan", err)
	}
	costs, err := a.costs(ctx, plan)
	if err != nil {
		return Analysis{}, classify("read what runs cost so far", err)
	}
	decide := func(found store.Journalled) []resilience.Group {
		return resilience.Decide(resilience.Gather(found.Directories), resilience.Circumstances{
			Physics: plan.Physics, Costs: costs, Policy: plan.Policy, Settled: found.Settled, Undoing: found.Undoing, Late: found.Late,
			Transfer: plan.Kind != resilience.Rename,
		})
	}
	var result Analysis
	err = beating(ctx, func(ctx context.Context) (err error) {
		result.Groups, err = a.Store.Group(ctx, in.Migration, in.Rebuilding, decide)
		return err
	})
	if err != nil {
		return Analysis{}, classify("group the journal", err)
	}
	for i := range result.Groups {
		g := &result.Groups[i]
		g.Course = nil
		if i >= GroupsTold {
			g.Inputs, g.Alternatives = resilience.Inputs{}, nil
		}
	}
	if result.Plan, err = a.Store.Plan(ctx, in.Migration); err != nil {
		return Analysis{}, classify("read the plan", err)
	}
	if err := beating(ctx, func(ctx context.Context) error { return a.reassess(ctx, result.Plan, result.Groups) }); err != nil {
		return Analysis{}, classify("judge the plan by what was decided", err)
	}
	result.Plan, err = a.Store.Plan(ctx, in.Migration)
	return result, classify("read the plan", err)
}

// costs are those of a row of the plan's memory, as runs that moved back to back
// by updates taught; an update is the same work when it undoes another.
func (a *Database) costs(ctx context.Context, plan resilience.Plan) (resilience.Costs, error) {
	past, err := a.Store.PastRuns(ctx, resilience.Alike{Memory: plan.Memory, Kind: string(plan.Kind), Way: resilience.Update, Class: plan.Physics.Class()})
	if err != nil {
		return resilience.Costs{}, err
	}
	learned, basis := resilience.LearnedRow(past, plan.Memory)
	return resilience.NewCosts(plan.Physics, learned, basis), nil
}

// reassess judges the plan by the ways that were decided on, unless that was done.
func (a *Database) reassess(ctx context.Context, plan resilience.Plan, groups []resilience.Group) error {
	decided := plan.Estimate.TakenBy(groups)
	if decided.Careful == plan.Estimate.Careful && slices.Equal(decided.Ways, plan.Estimate.Ways) {
		return nil
	}
	found, err := a.judgeRest(ctx, plan, groups)
	if err != nil {
		return err
	}
	return a.Store.Reassess(ctx, plan, found)
}
