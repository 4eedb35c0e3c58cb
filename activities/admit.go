package activities

import (
	"context"

	"rehome/resilience"
	"rehome/store"
)

// RequestApproval lets a plan wait for a person's yes.
func (a *Database) RequestApproval(ctx context.Context, in PlanInput) error {
	return classify("request the approval", a.Store.RequestApproval(ctx, in.Migration, in.Reason))
}

// ApproveInput says yes to a plan as it was when its hash was this.
type ApproveInput struct {
	PlanInput
	Hash string `json:"plan_hash"`
}

// ApproveMigration records a person's yes. Another hash than the plan's is a Conflict.
func (a *Database) ApproveMigration(ctx context.Context, in ApproveInput) error {
	return classify("approve", a.Store.Approve(ctx, in.Migration, in.Hash, in.Author))
}

// QueueInput puts a plan into the queue.
type QueueInput struct {
	PlanInput
	Approve bool `json:"approve,omitempty"` // its author said yes to it with the order
}

// QueueMigration lets a plan wait for a slot; from here on it owns its chunks.
func (a *Database) QueueMigration(ctx context.Context, in QueueInput) error {
	if in.Approve {
		if err := a.Store.ApproveAhead(ctx, in.Migration, in.Author); err != nil {
			return classify("approve", err)
		}
	}
	return classify("queue", a.Store.Queue(ctx, in.Migration))
}

// Turn says whether it is a plan's turn to work, or for whom it waits.
type Turn struct {
	Granted bool            `json:"granted"`
	Wait    resilience.Wait `json:"wait,omitzero"`
}

// TakeSlot gives a plan one of the slots for working plans, if there is one.
// Runs that are closed neither hold a slot nor stand in the queue.
func (a *Database) TakeSlot(ctx context.Context, in PlanInput) (Turn, error) {
	turn, err := a.amongOpen(ctx, func(gone []string) (bool, []store.Slot, error) {
		return a.Store.TakeSlot(ctx, in.Migration, gone)
	})
	return turn, classify("take a slot", err)
}

// ResumeMigration lets a paused plan go on, if there is a slot for it; without
// one it stays paused, in the queue.
func (a *Database) ResumeMigration(ctx context.Context, in PlanInput) (Turn, error) {
	turn, err := a.amongOpen(ctx, func(gone []string) (bool, []store.Slot, error) {
		return a.Store.Resume(ctx, in.Migration, in.Author, in.Reason, gone)
	})
	return turn, classify("resume", err)
}

// amongOpen tries to get a slot, and again without those whose runs turn out
// to be closed.
func (a *Database) amongOpen(ctx context.Context, try func(gone []string) (bool, []store.Slot, error)) (Turn, error) {
	var gone []string
	for {
		granted, before, err := try(gone)
		if granted || err != nil {
			return Turn{Granted: granted}, err
		}
		closed, err := a.closed(ctx, before)
		if err != nil || len(closed) == 0 {
			return Turn{Wait: store.Waiting(before)}, err
		}
		gone = append(gone, closed...)
	}
}

// closed lists those whose runs are closed. It asks until as many are open as
// there are slots: however long the queue is, the rest makes no difference.
func (a *Database) closed(ctx context.Context, before []store.Slot) (gone []string, err error) {
	settings, err := a.Store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	left := settings.MaxConcurrentMigrations
	for _, b := range before {
		open, err := isOpen(ctx, a.Temporal, b.WorkflowID, b.RunID)
		if err != nil {
			return nil, err
		}
		if !open {
			gone = append(gone, b.Plan)
		} else if left--; left <= 0 {
			break
		}
	}
	return gone, nil
}

// Beginning is the answer to BeginMigration: the plan works, or it has to be
// approved again, and why.
type Beginning struct {
	Begun bool   `json:"begun"`
	Why   string `json:"why,omitempty"`
}

// BeginInput starts a plan.
type BeginInput struct {
	PlanInput
	Recheck bool `json:"recheck,omitempty"` // it has waited since it was planned
}

// BeginMigration lets a planned migration run, unless its journal is not what was
// hashed; or it has waited, for others or while nobody worked, and the table is no
// longer what was planned, or its approval is too old.
func (a *Database) BeginMigration(ctx context.Context, in BeginInput) (Beginning, error) {
	stale, err := a.Store.Stale(ctx, in.Migration)
	if err != nil {
		return Beginning{}, classify("see how old the plan is", err)
	}
	var why string
	err = beating(ctx, func(ctx context.Context) (err error) {
		if !in.Recheck && !stale {
			return a.Store.CheckHash(ctx, in.Migration)
		}
		why, err = a.Store.Recheck(ctx, in.Migration)
		return err
	})
	if err != nil || why != "" {
		return Beginning{Why: why}, classify("look at the plan again", err)
	}
	return Beginning{Begun: true}, classify("begin", a.Store.Begin(ctx, in.Migration))
}
