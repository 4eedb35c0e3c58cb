package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// traffic is what an application does beside a measured piece of work: so many
// transactions a second, whether those before have ended or not. What one takes
// counts from the moment at which it was due, so that one which waits for its
// turn is not made to look quick.
type traffic struct {
	rate        float64 // transactions a second
	connections int
	do          func(ctx context.Context, conn *pgxpool.Conn, n int) error // transaction n
}

// during runs the traffic while the work runs, and returns what the
// transactions took.
func (t traffic) during(ctx context.Context, r *rig, work func(context.Context) error) ([]time.Duration, error) {
	config := r.pool.Config()
	config.MaxConns, config.MinConns = int32(t.connections), int32(t.connections)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("prepare connections for an application: %w", err)
	}
	defer pool.Close()
	var taken []time.Duration
	var failed error
	flowing, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		taken, failed = t.flow(ctx, flowing, pool.AcquireFunc)
	}()
	err = work(ctx)
	stop()
	<-stopped
	return taken, errors.Join(err, failed)
}

// acquirer lends a connection.
type acquirer func(context.Context, func(*pgxpool.Conn) error) error

// flow starts transactions as they are due until it is told to stop, and ends
// when all of them have ended. The first that fails ends it too.
func (t traffic) flow(ctx, wanted context.Context, acquire acquirer) ([]time.Duration, error) {
	flowing, fail := context.WithCancelCause(wanted)
	defer fail(nil)
	type order struct {
		n   int
		due time.Time
	}
	orders := make(chan order, 1_000_000) // never full: a queue does not slow down those who come
	taken := make([][]time.Duration, t.connections)
	var group sync.WaitGroup
	for i := range t.connections {
		group.Go(func() {
			for o := range orders {
				err := acquire(ctx, func(conn *pgxpool.Conn) error { return t.do(ctx, conn, o.n) })
				if err != nil {
					fail(fmt.Errorf("transaction %d of an application: %w", o.n, err))
					return
				}
				taken[i] = append(taken[i], time.Since(o.due))
			}
		})
	}
	began := time.Now()
	for n := 0; ; n++ {
		due := began.Add(time.Duration(float64(n) / t.rate * float64(time.Second)))
		if !until(flowing, due) {
			break
		}
		orders <- order{n, due}
	}
	close(orders)
	group.Wait()
	if err := context.Cause(flowing); !errors.Is(err, context.Cause(wanted)) {
		return nil, err
	}
	return slices.Concat(taken...), nil
}

// until waits for a moment; false says that the wait was cut short.
func until(ctx context.Context, moment time.Time) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// within is the time in milliseconds within which a share of the transactions ended.
func within(taken []time.Duration, share float64) float64 {
	sorted := slices.Sorted(slices.Values(taken))
	return float64(sorted[int(share*float64(len(sorted)-1))]) / float64(time.Millisecond)
}
