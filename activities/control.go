package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"

	"rehome/resilience"
	"rehome/store"
)

// PlanInput names a plan, who wants something of it, and why.
type PlanInput struct {
	Origin
	Migration string `json:"migration"`
	Author    string `json:"author,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// CancelMigration ends a plan that has had no effect.
func (a *Database) CancelMigration(ctx context.Context, in PlanInput) error {
	return classify("cancel", a.Store.CancelPlan(ctx, in.Migration, in.Author, in.Reason))
}

// PauseMigration makes a plan stop before its next batch.
func (a *Database) PauseMigration(ctx context.Context, in PlanInput) error {
	return classify("pause", a.Store.Pause(ctx, in.Migration, in.Author, in.Reason))
}

// ThrottleInput asks for another pace.
type ThrottleInput struct {
	Origin
	Migration string          `json:"migration"`
	Pace      resilience.Pace `json:"pace"`
}

// ThrottleMigration changes a plan's pace from its next batch on.
func (a *Database) ThrottleMigration(ctx context.Context, in ThrottleInput) error {
	return classify("throttle", a.Store.Throttle(ctx, in.Migration, in.Pace))
}

// BeginUndo turns a plan round and fences whoever still moves chunks forward.
func (a *Database) BeginUndo(ctx context.Context, in PlanInput) (resilience.Watermark, error) {
	w, err := a.Store.BeginUndo(ctx, in.Migration, in.Reason, in.Author)
	return w, classify("begin the undo", err)
}

// EndUndo closes a plan whose chunks are all back.
func (a *Database) EndUndo(ctx context.Context, in PlanInput) error {
	return classify("end the undo", beating(ctx, func(ctx context.Context) error { return a.Store.EndUndo(ctx, in.Migration) }))
}

// FailUndo records that a rollback could not finish, and why.
func (a *Database) FailUndo(ctx context.Context, in PlanInput) error {
	return classify("record the failed rollback", a.Store.FailUndo(ctx, in.Migration, in.Reason))
}

// ReadWatermark returns how far a plan has come.
func (a *Database) ReadWatermark(ctx context.Context, in PlanInput) (resilience.Watermark, error) {
	at, err := a.Store.Watermark(ctx, in.Migration)
	return at, classify("read the watermark", err)
}

// ChangeInput asks for another strategy.
type ChangeInput struct {
	PlanInput
	Strategy resilience.Strategy `json:"strategy"`
	Approve  bool                `json:"approve,omitempty"` // its author says yes to what the plan is by it
}

// ChangeStrategy lets a queued or paused plan go on by another strategy, and
// returns its hash, of which the strategy is part. The plan is judged anew: what
// would lock chunks for minutes is Refused, and so are a strategy that does not keep
// what was asked of the plan, and a risk that nobody has approved.
func (a *Database) ChangeStrategy(ctx context.Context, in ChangeInput) (string, error) {
	plan, err := a.Store.Plan(ctx, in.Migration)
	if err != nil {
		return "", classify("read the plan", err)
	}
	if plan.Strategy == in.Strategy { // an answer that was lost is given again
		return plan.Hash, nil
	}
	found, err := a.judgeChange(ctx, plan, in)
	if err != nil {
		return "", classify("judge the plan under "+string(in.Strategy), err)
	}
	hash, err := a.Store.ChangeStrategy(ctx, in.Migration, store.StrategyChange{
		Strategy: in.Strategy, Way: found.Way, Risk: found.Risk, Estimate: found.Estimate, Author: in.Author, Approve: in.Approve && !plan.Policy.ByAnother,
	})
	return hash, classify("change the strategy", err)
}

// judgeChange says what a plan is by another strategy, or why it may not go on by it.
func (a *Database) judgeChange(ctx context.Context, plan resilience.Plan, in ChangeInput) (resilience.Assessment, error) {
	if err := plan.CheckStrategy(in.Strategy); err != nil {
		return resilience.Assessment{}, refused("%s", err)
	}
	groups, err := a.Store.Groups(ctx, plan.ID)
	if err != nil {
		return resilience.Assessment{}, err
	}
	next := plan
	next.Strategy = in.Strategy
	switch {
	case in.Strategy != resilience.Intelligent: // of its groups only those are left that stay
		groups = slices.DeleteFunc(groups, func(g resilience.Group) bool { return g.Way != resilience.AliasOnly })
	case len(groups) > 0: // it was before
		next.Way = resilience.PlanWay(groups)
	}
	found, err := a.judgeRest(ctx, next, groups)
	if err != nil {
		return found, err
	}
	if err := refusal(found); err != nil {
		return found, err
	}
	why := plan.Unapproved(found.Risk)
	if why == "" || in.Approve && !plan.Policy.ByAnother {
		return found, nil
	}
	way := fmt.Sprintf("say yes to that with the order, `starter migration strategy %s %s --approve`", plan.ID, in.Strategy)
	if plan.Policy.ByAnother {
		way = fmt.Sprintf("the setting approve_by_another wants the yes of somebody else than who orders that, so plan it anew by %s", in.Strategy)
	}
	return found, refused("by %s the risk of migration %s is %s (%d of 100: %s), and %s; %s, or leave the strategy as it is",
		in.Strategy, plan.ID, found.Risk.Level, found.Risk.Score, strings.Join(found.Risk.Reasons, ", "), why, way)
}

// SweepMigration journals chunks that appeared at the old paths since the plan
// was made, and returns how many.
func (a *Database) SweepMigration(ctx context.Context, in PlanInput) (int64, error) {
	var found int64
	err := beating(ctx, func(ctx context.Context) (err error) {
		found, err = a.Store.Sweep(ctx, in.Migration)
		return err
	})
	return found, classify("sweep", err)
}

// SwitchAliases lets the old paths resolve to the new ones.
func (a *Database) SwitchAliases(ctx context.Context, in PlanInput) error {
	return classify("switch the aliases", beating(ctx, func(ctx context.Context) error { return a.Store.Switch(ctx, in.Migration) }))
}

// UndoSwitchAliases takes back what SwitchAliases did.
func (a *Database) UndoSwitchAliases(ctx context.Context, in PlanInput) error {
	return classify("switch the aliases back", beating(ctx, func(ctx context.Context) error { return a.Store.UndoSwitch(ctx, in.Migration) }))
}

// CompleteMigration closes a plan whose rows are all accounted for.
func (a *Database) CompleteMigration(ctx context.Context, in PlanInput) error {
	return classify("complete", beating(ctx, func(ctx context.Context) error { return a.Store.Complete(ctx, in.Migration) }))
}

// ReadMigration returns a plan as it stands.
func (a *Database) ReadMigration(ctx context.Context, in PlanInput) (resilience.Plan, error) {
	plan, err := a.Store.Plan(ctx, in.Migration)
	return plan, classify("read the plan", err)
}

// TakeOverMigration returns a plan whose own run is closed, so that another
// may undo it. While the run is open it is a Conflict: abort that run instead.
func (a *Database) TakeOverMigration(ctx context.Context, in PlanInput) (resilience.Plan, error) {
	plan, err := a.Store.Plan(ctx, in.Migration)
	if err != nil {
		return plan, classify("read the plan", err)
	}
	open, err := isOpen(ctx, a.Temporal, plan.WorkflowID, plan.RunID)
	if err != nil {
		return plan, classify("ask Temporal about "+plan.WorkflowID, err)
	}
	if open {
		return plan, temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("migration %s is still being carried out by %s; abort it instead: `starter migration abort %s`", plan.ID, plan.WorkflowID, plan.ID), Conflict, nil)
	}
	return plan, nil
}
