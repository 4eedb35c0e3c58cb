package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// driftAllowed is the share of a plan's rows that may have drifted before it
// has to be approved again.
const driftAllowed = 0.01

// Recheck looks at the table again before a plan begins that waited, and says
// why it has to be approved again: its journal is not what was hashed, too many
// of its rows are not where they were, an approval is too old, or something came
// to be at a target. It is empty when the plan may begin.
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

func (j *journal) recheck(ctx context.Context) (string, error) {
	var approvedAt *time.Time
	var expected string
	var old bool
	err := j.tx.QueryRow(ctx, `
		SELECT plan_hash, approved_at, coalesce(approved_at < now() - $2 * interval '1 second', false)
		FROM rehome.migration_plans WHERE plan_id = $1`, j.plan, resilience.ApprovalLasts.Seconds()).Scan(&expected, &approvedAt, &old)
	if err != nil {
		return "", err
	}
	if old {
		return fmt.Sprintf("its approval is older than %s", resilience.ApprovalLasts), nil
	}
	hash, err := j.hash(ctx)
	if err != nil {
		return "", err
	}
	if hash != expected {
		return "", problem(ErrVerify, "the journal of %s is not what was planned: its hash is %s, not %s; somebody wrote to rehome.migration_moves or migration_paths. Plan it anew", j.plan, hash, expected)
	}
	var drifted int64
	err = j.tx.QueryRow(ctx, fmt.Sprintf(`
		SELECT @total::bigint - count(*) FROM rehome.migration_moves m JOIN rehome.migration_paths p USING (path_id)
		JOIN %s t ON %s AND %s AND %s WHERE m.plan = @number`,
		j.table.name(), j.table.hasID("m.chunk_id"), j.table.scope(), j.table.locatorsAre("p.old_path")),
		j.args(pgx.NamedArgs{"total": j.total})).Scan(&drifted)
	if err != nil {
		return "", err
	}
	if float64(drifted) > driftAllowed*float64(j.total) {
		return fmt.Sprintf("%d of its %d chunks are no longer where they were planned", drifted, j.total), nil
	}
	if j.undoes != "" {
		return "", nil
	}
	taken, err := j.listPaths(ctx)
	if err != nil || len(taken) == 0 {
		return "", err
	}
	return "chunks of " + strings.Join(taken, ", ") + " came to be where it would move others", nil
}
