package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"rehome/resilience"
	"rehome/store"
)

// RetireSlice does a slice of the last step of a transfer: source rows go to
// quarantine, those that changed since they were copied are copied again first.
// For a plan that goes back they come home.
func (a *Database) RetireSlice(ctx context.Context, in SliceInput) (resilience.Watermark, error) {
	return a.retire(ctx, in, resilience.WishRun, func(w resilience.Watermark) bool { return w.Last == w.Total }, (*store.Retirer).Apply)
}

// UnretireSlice takes back what RetireSlice did, last done first.
func (a *Database) UnretireSlice(ctx context.Context, in SliceInput) (resilience.Watermark, error) {
	return a.retire(ctx, in, resilience.WishUndo, func(w resilience.Watermark) bool { return w.Last == 0 }, (*store.Retirer).Revert)
}

func (a *Database) retire(ctx context.Context, in SliceInput, wish resilience.Wish, end func(resilience.Watermark) bool, step stepFunc[*store.Retirer]) (at resilience.Watermark, err error) {
	retirer, err := a.Store.Retirer(ctx, in.Migration)
	if err != nil {
		return resilience.Watermark{}, classify("prepare the last step", err)
	}
	if at, err = a.Store.Retired(ctx, in.Migration); err != nil {
		return at, classify("read how far the last step is", err)
	}
	var c *careful
	if in.Servo != nil {
		var unwatch func()
		c, unwatch = a.carefully(ctx, in, &servoed{*in.Servo})
		step = stepping(c, step)
		defer func() { unwatch(); at.Pulse = c.felt() }()
	}
	watch := a.minding(in, c)
	at, done, err := inSlice(ctx, in.Slice, func(ctx context.Context) (resilience.Watermark, bool, error) {
		if end(at) || at.Wish != wish {
			return at, true, nil
		}
		if at.Epoch != in.Epoch {
			return at, true, temporal.NewNonRetryableApplicationError("the plan was turned round by another run, which goes on with it", Fenced, nil)
		}
		if unwell, err := watch.due(ctx); unwell || err != nil {
			return at, unwell, err
		}
		began := time.Now()
		var next resilience.Watermark
		err := beating(ctx, func(ctx context.Context) (err error) { // it may wait for a lock
			next, err = step(retirer, ctx, at, in.Bounds)
			return err
		})
		if err != nil {
			return at, false, err
		}
		rows := max(next.Last-at.Last, at.Last-next.Last)
		activity.GetMetricsHandler(ctx).Timer(batchMetric).Record(retirer.Took())
		at = next
		return at, false, a.pace(ctx, in, at, batch{rows, began, retirer.Took()}, watch.nice(in.Nice))
	})
	if err == nil {
		at.Check, err = watch.last(ctx, done)
	}
	return at, classify("take the chunks out of their memory", err)
}

// ReadRetired returns how far the last step of a transfer is.
func (a *Database) ReadRetired(ctx context.Context, in PlanInput) (resilience.Watermark, error) {
	at, err := a.Store.Retired(ctx, in.Migration)
	return at, classify("read how far the last step is", err)
}

// SwitchReferences lets who refers to the source chunks refer to the copies.
func (a *Database) SwitchReferences(ctx context.Context, in PlanInput) error {
	return classify("switch the references", beating(ctx, func(ctx context.Context) error { return a.Store.SwitchReferences(ctx, in.Migration) }))
}

// UndoSwitchReferences takes back what SwitchReferences did.
func (a *Database) UndoSwitchReferences(ctx context.Context, in PlanInput) error {
	return classify("switch the references back", beating(ctx, func(ctx context.Context) error { return a.Store.UndoSwitchReferences(ctx, in.Migration) }))
}
