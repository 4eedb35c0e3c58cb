package activities

import (
	"cmp"
	"context"
	"time"

	"go.temporal.io/sdk/activity"

	"rehome/resilience"
)

// lookEvery is how old a look at the server gets in a slice that minds its health:
// short against the age at which it is too old.
const lookEvery = 8 * time.Second

// lookout looks at the server again and again between the batches of a slice, and
// at its end, so that the next slice may begin at once. A nil one minds nothing.
type lookout struct {
	data  *Database
	in    HealthInput
	care  *careful // measures the batches; nil: nobody does
	check resilience.HealthCheck
}

// minding is the lookout of a slice that is to mind the server's health.
func (a *Database) minding(in SliceInput, care *careful) *lookout {
	if in.Health == nil {
		return nil
	}
	return &lookout{data: a, in: *in.Health, care: care, check: resilience.HealthCheck{Health: in.Health.Before}}
}

// due looks when the last look that saw the server is too long ago, whoever had it,
// and reports whether the server bears no more. Of one from the future nobody knows
// how old it is.
func (l *lookout) due(ctx context.Context) (bool, error) {
	if l == nil {
		return false, nil
	}
	if age := time.Since(l.check.Health.Sample.At); age < 0 || age >= cmp.Or(l.data.lookEvery, lookEvery) {
		if err := beating(ctx, l.look); err != nil {
			return false, err
		}
	}
	return len(l.check.Shut) > 0, nil
}

func (l *lookout) look(ctx context.Context) error {
	l.in.Before, l.in.Pulse = l.check.Health, l.care.stretch()
	check, err := l.data.CheckHealth(ctx, l.in)
	if err != nil {
		return err
	}
	l.check = check
	l.care.mind(check)
	return nil
}

// last is the look with which a slice ends: the one by which it did, or else, where it
// has more to do and the worker goes on, another.
func (l *lookout) last(ctx context.Context, done bool) (*resilience.HealthCheck, error) {
	if l == nil {
		return nil, nil
	}
	if len(l.check.Shut) == 0 {
		select {
		case <-activity.GetWorkerStopChannel(ctx):
			done = true
		default:
		}
		if done {
			return nil, nil
		}
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
