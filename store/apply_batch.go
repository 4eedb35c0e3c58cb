package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"rehome/resilience"
)

// A batch is one transaction, in which the watermark advances and the rows it passes
// move.

// batchGuards bound what a batch may do to others: it gives up rather than queue for long
// before a lock, with rows of its own locked, or let a statement run for long. A patient
// one queues longer. One of all rows at once, or with a knot, may run longer, and a gentle
// one that does not get smaller as long as any other. It finds its rows by index and in the
// journal's order, whatever the planner believes of a journal it has no statistics of,
// without compiling the statement first; what it gathers of them stays in memory. The
// advisory lock tells whoever looks at pg_locks that the session is a batch of this plan.
// Where the log of the server ends is kept for elapsed.
var batchGuards = `SELECT pg_advisory_xact_lock_shared(@batch_lock::integer, hashtext(@plan)),
	set_config('lock_timeout', CASE WHEN @patient THEN '2s' ELSE '250ms' END, true),
	set_config('statement_timeout', CASE WHEN @gentle AND NOT @batch::bigint BETWEEN 1 AND ` + strconv.Itoa(resilience.LeastRows) + ` THEN '5s' WHEN @batch::bigint > 100000 THEN '8min' ELSE '60s' END, true),
	set_config('idle_in_transaction_session_timeout', '60s', true), set_config('enable_seqscan', 'off', true),
	set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('enable_material', 'off', true),
	set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true), set_config('work_mem', '64MB', true),
	set_config('plan_cache_mode', 'force_generic_plan', true), set_config('rehome.wal', pg_current_wal_insert_lsn()::text, true)`

// unawaited lets a batch commit without waiting for the disk. The watermark is in
// the batch's transaction, so a server that crashes before it is written has both
// the watermark and the rows of an earlier batch, from which the plan goes on. What
// anybody is told of, Settle has awaited.
const unawaited = `, set_config('synchronous_commit', 'off', true)`

// A step tells its first batch where it begins, and until when others may follow it.
// These begin where the one before them in the session ended.
const begins = `, set_config('rehome.at', coalesce(@at::bigint::text, current_setting('rehome.at')), false),
	set_config('rehome.until', CASE WHEN @at::bigint IS NULL THEN current_setting('rehome.until') ELSE extract(epoch FROM clock_timestamp() + @onward)::text END, false)`

// reached is the watermark that a batch begins at.
const reached = `(SELECT current_setting('rehome.at')::bigint)`

// timely lets a batch that follows another pass only while there is time, and no rate
// to be kept: whoever keeps it sees each batch.
const timely = `(@at::bigint IS NOT NULL OR p.rate = 0 AND extract(epoch FROM clock_timestamp()) < current_setting('rehome.until')::numeric)`

// passing are the bounds of the rows (lo, hi] that an advance passes, kept for
// the statement that follows it in the same transaction, and the watermark it
// leaves, kept for the next batch.
func passing(lo, hi string) string {
	return fmt.Sprintf(`set_config('rehome.lo', (%s)::text, true)::bigint, set_config('rehome.hi', (%s)::text, true)::bigint,
			set_config('rehome.at', g.last::text, false)::bigint`, lo, hi)
}

// ofPassed lets a statement read these bounds, once each, not for every row. They
// are NULL when nothing was passed.
var ofPassed = strings.NewReplacer("@lo", "(SELECT nullif(current_setting('rehome.lo', true), '')::bigint)", "@hi", "(SELECT nullif(current_setting('rehome.hi', true), '')::bigint)")

// movesOf are the rows (lo, hi] of a plan's journal, as m: of the runs they are in, which
// an index finds. The last of these is not a min, which the planner may take from all
// the runs that follow. The view of the journal has more columns; an update carries all
// of what it joins along with each row. Plan and bounds are SQL.
func movesOf(plan, lo, hi string) string {
	return strings.NewReplacer("{plan}", plan, "{lo}", lo, "{hi}", hi).Replace(`(
				SELECT * FROM (
					SELECT generate_series(r.first, r.last) AS ordinal, unnest(r.chunk_ids) AS chunk_id, p.old_path, p.new_path
					FROM rehome.migration_runs r JOIN rehome.migration_paths p USING (path_id)
					WHERE r.plan = {plan} AND r.last > {lo} AND r.last <= (
						SELECT l.last FROM rehome.migration_runs l WHERE l.plan = {plan} AND l.last >= {hi} ORDER BY l.last LIMIT 1)) e
				WHERE ordinal > {lo} AND ordinal <= {hi}) m`)
}

// batch advances the watermark and moves the rows it passes, and the batches that may
// follow it do so after it. All of one sees one snapshot: an application's write to one
// of the rows meanwhile fails the transaction, which is then tried again on what the
// application wrote. One that holds its rows locks them first instead, and then sees
// what is there.
func (m *Mover) batch(ctx context.Context, at resilience.Watermark, how manner, together int, move *move, advance string) (resilience.Watermark, error) {
	m.took, m.done = Took{}, 0
	step := passage{m: m, next: at, move: move, advance: advance}
	conn, err := m.store.pool.Acquire(ctx)
	if err != nil {
		return at, err
	}
	defer conn.Release()
	step.watch = m.store.start(ctx, conn, m.alone)
	if how == (manner{}) && move.aftermath == nil {
		err = step.swift(ctx, conn, together)
	} else {
		err = step.careful(ctx, conn, how)
	}
	m.took, m.done = step.watch.stop(step.done == 1), step.done
	return step.next, err
}

// passage is one batch on its way, or several that go together.
type passage struct {
	m       *Mover
	move    *move
	advance string
	next    resilience.Watermark // where the last batch that is done came to
	done    int
	watch   *stopwatch
}

// passed is what an advance passes.
type passed struct {
	lo, hi int64
	to     resilience.Watermark
}

// some says that it passed any: there were some left, and what was known of the plan still held.
func (by passed) some() bool { return by.lo < by.hi }

// swift sends batches all at once, each a transaction: what small ones cost is mostly
// the way there and back. The server commits a batch only when the account of its rows
// is right, and after one that fails it does none of the others.
func (p *passage) swift(ctx context.Context, conn *pgxpool.Conn, batches int) error {
	all, move := &pgx.Batch{}, insisting(p.move.statement)
	for n := range batches {
		var by passed
		var r batchResult
		all.Queue(`begin isolation level repeatable read`)
		p.queue(all, n == 0, &by)
		all.Queue(move, p.m.args).QueryRow(r.scan)
		if batches == 1 {
			all.Queue(elapsed).QueryRow(p.watch.read)
		}
		all.Queue(`commit`).Exec(func(pgconn.CommandTag) error {
			if by.some() {
				p.account(by, r)
			}
			return nil
		})
	}
	err := conn.SendBatch(ctx, all).Close()
	if conn.Conn().PgConn().TxStatus() == 'E' {
		_, _ = conn.Exec(context.WithoutCancel(ctx), `rollback`) // the pool drops a connection that cannot do even that
	}
	if err == nil && p.done == 0 {
		return errMoved
	}
	return err
}

// careful moves a batch statement by statement.
func (p *passage) careful(ctx context.Context, conn *pgxpool.Conn, how manner) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead}
	if how.hold {
		options.IsoLevel = pgx.ReadCommitted
	}
	var by passed
	var r batchResult
	err := pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
		first := &pgx.Batch{}
		p.queue(first, true, &by)
		if err := tx.SendBatch(ctx, first).Close(); err != nil {
			return err
		}
		if !by.some() {
			return errMoved
		}
		if err := p.whole(ctx, tx, &by); err != nil {
			return err
		}
		if how.leave != nil && p.m.apart != "" {
			if _, err := tx.Exec(ctx, p.m.apart); err != nil {
				return err
			}
		}
		if how.hold {
			p.m.args["lo"], p.m.args["hi"] = by.lo, by.hi
			if _, err := tx.Exec(ctx, p.m.lock, p.m.args); err != nil {
				return err
			}
		}
		var err error
		if how.leave == nil {
			r, err = p.m.watched(ctx, tx, p.move, by.lo, by.hi)
		} else {
			r, err = how.leave.without(ctx, tx, p.m.moving(p.move), by.lo, by.hi)
		}
		if err == nil && how.again {
			_, err = tx.Exec(ctx, `DELETE FROM rehome.migration_exceptions WHERE plan_id = $1 AND ordinal > $2`, p.m.plan, by.lo)
		}
		if err != nil {
			return err
		}
		return p.watch.read(tx.QueryRow(ctx, elapsed))
	})
	if err == nil {
		p.account(by, r)
	}
	return err
}

// queue lets a batch begin: at the watermark that is known, or unseen where the one
// before it ends.
func (p *passage) queue(batch *pgx.Batch, known bool, by *passed) {
	args := maps.Clone(p.m.args)
	args["at"], args["epoch"] = nil, p.next.Epoch
	if known {
		args["at"] = p.next.Last
	}
	batch.Queue(batchGuards+unawaited+begins, args)
	if p.m.before != "" {
		batch.Queue(p.m.before)
	}
	batch.Queue(p.advance, args).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&by.lo, &by.hi, &by.to.Last, &by.to.Total, &by.to.Epoch, &by.to.Wish, &by.to.Rate)
		if errors.Is(err, pgx.ErrNoRows) { // no error: after one, the driver forgets the statements that it has prepared
			return nil
		}
		return err
	})
}

// account takes a batch that is committed into what is known: also what stayed where
// it was, on the way there.
func (p *passage) account(by passed, r batchResult) {
	by.to.Drifted, by.to.Vanished = p.next.Drifted, p.next.Vanished
	if !p.move.undoing {
		by.to.Drifted += r.present - r.here
		by.to.Vanished += r.planned - r.present
	}
	p.next = by.to
	p.done++
}

// moving is watched as something that may be done but for some rows.
func (m *Mover) moving(move *move) doing {
	return func(ctx context.Context, tx pgx.Tx, lo, hi int64) (batchResult, error) {
		return m.watched(ctx, tx, move, lo, hi)
	}
}

// watched moves rows (lo, hi] of the journal, and looks at them once more where the table
// acts after they were written.
func (m *Mover) watched(ctx context.Context, tx pgx.Tx, move *move, lo, hi int64) (batchResult, error) {
	looks, err := move.aftermath.first(ctx, tx, m.args, lo, hi)
	if err != nil {
		return batchResult{}, err
	}
	r, err := m.rows(ctx, tx, move, lo, hi)
	if err != nil {
		return r, err
	}
	return r, looks.last(ctx, tx, m.args)
}

// rows moves rows (lo, hi] of the journal, where some make room for the others in turns,
// and accounts for all of them.
func (m *Mover) rows(ctx context.Context, tx pgx.Tx, move *move, lo, hi int64) (batchResult, error) {
	if !m.aside.meet(lo, hi) {
		return m.pieces(ctx, tx, move.statement, move.undoing, lo, hi)
	}
	if _, err := m.pieces(ctx, tx, move.aside.out, move.undoing, lo, hi); err != nil {
		return batchResult{}, err
	}
	others, err := m.pieces(ctx, tx, move.aside.others, move.undoing, lo, hi)
	if err != nil {
		return others, err
	}
	arrived, err := m.pieces(ctx, tx, move.aside.in, move.undoing, lo, hi)
	return others.and(arrived), err
}

// pieces does a statement for rows (lo, hi] of the journal, as often as that takes, for
// the last ones first on the way back.
func (m *Mover) pieces(ctx context.Context, tx pgx.Tx, statement string, undoing bool, lo, hi int64) (batchResult, error) {
	var all batchResult
	for lo < hi {
		from, to := lo, min(lo+piece, hi)
		if undoing {
			from, to = max(lo, hi-piece), hi
			hi = from
		} else {
			lo = to
		}
		m.args["lo"], m.args["hi"], m.args["aside"] = from, to, m.aside.within(from, to)
		var r batchResult
		if err := r.scan(tx.QueryRow(ctx, statement, m.args)); err != nil {
			return all, err
		}
		which, err := see(ctx, tx, m.args, r.wrong)
		if err != nil {
			return all, err
		}
		if err := r.check(from, to, which); err != nil {
			return all, err
		}
		all = all.and(r)
	}
	return all, nil
}

// lockStatement locks the rows (@lo, @hi] of the journal, in its order.
func lockStatement(t table) string {
	return fmt.Sprintf(`
		SELECT count(*) FROM (
			SELECT FROM %s JOIN %s t ON %s AND %s
			ORDER BY m.ordinal FOR NO KEY UPDATE OF t) held`,
		movesOf("@number", "@lo", "@hi"), t.name(), t.hasID("m.chunk_id"), t.scope())
}
