package workflows

import (
	"cmp"
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
)

// giveUp ends a plan that never had an effect, and reports whether it did. A
// plan that has begun, although that step seemed to fail, is to be undone.
func (m *migration) giveUp(ctx workflow.Context, cause error) bool {
	detached, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	in := m.named(m.order(cause))
	err := workflow.ExecuteActivity(brief(detached, "Cancel the plan: nothing was changed"), database.CancelMigration, in).Get(detached, nil)
	// A cause that is a conflict itself says that the plan is somebody else's, or was refused.
	return kind(err) != activities.Conflict || kind(cause) == activities.Conflict
}

// abortion is the error of a run that a person told to stop.
func (m *migration) abortion() error {
	by := cmp.Or(m.aborted.Author, resilience.Somebody)
	text := fmt.Sprintf("aborted by %s", by)
	if m.aborted.Reason != "" {
		text += ": " + m.aborted.Reason
	}
	return temporal.NewNonRetryableApplicationError(text, Aborted, nil)
}

// abortAnswered is the change by which an undo that a person ordered begins when they have
// their answer: it might have ended before.
const abortAnswered = "abort-answered"

// answered reports whether a person aborted the plan, and waits until they have their
// answer. It is false for runs from before the change.
func (m *migration) answered(ctx workflow.Context, change string) bool {
	if m.aborted == nil || workflow.GetVersion(ctx, change, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return false
	}
	_ = workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	return true
}

// order is who wants the plan undone, if somebody does, and why.
func (m *migration) order(cause error) Order {
	var o Order
	if cause != nil {
		o.Reason = message(cause)
	}
	if m.aborted != nil {
		o.Author = m.aborted.Author
	}
	return o
}

// undo puts everything back and returns the cause, or, when it cannot, an
// error of type RollbackFailed.
func (m *migration) undo(ctx workflow.Context, cause error) (resilience.Plan, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	m.phase, m.shown.Hold, m.cause = undoing, nil, cause // what goes back is not paused
	m.answered(ctx, abortAnswered)
	err := m.owePast(ctx)
	if err == nil {
		err = m.compensate(ctx, m.order(cause))
	}
	switch {
	case workflow.IsContinueAsNewError(err):
		return resilience.Plan{}, err
	case err == nil:
		err = cause
	}
	plan, readErr := m.result(ctx)
	if readErr != nil {
		return plan, readErr
	}
	return plan, err
}

// resetOwes is the change by which a run that was reset undoes what the run before it did.
const resetOwes = "reset-owes"

// owePast owes everything in a run that was reset: the run before it may have come further
// than this one knows. Such a run is told by its id, so a replay of its history elsewhere
// has to be given that.
func (m *migration) owePast(ctx workflow.Context) error {
	info := workflow.GetInfo(ctx)
	if m.turned || info.OriginalRunID == "" || info.OriginalRunID == info.WorkflowExecution.RunID ||
		workflow.GetVersion(ctx, resetOwes, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	var plan resilience.Plan
	if err := workflow.ExecuteActivity(brief(ctx, "Read the plan: the run was reset"), database.ReadMigration, m.named(Order{})).Get(ctx, &plan); err != nil {
		return err
	}
	m.way = plan.Way
	if m.carrying == nil {
		m.carrying = carryingOf(plan)
	}
	m.oweEverything()
	return nil
}

// oweEverything owes the whole rollback plan, where nobody knows how far it was carried
// out. What did not happen is not undone.
func (m *migration) oweEverything() {
	m.saga.Owed = m.owing(rollbackPlan(m.way))
	slices.Reverse(m.saga.Owed)
}

// compensate fences the moves and runs what the saga owes.
func (m *migration) compensate(ctx workflow.Context, order Order) error {
	if err := m.begin(ctx, "undo"); err != nil {
		return err
	}
	err := m.turnRound(ctx, order)
	if err == nil {
		table := m.compensations()
		err = m.saga.compensate(ctx, func(ctx workflow.Context, name string) error { return m.insist(ctx, name, table[name]) })
	}
	if err == nil || workflow.IsContinueAsNewError(err) {
		return err
	}
	in := m.named(Order{Reason: message(err)})
	if recordErr := workflow.ExecuteActivity(brief(ctx, "Record that the rollback could not finish"), database.FailUndo, in).Get(ctx, nil); recordErr != nil {
		workflow.GetLogger(ctx).Error("failed rollback not recorded", "migration", m.in.Migration, "error", recordErr)
	}
	return err
}

// turnRound fences the moves, once: a run that goes on with an undo keeps to the epoch of
// the run before, so that it is fenced itself if somebody else went on meanwhile.
func (m *migration) turnRound(ctx workflow.Context, order Order) error {
	if m.turned {
		return nil
	}
	var at resilience.Watermark
	if err := workflow.ExecuteActivity(brief(ctx, "Turn the plan round: "+order.Reason), database.BeginUndo, m.named(order)).Get(ctx, &at); err != nil {
		return err
	}
	m.epoch, m.turned = at.Epoch, true
	return nil
}

// compensations is the table in which a saga's names are found.
func (m *migration) compensations() map[string]func(workflow.Context) error {
	return map[string]func(workflow.Context) error{
		restoreAliases: m.restoreAliases,
		switchBack:     m.switchBack,
		unretire:       m.unretire,
		moveBack:       m.moveBack,
		buildIndexes:   m.buildIndexes,
		closePlan:      m.closePlan,
	}
}

func (m *migration) restoreAliases(ctx workflow.Context) error {
	return workflow.ExecuteActivity(m.undoing(m.in.Tuning.lengthy(ctx, "Restore the aliases")), database.UndoSwitchAliases, m.named(Order{})).Get(ctx, nil)
}

func (m *migration) moveBack(ctx workflow.Context) error {
	m.began, m.beganAt = workflow.Now(ctx), -1
	for {
		at, err := m.slice(ctx, "Move chunks back to their old paths", database.RevertSlice, leg{bounds: store.Bounds{Leave: m.leave}})
		if err != nil {
			return err
		}
		if err := m.goesOn(ctx); err != nil || at.Last == 0 {
			return err
		}
		if err := m.afresh(ctx); err != nil {
			return err
		}
	}
}

func (m *migration) closePlan(ctx workflow.Context) error {
	if err := m.verifyUndo(ctx); err != nil {
		return err
	}
	return workflow.ExecuteActivity(m.undoing(m.in.Tuning.lengthy(ctx, "Close the plan as rolled back")), database.EndUndo, m.named(Order{})).Get(ctx, nil)
}
