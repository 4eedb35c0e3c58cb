package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rehome/resilience"
)

// Leave lets a batch of an undo go on without the rows that cannot go back.
type Leave struct {
	At     int64  `json:"at"`     // only the batch that begins at this watermark
	Reason string `json:"reason"` // why a person wants it so
}

// maxClashes is how many rows of one batch may be refused by the table before
// it is the plan that is wrong, and not they.
const maxClashes = 10

// leaving finds the rows of a batch that the table does not take, and lists
// them, so that the others move.
type leaving struct {
	plan    string
	knots   spans // rows that go together, or not at all
	undoing bool
	person  bool // who wants to go on whatever is wrong with a row
	reason  string
	most    int
	first   string // what the table said of the first
}

// leaving is what a batch may leave where it is.
func (b Bounds) leaving(plan string, at resilience.Watermark, undoing bool, knots spans) *leaving {
	if b.Leave == nil || b.Leave.At != at.Last || !undoing {
		return nil
	}
	return &leaving{plan: plan, knots: knots, undoing: true, person: true, reason: b.Leave.Reason, most: int(at.Last)}
}

// doing does something with rows (lo, hi] of the journal.
type doing func(ctx context.Context, tx pgx.Tx, lo, hi int64) (batchResult, error)

// without does rows (lo, hi] of the journal except for those that fail by
// themselves: halves of them are tried, and halves of those, the last ones first
// on the way back.
func (l *leaving) without(ctx context.Context, tx pgx.Tx, do doing, lo, hi int64) (batchResult, error) {
	cut, tied := l.cut(lo, hi)
	if hi-lo <= piece || tied { // what takes more than one statement fails as one only
		r, failure, err := attempt(ctx, tx, do, lo, hi)
		switch {
		case err != nil:
			return r, err
		case failure == nil:
			return r, nil
		case !ofRow(failure, l.person):
			return r, failure
		case tied && !l.person: // no retry mends that, whatever raised it
			return r, problem(ErrConflict, "rows %d to %d of %s go together, since their files change places, and the table refuses that: %s; change what refuses it (a constraint, a trigger, or a chunk that is where one is to go), and then migrate again, or resume the migration where it is paused",
				lo+1, hi, l.plan, said(failure))
		case tied || hi-lo == 1:
			return batchResult{}, l.leave(ctx, tx, lo, hi, failure)
		}
	}
	halves := [][2]int64{{lo, cut}, {cut, hi}}
	if l.undoing {
		slices.Reverse(halves)
	}
	var all batchResult
	for _, h := range halves {
		r, err := l.without(ctx, tx, do, h[0], h[1])
		if err != nil {
			return all, err
		}
		all = all.and(r)
	}
	return all, nil
}

// cut is where rows (lo, hi] are parted, unless they are tied together.
func (l *leaving) cut(lo, hi int64) (at int64, tied bool) {
	middle := (lo + hi) / 2
	knot, within := l.knots.around(middle)
	switch {
	case !within:
		return middle, false
	case lo < knot.lo:
		return knot.lo, false
	case knot.hi < hi:
		return knot.hi, false
	}
	return middle, true
}

// attempt does rows (lo, hi] of the journal, or none of them; then it returns
// the failure, and the transaction is as it was before.
func attempt(ctx context.Context, tx pgx.Tx, do doing, lo, hi int64) (r batchResult, failure, err error) {
	mark, err := tx.Begin(ctx)
	if err != nil {
		return r, nil, err
	}
	if r, failure = do(ctx, mark, lo, hi); failure != nil {
		if err := mark.Rollback(ctx); err != nil { // the connection is gone, and the failure says why
			return r, nil, errors.Join(failure, err)
		}
		return r, failure, nil
	}
	return r, nil, mark.Commit(ctx)
}

// leave lists rows (lo, hi], but for those that never went.
func (l *leaving) leave(ctx context.Context, tx pgx.Tx, lo, hi int64, failure error) error {
	detail := said(failure)
	l.first = cmp.Or(l.first, detail)
	if l.most--; l.most < 0 { // no retry mends that, whatever raised it
		return problem(ErrConflict, "the table refuses more than %d rows of a batch of %s, the first of them with: %s; change what refuses them (a constraint, an index or a trigger) or leave them out, and then migrate again, or resume the migration where it is paused",
			maxClashes, l.plan, l.first)
	}
	if l.reason != "" {
		detail = l.reason + " (" + detail + ")"
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing, detail)
		SELECT $1, n.ordinal, $4, $5, $6 FROM generate_series($2::bigint + 1, $3) n (ordinal)
		WHERE NOT $5 OR NOT EXISTS (SELECT FROM rehome.migration_exceptions e WHERE e.plan_id = $1 AND e.ordinal = n.ordinal AND NOT e.undoing AND e.outcome <> 'edited')
		ON CONFLICT (plan_id, ordinal, undoing) DO UPDATE SET outcome = excluded.outcome, detail = excluded.detail`,
		l.plan, lo, hi, resilience.Clashed, l.undoing, detail)
	return err
}

// said is what the table says of a row.
func said(failure error) string {
	pg, ok := errors.AsType[*pgconn.PgError](failure)
	switch {
	case !ok:
		return failure.Error()
	case pg.Detail != "" && slices.Contains([]string{"23503", "23505", "23P01"}, pg.Code): // which key is there already, or is not; of others it has the row
		return pg.Message + " (" + pg.Detail + ")"
	}
	return pg.Message
}

// ofRow says whether a statement failed by what is in a row. Where a person wants to
// go on, a lock and whatever else is no fault of the server counts too.
func ofRow(err error, person bool) bool {
	if !person {
		return rowRefused(err)
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return errors.Is(err, ErrVerify)
	}
	switch pg.Code[:2] {
	case "42", "54", "55": // a column is gone, too large, locked
		return true
	}
	return rowRefused(err) || pg.Code == "57014" // out of time
}

// Exception is a row of a plan that did not go where it should.
type Exception struct {
	Ordinal int64              `json:"ordinal"`
	Chunk   string             `json:"chunk_id"`
	Outcome resilience.Outcome `json:"outcome"`
	Undoing bool               `json:"undoing"` // it did not go back
	Detail  string             `json:"detail,omitempty"`
}

// Exceptions lists the first rows of a plan that did not move, or not back, and after them
// those that were edited.
func (s *Store) Exceptions(ctx context.Context, plan string, limit int) ([]Exception, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT e.ordinal, coalesce(m.chunk_ids[(e.ordinal - m.first)::integer + 1], ''), e.outcome, e.undoing, e.detail
		FROM rehome.migration_exceptions e
		JOIN rehome.migration_plans p USING (plan_id)
		LEFT JOIN LATERAL (
			SELECT * FROM rehome.migration_runs r WHERE r.plan = p.number AND r.last >= e.ordinal ORDER BY r.last LIMIT 1) m ON true
		WHERE e.plan_id = $1 ORDER BY e.outcome = 'edited', e.outcome, e.undoing, e.ordinal LIMIT $2`, plan, limit)
	if err != nil {
		return nil, fmt.Errorf("read the exceptions of %s: %w", plan, interpret(err))
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Exception])
	if err != nil {
		return nil, fmt.Errorf("read the exceptions of %s: %w", plan, interpret(err))
	}
	return all, nil
}

// Note records what happened to a plan, once: what was noted last is not noted again.
func (s *Store) Note(ctx context.Context, plan, what, author, detail string) error {
	_, err := s.pool.Exec(ctx, `
		INSERT INTO rehome.migration_events (plan_id, event, author, detail)
		SELECT $1, $2::text, $3::text, $4::text WHERE NOT EXISTS (
			SELECT FROM (SELECT * FROM rehome.migration_events WHERE plan_id = $1 ORDER BY event_id DESC LIMIT 1) last
			WHERE event = $2 AND author = $3 AND detail = $4)`,
		plan, what, author, detail)
	if err != nil {
		return fmt.Errorf("note that %s is %s: %w", plan, what, interpret(err))
	}
	return nil
}
