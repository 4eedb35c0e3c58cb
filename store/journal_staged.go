package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rehome/resilience"
)

// StageRenames keeps a long list of renames for a plan that is about to be
// made, which takes them when CreatePlan is given none. next returns io.EOF
// after the last. A path that is renamed twice, or that two are renamed to, is
// added to bad; when something is in bad at the end, nothing is kept.
func (s *Store) StageRenames(ctx context.Context, plan string, next func() (resilience.Move, error), bad *resilience.BadLines) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		// What was never taken is of commands that were killed before they started a run.
		if _, err := tx.Exec(ctx, `DELETE FROM rehome.migration_staged WHERE staged_at < now() - interval '7 days'`); err != nil {
			return err
		}
		if err := copyStaged(ctx, tx, plan, next); err != nil {
			return err
		}
		if err := findTwice(ctx, tx, plan, bad); err != nil {
			return err
		}
		if bad.Total > 0 {
			return errTakeBack
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTakeBack) {
		return fmt.Errorf("keep the renames of %s: %w", plan, err)
	}
	return nil
}

// DropStaged forgets the renames of a plan that nobody will make.
func (s *Store) DropStaged(ctx context.Context, plan string) error {
	if _, err := s.pool.Exec(ctx, `DELETE FROM rehome.migration_staged WHERE plan_id = $1`, plan); err != nil {
		return fmt.Errorf("drop the renames of %s: %w", plan, interpret(err))
	}
	return nil
}

func copyStaged(ctx context.Context, tx pgx.Tx, plan string, next func() (resilience.Move, error)) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"rehome", "migration_staged"}, []string{"plan_id", "line", "old_path", "new_path"},
		pgx.CopyFromFunc(func() ([]any, error) {
			m, err := next()
			if errors.Is(err, io.EOF) {
				return nil, nil
			}
			return []any{plan, m.Line, m.Old, m.New}, err
		}))
	return err
}

// findTwice looks for lines that say of a path what an earlier one said.
func findTwice(ctx context.Context, tx pgx.Tx, plan string, bad *resilience.BadLines) error {
	rows, err := tx.Query(ctx, `
		SELECT DISTINCT ON (line) line, format(said, path, first)
		FROM (
			SELECT line, old_path AS path, min(line) OVER (PARTITION BY old_path) AS first, '%s is renamed twice, first on line %s' AS said
			FROM rehome.migration_staged WHERE plan_id = $1
			UNION ALL
			SELECT line, new_path, min(line) OVER (PARTITION BY new_path), 'two are renamed to %s, the first on line %s'
			FROM rehome.migration_staged WHERE plan_id = $1) said
		WHERE line > first ORDER BY line, said`, plan)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var line int64
		var why string
		if err := rows.Scan(&line, &why); err != nil {
			return err
		}
		bad.Add(line, why)
	}
	return rows.Err()
}

// takeStaged makes the staged renames those of the plan. What nothing has to
// leave before comes first, then the rest with its chains backwards.
func takeStaged(ctx context.Context, tx pgx.Tx, plan string) error {
	if _, err := tx.Exec(ctx, bulkSettings); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		WITH ways AS MATERIALIZED ( -- or the list would be read again for every line of it
			SELECT s.line, way.path
			FROM rehome.migration_staged s CROSS JOIN LATERAL unnest(rehome.path_prefixes(s.new_path)) AS way (path)
			WHERE s.plan_id = $1)
		SELECT DISTINCT ON (w.line) w.line, t.line
		FROM ways w JOIN rehome.migration_staged t ON t.plan_id = $1 AND t.old_path = w.path
		ORDER BY w.line, length(t.old_path) DESC`, plan)
	if err != nil {
		return err
	}
	waiting, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Waiting])
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, `
		INSERT INTO rehome.migration_renames (plan_id, ordinal, old_path, new_path)
		SELECT s.plan_id, row_number() OVER (ORDER BY w.place NULLS FIRST, s.line), s.old_path, s.new_path
		FROM rehome.migration_staged s LEFT JOIN unnest($2::bigint[]) WITH ORDINALITY AS w (line, place) USING (line)
		WHERE s.plan_id = $1`, plan, resilience.OrderRenames(waiting))
	if err != nil {
		return renamedTwice(plan, err)
	}
	if tag.RowsAffected() == 0 {
		return problem(ErrInvalid, "migration %s has no renames: none were given with it, and none were kept for it; start it anew", plan)
	}
	_, err = tx.Exec(ctx, `DELETE FROM rehome.migration_staged WHERE plan_id = $1`, plan)
	return err
}

// renamedTwice says which path it is that a plan's renames name twice.
func renamedTwice(plan string, err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23505" { // unique_violation
		return problem(ErrInvalid, "the renames of migration %s name a path twice: %s", plan, pg.Detail)
	}
	return err
}
