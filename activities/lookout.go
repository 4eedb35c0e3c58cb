package activities

import (
	"context"
	"time"

	"rehome/resilience"
)

// lookEvery is how often a slice that minds the server's health looks at it: short
// against the age at which a look is too old.
const lookEvery = 8 * time.Second

// lookout looks at the server again and again between the batches of a slice, and
// at its end, so that the next slice may begin at once. A nil one minds nothing.
type lookout struct {
	data   *Database
	in     HealthInput
	care   *careful // measures the batches; nil: nobody does
	every  time.Duration
	looked time.Time
	check  resilience.HealthCheck
}

// minding is the lookout of a slice that is to mind the server's health.
func (a *Database) minding(in SliceInput, care *careful) *lookout {
	if in.Health == nil {
		return nil
	}
	l := &lookout{data: a, in: *in.Health, care: care, every: lookEvery, looked: time.Now()}
	if in.Slice.Look > 0 {
		l.every = time.Duration(in.Slice.Look)
	}
	l.check.Health = in.Health.Before
	return l
}

// due looks when it is time to, and reports whether the server bears no more.
func (l *lookout) due(ctx context.Context) (bool, error) {
	if l == nil {
		return false, nil
	}
	if time.Since(l.looked) >= l.every {
		if err := beating(ctx, l.look); err != nil {
			return false, err
		}
	}
	return len(l.check.Shut) > 0, nil
}

func (l *lookout) look(ctx context.Context) error {
	l.in.Pulse = l.care.stretch()
	check, err := l.data.CheckHealth(ctx, l.in)
	if err != nil {
		return err
	}
	l.check, l.in.Before, l.looked = check, check.Health, time.Now()
	l.care.mind(check)
	return nil
}

// last is the look with which a slice ends. One that the server did not bear has just
// had it.
func (l *lookout) last(ctx context.Context) (*resilience.HealthCheck, error) {
	if l == nil {
		return nil, nil
	}
	if len(l.check.Shut) == 0 {
		if err := beating(ctx, l.look); err != nil {
			return nil, err
		}
	}
	return &l.check, nil
}

// nice is how many times as long as a batch took to rest after it.
func (l *lookout) nice(usual float64) float64 {
	if l == nil {
		return usual
	}
	return resilience.Nice(usual, l.check.Health.Gates)
}
