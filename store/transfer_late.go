package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// What is said of a chunk after the switch, by whoever knows it by where it was, follows
// it when it is gone from there: after each batch that takes source rows or copies away,
// and once more before the plan is closed. In the transaction of the batch, which has one
// snapshot, what is said while it runs would be missed, and a chunk that is spoken of
// again and again would fail it each time. So both look at where chunks are by then, and
// nothing goes but from where there is none to where it is: it is no matter who does
// that, how late, or how often.

// sayings are the tables of what is said of chunks.
var sayings = []string{"rehome.chunk_references", "rehome.chunk_access", "rehome.holds"}

// lateness is what is said late of chunks that leave one place of a transfer.
type lateness struct {
	*transfer
	home bool // they leave the target
}

// where is how chunks are found where they left, and which copies that is about.
func (l lateness) where() (columns, memory, id, copies string) {
	if l.home {
		return toSource, "@target::text", "c.target_id", "NOT c.here"
	}
	return toTarget, "@source::text", "m.chunk_id", "c.here"
}

// left are those of the rows spoken of that are not there any more, but where they were
// to go. Each is looked up by its id, however large the tables are: OFFSET 0 keeps it from
// a join, and IS TRUE from an index on the scope.
func (l lateness) left(spoken string) string {
	source := func(id string) string {
		return l.from.name() + " t WHERE " + l.from.hasID(id) + " AND " + l.from.scope() + " IS TRUE"
	}
	target := func(id string) string {
		return l.to.name() + " t WHERE " + l.to.hasID(id) + " AND " + l.targetScope() + " IS TRUE"
	}
	there, here := source, target
	if l.home {
		there, here = target, source
	}
	return `
		SELECT * FROM (` + spoken + ` OFFSET 0) p
		WHERE NOT EXISTS (SELECT FROM ` + there("p.left_id") + ` OFFSET 0) AND EXISTS (SELECT FROM ` + here("p.chunk_id") + ` OFFSET 0)`
}

// within are they among rows (@lo, @hi] of the plan, each looked up by its keys.
func (l lateness) within() string {
	columns, memory, id, copies := l.where()
	said := make([]string, len(sayings))
	for i, table := range sayings {
		said[i] = fmt.Sprintf("EXISTS (SELECT FROM %s s WHERE s.memory = %s AND s.chunk_id = %s OFFSET 0)", table, memory, id)
	}
	lo, hi := l.passed()
	return l.left(columns + ` FROM ` + movesOf("@origin", lo, hi) + `
			CROSS JOIN LATERAL (SELECT * FROM rehome.migration_copies c WHERE c.plan = @origin AND c.ordinal = m.ordinal OFFSET 0) c
			WHERE ` + copies + ` AND (` + strings.Join(said, " OR ") + `)`)
}

// all are they among all rows of the plan.
func (l lateness) all() string {
	columns, memory, id, copies := l.where()
	said := make([]string, len(sayings))
	for i, table := range sayings {
		said[i] = fmt.Sprintf("SELECT chunk_id FROM %s WHERE memory = %s", table, memory)
	}
	return l.left(columns + `
			FROM rehome.migration_moves m JOIN rehome.migration_copies c USING (plan, ordinal)
			WHERE m.plan = @origin AND ` + copies + ` AND ` + id + ` IN (` + strings.Join(said, " UNION ALL ") + `)`)
}

// noBatch is in place of batchLock where whoever gives up a batch has nothing to give up.
const noBatch = 0

// follow takes along what was said of the rows of a step, which left, as a part of it. What
// somebody is saying at this moment is left to the look at the end.
func (s *Store) follow(ctx context.Context, l lateness, at, next resilience.Watermark, took *Took) error {
	lo, hi := min(at.Last, next.Last), max(at.Last, next.Last)
	if lo == hi {
		return nil
	}
	began := time.Now()
	defer func() { took.Time += time.Since(began) }()
	args := l.args(pgx.NamedArgs{"lo": lo, "hi": hi, "epoch": at.Epoch, "batch": 0, "gentle": false, "patient": false, "batch_lock": noBatch})
	err := s.takeAlong(ctx, batchGuards, l.within(), args, func(tx pgx.Tx) (bool, error) {
		// One that is being undone by now leads what is said back.
		tag, err := tx.Exec(ctx, `SELECT FROM rehome.migration_progress WHERE plan_id = @plan AND epoch = @epoch FOR SHARE`, args)
		return err == nil && tag.RowsAffected() > 0, err
	})
	if TroubleOf(err) != resilience.NoTrouble {
		return nil
	}
	return err
}

// followAll takes along what was said of any chunk of a plan that left, before that
// plan is closed.
func (s *Store) followAll(ctx context.Context, plan string, undoing bool) error {
	t, err := readTransfer(ctx, s.pool, plan)
	if err == nil && t != nil {
		want := resilience.Executing
		if undoing {
			want = resilience.RollingBack
		}
		err = s.takeAlong(ctx, bulkSettings+`, set_config('lock_timeout', '2s', true)`, lateness{t, t.back != undoing}.all(), t.args(nil), func(tx pgx.Tx) (bool, error) {
			var status resilience.Status
			err := tx.QueryRow(ctx, `SELECT status FROM rehome.migration_plans WHERE plan_id = $1 FOR UPDATE`, plan).Scan(&status)
			return status == want, err
		})
	}
	if err != nil {
		return fmt.Errorf("take along what was said of the chunks of %s: %w", plan, interpret(err))
	}
	return nil
}

// takeAlong looks for rows that something is left behind of, there and back once, which is
// all there is to do mostly; if there are some and it may still be done, it takes it along.
func (s *Store) takeAlong(ctx context.Context, settings, left string, args pgx.NamedArgs, still func(pgx.Tx) (bool, error)) error {
	var some bool
	look := &pgx.Batch{} // a transaction
	look.Queue(settings, args)
	look.Queue(`SELECT EXISTS (`+left+`)`, args).QueryRow(func(row pgx.Row) error { return row.Scan(&some) })
	if err := s.pool.SendBatch(ctx, look).Close(); err != nil || !some {
		return err
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, settings, args); err != nil {
			return err
		}
		if ok, err := still(tx); err != nil || !ok {
			return err
		}
		return repoint(ctx, tx, left, args)
	})
}

// repoint lets what is said of moved chunks lead to where they are.
func repoint(ctx context.Context, tx pgx.Tx, moved string, args pgx.NamedArgs) error {
	return execAll(ctx, tx, args, fmt.Sprintf(repointReferences, moved), fmt.Sprintf(repointAccess, moved), fmt.Sprintf(repointHolds, moved))
}
