package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Conflicts lists the first of what stands, or stood when it was planned, in the
// way of a plan. Plan.Conflicts counts all of it.
func (s *Store) Conflicts(ctx context.Context, plan string, limit int) ([]resilience.Conflict, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT kind, source, target, detail FROM rehome.migration_conflicts WHERE plan_id = $1 ORDER BY ordinal LIMIT $2`, plan, limit)
	if err != nil {
		return nil, fmt.Errorf("read the conflicts of %s: %w", plan, interpret(err))
	}
	conflicts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Conflict])
	if err != nil {
		return nil, fmt.Errorf("read the conflicts of %s: %w", plan, interpret(err))
	}
	return conflicts, nil
}

// forgetRows takes away what a plan without a journal has of one.
var forgetRows = []string{
	`DELETE FROM rehome.migration_paths WHERE plan_id = @plan`,
	`DELETE FROM rehome.migration_runs WHERE plan = @number`,
	`DELETE FROM rehome.migration_documents WHERE plan = @number`,
	`UPDATE rehome.migration_plans SET knots = DEFAULT, aside = DEFAULT, chained = DEFAULT WHERE plan_id = @plan AND chained`,
}

// recordConflicts writes down what stands in the plan's way, in place of what
// an earlier look found. A plan that has no journal keeps no list of paths then.
func (j *journal) recordConflicts(ctx context.Context) error {
	_, err := j.tx.Exec(ctx, `
		WITH before AS (DELETE FROM rehome.migration_conflicts WHERE plan_id = $1)
		UPDATE rehome.migration_plans SET conflicts = $2 WHERE plan_id = $1 AND conflicts <> $2`, j.plan, j.inTheWay)
	if err != nil || j.inTheWay == 0 {
		return err
	}
	if !j.exists {
		if err := execAll(ctx, j.tx, j.args(nil), forgetRows...); err != nil {
			return err
		}
	}
	_, err = j.tx.CopyFrom(ctx, pgx.Identifier{"rehome", "migration_conflicts"},
		[]string{"plan_id", "ordinal", "kind", "source", "target", "detail"},
		pgx.CopyFromSlice(len(j.conflicts), func(i int) ([]any, error) {
			c := j.conflicts[i]
			return []any{j.plan, int64(i + 1), string(c.Kind), c.Source, c.Target, c.Detail}, nil
		}))
	return err
}

// refusal is nil for a plan that nothing stands in the way of.
func (j *journal) refusal() error {
	if j.inTheWay == 0 {
		return nil
	}
	said := resilience.ConflictRefusal(j.plan, j.conflicts, j.inTheWay)
	for _, c := range j.conflicts {
		if c.Kind != resilience.NoSource {
			return problem(ErrConflict, "%s", said)
		}
	}
	return problem(ErrNotFound, "memory %s: %s. Paths are relative to the memory's root (`starter memory show %s`)", j.memory, said, j.memory)
}

// checkOverlap refuses a plan that touches what another live plan owns.
func (j *journal) checkOverlap(ctx context.Context) error {
	if err := j.findOwners(ctx); err != nil {
		return err
	}
	return j.refusal()
}
