package activities

import (
	"context"

	"go.temporal.io/sdk/activity"

	"rehome/resilience"
)

// RetireSlice does a slice of the last step of a transfer: source rows go to
// quarantine, those that changed since they were copied are copied again first.
// For a plan that goes back they come home.
func (a *Database) RetireSlice(ctx context.Context, in SliceInput) (resilience.Watermark, error) {
	return a.retire(ctx, in, resilience.WishRun)
}

// UnretireSlice takes back what RetireSlice did, last done first.
func (a *Database) UnretireSlice(ctx context.Context, in SliceInput) (resilience.Watermark, error) {
	return a.retire(ctx, in, resilience.WishUndo)
}

func (a *Database) retire(ctx context.Context, in SliceInput, wish resilience.Wish) (resilience.Watermark, error) {
	retirer, err := a.Store.Retirer(ctx, in.Migration)
	if err != nil {
		return resilience.Watermark{}, classify("prepare the last step", err)
	}
	at, err := a.Store.Retired(ctx, in.Migration)
	if err != nil {
		return at, classify("read how far the last step is", err)
	}
	metrics := activity.GetMetricsHandler(ctx)
	order := sliceOrder{
		wish: wish, end: func(w resilience.Watermark) bool { return w.Last == w.Total }, step: retirer.Apply,
		took: retirer.Took, done: func(int64) { metrics.Timer(batchMetric).Record(latency(retirer.Took())) },
	}
	if wish == resilience.WishUndo {
		order.end, order.step = func(w resilience.Watermark) bool { return w.Last == 0 }, retirer.Revert
	}
	at, err = a.slice(ctx, in, at, order)
	if err == nil {
		err = a.Store.Settle(ctx, in.Migration)
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
