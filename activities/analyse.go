package activities

import (
	"context"

	"rehome/resilience"
	"rehome/store"
)

// Analysis is what a look at a plan's journal led to: the plan as it stands now,
// and its groups without what the decisions rest on.
type Analysis struct {
	Plan   resilience.Plan    `json:"plan"`
	Groups []resilience.Group `json:"groups"`
}

// AnalyseMigration splits a plan into groups, decides how each of them moves,
// and orders the journal by them. It has no effect on the memory. A plan that
// has its groups keeps them.
func (a *Database) AnalyseMigration(ctx context.Context, in PlanInput) (Analysis, error) {
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
			Physics: plan.Physics, Costs: costs, Policy: plan.Policy, Undoing: found.Undoing, Late: found.Late,
		})
	}
	var result Analysis
	err = beating(ctx, func(ctx context.Context) (err error) {
		result.Groups, err = a.Store.Group(ctx, in.Migration, decide)
		return err
	})
	if err != nil {
		return Analysis{}, classify("group the journal", err)
	}
	for i := range result.Groups {
		g := &result.Groups[i]
		g.Inputs, g.Alternatives, g.Course = resilience.Inputs{}, nil, nil
	}
	result.Plan, err = a.Store.Plan(ctx, in.Migration)
	return result, classify("read the plan", err)
}

// costs are those of a row of the plan's memory.
func (a *Database) costs(_ context.Context, plan resilience.Plan) (resilience.Costs, error) {
	return resilience.NewCosts(plan.Physics, 0, ""), nil
}
