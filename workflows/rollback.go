package workflows

import (
	"cmp"

	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
)

// Rollback undoes a migration. A completed one is undone by a new plan with its
// journal turned round; one whose run was terminated, or failed to undo itself,
// is brought back to its start; one that never began is cancelled.
func Rollback(ctx workflow.Context, in RollbackInput) (resilience.Plan, error) {
	m, err := newMigration(ctx, resilience.Batch, MigrateInput{
		Origin: in.Origin, Memory: in.Memory, Migration: in.Undo, Undoes: in.Migration,
		Tuning: in.Tuning,
	})
	if err != nil {
		return resilience.Plan{}, err
	}
	m.phase = looking // and it answers, however long Postgres is away
	m.progress.set(ctx, Progress{Phase: "Looking at migration " + in.Migration})
	var plan resilience.Plan
	named := activities.PlanInput{Origin: in.Origin, Migration: in.Migration, Author: in.Author, Reason: "rolled back by " + cmp.Or(in.Author, resilience.Somebody)}
	err = workflow.ExecuteActivity(brief(ctx, "Look at migration "+in.Migration), database.TakeOverMigration, named).Get(ctx, &plan)
	if err != nil {
		return resilience.Plan{}, err
	}
	switch plan.Status {
	case resilience.Completed:
		m.phase = planning
		m.by(plan.Strategy)
		m.in.Policy = plan.Policy.ToUndo(plan.Strategy)
		m.in.Policy.Author = in.Author
		if in.BatchSize > 0 {
			m.in.Policy.BatchSize, m.in.Policy.Sized = in.BatchSize, true
		}
		m.carrying = carryingOf(plan).turned()
		if plan.Transfer != nil {
			m.in.Soak = plan.Transfer.Soak // the undo of an undo copies again, and soaks
		}
		return m.run(ctx)
	case resilience.Pending, resilience.AwaitingApproval, resilience.Queued:
		if err := workflow.ExecuteActivity(brief(ctx, "Cancel the plan"), database.CancelMigration, named).Get(ctx, nil); err != nil {
			return resilience.Plan{}, err
		}
		err := workflow.ExecuteActivity(brief(ctx, "Read the plan"), database.ReadMigration, named).Get(ctx, &plan)
		return plan, err
	case resilience.Executing, resilience.Paused, resilience.RollingBack, resilience.Failed:
		m.in.Migration, m.in.Undoes = in.Migration, ""
		return m.finishUndo(ctx, plan, named)
	default:
		return plan, rejected("migration %s is %s; there is nothing to undo", plan.ID, plan.Status)
	}
}

// finishUndo brings a plan back to its start whose own run did not.
func (m *migration) finishUndo(ctx workflow.Context, plan resilience.Plan, named activities.PlanInput) (resilience.Plan, error) {
	m.progress.title = m.title()
	m.phase, m.way = undoing, plan.Way
	m.carrying = carryingOf(plan)
	m.oweEverything()
	detached, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if err := m.compensate(detached, Order{Author: named.Author, Reason: named.Reason}); err != nil {
		return resilience.Plan{}, err
	}
	return m.result(detached)
}
