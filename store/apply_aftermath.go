package store

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
)

// What triggers do after a row was written is done when the statement that wrote it is
// over, so that it cannot see it. Where a table has such, the rows of a batch are looked
// at once more by statements of their own, at the end of its transaction.

// aftermath finds rows that are not what they were to be after all.
type aftermath struct {
	before string // prints of rows before they are written, by their ordinals
	after  string // likewise, after that
	// wrong are those that are not what they were to be.
	wrong func(before, after []rowPrint) []int64
}

// rowPrint stands for what a row is.
type rowPrint struct{ Ordinal, Hash int64 }

// Kinds of writes, as pg_trigger.tgtype has them.
const (
	writesInsert = 4
	writesUpdate = 16
)

// actsAfter reports whether triggers of a table act once rows were written so. One that
// comes while a slice is at work is known to the next.
func actsAfter(ctx context.Context, q querier, relations []uint32, writes int) (acts bool, err error) {
	const before, instead = 2, 64
	err = q.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM pg_trigger
			WHERE tgrelid = ANY ($1::oid[]) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & $2::integer <> 0 AND tgtype & $3::integer = 0)`,
		relations, writes, before|instead).Scan(&acts)
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
			SELECT p.ordinal, hash_array_extended(ARRAY[record_send(ROW(%s))], 0)
			FROM (SELECT m.* FROM %s WHERE NOT m.ordinal <@ @stays::int8multirange %s) p JOIN %s t ON %s`,
			strings.Join(t.besidesThePath(), ", "), movesOf("@number", "@lo", "@hi"), skipped, t.name(), t.isHere(where))
	}
	return &aftermath{before: look(d), after: look(arrived), wrong: func(before, after []rowPrint) (wrong []int64) {
		is := byOrdinal(after)
		for _, was := range before {
			if now, there := is[was.Ordinal]; !there || now != was.Hash {
				wrong = append(wrong, was.Ordinal)
			}
		}
		return wrong
	}}
}

func byOrdinal(prints []rowPrint) map[int64]int64 {
	found := make(map[int64]int64, len(prints))
	for _, p := range prints {
		found[p.Ordinal] = p.Hash
	}
	return found
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
	return columns
}

// afterCopies looks at copies that are not what was noted of them: such as an application
// wrote to, and are there before a batch makes or mends others.
func (t *transfer) afterCopies(undoing bool) *aftermath {
	look := t.fragments(undoing).Replace(`
		WITH ` + journalled + `
		SELECT p.ordinal, 0::bigint FROM planned p LEFT JOIN {target} t ON {is target} WHERE p.held AND {written} IS DISTINCT FROM p.made`)
	return &aftermath{before: look, after: look, wrong: func(before, after []rowPrint) (wrong []int64) {
		was := byOrdinal(before)
		for _, now := range after {
			if _, there := was[now.Ordinal]; !there {
				wrong = append(wrong, now.Ordinal)
			}
		}
		return wrong
	}}
}

// looks are those at the rows that a transaction writes, at first and at last. Without an
// aftermath there are none.
type looks struct {
	*aftermath
	parts []part
}

// part is some of these rows, (lo, hi] of the journal, as they were.
type part struct {
	lo, hi int64
	before []rowPrint
}

// first looks at rows (lo, hi] before any of them is written.
func (a *aftermath) first(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs, lo, hi int64) (*looks, error) {
	l := &looks{aftermath: a}
	if a == nil {
		return l, nil
	}
	for ; lo < hi; lo += piece {
		p := part{lo: lo, hi: min(lo+piece, hi)}
		var err error
		if p.before, err = readPrints(ctx, tx, a.before, args, p.lo, p.hi); err != nil {
			return nil, err
		}
		l.parts = append(l.parts, p)
	}
	return l, nil
}

// last looks at all of them again, when what is to come at the end of the transaction has
// come.
func (l *looks) last(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs) error {
	if l.aftermath == nil {
		return nil
	}
	if _, err := tx.Exec(ctx, checkAtOnce); err != nil {
		return err
	}
	for _, p := range l.parts {
		after, err := readPrints(ctx, tx, l.after, args, p.lo, p.hi)
		if err != nil {
			return err
		}
		wrong := l.wrong(p.before, after)
		which, err := see(ctx, tx, args, wrong)
		if err != nil {
			return err
		}
		if len(wrong) > 0 {
			return problem(ErrVerify, "rows %d to %d: %d chunks are not what they were to be once the triggers of the table were done%s; "+sparing, p.lo+1, p.hi, len(wrong), which)
		}
	}
	return nil
}

func readPrints(ctx context.Context, tx pgx.Tx, statement string, args pgx.NamedArgs, lo, hi int64) ([]rowPrint, error) {
	args = maps.Clone(args)
	args["lo"], args["hi"] = lo, hi
	rows, err := tx.Query(ctx, statement, args)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[rowPrint])
}
