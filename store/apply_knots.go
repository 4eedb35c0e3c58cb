package store

import (
	"context"
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

// portion is the rows of a batch that a statement is about.
type portion int

// The portions.
const (
	everyRow portion = iota
	asideRows
	otherRows
)

// upTo bounds batches from a watermark by the next knot, unless all rows are wanted at
// once. One that begins with a knot has to be careful.
func (m *Mover) upTo(at resilience.Watermark, b Bounds, undoing bool) (until, floor int64, knotted bool) {
	until, floor = b.Until, b.Floor
	left := at.Total - at.Last
	if undoing {
		left = at.Last
	}
	next := m.knots.from(at.Last) // of those that end after it
	if undoing {
		next--
	}
	switch {
	case next < 0 || next == len(m.knots):
	case b.Batch > resilience.MaxBatchSize || int64(b.Batch) >= left:
		knotted = true
	case undoing:
		floor, knotted = max(floor, m.knots[next].hi), m.knots[next].hi == at.Last
	default:
		until, knotted = m.knots[next].lo, m.knots[next].lo == at.Last
		if b.Until > 0 {
			until = min(until, b.Until)
		}
	}
	if knotted {
		return b.Until, b.Floor, true
	}
	return until, floor, false
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
	if len(p.m.knots.within(by.lo, by.hi)) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `SET LOCAL statement_timeout = '8min'`)
	return err
}

// span is rows (lo, hi] of the journal.
type span struct{ lo, hi int64 }

// spans are apart from each other, in ascending order.
type spans []span

// ranges are such, as Postgres keeps them.
type ranges = pgtype.Multirange[pgtype.Range[int64]]

// spansOf are ranges of rows. Of knots, whose ranges are of ends that a batch may not
// have, more is 1: the row after the last of these is tied, too.
func spansOf(all ranges, more int64) spans {
	found := make(spans, len(all))
	for i, r := range all { // [lower, upper), as Postgres has all of whole numbers
		found[i] = span{r.Lower - 1, r.Upper - 1 + more}
	}
	return found
}

// from is the index of the first that ends after a row.
func (s spans) from(row int64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].hi > row })
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
