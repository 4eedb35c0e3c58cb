package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"rehome/resilience"
	"rehome/store"
)

// SliceInput orders one slice of the moves of a plan.
type SliceInput struct {
	Origin
	Migration string `json:"migration"`
	Epoch     int64  `json:"epoch"` // of the plan when the order was given
	Slice     Slice  `json:"slice,omitzero"`
	store.Bounds
	// Servo, when there is one, picks the size of each batch by what the batch
	// before took, and lets batches give way to others.
	Servo *resilience.Servo `json:"servo,omitempty"`
	Calm  bool              `json:"calm,omitempty"` // the servo may let batches grow
	// Nice is how many times as long as a batch took to rest after it.
	Nice float64 `json:"nice,omitempty"`
	// Adapt lets the batches go as the course of their group says; gentle ones, see
	// store.Bounds, give way to others as those under a servo do.
	Adapt bool `json:"adapt,omitempty"`
	// Health, when it is there, is how the server was just now. The slice looks again
	// while it goes on, and ends when the server does not bear it. The look at its end,
	// if there was one, is in what it returns.
	Health *HealthInput `json:"health,omitempty"`
}

// Metrics of the moves, as /metrics has them.
const (
	movedMetric = "rehome_chunks_moved"
	batchMetric = "rehome_batch_latency"
)

// MoveSlice moves chunks to their new place, batch by batch, until the slice
// is over, all within its bounds are there, or the operator wants something else; the watermark
// it returns says which.
func (a *Database) MoveSlice(ctx context.Context, in SliceInput) (resilience.Watermark, error) {
	return a.move(ctx, in, resilience.WishRun, func(w resilience.Watermark) bool { return w.Last == w.Total || in.Until > 0 && w.Last >= in.Until })
}

// RevertSlice moves chunks back to where they were, last moved first. A part of
// a plan that is to be tried again goes back to a floor.
func (a *Database) RevertSlice(ctx context.Context, in SliceInput) (resilience.Watermark, error) {
	if !in.Partial {
		return a.move(ctx, in, resilience.WishUndo, func(w resilience.Watermark) bool { return w.Last <= in.Floor })
	}
	// An undo by another run is fenced by its epoch. Where a resume was on its way, the
	// plan goes on from where it is.
	return a.move(ctx, in, "", func(w resilience.Watermark) bool { return w.Last <= in.Floor || w.Wish == resilience.WishRun })
}

// move moves chunks of a plan while its wish is this, and back where it is not to run,
// until the end.
func (a *Database) move(ctx context.Context, in SliceInput, wish resilience.Wish, end func(resilience.Watermark) bool) (resilience.Watermark, error) {
	mover, err := a.Store.Mover(ctx, in.Migration)
	if err != nil {
		return resilience.Watermark{}, classify("prepare the moves", err)
	}
	at, err := a.Store.Watermark(ctx, in.Migration)
	if err != nil {
		return resilience.Watermark{}, classify("read the watermark", err)
	}
	in.Together = true // whose step measures each batch lets it go alone
	metrics := activity.GetMetricsHandler(ctx)
	order := sliceOrder{wish: wish, end: end, step: mover.Revert, took: mover.Took, done: func(rows int64) {
		metrics.Counter(movedMetric).Inc(rows)
		for range mover.Batches() { // of those that went together the mean is known
			metrics.Timer(batchMetric).Record(latency(mover.Took()) / time.Duration(mover.Batches()))
		}
	}}
	if wish == resilience.WishRun {
		order.step = mover.Apply
	}
	if in.Adapt && wish == resilience.WishRun {
		at, err = a.steered(ctx, in, at, order)
	} else {
		at, err = a.slice(ctx, in, at, order)
	}
	if err == nil {
		err = a.Store.Settle(ctx, in.Migration)
	}
	if err != nil {
		return at, classify("move chunks", err)
	}
	if wish == resilience.WishRun && at.Last == at.Total {
		_, err = a.Store.MarkApplied(ctx, in.Migration)
	}
	return at, classify("mark the end of the moves", err)
}

// stepFunc does the next batch.
type stepFunc func(context.Context, resilience.Watermark, store.Bounds) (resilience.Watermark, error)

// sliceOrder is a direction of work: while the plan's wish is this (empty: any),
// take the step until the end. With sizes it takes care of others.
type sliceOrder struct {
	wish  resilience.Wish
	end   func(resilience.Watermark) bool
	step  stepFunc
	took  func() store.Took // the last step
	done  func(rows int64)  // tells the metrics of a step
	sizes sizer
	seen  func(ms float64) // hears of each look at who waits for a batch; nil: nobody does
}

// slice steps through a slice from a watermark on, and returns how far it came.
func (a *Database) slice(ctx context.Context, in SliceInput, from resilience.Watermark, order sliceOrder) (at resilience.Watermark, err error) {
	at = from
	var c *careful
	if in.Servo != nil || order.sizes != nil {
		var unwatch func()
		c, unwatch = a.carefully(ctx, in, order)
		order.step = c.stepping(order.step, order.took)
		defer func() { unwatch(); at.Pulse = c.felt() }()
	}
	watch := a.minding(in, c)
	at, done, err := inSlice(ctx, in.Slice, func(ctx context.Context) (resilience.Watermark, bool, error) {
		if order.end(at) || order.wish != "" && at.Wish != order.wish {
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
		err := beating(ctx, func(ctx context.Context) (err error) { // one batch may be all there is
			next, err = order.step(ctx, at, in.Bounds)
			return err
		})
		if err != nil {
			return at, false, err
		}
		took := order.took()
		if took.Unseen != nil {
			activity.GetLogger(ctx).Warn("cannot see for how long a batch waits for locks; that counts as its work", "migration", in.Migration, "error", took.Unseen)
		}
		did := timing(at, next, took)
		order.done(did.Rows)
		at = next
		return at, false, a.pace(ctx, in, at, batch{did.Rows, began, took}, watch.nice(in.Nice))
	})
	if err == nil {
		at.Check, err = watch.last(ctx, done || order.end(at))
	}
	return at, err
}

// timing is what a step from one watermark to another, or back, took.
func timing(from, to resilience.Watermark, took store.Took) resilience.Timing {
	return resilience.Timing{
		Rows: max(to.Last-from.Last, from.Last-to.Last), MS: milliseconds(took.Time), LockMS: milliseconds(took.Waited), WALBytes: took.WAL,
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// latency is how long a step was under way, at work or not.
func latency(t store.Took) time.Duration { return t.Time + t.Waited }

// batch is what a rest after it goes by.
type batch struct {
	rows  int64
	began time.Time
	took  store.Took
}

// lasts is how long the batch and the rest after it take: as many times what it was at
// work as it is to be nice, and as the rate in force wants, where there is one.
func (b batch) lasts(nice, rate float64) time.Duration {
	lasts := latency(b.took) + time.Duration(nice*float64(b.took.Time))
	if rate > 0 {
		lasts = max(lasts, time.Duration(float64(b.rows)/rate*float64(time.Second)))
	}
	return lasts
}

// mostRest is how long the rest after a batch is at most: an attempt ends some time, and
// one batch may have many rows that go together.
const mostRest = 5 * time.Minute

// pace rests after a batch. While it does it heartbeats, and looks whether a
// person or the end of a throttle changed the pace.
func (a *Database) pace(ctx context.Context, in SliceInput, at resilience.Watermark, b batch, nice float64) error {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	end := time.Now().Add(mostRest)
	for rate := at.Rate; rate > 0 || nice > 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-activity.GetWorkerStopChannel(ctx):
			return nil
		case <-time.After(min(b.lasts(nice, rate)-time.Since(b.began), time.Until(end))):
			return nil
		case <-beat.C:
			activity.RecordHeartbeat(ctx)
		}
		now, err := a.Store.InForce(ctx, in.Migration, in.Bounds)
		if err != nil {
			return err
		}
		if now.Wish != at.Wish || now.Epoch != at.Epoch {
			return nil
		}
		rate = now.Rate
	}
	return nil
}
