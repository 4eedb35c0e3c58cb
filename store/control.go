package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Begin lets a queued plan run: from here on it has effects.
func (s *Store) Begin(ctx context.Context, plan string) error {
	return s.change(ctx, resilience.Executing, event{Plan: plan, What: "started"})
}

// CancelPlan ends a plan that has had no effect.
func (s *Store) CancelPlan(ctx context.Context, plan, author, reason string) error {
	return s.change(ctx, resilience.Cancelled, event{Plan: plan, What: "cancelled", Author: author, Detail: reason})
}

// Pause makes a plan stop before its next batch. One that is paused and waits
// for a slot to resume waits no more.
func (s *Store) Pause(ctx context.Context, plan, author, reason string) error {
	e := event{Plan: plan, What: "paused", Author: author, Detail: reason}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE rehome.migration_plans SET queued_at = NULL, reason = $3
			WHERE plan_id = $1 AND status = $2 AND queued_at IS NOT NULL`, plan, resilience.Paused, e.why())
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 1 {
			return recordEvent(ctx, tx, e)
		}
		return wish(ctx, tx, resilience.WishPause, resilience.Paused, e)
	})
	if err != nil {
		return fmt.Errorf("pause plan %s: %w", plan, err)
	}
	return nil
}

// Resume lets a paused plan go on, if there is a slot for it; otherwise the
// plan stays paused and waits in the queue, and resumed is false. Plans in gone
// do not stand before it, see TakeSlot.
func (s *Store) Resume(ctx context.Context, plan, author, reason string, gone []string) (resumed bool, before []Slot, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		asked, err := joinQueue(ctx, tx, plan, resilience.Paused)
		if err != nil {
			return err
		}
		if resumed, before, err = takeSlot(ctx, tx, plan, gone); err != nil {
			return err
		}
		if !resumed {
			if asked {
				return recordEvent(ctx, tx, event{Plan: plan, What: "resume asked", Author: author, Detail: reason})
			}
			return nil
		}
		return wish(ctx, tx, resilience.WishRun, resilience.Executing, event{Plan: plan, What: "resumed", Author: author, Detail: reason})
	})
	if err != nil {
		return false, nil, fmt.Errorf("resume plan %s: %w", plan, err)
	}
	return resumed, before, nil
}

// Throttle bounds a plan's pace from its next batch on, until the pace expires. What the
// pace leaves out stays in force for as long as it was to be. What the plan's strategy
// does not keep to is ErrRefused; one that goes back keeps to any.
func (s *Store) Throttle(ctx context.Context, plan string, pace resilience.Pace) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var by resilience.Strategy
		var wish resilience.Wish
		err := tx.QueryRow(ctx, `
			UPDATE rehome.migration_progress
			SET throttle_rate = CASE WHEN o.rate IS NULL THEN throttle_rate ELSE o.rate END,
				throttle_until = CASE WHEN o.rate IS NULL THEN throttle_until ELSE o.until END,
				throttle_batch = CASE WHEN o.batch IS NOT NULL THEN nullif(o.batch, 0) WHEN throttle_batch_until > now() THEN throttle_batch END,
				throttle_batch_until = CASE WHEN o.batch IS NULL THEN throttle_batch_until WHEN o.batch > 0 THEN o.until END
			FROM (SELECT $2::float8 AS rate, $3::integer AS batch,
				CASE WHEN $4::float8 > 0 THEN now() + $4 * interval '1 second' ELSE 'infinity' END AS until) o
			WHERE plan_id = $1 RETURNING (SELECT strategy FROM rehome.migration_plans p WHERE p.plan_id = $1), wish`,
			plan, pace.Rate, pace.BatchSize, pace.Expires.Seconds()).Scan(&by, &wish)
		if errors.Is(err, pgx.ErrNoRows) {
			return problem(ErrConflict, "migration %s is not planned yet; try again in a moment", plan)
		}
		if err != nil {
			return err
		}
		if err := pace.CheckThrottle(plan, by); err != nil && wish != resilience.WishUndo {
			return problem(ErrRefused, "%s", err)
		}
		return recordEvent(ctx, tx, event{Plan: plan, What: "throttled", Author: pace.Author, Detail: pace.String()})
	})
	if err != nil {
		return fmt.Errorf("throttle plan %s: %w", plan, err)
	}
	return nil
}

// StrategyChange is the strategy by which a plan is to go on, and what it was found
// to be under it.
type StrategyChange struct {
	Strategy resilience.Strategy
	Way      resilience.Way
	Risk     resilience.Risk
	Estimate resilience.Estimate
	Author   string
	Approve  bool // the author says yes to it with the order
}

// ChangeStrategy lets a queued or paused plan go on by another strategy, and
// returns its new hash. A yes that the plan has is a yes to the new hash: whether it
// reaches that far is for the caller to know, see resilience.Plan.Unapproved.
func (s *Store) ChangeStrategy(ctx context.Context, plan string, next StrategyChange) (string, error) {
	var hash string
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		j, err := openJournal(ctx, tx, plan)
		if err != nil {
			return err
		}
		before := j.strategy
		j.strategy = next.Strategy
		if hash, _, err = j.hash(ctx); err != nil || before == next.Strategy {
			return err
		}
		var status resilience.Status
		err = tx.QueryRow(ctx, `SELECT status FROM rehome.migration_plans WHERE plan_id = $1 FOR UPDATE`, plan).Scan(&status)
		if err != nil {
			return err
		}
		if status != resilience.Queued && status != resilience.Paused {
			return problem(ErrConflict, "migration %s is %s; its strategy can be changed while it is queued or paused", plan, status)
		}
		if err := checkTied(ctx, tx, plan, next.Strategy); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE rehome.migration_plans SET strategy = $2, way = $3, risk = $4, estimate = $5, plan_hash = $6, approved_hash = `+approvedStill("$6")+`
			WHERE plan_id = $1`, plan, next.Strategy, next.Way, next.Risk, next.Estimate, hash)
		if err != nil {
			return err
		}
		if err := recordEvent(ctx, tx, event{Plan: plan, What: "strategy changed", Author: next.Author, Detail: fmt.Sprintf("from %s to %s", before, next.Strategy)}); err != nil || !next.Approve {
			return err
		}
		return approveAsIs(ctx, tx, plan, next.Author, "the change of strategy")
	})
	if err != nil {
		return "", fmt.Errorf("change the strategy of plan %s: %w", plan, err)
	}
	return hash, nil
}

// checkTied refuses a strategy under which more rows than are good for it would go in one
// transaction, since their files change places.
func checkTied(ctx context.Context, tx pgx.Tx, plan string, next resilience.Strategy) error {
	var most int64
	err := tx.QueryRow(ctx, `SELECT coalesce(max(`+tiedRows+`), 0) FROM rehome.migration_plans, unnest(knots) k WHERE plan_id = $1`, plan).Scan(&most)
	if err == nil && most > mostTied && next != resilience.Immediate {
		err = problem(ErrRefused, "%d chunks of migration %s go in one transaction, since their files change places; by %s no more than %d may. Leave the strategy as it is", most, plan, next, mostTied)
	}
	return err
}

// BeginUndo turns a plan round: its epoch is raised, which waits for the batch
// in flight and fences whoever still applies, and from here on batches go back. How far
// it had come is kept, for VerifyUndo. A plan that is being undone already stays so. It
// returns the watermark.
func (s *Store) BeginUndo(ctx context.Context, plan, reason, author string) (resilience.Watermark, error) {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE rehome.migration_progress SET epoch = epoch + 1, wish = 'undo', turned = last WHERE plan_id = $1 AND wish <> 'undo'`, plan)
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
		return problem(ErrConflict, "migration %s still has %d rows at their new place and is not rolled back; let them go back: `starter migration rollback %s`", plan, w.Last, plan)
	}
	var retired int64
	err = s.pool.QueryRow(ctx, `SELECT coalesce(sum(retired), 0) FROM rehome.migration_transfers WHERE plan_id = $1`, plan).Scan(&retired)
	if err != nil {
		return fmt.Errorf("read how far %s is: %w", plan, interpret(err))
	}
	if retired != 0 {
		return problem(ErrConflict, "the last step of migration %s is not taken back for %d rows, and it is not rolled back; let them go back: `starter migration rollback %s`", plan, retired, plan)
	}
	if err := s.followAll(ctx, plan, true); err != nil {
		return err
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
		var status resilience.Status
		err := tx.QueryRow(ctx, `
			SELECT p.memory, coalesce(p.undoes, ''), coalesce(u.undoes IS NOT NULL, false), p.status
			FROM rehome.migration_plans p LEFT JOIN rehome.migration_plans u ON u.plan_id = p.undoes
			WHERE p.plan_id = $1 FOR UPDATE OF p`, plan).Scan(&memory, &undoes, &again, &status)
		if err != nil {
			return err
		}
		want, what := resilience.Executing, "switched"
		if back {
			want, what = resilience.RollingBack, "switched back"
		}
		if status != want { // an attempt that was given up still runs
			return problem(ErrConflict, "migration %s is %s; its aliases are %s while it is %s only (`starter migration show %s`)", plan, status, what, want, plan)
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
	if err := s.followAll(ctx, plan, false); err != nil {
		return err
	}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var moves, last, journalled int64
		var undoes string
		err := tx.QueryRow(ctx, `
			SELECT p.moves, g.last, coalesce(p.undoes, ''), (
				SELECT coalesce(sum(m.last - m.first + 1), 0) FROM rehome.migration_runs m WHERE m.plan = p.number)
			FROM rehome.migration_plans p JOIN rehome.migration_progress g USING (plan_id)
			WHERE plan_id = $1`, plan).Scan(&moves, &last, &undoes, &journalled)
		if err != nil {
			return err
		}
		if last != moves || journalled != moves {
			return problem(ErrVerify, "migration %s planned %d rows, journalled %d and worked through %d: others changed its journal (rehome.migration_runs), so it is not completed; see that its chunks are back (`starter migration show %s`, `starter migration rollback %s`), and plan it again",
				plan, moves, journalled, last, plan, plan)
		}
		if undoes != "" {
			if err := become(ctx, tx, resilience.RolledBack, event{Plan: undoes, What: "undone", Detail: "undone by " + plan}); err != nil {
				return err
			}
		}
		if err := sampleRun(ctx, tx, plan); err != nil {
			return err
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
func wish(ctx context.Context, tx pgx.Tx, want resilience.Wish, next resilience.Status, e event) error {
	if err := become(ctx, tx, next, e); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE rehome.migration_progress SET wish = $2 WHERE plan_id = $1 AND wish <> 'undo'`, e.Plan, want)
	return err
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
