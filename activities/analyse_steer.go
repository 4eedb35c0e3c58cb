package activities

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"rehome/resilience"
	"rehome/store"
)

// steering is the sizer of the batches of a group, which it adapts to what they take.
// A slice goes on with the next group when it has come to the end of one.
type steering struct {
	data    *store.Store
	plan    string
	from    int64 // watermark from which on the slice is in the group
	until   int64 // ordinal of the group's last row
	course  resilience.Course
	changes []string

	mu    sync.Mutex // the watch runs beside the batches
	waits resilience.Waits
}

// steered is a slice whose batches go as the courses of the groups in work say,
// if those have one.
func (a *Database) steered(ctx context.Context, in SliceInput, at resilience.Watermark, order sliceOrder) (resilience.Watermark, error) {
	s := &steering{data: a.Store, plan: in.Migration}
	if err := s.enter(ctx, at.Last); err != nil {
		return at, err
	}
	if s.until == 0 {
		return a.slice(ctx, in, at, order)
	}
	if in.Gentle {
		order.sizes, order.seen = s, s.waited
	} else {
		order.step = s.stepping(order.step, order.took)
		defer watching(ctx, s.watch)()
	}
	at, err := a.slice(ctx, in, at, order)
	if err == nil {
		at.Pace = s.course.String()
	}
	if kept := s.record(ctx); err == nil {
		err = kept
	}
	return at, err
}

// enter takes up the course of the group that the row after the watermark
// belongs to.
func (s *steering) enter(ctx context.Context, after int64) error {
	course, until, err := s.data.Course(ctx, s.plan, after)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if course.Waits.Last.Before(s.waits.Last) { // in the group before
		course.Waits = s.waits
	}
	s.from, s.until, s.course, s.waits = after, until, course, course.Waits
	return nil
}

// watch sees whether others wait for the batch that runs. It is not cancelled for
// that: it is short, and ends sooner than it would be done again.
func (s *steering) watch(ctx context.Context) {
	_, longest, _, err := s.data.Blocking(ctx, s.plan, math.Inf(1))
	if err != nil {
		unwatched(ctx, s.plan, err)
		return
	}
	s.waited(longest)
}

// waited takes into account how long, in milliseconds, the session that has waited
// longest for a batch has; 0 when none does.
func (s *steering) waited(ms float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = s.waits.Seen(time.Now(), ms)
}

func (s *steering) calm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waits.Calm(time.Now())
}

// next has the size in force, and ends with the group.
func (s *steering) next(ctx context.Context, at resilience.Watermark, b store.Bounds) (store.Bounds, error) {
	if at.Last >= s.until {
		if err := s.record(ctx); err != nil {
			return b, err
		}
		if err := s.enter(ctx, at.Last); err != nil {
			return b, err
		}
	}
	b.Batch, b.Until = s.course.Size(), s.until
	return b, nil
}

// stepping makes steps of the size in force, and learns from them.
func (s *steering) stepping(step stepFunc, took func() store.Took) stepFunc {
	return func(ctx context.Context, at resilience.Watermark, b store.Bounds) (resilience.Watermark, error) {
		b, err := s.next(ctx, at, b)
		if err != nil {
			return at, err
		}
		b.Together = false
		next, err := step(ctx, at, b)
		if next.Last >= at.Last { // else another run has turned it round
			s.learn(timing(at, next, took()).Of(b.Batch), store.TroubleOf(err), true)
		}
		return next, err
	}
}

// learn keeps what there is to tell of a change for record.
func (s *steering) learn(t resilience.Timing, trouble resilience.Trouble, calm bool) (none resilience.Adjustment) {
	var change string
	switch {
	case trouble != resilience.NoTrouble:
		s.course, change = s.course.Eased(trouble)
	case t.Rows > 0:
		s.course, change = s.course.After(t, calm && s.calm())
	}
	if change != "" {
		s.changes = append(s.changes, change)
	}
	return none
}

// mostChanges is how many changes of one slice are recorded one by one.
const mostChanges = 5

// record keeps what the group's batches taught, also when they ended badly.
func (s *steering) record(ctx context.Context) error {
	changes := s.changes
	if n := len(changes); n > mostChanges {
		changes = append(changes[:mostChanges-1:mostChanges-1], fmt.Sprintf("after %d more changes: %s", n-mostChanges, changes[n-1]))
	}
	s.mu.Lock()
	s.course.Waits = s.waits
	s.mu.Unlock()
	err := s.data.Steer(context.WithoutCancel(ctx), s.plan, s.from, s.course, changes)
	if err == nil {
		s.changes = nil
	}
	return err
}
