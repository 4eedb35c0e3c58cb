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

func (a *Database) retire(ctx context.Context, in SliceInput, wish resilience.Wish, end func(resilience.Watermark) bool,
	step func(*store.Retirer, context.Context, resilience.Watermark, store.Bounds) (resilience.Watermark, error),
) (resilience.Watermark, error) {
	retirer, err := a.Store.Retirer(ctx, in.Migration)
	if err != nil {
		return resilience.Watermark{}, classify("prepare the last step", err)
	}
	at, err := a.Store.Retired(ctx, in.Migration)
	if err != nil {
		return at, classify("read how far the last step is", err)
	}
	measured := measuring(in.Servo, in.Calm)
	watch := a.minding(in, measured)
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
		bounds, err := measured.bounds(ctx, at, in.Bounds)
		if err != nil {
			return at, false, err
		}
		next, err := step(retirer, ctx, at, bounds)
		if err != nil {
			return at, false, err
		}
		rows := max(next.Last-at.Last, at.Last-next.Last)
		took := time.Since(began)
		activity.GetMetricsHandler(ctx).Timer(batchMetric).Record(took)
		measured.learn(resilience.Timing{Rows: rows, MS: float64(took) / float64(time.Millisecond)}, resilience.NoTrouble)
		at = next
		return at, false, a.pace(ctx, in, at, batch{rows, began, took}, watch.nice(in.Nice))
	})
	if err == nil {
		at.Check, err = watch.last(ctx, done)
	}
	at.Pulse = measured.felt()
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
