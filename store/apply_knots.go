package store

import (
	"context"
	"fmt"
	"sort"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"rehome/resilience"
)

// A knot is rows of files that change places where a unique index takes no two of their
// chunks at one. All of it goes in one transaction, in which some rows step aside.

// stepping is how rows go some of which make room for the others: these out of the way,
// then the others, and then these to where they are to be.
type stepping struct{ out, others, in string }

// portion is the rows m of a batch that a statement is about: which, how many, and what
// more there is to know of them. SQL.
type portion struct{ has, rows, more string }

const asides = `(SELECT coalesce(sum(upper(s) - lower(s)), 0)::bigint FROM unnest(@aside::int8multirange) s)`

var (
	everyRow  = portion{has: "true", rows: "@hi - @lo"}
	asideRows = portion{has: "m.ordinal <@ @aside::int8multirange", rows: asides, more: ", " + steppingAside}
	otherRows = portion{has: "NOT m.ordinal <@ @aside::int8multirange", rows: "@hi - @lo - " + asides}
)

// stepping is how the rows go in a direction where some make room for the others.
func (t renaming) stepping(d direction, some bool) *stepping {
	out, in := d, d
	out.to, in.from = sideways, sideways
	return &stepping{out: t.statement(out, asideRows, some), others: t.statement(d, otherRows, some), in: t.statement(in, asideRows, some)}
}

// knotted says whether a batch from a watermark is to take knots along: one that begins
// with a knot, is larger than batches are, or is to have all rows that are left.
func (m *Mover) knotted(at resilience.Watermark, b Bounds, undoing bool) bool {
	knot, left := m.knots.next(at.Last, undoing), at.Total-at.Last
	if undoing {
		left = at.Last
	}
	return knot != nil && (knot.begins(undoing) == at.Last || b.Batch > resilience.MaxBatchSize || int64(b.Batch) >= left)
}

// shortOfKnot bounds batches from a watermark by the next knot.
func (m *Mover) shortOfKnot(at resilience.Watermark, b Bounds, undoing bool) Bounds {
	knot := m.knots.next(at.Last, undoing)
	switch {
	case knot == nil:
	case undoing:
		b.Floor = max(b.Floor, knot.hi)
	case b.Until == 0:
		b.Until = knot.lo
	default:
		b.Until = min(b.Until, knot.lo)
	}
	return b
}

// whole lets a batch take all of a knot that it would end in. What needs one transaction
// may take its time.
func (p *passage) whole(ctx context.Context, tx pgx.Tx, by *passed) error {
	if knot, cut := p.m.knots.around(by.to.Last); cut {
		if p.move.undoing {
			by.lo, by.to.Last = knot.lo, knot.lo
		} else {
			by.hi, by.to.Last = knot.hi, knot.hi
		}
		if _, err := tx.Exec(ctx, `UPDATE rehome.migration_progress SET last = $2 WHERE plan_id = $1`, p.m.plan, by.to.Last); err != nil {
			return err
		}
	}
	if !p.m.knots.meet(by.lo, by.hi) {
		return nil
	}
	_, err := tx.Exec(ctx, `SET LOCAL statement_timeout = '8min'`)
	return err
}

// span is rows (lo, hi] of the journal.
type span struct{ lo, hi int64 }

// begins is the watermark at which it begins, in a direction.
func (s span) begins(undoing bool) int64 {
	if undoing {
		return s.hi
	}
	return s.lo
}

// spans are apart from each other, in ascending order.
type spans []span

// ranges are such, as Postgres keeps them.
type ranges = pgtype.Multirange[pgtype.Range[int64]]

// spans reads ranges of rows of a plan p, SQL, one after another: there may be as many as
// there are files. Knots are ranges of ends that a batch may not have, of which more is 1:
// the row after the last of these is tied, too.
func (s *Store) spans(ctx context.Context, plan, of string, more int) (all spans, err error) {
	rows, err := s.pool.Query(ctx, `SELECT lower(r) - 1, upper(r) - 1 + $2 FROM rehome.migration_plans p, unnest(`+of+`) r WHERE plan_id = $1`, plan, more)
	if err == nil {
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (one span, err error) { return one, row.Scan(&one.lo, &one.hi) })
	}
	if err != nil {
		return nil, fmt.Errorf("read which rows of plan %s go together: %w", plan, interpret(err))
	}
	return all, nil
}

// from is the index of the first that ends after a row.
func (s spans) from(row int64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].hi > row })
}

// next is the first that a watermark comes to in a direction; nil: there is none.
func (s spans) next(at int64, undoing bool) *span {
	i := s.from(at)
	if undoing {
		i--
	}
	if i < 0 || i == len(s) {
		return nil
	}
	return &s[i]
}

// meet says whether they have any of rows (lo, hi].
func (s spans) meet(lo, hi int64) bool {
	i := s.from(lo)
	return i < len(s) && s[i].lo < hi
}

// within is what they have of rows (lo, hi].
func (s spans) within(lo, hi int64) ranges {
	in := ranges{}
	for _, one := range s[s.from(lo):] {
		if one.lo >= hi {
			break
		}
		in = append(in, pgtype.Range[int64]{Lower: max(one.lo, lo) + 1, Upper: min(one.hi, hi), LowerType: pgtype.Inclusive, UpperType: pgtype.Inclusive, Valid: true})
	}
	return in
}

// around is the one that has rows on both sides of a cut after a row.
func (s spans) around(cut int64) (span, bool) {
	if i := s.from(cut); i < len(s) && s[i].lo < cut {
		return s[i], true
	}
	return span{}, false
}
