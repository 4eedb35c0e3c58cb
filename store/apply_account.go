package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A statement that moves rows ends with the account of them, a batchResult. It tells
// it, and which rows are wrong, or, where nobody looks before the commit, insists that it
// is right: then nobody asks which, until the batch is done again to say so.
const (
	accounted = `account (planned, present, here, moved, whole, verified)`
	told      = `SELECT *, CASE WHEN moved = here AND verified THEN NULL ELSE ARRAY(SELECT ordinal FROM wrong ORDER BY ordinal) END FROM account`
	insisted  = `SELECT planned, present, here, moved, whole, CASE WHEN moved = here AND whole AND verified THEN true ELSE rehome.refuse_batch() END, NULL::bigint[] FROM account`
)

// insisting is a move of the rows that an advance passed, which fails where its account
// is not right.
func insisting(move string) string {
	return strings.TrimSuffix(ofPassed.Replace(move), told) + insisted
}

// refused says that the account of a batch was not right.
func refused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "RH001"
}

// batchResult accounts for every planned row of a batch.
type batchResult struct {
	planned  int64 // rows the journal has
	present  int64 // of these, rows the table has
	here     int64 // of these, rows at the journalled path
	moved    int64
	whole    bool    // the journal has every row of the batch, if it passed any
	verified bool    // every moved row is at its target and, where compared, path apart what it was
	wrong    []int64 // rows that should have moved and did not, or that are not verified
}

// and is the account of two parts of a batch, each of which was right.
func (r batchResult) and(other batchResult) batchResult {
	return batchResult{
		planned: r.planned + other.planned, present: r.present + other.present, here: r.here + other.here,
		moved: r.moved + other.moved,
	}
}

func (r *batchResult) scan(row pgx.Row) error {
	return row.Scan(&r.planned, &r.present, &r.here, &r.moved, &r.whole, &r.verified, &r.wrong)
}

// chunks says how many are wrong, where that is known row by row.
func (r batchResult) chunks() string {
	if len(r.wrong) == 0 {
		return "chunks"
	}
	return fmt.Sprintf("%d chunks", len(r.wrong))
}

// sparing is what to do about a table that meddles with its rows.
const sparing = "let it spare updates of the path (a WHEN condition), or disable it meanwhile, and then migrate again, or resume the migration where it is paused"

// check refuses an account that is not right, with what see says of the rows that are wrong.
func (r batchResult) check(lo, hi int64, which string) error {
	switch {
	case !r.whole:
		return problem(ErrVerify, "rows %d to %d: the journal does not have them all; somebody changed tables of schema rehome. Nothing of them was moved; restore what the journal lacks and retry", lo+1, hi)
	case r.moved != r.here:
		return problem(ErrVerify, "rows %d to %d: %d chunks should have moved and %d did%s; a trigger or a rule on the table keeps rows from being updated; "+sparing, lo+1, hi, r.here, r.moved, which)
	case !r.verified:
		return problem(ErrVerify, "rows %d to %d: %s are not what they were, their path apart%s; a trigger or a generated column of the table changes more than the path; "+sparing, lo+1, hi, r.chunks(), which)
	}
	return nil
}
