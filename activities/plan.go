package activities

import (
	"context"
	"slices"

	"rehome/resilience"
	"rehome/store"
)

// PlanMigrationInput describes a migration to plan.
type PlanMigrationInput struct {
	Origin
	Owner
	Memory    string                  `json:"memory"`
	Migration string                  `json:"migration"`
	Strategy  resilience.Strategy     `json:"strategy"`
	Renames   []resilience.RenameRule `json:"renames,omitempty"`
	Undoes    string                  `json:"undoes,omitempty"`

	Transfer resilience.TransferOrder `json:"transfer,omitzero"`

	Policy   resilience.Policy `json:"policy"`
	Rollback []string          `json:"rollback"` // the compensations, newest first
}

// PlanMigration records a plan, journals its moves and judges what they will
// cost. It has no effect on the memory. Running it again finds the plan it made.
// What would lock chunks for minutes is Refused.
func (a *Database) PlanMigration(ctx context.Context, in PlanMigrationInput) (resilience.Plan, error) {
	settings, err := a.Store.Settings(ctx)
	if err != nil {
		return resilience.Plan{}, classify("read the settings", err)
	}
	in.Policy.ApplyDefaults(settings, in.Undoes != "")
	if in.Policy.ByAnother && in.Policy.Author == "" && in.Undoes == "" {
		return resilience.Plan{}, refused("nobody says who orders migration %s, and the setting approve_by_another wants the yes of somebody else; say it in policy.author", in.Migration)
	}
	asked := store.NewPlan{
		ID: in.Migration, Memory: in.Memory, Strategy: in.Strategy, Renames: in.Renames, Undoes: in.Undoes, Transfer: in.Transfer,
		Policy: in.Policy, WorkflowID: in.WorkflowID, RunID: in.RunID, Rollback: in.Rollback,
	}
	err = beating(ctx, func(ctx context.Context) error { return a.Store.CreatePlan(ctx, asked) }) // it may have a million renames
	if err != nil {
		return resilience.Plan{}, classify("create the plan", err)
	}
	err = beating(ctx, func(ctx context.Context) error { return a.Store.Journal(ctx, in.Migration) })
	if err != nil {
		return resilience.Plan{}, classify("journal the plan", err)
	}
	plan, err := a.Store.Plan(ctx, in.Migration)
	if err != nil || plan.Status != resilience.Pending {
		return plan, classify("read the plan", err)
	}
	if err := beating(ctx, func(ctx context.Context) error { return a.assess(ctx, plan) }); err != nil {
		return resilience.Plan{}, classify("judge the plan", err)
	}
	plan, err = a.Store.Plan(ctx, in.Migration)
	return plan, classify("read the plan", err)
}

// assess records the physics, the way, the risk and the estimate of a plan.
func (a *Database) assess(ctx context.Context, plan resilience.Plan) error {
	found, err := a.judge(ctx, plan)
	if err != nil {
		return err
	}
	if err := a.Store.SaveAssessment(ctx, plan.ID, found); err != nil {
		return err
	}
	return refusal(found)
}

// judge looks at the table of a plan and at what runs alike took.
func (a *Database) judge(ctx context.Context, plan resilience.Plan) (resilience.Assessment, error) {
	facts, err := a.Store.Facts(ctx, plan)
	if err != nil {
		return resilience.Assessment{}, err
	}
	return a.weigh(ctx, plan, facts)
}

// judgeRest is judge for a plan whose ways were decided on, at the pace that is in force
// for good: its risk is that of what is left to do, its estimate that of the whole.
func (a *Database) judgeRest(ctx context.Context, plan resilience.Plan, groups []resilience.Group) (resilience.Assessment, error) {
	facts, err := a.Store.Facts(ctx, plan)
	if err != nil {
		return resilience.Assessment{}, err
	}
	plan.Policy, facts = plan.Lasting(), plan.GoingOn(facts)
	plan.Estimate = plan.Estimate.TakenBy(groups)
	facts.Effort = plan.Strategy.Effort(plan.Moves, plan.Policy)
	whole, err := a.weigh(ctx, plan, facts)
	if err != nil {
		return whole, err
	}
	rest := plan
	rest.Moves -= plan.Moved + plan.Stayed
	facts.Effort = plan.Strategy.Effort(rest.Moves, plan.Policy)
	found, err := a.weigh(ctx, rest, facts)
	if plan.Strategy != resilience.Intelligent || len(groups) == 0 { // what does not stay goes one way
		groups = append(slices.Clip(groups), resilience.Group{Way: facts.Way})
	}
	found.Estimate = whole.Estimate.TakenBy(groups)
	return found, err
}

func (a *Database) weigh(ctx context.Context, plan resilience.Plan, facts resilience.Facts) (resilience.Assessment, error) {
	plan.Physics, plan.Way = facts.Physics, facts.Way
	like := plan.Alike()
	past, err := a.Store.PastRuns(ctx, like)
	if err == nil && like.Careful { // what gave way to others says nothing of how slow the server is
		like.Careful = false
		var backToBack []resilience.PastRun
		backToBack, err = a.Store.PastRuns(ctx, like)
		facts.Effort.Slowness = plan.Slowness(backToBack)
	}
	if err != nil {
		return resilience.Assessment{}, err
	}
	return plan.Assess(facts, past), nil
}

func refusal(found resilience.Assessment) error {
	if found.Refusal == "" {
		return nil
	}
	return refused("%s", found.Refusal)
}
