package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// What a table does of its own after its rows were written (triggers that come after,
// rules) is done when the statement that wrote them is over, so that it cannot see it.
// Where there is such a thing, the rows of a batch are looked at again by statements of
// their own, in its transaction still.

// aftermath finds rows that are not what they were to be after all.
type aftermath struct {
	before string // prints of rows before the move, by their ordinals
	after  string // likewise, after it
	// changed counts those that are not what they were to be.
	changed func(before, after prints) int
}

// prints stand for what rows are, by their ordinals.
type prints map[int64]int64

// actsAfter reports whether a table does anything once its rows were written: bit is
// the kind of write as pg_trigger.tgtype has it, rule as pg_rewrite.ev_type. A trigger
// that comes while a slice is at work is known to the next.
func actsAfter(ctx context.Context, q querier, relations []uint32, bit int, rule string) (acts bool, err error) {
	const instead, before = 64, 2
	err = q.QueryRow(ctx, `
		SELECT EXISTS (
				SELECT FROM pg_trigger
				WHERE tgrelid = ANY ($1::oid[]) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & $2::integer <> 0 AND tgtype & $3::integer = 0)
			OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = ANY ($1::oid[]) AND ev_type = $4)`,
		relations, bit, instead|before, rule).Scan(&acts)
	return acts, err
}

// afterMoves looks at renamed rows: the id, the text, the embedding, metadata and the
// rest of the documents that hold locators have to be what they were, at their new path.
func (t table) afterMoves(d direction) *aftermath {
	skipped := ""
	if d.undoing {
		skipped = "AND NOT EXISTS (SELECT FROM rehome.migration_exceptions e WHERE e.plan_id = @plan AND e.ordinal = m.ordinal AND NOT e.undoing)"
	}
	arrived := d
	arrived.from = d.to
	look := func(where direction) string {
		return fmt.Sprintf(`
			SELECT p.ordinal, hashtextextended(ROW(%s)::text, 0)
			FROM (SELECT m.* FROM %s WHERE NOT m.ordinal <@ @stays::int8multirange %s) p JOIN %s t ON %s`,
			strings.Join(t.besidesThePath(), ", "), movesOf("@number", "@lo", "@hi"), skipped, t.name(), t.isHere(where))
	}
	return &aftermath{before: look(d), after: look(arrived), changed: func(before, after prints) (n int) {
		for ordinal, print := range before {
			if now, there := after[ordinal]; !there || now != print {
				n++
			}
		}
		return n
	}}
}

// besidesThePath are the columns of a row that a rename keeps, without the locators in
// them.
func (t table) besidesThePath() []string {
	columns := []string{t.column(t.m.ID), t.column(t.m.Content)}
	if t.m.Embedding != "" {
		columns = append(columns, t.column(t.m.Embedding))
	}
	if t.apartMetadata() {
		columns = append(columns, t.column(t.m.Metadata))
	}
	for _, c := range t.documentColumns() {
		document := t.column(c) + "::jsonb"
		for n, l := range t.m.Locators {
			if l.Column == c {
				document = fmt.Sprintf("(%s #- @keys%d)", document, n)
			}
		}
		columns = append(columns, document)
	}
	return slices.Compact(columns)
}

// afterCopies looks at the copies that a batch of a transfer made: each has to be what
// was noted of it. One that was there before may have been written to since.
func (t *transfer) afterCopies(undoing bool) *aftermath {
	f := t.fragments(undoing)
	held := `
		WITH ` + journalled + `
		SELECT p.ordinal, 0::bigint FROM planned p`
	return &aftermath{
		before: f.Replace(held + ` WHERE p.held`),
		after:  f.Replace(held + ` LEFT JOIN {target} t ON {is target} WHERE p.held AND {written} IS DISTINCT FROM p.made`),
		changed: func(before, after prints) (n int) {
			for ordinal := range after {
				if _, there := before[ordinal]; !there {
					n++
				}
			}
			return n
		},
	}
}

// look reads the prints of a statement.
func (m *Mover) look(ctx context.Context, tx pgx.Tx, statement string) (prints, error) {
	rows, err := tx.Query(ctx, statement, m.args)
	if err != nil {
		return nil, err
	}
	found := prints{}
	var ordinal, print int64
	_, err = pgx.ForEachRow(rows, []any{&ordinal, &print}, func() error {
		found[ordinal] = print
		return nil
	})
	return found, err
}

// minding does a move whose aftermath is looked at.
func (m *Mover) minding(ctx context.Context, tx pgx.Tx, a *aftermath, lo, hi int64, move func() error) error {
	if a == nil {
		return move()
	}
	before, err := m.look(ctx, tx, a.before)
	if err != nil {
		return err
	}
	if err := move(); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, checkAtOnce); err != nil { // what else comes at the end of the transaction comes now
		return err
	}
	after, err := m.look(ctx, tx, a.after)
	if err != nil {
		return err
	}
	if n := a.changed(before, after); n > 0 {
		return problem(ErrVerify, "rows %d to %d: %d chunks are not what they were to be once the table's own triggers and rules were done; "+sparing, lo+1, hi, n)
	}
	return nil
}
