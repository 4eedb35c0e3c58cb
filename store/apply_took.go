package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Took is what a step took, without the wait for a connection.
type Took struct {
	// Time is how long it was at work: by the server's clock where it was one batch that
	// was done, and else as long as the worker waited. Waits for locks are not in it where
	// they were looked for.
	Time   time.Duration
	Waited time.Duration // for locks, as far as it was seen
	WAL    int64         // bytes that the server's log grew by while it was at work, whoever wrote them: the batch wrote no more, or little
	Unseen error         // why the waits were not looked at to the end; nil: they were
}

// elapsed is how long a transaction has been at work, in milliseconds, and by how many
// bytes the server's log has grown meanwhile. A statement of its own knows of the triggers
// that the move fired. What one session writes Postgres counts only from version 18 on.
const elapsed = `SELECT (1000 * extract(epoch FROM clock_timestamp() - transaction_timestamp()))::float8,
	pg_wal_lsn_diff(pg_current_wal_insert_lsn(), current_setting('rehome.wal')::pg_lsn)::bigint`

// stopwatch takes the time of a batch.
type stopwatch struct {
	began  time.Time
	server time.Duration // by the server's clock
	wal    int64
	waits  *waits // nil: nobody looks for them
}

// start takes the time of a batch from now on, and of its waits where whoever sizes
// batches is to learn from it.
func (s *Store) start(ctx context.Context, conn *pgxpool.Conn, alone bool) *stopwatch {
	w := &stopwatch{began: time.Now()}
	if alone {
		w.waits = s.lookForWaits(ctx, conn.Conn().PgConn().PID())
	}
	return w
}

// read takes time and log of a batch from the server, by elapsed: what sizes batches is
// not to learn from a slow network, or from a worker that is short of time.
func (w *stopwatch) read(row pgx.Row) error {
	var ms float64
	err := row.Scan(&ms, &w.wal)
	w.server = time.Duration(ms * float64(time.Millisecond))
	return err
}

// stop says what the batch took. That of the server counts for one that was done.
func (w *stopwatch) stop(done bool) Took {
	took := Took{Time: time.Since(w.began)}
	if done {
		took.WAL = w.wal
		if w.server > 0 { // a clock that is put forward says more than was waited for
			took.Time = min(took.Time, w.server)
		}
	}
	if w.waits != nil {
		took.Waited, took.Unseen = w.waits.stop()
	}
	if took.Waited = min(took.Waited, took.Time); took.Waited > 0 {
		all := took.Time
		took.Time = max(took.Time-took.Waited, time.Microsecond)
		took.WAL = int64(float64(took.WAL) * took.Time.Seconds() / all.Seconds()) // meanwhile others wrote
	}
	return took
}

// The waits of a batch are looked for once it has lasted so long, and then so often: one
// that is over by then waited for nothing that matters. A look has a second.
const (
	waitsAfter = 20 * time.Millisecond
	waitsEvery = 10 * time.Millisecond
	waitsLook  = time.Second
)

// waits adds up how long a session waits for locks. Postgres keeps no such account, and
// to lock the rows of every batch beforehand would write all of them twice, so another
// session looks. What passes between the last look at a wait and its end is not seen, and
// counts as work.
type waits struct {
	cancel context.CancelFunc
	timer  *time.Timer
	over   chan struct{}

	seen map[time.Time]time.Duration // by when they began
	err  error
}

// lookForWaits begins to look at a session.
func (s *Store) lookForWaits(ctx context.Context, pid uint32) *waits {
	ctx, cancel := context.WithCancel(ctx)
	w := &waits{cancel: cancel, over: make(chan struct{}), seen: map[time.Time]time.Duration{}}
	w.timer = time.AfterFunc(waitsAfter, func() {
		defer close(w.over)
		w.err = w.look(ctx, s.pool, pid)
	})
	return w
}

// stop ends the looks, and says how long the session waited.
func (w *waits) stop() (waited time.Duration, err error) {
	w.cancel()
	if w.timer.Stop() {
		return 0, nil
	}
	<-w.over
	for _, d := range w.seen {
		waited += d
	}
	return waited, w.err
}

// look looks again and again, until that fails or is to end. Whatever is wrong is of no
// consequence for the batch, which then counts as if it had waited for nothing more.
func (w *waits) look(ctx context.Context, pool *pgxpool.Pool, pid uint32) error {
	tick := time.NewTicker(waitsEvery)
	defer tick.Stop()
	for {
		if err := w.once(ctx, pool, pid); err != nil {
			if errors.Is(err, ctx.Err()) {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// waitOf is the lock that a session waits for: since when, and for how many milliseconds.
// Only where it does are the locks of all sessions gone through. In the moment in which a
// wait begins, since when is not known.
const waitOf = `
	SELECT waitstart, (1000 * extract(epoch FROM clock_timestamp() - waitstart))::float8 FROM pg_locks
	WHERE (SELECT wait_event_type = 'Lock' FROM pg_stat_get_activity($1::integer)) AND pid = $1 AND NOT granted AND waitstart IS NOT NULL`

// once looks at the session, on a connection that is had when there is one before the
// batch ends. The answer is waited for also when it ends meanwhile, since a connection
// whose query is given up is lost.
func (w *waits) once(ctx context.Context, pool *pgxpool.Pool, pid uint32) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), waitsLook)
	defer done()
	var since time.Time
	var ms float64
	err = conn.QueryRow(ctx, waitOf, pid).Scan(&since, &ms)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		w.seen[since] = max(w.seen[since], time.Duration(ms*float64(time.Millisecond)))
	}
	return err
}
