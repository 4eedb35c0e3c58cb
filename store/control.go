package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Begin lets a planned migration run: from here on it has effects.
func (s *Store) Begin(ctx context.Context, plan string) error {
	return s.change(ctx, resilience.Executing, event{Plan: plan, What: "started"})
}

// CancelPlan ends a plan that has had no effect.
func (s *Store) CancelPlan(ctx context.Context, plan, reason string) error {
	return s.change(ctx, resilience.Cancelled, event{Plan: plan, What: "cancelled", Detail: reason})
}

// Pause makes a plan stop before its next batch.
func (s *Store) Pause(ctx context.Context, plan, author, reason string) error {
	return s.wish(ctx, resilience.WishPause, resilience.Paused, event{Plan: plan, What: "paused", Author: author, Detail: reason})
}

// Resume lets a paused plan go on.
func (s *Store) Resume(ctx context.Context, plan, author, reason string) error {
	return s.wish(ctx, resilience.WishRun, resilience.Executing, event{Plan: plan, What: "resumed", Author: author, Detail: reason})
}

// Throttle bounds a plan's pace from its next batch on. A rate of 0 rows a
// second means no bound; a batch size of 0 leaves the size as it is.
func (s *Store) Throttle(ctx context.Context, plan string, pace resilience.Pace) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE rehome.migration_progress
			SET rate = $2, batch_size = CASE WHEN $3 > 0 THEN $3 ELSE batch_size END WHERE plan_id = $1`,
			plan, pace.Rate, pace.BatchSize)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return problem(ErrConflict, "migration %s is not planned yet; try again in a moment", plan)
		}
		return recordEvent(ctx, tx, event{Plan: plan, What: "throttled", Author: pace.Author, Detail: pace.String()})
	})
	if err != nil {
		return fmt.Errorf("throttle plan %s: %w", plan, err)
	}
	return nil
}

// BeginUndo turns a plan round: its epoch is raised, which waits for the batch
// in flight and fences whoever still applies, and from here on batches go back.
// A plan that is being undone already stays so. It returns the watermark.
func (s *Store) BeginUndo(ctx context.Context, plan, reason, author string) (resilience.Watermark, error) {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE rehome.migration_progress SET epoch = epoch + 1, wish = 'undo' WHERE plan_id = $1 AND wish <> 'undo'`, plan)
		if err != nil {
			return err
		}
		return become(ctx, tx, resilience.RollingBack, event{Plan: plan, What: "rolling back", Author: author, Detail: reason})
	})
	if err != nil {
		return resilience.Watermark{}, fmt.Errorf("begin the undo of plan %s: %w", plan, err)
	}
	return s.Watermark(ctx, plan)
}

// EndUndo closes a plan whose rows are all back.
func (s *Store) EndUndo(ctx context.Context, plan string) error {
	w, err := s.Watermark(ctx, plan)
	if err != nil {
		return err
	}
	if w.Last != 0 {
		return problem(ErrConflict, "migration %s still has %d rows at their new place", plan, w.Last)
	}
	return s.change(ctx, resilience.RolledBack, event{Plan: plan, What: "rolled back"})
}

// FailUndo records that a rollback could not finish.
func (s *Store) FailUndo(ctx context.Context, plan, reason string) error {
	return s.change(ctx, resilience.Failed, event{Plan: plan, What: "rollback failed", Detail: reason})
}

// Switch lets readers of the old paths find the new ones: aliases and the
// catalogue of files change together. For the undo of a plan they go back to
// what they were before it.
func (s *Store) Switch(ctx context.Context, plan string) error {
	return s.switching(ctx, plan, false)
}

// UndoSwitch takes back what Switch did, or does nothing when it did not run.
func (s *Store) UndoSwitch(ctx context.Context, plan string) error {
	return s.switching(ctx, plan, true)
}

func (s *Store) switching(ctx context.Context, plan string, back bool) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var memory, undoes string
		var again bool // the plan undoes one that was itself an undo, so it renames anew
		err := tx.QueryRow(ctx, `
			SELECT p.memory, coalesce(p.undoes, ''), coalesce(u.undoes IS NOT NULL, false)
			FROM rehome.migration_plans p LEFT JOIN rehome.migration_plans u ON u.plan_id = p.undoes
			WHERE p.plan_id = $1 FOR UPDATE OF p`, plan).Scan(&memory, &undoes, &again)
		if err != nil {
			return err
		}
		images, onward := plan, !back // whose before-images, and which way
		if undoes != "" && !again {
			images, onward = undoes, back
		}
		if onward {
			return s.switchAliases(ctx, tx, images, memory)
		}
		return s.unswitchAliases(ctx, tx, images, memory)
	})
	if err != nil {
		return fmt.Errorf("switch the aliases of plan %s: %w", plan, err)
	}
	return nil
}

// Complete closes a plan whose rows are all accounted for, and the plan it undoes.
func (s *Store) Complete(ctx context.Context, plan string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var moves, last, journalled int64
		var undoes string
		err := tx.QueryRow(ctx, `
			SELECT p.moves, g.last, coalesce(p.undoes, ''), (SELECT count(*) FROM rehome.migration_moves m WHERE m.plan = p.number)
			FROM rehome.migration_plans p JOIN rehome.migration_progress g USING (plan_id)
			WHERE plan_id = $1`, plan).Scan(&moves, &last, &undoes, &journalled)
		if err != nil {
			return err
		}
		if last != moves || journalled != moves {
			return problem(ErrVerify, "migration %s planned %d rows, journalled %d and worked through %d", plan, moves, journalled, last)
		}
		if undoes != "" {
			if err := become(ctx, tx, resilience.RolledBack, event{Plan: undoes, What: "undone", Detail: "undone by " + plan}); err != nil {
				return err
			}
		}
		return become(ctx, tx, resilience.Completed, event{Plan: plan, What: "completed"})
	})
	if err != nil {
		return fmt.Errorf("complete plan %s: %w", plan, err)
	}
	return nil
}

// change moves a plan to a status; a plan that is there stays as it is.
func (s *Store) change(ctx context.Context, next resilience.Status, e event) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error { return become(ctx, tx, next, e) })
	if err != nil {
		return fmt.Errorf("make plan %s %s: %w", e.Plan, next, err)
	}
	return nil
}

// wish sets what the operator wants, which the next batch reads.
func (s *Store) wish(ctx context.Context, want resilience.Wish, next resilience.Status, e event) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if err := become(ctx, tx, next, e); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE rehome.migration_progress SET wish = $2 WHERE plan_id = $1 AND wish <> 'undo'`, e.Plan, want)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s plan %s: %w", want, e.Plan, err)
	}
	return nil
}

// Events lists what happened to a plan, oldest first.
func (s *Store) Events(ctx context.Context, plan string) ([]resilience.Event, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT at, event, author, detail FROM rehome.migration_events WHERE plan_id = $1 ORDER BY event_id`, plan)
	if err != nil {
		return nil, fmt.Errorf("read the events of %s: %w", plan, interpret(err))
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Event])
	if err != nil {
		return nil, fmt.Errorf("read the events of %s: %w", plan, interpret(err))
	}
	return events, nil
}
