package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
)

// Slice bounds one call of a time-sliced activity.
type Slice struct {
	// Time is how long the call may work before it returns with more to do.
	// Zero means DefaultSlice.
	Time Duration `json:"time,omitempty"`
}

// DefaultSlice keeps the number of activities proportional to time: one costs
// 50 to 100 ms, so a slice of this length loses less than a percent to it, and a day
// of them has fewer than 20,000 events.
const DefaultSlice = 30 * time.Second

func (s Slice) length() time.Duration {
	if s.Time > 0 {
		return time.Duration(s.Time)
	}
	return DefaultSlice
}

// step does one batch, records it in the database, and returns what to
// heartbeat. It says done when nothing is left.
type step[P any] func(ctx context.Context) (progress P, done bool, err error)

// inSlice repeats do until it is done, fails, the slice is over, or the worker
// drains. It heartbeats after each batch, which also brings cancellation.
func inSlice[P any](ctx context.Context, s Slice, do step[P]) (progress P, done bool, err error) {
	end := time.Now().Add(s.length())
	for {
		if err := ctx.Err(); err != nil {
			return progress, false, err
		}
		progress, done, err = do(ctx)
		if err != nil || done {
			return progress, done, err
		}
		activity.RecordHeartbeat(ctx, progress)
		select {
		case <-activity.GetWorkerStopChannel(ctx):
			return progress, false, nil
		default:
		}
		if time.Now().After(end) {
			return progress, false, nil
		}
	}
}

// beatEvery is how often a long statement heartbeats at least, since so it learns that
// nobody wants it any more.
const beatEvery = time.Second

// beating heartbeats while work runs one statement that may take longer than
// the heartbeat timeout. StartToClose still bounds it.
func beating(ctx context.Context, work func(context.Context) error) error {
	timeout := activity.GetInfo(ctx).HeartbeatTimeout
	if timeout <= 0 {
		return work(ctx)
	}
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(min(timeout/3, beatEvery))
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				activity.RecordHeartbeat(ctx)
			}
		}
	}()
	err := work(ctx)
	close(stop)
	<-stopped
	return err
}
