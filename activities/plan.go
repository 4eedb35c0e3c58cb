package activities

import (
	"context"

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
	in.Policy.ApplyDefaults(settings)
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

// judgeAgain is judge for a plan whose way was decided on.
func (a *Database) judgeAgain(ctx context.Context, plan resilience.Plan) (resilience.Assessment, error) {
	facts, err := a.Store.Facts(ctx, plan)
	if err != nil {
		return resilience.Assessment{}, err
	}
	return a.weigh(ctx, plan, plan.GoingOn(facts))
}

func (a *Database) weigh(ctx context.Context, plan resilience.Plan, facts resilience.Facts) (resilience.Assessment, error) {
	plan.Physics, plan.Way = facts.Physics, facts.Way
	past, err := a.Store.PastRuns(ctx, plan.Alike())
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
