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

// PlanMigration records a plan and journals its moves. It has no effect on the
// memory. Running it again finds the plan it made.
func (a *Database) PlanMigration(ctx context.Context, in PlanMigrationInput) (resilience.Plan, error) {
	settings, err := a.Store.Settings(ctx)
	if err != nil {
		return resilience.Plan{}, classify("read the settings", err)
	}
	in.Policy.ApplyDefaults(settings)
	err = a.Store.CreatePlan(ctx, store.NewPlan{
		ID: in.Migration, Memory: in.Memory, Strategy: in.Strategy, Renames: in.Renames, Undoes: in.Undoes, Transfer: in.Transfer,
		Policy: in.Policy, WorkflowID: in.WorkflowID, RunID: in.RunID, Rollback: in.Rollback,
	})
	if err != nil {
		return resilience.Plan{}, classify("create the plan", err)
	}
	err = beating(ctx, func(ctx context.Context) error { return a.Store.Journal(ctx, in.Migration) })
	if err != nil {
		return resilience.Plan{}, classify("journal the plan", err)
	}
	plan, err := a.Store.Plan(ctx, in.Migration)
	return plan, classify("read the plan", err)
}
