package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// driftAllowed is the share of a plan's rows that may have drifted before it
// has to be approved again.
const driftAllowed = 0.01

// Recheck looks at the table again before a plan begins that waited, or was made a while
// ago, and says why it has to be approved again: its journal is not what was hashed, too
// many of its rows are not where they were or too many others came to be there, an
// approval is too old, or something came to be at a target. It is empty when the plan may
// begin. A transfer whose tables are not what it was planned for is ErrChanged: no approval
// mends that.
func (s *Store) Recheck(ctx context.Context, plan string) (string, error) {
	var why string
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		j, err := openJournal(ctx, tx, plan)
		if err != nil {
			return err
		}
		why, err = j.recheck(ctx)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("look again at plan %s: %w", plan, err)
	}
	return why, nil
}

// CheckHash compares the journal of a plan that is about to begin with the plan's hash:
// ErrVerify where others changed it. Recheck does so, too.
func (s *Store) CheckHash(ctx context.Context, plan string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		j := &journal{tx: tx, plan: plan}
		if _, err := tx.Exec(ctx, bulkSettings); err != nil {
			return err
		}
		if err := j.read(ctx); err != nil {
			return err
		}
		var expected string
		var queued bool
		err := tx.QueryRow(ctx, `SELECT plan_hash, status = $2 FROM rehome.migration_plans WHERE plan_id = $1`, plan, resilience.Queued).Scan(&expected, &queued)
		if err != nil || !queued { // its answer was lost, and sweeps may have extended the journal
			return err
		}
		return j.compareHash(ctx, expected)
	})
	if err != nil {
		return fmt.Errorf("compare the journal of plan %s with its hash: %w", plan, err)
	}
	return nil
}

func (j *journal) compareHash(ctx context.Context, expected string) error {
	hash, _, err := j.hash(ctx)
	if err == nil && hash != expected {
		err = problem(ErrVerify, "the journal of %s is not what was planned: its hash is %s, not %s; somebody wrote to rehome.migration_runs, migration_paths or migration_documents. Plan it anew", j.plan, hash, expected)
	}
	return err
}

// fresh is how long a table is taken to be what a plan found in it.
const fresh = time.Minute

// Stale says whether a plan has to be looked at again before it begins, since it was made
// a while ago. One that undoes another is not: it lists what happened to its rows.
func (s *Store) Stale(ctx context.Context, plan string) (stale bool, err error) {
	err = s.pool.QueryRow(ctx, `
		SELECT undoes IS NULL AND coalesce(now() - journalled_at > $2, true) FROM rehome.migration_plans WHERE plan_id = $1`, plan, fresh).Scan(&stale)
	if err != nil {
		return false, fmt.Errorf("read when plan %s was made: %w", plan, interpret(err))
	}
	return stale, nil
}

// surprises are what a look at the table found that was not planned.
type surprises struct {
	Drifted  int64    `json:"drifted"`             // rows that are not where they were planned
	Came     int64    `json:"came"`                // rows that it would move and that were not planned
	Clashes  []string `json:"clashes"`             // the first paths where it would move others
	InTheWay int64    `json:"in_the_way"`          // files that would meet another
	Taken    int64    `json:"taken_ids,omitempty"` // chunks of a transfer whose ids others have in its target
	Unfit    string   `json:"unfit,omitempty"`     // why chunks of a transfer cannot be copied, or not leave
}

func (j *journal) recheck(ctx context.Context) (string, error) {
	var expected string
	var begun, old bool
	var accepted surprises
	err := j.tx.QueryRow(ctx, `
		SELECT plan_hash, status = ANY ($3), coalesce(approved_at < now() - $2 * interval '1 second', false), accepted
		FROM rehome.migration_plans WHERE plan_id = $1`, j.plan, resilience.ApprovalLasts.Seconds(), []resilience.Status{resilience.Executing, resilience.Paused}).Scan(&expected, &begun, &old, &accepted)
	if err != nil || begun { // its answer was lost
		return "", err
	}
	if err := j.compareHash(ctx, expected); err != nil {
		return "", err
	}
	if err := j.transfer.refuseChanged(ctx, j.tx, ErrChanged, "plan it anew"); err != nil {
		return "", err
	}
	found, err := j.surprises(ctx)
	if err != nil {
		return "", err
	}
	// An approval that follows is of what is found now.
	if _, err := j.tx.Exec(ctx, `UPDATE rehome.migration_plans SET surprises = $2 WHERE plan_id = $1`, j.plan, found); err != nil {
		return "", err
	}
	var why []string
	if old {
		why = append(why, fmt.Sprintf("its approval is older than %s", resilience.ApprovalLasts))
	}
	return strings.Join(append(why, found.beyond(accepted, j.total)...), "; "), nil
}

// surprises looks for rows that moved away and for others that came.
func (j *journal) surprises(ctx context.Context) (found surprises, err error) {
	if j.transfer != nil && j.undoes != "" {
		return found, nil // what it is about is not in the table
	}
	err = j.tx.QueryRow(ctx, fmt.Sprintf(`
		SELECT @total::bigint - count(*) FROM rehome.migration_moves m
		JOIN %s t ON %s AND %s AND %s WHERE m.plan = @number`,
		j.table.name(), j.table.hasID("m.chunk_id"), j.table.scope(), j.table.locatorsAre("m.old_path")),
		j.args(pgx.NamedArgs{"total": j.total})).Scan(&found.Drifted)
	if err != nil || j.undoes != "" {
		return found, err
	}
	if found.Clashes, err = j.listPaths(ctx); err != nil {
		return found, err
	}
	fold, err := j.folding(ctx)
	if err != nil {
		return found, err
	}
	own, err := j.find(ctx, twoToOne(fold)) // with a file that came since
	if err != nil {
		return found, err
	}
	found.Clashes = append(found.Clashes, firstPaths(own)...)
	found.InTheWay = j.inTheWay
	if j.transfer != nil {
		err := j.checkRows(ctx)
		if p, ok := errors.AsType[*Problem](err); ok {
			found.Unfit, err = p.Message, nil
		}
		if err != nil {
			return found, err
		}
		if j.transfer.fit.FreshID == "" {
			if _, err := j.find(ctx, j.takenIDs()); err != nil {
				return found, err
			}
			found.Taken = j.inTheWay - found.InTheWay
		}
	}
	err = j.tx.QueryRow(ctx, `SELECT count(*) - @there::bigint `+j.atSources("", "TRUE"),
		j.args(pgx.NamedArgs{"there": j.total - found.Drifted})).Scan(&found.Came)
	return found, err
}

// beyond says what was found of which no person knew when they approved the
// plan. A little drift is what tables do.
func (s surprises) beyond(accepted surprises, total int64) []string {
	var why []string
	if float64(s.Drifted-accepted.Drifted) > driftAllowed*float64(total) {
		why = append(why, fmt.Sprintf("%d of its %d chunks are no longer where they were planned", s.Drifted, total))
	}
	if float64(s.Came-accepted.Came) > driftAllowed*float64(total) {
		why = append(why, fmt.Sprintf("%d more chunks than its %d came to be at its sources", s.Came, total))
	}
	isNew := func(path string) bool { return !slices.Contains(accepted.Clashes, path) }
	if s.InTheWay > accepted.InTheWay || slices.ContainsFunc(s.Clashes, isNew) {
		why = append(why, "chunks of "+strings.Join(s.Clashes, ", ")+" came to be where it would move others")
	}
	if s.Taken > accepted.Taken {
		why = append(why, fmt.Sprintf("others came to have the ids of %d of its chunks where these would go", s.Taken))
	}
	if s.Unfit != accepted.Unfit && s.Unfit != "" {
		why = append(why, s.Unfit)
	}
	return why
}
