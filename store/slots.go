package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Slot is one of the places that executing plans take: there are
// max_concurrent_migrations of them. A plan that waits has none yet.
type Slot struct {
	Plan       string
	WorkflowID string
	RunID      string
	Taken      bool // false: it waits, and waited before us
}

// Waiting says for whom a plan waits that these stand before.
func Waiting(before []Slot) resilience.Wait {
	var w resilience.Wait
	for _, b := range before {
		if b.Taken {
			w.AtWork = append(w.AtWork, b.Plan)
		} else {
			w.First = append(w.First, b.Plan)
		}
	}
	return w
}

// TakeSlot gives a plan a slot when there is one for it: first come, first
// served. When there is none it returns those that stand before it, holders
// and waiting, except for the ones in gone, whose runs are known to be closed.
func (s *Store) TakeSlot(ctx context.Context, plan string, gone []string) (granted bool, before []Slot, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		granted, before, err = takeSlot(ctx, tx, plan, gone)
		return err
	})
	if err != nil {
		return false, nil, fmt.Errorf("take a slot for plan %s: %w", plan, err)
	}
	return granted, before, nil
}

// slotsKey is the advisory lock under which slots are given out.
const slotsKey = "rehome migration slots"

func lockSlots(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, slotsKey)
	return err
}

// joinQueue puts a plan at the end of the queue, if it has this status and does
// not stand in it, and reports whether it did. Its place comes after all others
// whatever the clock says, which may have been put back since they came.
func joinQueue(ctx context.Context, tx pgx.Tx, plan string, status resilience.Status) (joined bool, err error) {
	if err := lockSlots(ctx, tx); err != nil {
		return false, err
	}
	tag, err := tx.Exec(ctx, `
		UPDATE rehome.migration_plans SET queued_at = greatest(clock_timestamp(), (
			SELECT max(queued_at) + interval '1 microsecond' FROM rehome.migration_plans WHERE status IN ('queued', 'paused')))
		WHERE plan_id = $1 AND status = $2 AND queued_at IS NULL`, plan, status)
	return tag.RowsAffected() == 1, err
}

func takeSlot(ctx context.Context, tx pgx.Tx, plan string, gone []string) (bool, []Slot, error) {
	if err := lockSlots(ctx, tx); err != nil {
		return false, nil, err
	}
	settings, err := readSettings(ctx, tx)
	if err != nil {
		return false, nil, err
	}
	var undo bool // it goes before everything and needs no slot
	if err := tx.QueryRow(ctx, `SELECT undoes IS NOT NULL FROM rehome.migration_plans WHERE plan_id = $1`, plan).Scan(&undo); err != nil || undo {
		return undo, nil, err
	}
	gone = append([]string{}, gone...) // none is not NULL
	if _, err := tx.Exec(ctx, `DELETE FROM rehome.migration_slots WHERE plan_id = ANY($1)`, gone); err != nil {
		return false, nil, err
	}
	before, err := ahead(ctx, tx, plan, gone)
	if err != nil {
		return false, nil, err
	}
	for _, b := range before {
		if b.Plan == plan {
			return true, nil, nil
		}
	}
	if len(before) >= settings.MaxConcurrentMigrations {
		return false, before, nil
	}
	_, err = tx.Exec(ctx, `INSERT INTO rehome.migration_slots (plan_id) VALUES ($1) ON CONFLICT DO NOTHING`, plan)
	return err == nil, nil, err
}

// ahead lists the plans with a slot, and those that waited for one before this
// plan did.
func ahead(ctx context.Context, q querier, plan string, gone []string) ([]Slot, error) {
	const query = `
		WITH me AS (SELECT queued_at, number FROM rehome.migration_plans WHERE plan_id = $1)
		SELECT p.plan_id, p.workflow_id, p.run_id, s.plan_id IS NOT NULL AS taken
		FROM rehome.migration_plans p LEFT JOIN rehome.migration_slots s USING (plan_id), me
		WHERE p.plan_id <> ALL($2) AND (s.plan_id IS NOT NULL
			OR p.queued_at IS NOT NULL AND p.status IN ('queued', 'paused') AND (p.queued_at, p.number) < (me.queued_at, me.number))
		ORDER BY taken DESC, p.queued_at, p.number`
	rows, err := q.Query(ctx, query, plan, gone)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Slot])
}

// Standing returns a plan's status and, while it waits for a slot, the plans
// for which it waits: those that have one, then those that come first.
func (s *Store) Standing(ctx context.Context, plan string) (resilience.Status, []Slot, error) {
	var status resilience.Status
	var queued bool
	err := s.pool.QueryRow(ctx, `
		SELECT status, queued_at IS NOT NULL AND undoes IS NULL AND NOT EXISTS (SELECT FROM rehome.migration_slots s WHERE s.plan_id = p.plan_id)
		FROM rehome.migration_plans p WHERE plan_id = $1`, plan).Scan(&status, &queued)
	if err != nil || !queued {
		return status, nil, unclear(plan, err)
	}
	settings, err := readSettings(ctx, s.pool)
	if err != nil {
		return status, nil, unclear(plan, err)
	}
	before, err := ahead(ctx, s.pool, plan, []string{})
	if err != nil || len(before) < settings.MaxConcurrentMigrations {
		return status, nil, unclear(plan, err)
	}
	return status, before, nil
}

func unclear(plan string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("see where plan %s stands: %w", plan, interpret(err))
}

// Queue lets a plan wait for a slot. From here on it owns its chunks: another
// plan that touches them is refused, as this one is when another came first.
func (s *Store) Queue(ctx context.Context, plan string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		j, err := openJournal(ctx, tx, plan)
		if err != nil {
			return err
		}
		if err := j.checkOverlap(ctx); err != nil {
			return err
		}
		if err := become(ctx, tx, resilience.Queued, event{Plan: plan, What: "queued"}); err != nil {
			return err
		}
		_, err = joinQueue(ctx, tx, plan, resilience.Queued)
		return err
	})
	if err != nil {
		return fmt.Errorf("queue plan %s: %w", plan, err)
	}
	return nil
}
