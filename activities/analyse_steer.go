package activities

import (
	"context"
	"fmt"
	"time"

	"rehome/resilience"
	"rehome/store"
)

// steering adapts the batches of a group to what they take.
type steering struct {
	data    *store.Store
	plan    string
	from    int64 // watermark at which the slice began: in the group
	course  resilience.Course
	changes []string
}

// steered is a slice whose batches go as the course of the group in work says,
// if that has one.
func (a *Database) steered(ctx context.Context, in SliceInput, order sliceOrder) (resilience.Watermark, error) {
	at, err := a.Store.Watermark(ctx, in.Migration)
	if err != nil {
		return at, classify("read the watermark", err)
	}
	course, adapts, err := a.Store.Course(ctx, in.Migration, at.Last)
	if err != nil {
		return at, classify("read how the batches go", err)
	}
	if !adapts {
		return a.slice(ctx, in, order)
	}
	s := &steering{data: a.Store, plan: in.Migration, from: at.Last, course: course}
	order.step = func(m *store.Mover, ctx context.Context, at resilience.Watermark, b store.Bounds) (resilience.Watermark, error) {
		return s.apply(ctx, m, at, b)
	}
	if at, err = a.slice(ctx, in, order); err == nil {
		at.Pace = s.course.String()
	}
	return at, s.record(ctx, err)
}

// apply moves a batch of the size in force and learns from it.
func (s *steering) apply(ctx context.Context, m *store.Mover, at resilience.Watermark, b store.Bounds) (resilience.Watermark, error) {
	b.Batch = s.course.Size()
	next, err := m.Apply(ctx, at, b)
	var change string
	if err != nil {
		s.course, change = s.course.Eased(store.TroubleOf(err))
	} else if rows := next.Last - at.Last; rows > 0 {
		took := float64(m.Took()) / float64(time.Millisecond)
		s.course, change = s.course.After(resilience.Timing{Rows: rows, MS: took}, true)
	}
	if change != "" {
		s.changes = append(s.changes, change)
	}
	return next, err
}

// mostChanges is how many changes of one slice are recorded one by one.
const mostChanges = 5

// record keeps what the slice taught for the next one, also when the slice
// ended badly, and returns how it ended.
func (s *steering) record(ctx context.Context, ended error) error {
	changes := s.changes
	if n := len(changes); n > mostChanges {
		changes = append(changes[:mostChanges-1:mostChanges-1], fmt.Sprintf("after %d more changes: %s", n-mostChanges, changes[n-1]))
	}
	err := s.data.Steer(context.WithoutCancel(ctx), s.plan, s.from, s.course, changes)
	if ended != nil {
		return ended
	}
	return classify("record how the batches go", err)
}
