package activities

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"rehome/resilience"
	"rehome/store"
)

// sizer picks the size of each batch of a slice.
type sizer interface {
	// next are the bounds of the batch after at.
	next(ctx context.Context, at resilience.Watermark, b store.Bounds) (store.Bounds, error)
	// learn takes a batch into account. Sizes grow only while all is calm.
	learn(t resilience.Timing, trouble resilience.Trouble, calm bool) resilience.Adjustment
}

// servoed is the sizer of batches that are to take a time, whatever was expected of them.
type servoed struct{ resilience.Servo }

func (s *servoed) next(_ context.Context, _ resilience.Watermark, b store.Bounds) (store.Bounds, error) {
	b.Batch = s.Size
	return b, nil
}

func (s *servoed) learn(t resilience.Timing, trouble resilience.Trouble, calm bool) (adjusted resilience.Adjustment) {
	if trouble == resilience.NoTrouble {
		s.Servo, adjusted = s.After(t, calm)
	} else {
		s.Servo, adjusted = s.Eased(trouble)
	}
	return adjusted
}

// careful steps through a slice: batches of a size that follows what they take, and
// that give way to others.
type careful struct {
	sizes  sizer
	servo  *servoed         // the sizes, where it is that which picks them
	seen   func(ms float64) // see sliceOrder
	calm   bool
	failed int // tries of the batch that is next

	mu     sync.Mutex       // the watch runs beside the batches
	before resilience.Pulse // of the stretches that were asked for
	pulse  resilience.Pulse // of the present one
	took   []resilience.Timing
	mine   bool // the watch cancelled a batch of ours
}

// watchEvery is how often a slice sees whom it keeps waiting.
const watchEvery = 250 * time.Millisecond

// carefully starts the watch over a slice whose batches go by its servo, or else by the
// sizes of its order; done ends it.
func (a *Database) carefully(ctx context.Context, in SliceInput, order sliceOrder) (c *careful, done func()) {
	c = &careful{sizes: order.sizes, seen: order.seen, calm: in.Calm}
	if in.Servo != nil {
		c.servo = &servoed{*in.Servo}
		c.sizes = c.servo
	}
	return c, watching(ctx, func(ctx context.Context) { c.watch(ctx, a.Store, in.Migration) })
}

// watching looks again and again beside a slice, until done.
func watching(ctx context.Context, look func(context.Context)) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				look(ctx)
			}
		}
	}()
	return func() { cancel(); <-stopped }
}

// watch sees how long others have waited for the batch that runs, and cancels
// it when that is too long.
func (c *careful) watch(ctx context.Context, s *store.Store, plan string) {
	c.mu.Lock() // before the look: a batch that it cancels may not learn of that before it knows why
	defer c.mu.Unlock()
	sessions, longest, cancelled, err := s.Blocking(ctx, plan, resilience.DefaultLimits().BlockedMS)
	if err != nil {
		unwatched(ctx, plan, err)
		return
	}
	c.pulse.Blocked, c.pulse.BlockedMS = max(c.pulse.Blocked, sessions), max(c.pulse.BlockedMS, longest)
	c.mine = c.mine || cancelled
	if c.seen != nil {
		c.seen(longest)
	}
}

// unwatched says that a look failed; the next one comes soon.
func unwatched(ctx context.Context, plan string, err error) {
	if ctx.Err() == nil {
		activity.GetLogger(ctx).Warn("cannot see whom the plan keeps waiting", "migration", plan, "error", err)
	}
}

// stretch is what was measured since it was asked for last.
func (c *careful) stretch() *resilience.Pulse {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.pulse
	now.P95MS = resilience.Quantile(c.took, 0.95)
	if c.servo != nil {
		now.Servo = c.servo.Servo
	}
	c.before, c.pulse, c.took = c.before.And(now), resilience.Pulse{}, nil
	return &now
}

// felt is what the slice measured.
func (c *careful) felt() *resilience.Pulse {
	c.stretch()
	return &c.before
}

// mind takes a look at the server into account.
func (c *careful) mind(check resilience.HealthCheck) {
	if c != nil {
		c.calm = check.Calm
	}
}

// stepping makes steps careful. One in trouble is not an error until it was tried
// often: the batch gets smaller, and a while passes.
func (c *careful) stepping(step stepFunc, took func() store.Took) stepFunc {
	return func(ctx context.Context, at resilience.Watermark, b store.Bounds) (resilience.Watermark, error) {
		b, err := c.sizes.next(ctx, at, b)
		if err != nil {
			return at, err
		}
		b.Gentle, b.Together = true, false
		next, err := step(ctx, at, b)
		trouble := store.TroubleOf(err)
		if err != nil && (trouble == resilience.NoTrouble || ctx.Err() != nil) {
			return next, err
		}
		c.learn(timing(at, next, took()), b.Batch, trouble)
		if trouble == resilience.NoTrouble {
			c.failed = 0
			return next, nil
		}
		if c.failed++; c.failed == resilience.RetryTries {
			return next, err
		}
		return at, rest(ctx, resilience.RetryAfter(c.failed-1, rand.Float64()))
	}
}

// learn takes one batch into account, which was to have a size.
func (c *careful) learn(t resilience.Timing, size int, trouble resilience.Trouble) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if trouble == resilience.StatementTimeout && c.mine {
		trouble = resilience.InTheWay
	}
	c.mine = false
	asked := t.Of(size)
	c.took = append(c.took, resilience.Timing{Rows: asked.Rows, MS: asked.MS + asked.LockMS}) // who waits for locks is not well either
	c.pulse.Batches++
	c.pulse.Rows += t.Rows
	c.pulse.ActiveMS += t.MS
	c.pulse.LockMS += t.LockMS
	c.pulse.Trouble = cmp.Or(trouble, c.pulse.Trouble)
	c.pulse.Adjusted = cmp.Or(c.sizes.learn(asked, trouble, c.calm), c.pulse.Adjusted)
}

// rest lets a while pass.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-activity.GetWorkerStopChannel(ctx):
	case <-timer.C:
	}
	return nil
}
