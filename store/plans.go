package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// NewPlan is what a plan is made of. A plan that undoes another has no renames
// of its own: it takes those of the other, turned round. Any other without
// renames takes those that were staged for it.
type NewPlan struct {
	ID         string
	Memory     string
	Strategy   resilience.Strategy
	Renames    []resilience.RenameRule
	Undoes     string
	Transfer   resilience.TransferOrder // its memory named: the plan transfers
	Policy     resilience.Policy
	WorkflowID string
	RunID      string
	Rollback   []string // the compensations, newest first
}

// CreatePlan records a plan as pending. A plan that is there already, made by
// the same run, is left as it is; one made by another run is ErrConflict.
func (s *Store) CreatePlan(ctx context.Context, p NewPlan) error {
	memory, err := s.Memory(ctx, p.Memory)
	if err != nil {
		return err
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO rehome.migration_plans
				(plan_id, memory, strategy, kind, undoes, policy, mapping, workflow_id, run_id, rollback)
			VALUES ($1, $2, $3, $4, nullif($5, ''), $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
			p.ID, p.Memory, p.Strategy, resilience.Rename, p.Undoes, p.Policy, memory.Mapping, p.WorkflowID, p.RunID, p.Rollback)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return samePlan(ctx, tx, p)
		}
		if err := inUndoWindow(ctx, tx, p.Undoes); err != nil {
			return err
		}
		if err := insertRenames(ctx, tx, p); err != nil {
			return err
		}
		if err := s.openTransfer(ctx, tx, p); err != nil {
			return err
		}
		return recordEvent(ctx, tx, event{Plan: p.ID, What: "created", Author: p.Policy.Author})
	})
	if err != nil {
		return fmt.Errorf("create plan %s: %w", p.ID, err)
	}
	return nil
}

func samePlan(ctx context.Context, tx pgx.Tx, p NewPlan) error {
	var workflow, run string
	err := tx.QueryRow(ctx, `SELECT workflow_id, run_id FROM rehome.migration_plans WHERE plan_id = $1`, p.ID).Scan(&workflow, &run)
	if err != nil {
		return err
	}
	if run != p.RunID {
		return problem(ErrConflict, "migration %s was already made by %s (run %s); choose another id", p.ID, workflow, run)
	}
	return nil
}

// inUndoWindow refuses to undo a plan that ended too long ago: by then others
// count on the new paths, and the plan's notes may be cleared away.
func inUndoWindow(ctx context.Context, tx pgx.Tx, undoes string) error {
	if undoes == "" {
		return nil
	}
	settings, err := readSettings(ctx, tx)
	if err != nil {
		return err
	}
	var ended time.Time
	err = tx.QueryRow(ctx, `
		SELECT finished_at FROM rehome.migration_plans WHERE plan_id = $1 AND finished_at + $2::interval < now()`, undoes, settings.UndoWindow).Scan(&ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return problem(ErrRefused, "migration %s ended at %s, and could be undone for %s after that; let the chunks go back by a new migration, or make the window longer: the row undo_window of rehome.settings, such as 30d",
		undoes, ended.Format(time.RFC3339), settings.UndoWindow)
}

func insertRenames(ctx context.Context, tx pgx.Tx, p NewPlan) error {
	if p.Undoes != "" {
		_, err := tx.Exec(ctx, `
			INSERT INTO rehome.migration_renames (plan_id, ordinal, old_path, new_path)
			SELECT $1, row_number() OVER (ORDER BY ordinal DESC), new_path, old_path
			FROM rehome.migration_renames WHERE plan_id = $2`, p.ID, p.Undoes)
		return err
	}
	if len(p.Renames) > 0 {
		line := 0
		err := copyStaged(ctx, tx, p.ID, func() (resilience.Move, error) {
			if line == len(p.Renames) {
				return resilience.Move{}, io.EOF
			}
			line++
			return resilience.Move{Line: int64(line), RenameRule: p.Renames[line-1]}, nil
		})
		if err != nil {
			return err
		}
	}
	if p.Transfer.To != "" {
		return nil
	}
	return takeStaged(ctx, tx, p.ID)
}

// pausedSince is since when a plan p is paused: it may have been paused again while it
// waited to go on.
const pausedSince = `(
			SELECT min(at) FROM rehome.migration_events WHERE plan_id = p.plan_id AND event = 'paused' AND event_id > coalesce((
				SELECT max(event_id) FROM rehome.migration_events WHERE plan_id = p.plan_id AND event IN ('started', 'resumed')), 0))`

// selectPlans reads resilience.Plan, in the order of scanPlan.
const selectPlans = `
	SELECT p.plan_id, p.memory, p.strategy, p.kind, p.status, coalesce(p.undoes, ''),
		coalesce((SELECT u.plan_id FROM rehome.migration_plans u WHERE u.undoes = p.plan_id AND u.status = 'completed' ORDER BY u.created_at DESC LIMIT 1), ''),
		p.moves, coalesce(g.last, 0) - x.drifted - x.vanished - x.clashed - (s.rows - x.staying), s.rows - x.staying, x.drifted, x.vanished, p.disagree, (SELECT coalesce(sum(` + tiedRows + `), 0)::bigint FROM unnest(p.knots) k), p.conflicts + x.clashed, p.bytes, p.physics, p.way, p.risk, p.estimate, coalesce((p.estimate->>'p50_ms')::bigint, 0),
		CASE WHEN p.approved_at IS NOT NULL THEN jsonb_build_object('plan_hash', p.approved_hash, 'by', p.approved_by, 'at', p.approved_at) END,
		p.plan_hash, p.policy,
		(SELECT jsonb_build_object('to_memory', target, 'prefix', prefix, 'soak', soak, 'back', back, 'retired', retired) FROM rehome.migration_transfers t WHERE t.plan_id = p.plan_id),
		CASE WHEN greatest(g.throttle_until, g.throttle_batch_until) > now() AND p.finished_at IS NULL THEN
			CASE WHEN g.throttle_until > now() THEN jsonb_build_object('rate', g.throttle_rate, 'until', nullif(g.throttle_until, 'infinity')) ELSE '{}' END ||
			CASE WHEN g.throttle_batch_until > now() THEN jsonb_build_object('batch_size', g.throttle_batch, 'batch_until', nullif(g.throttle_batch_until, 'infinity')) ELSE '{}' END END,
		p.workflow_id, p.run_id, p.reason, p.rollback, p.created_at, p.planning_ms,
		coalesce(greatest(0, extract(epoch FROM coalesce(g.last_at, CASE p.status WHEN 'executing' THEN now() WHEN 'paused' THEN ` + pausedSince + ` END) - g.first_at) * 1000), 0)::bigint,
		(extract(epoch FROM coalesce(p.finished_at, now()) - p.created_at) * 1000)::bigint
	FROM rehome.migration_plans p
	LEFT JOIN rehome.migration_progress g USING (plan_id)
	CROSS JOIN LATERAL (
		SELECT ranges, (SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM unnest(ranges) r) AS rows
		FROM (SELECT (` + staying + `)::int8multirange * int8multirange(int8range(0, coalesce(g.last, 0), '(]')) AS ranges OFFSET 0) done OFFSET 0) s
	CROSS JOIN LATERAL (
		SELECT count(*) FILTER (WHERE outcome = 'drifted') AS drifted, count(*) FILTER (WHERE outcome = 'vanished') AS vanished,
			count(*) FILTER (WHERE outcome = 'conflict') AS clashed, count(*) FILTER (WHERE ordinal <@ s.ranges AND outcome <> 'edited') AS staying
		FROM rehome.migration_exceptions e
		WHERE e.plan_id = p.plan_id AND NOT e.undoing AND e.ordinal <= g.last) x`

func scanPlan(row pgx.CollectableRow) (resilience.Plan, error) {
	var p resilience.Plan
	err := row.Scan(&p.ID, &p.Memory, &p.Strategy, &p.Kind, &p.Status, &p.Undoes, &p.UndoneBy,
		&p.Moves, &p.Moved, &p.Stayed, &p.Drifted, &p.Vanished, &p.Disagree, &p.Tied, &p.Conflicts, &p.Bytes, &p.Physics, &p.Way, &p.Risk, &p.Estimate, &p.EstimateMS, &p.Approval,
		&p.Hash, &p.Policy, &p.Transfer, &p.Throttle,
		&p.WorkflowID, &p.RunID, &p.Reason, &p.Steps, &p.CreatedAt, &p.PlanningMS, &p.ApplyMS, &p.DurationMS)
	return p, err
}

// Plan returns a plan as it stands now, or ErrNotFound.
func (s *Store) Plan(ctx context.Context, id string) (resilience.Plan, error) {
	rows, err := s.pool.Query(ctx, selectPlans+` WHERE p.plan_id = $1`, id)
	if err != nil {
		return resilience.Plan{}, fmt.Errorf("read plan %s: %w", id, interpret(err))
	}
	plan, err := pgx.CollectExactlyOneRow(rows, scanPlan)
	if errors.Is(err, pgx.ErrNoRows) {
		return resilience.Plan{}, problem(ErrNotFound, "there is no migration %s; see `starter migration list`", id)
	}
	if err != nil {
		return resilience.Plan{}, fmt.Errorf("read plan %s: %w", id, interpret(err))
	}
	return plan, nil
}

// Plans lists the plans of a memory, newest first; all memories' when memory is empty.
func (s *Store) Plans(ctx context.Context, memory string, limit int) ([]resilience.Plan, error) {
	rows, err := s.pool.Query(ctx, selectPlans+`
		WHERE $1 IN ('', p.memory) ORDER BY p.created_at DESC, p.plan_id LIMIT $2`, memory, limit)
	if err != nil {
		return nil, fmt.Errorf("list plans: %w", interpret(err))
	}
	plans, err := pgx.CollectRows(rows, scanPlan)
	if err != nil {
		return nil, fmt.Errorf("list plans: %w", interpret(err))
	}
	return plans, nil
}

// Renames lists the first rules of a plan, in the order in which they are carried out.
func (s *Store) Renames(ctx context.Context, plan string, limit int) ([]resilience.RenameRule, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT old_path, new_path FROM rehome.migration_renames WHERE plan_id = $1 ORDER BY ordinal LIMIT $2`, plan, limit)
	if err != nil {
		return nil, fmt.Errorf("read the renames of %s: %w", plan, interpret(err))
	}
	rules, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.RenameRule])
	if err != nil {
		return nil, fmt.Errorf("read the renames of %s: %w", plan, interpret(err))
	}
	return rules, nil
}

// become moves a plan to a status that the table of legal moves allows, and
// records the event. A plan that is there already stays as it is; anything else
// is ErrConflict. What goes its way needs no reason; whatever does not keeps
// the newest.
func become(ctx context.Context, tx pgx.Tx, next resilience.Status, e event) error {
	tag, err := tx.Exec(ctx, `
		UPDATE rehome.migration_plans
		SET status = $2, reason = CASE WHEN $6 THEN '' WHEN $3 = '' THEN reason ELSE $3 END,
			finished_at = CASE WHEN $4 THEN now() END
		WHERE plan_id = $1 AND status = ANY($5)`,
		e.Plan, next, e.why(), next.Ended(), next.Before(), next.OnItsWay())
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 1 {
		if err := leaveQueue(ctx, tx, e.Plan, next); err != nil {
			return err
		}
		return recordEvent(ctx, tx, e)
	}
	var have resilience.Status
	if err := tx.QueryRow(ctx, `SELECT status FROM rehome.migration_plans WHERE plan_id = $1`, e.Plan).Scan(&have); err != nil {
		return err
	}
	if have != next {
		return problem(ErrConflict, "migration %s is %s and cannot become %s; see `starter migration show %s`", e.Plan, have, next, e.Plan)
	}
	return nil
}

// leaveQueue gives back what a plan in status next has no use for: its slot
// unless it works, its place in the queue unless it waits there.
func leaveQueue(ctx context.Context, tx pgx.Tx, plan string, next resilience.Status) error {
	if next != resilience.Queued {
		if _, err := tx.Exec(ctx, `UPDATE rehome.migration_plans SET queued_at = NULL WHERE plan_id = $1 AND queued_at IS NOT NULL`, plan); err != nil {
			return err
		}
	}
	if next == resilience.Executing {
		return nil
	}
	_, err := tx.Exec(ctx, `DELETE FROM rehome.migration_slots WHERE plan_id = $1`, plan)
	return err
}

type event struct{ Plan, What, Author, Detail string }

// why is the reason that an event gives for the status it leads to: what was
// said, or at least who asked.
func (e event) why() string {
	if e.Detail == "" && e.Author != "" {
		return "asked for by " + e.Author
	}
	return e.Detail
}

func recordEvent(ctx context.Context, tx pgx.Tx, e event) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO rehome.migration_events (plan_id, event, author, detail) VALUES ($1, $2, $3, $4)`,
		e.Plan, e.What, e.Author, e.Detail)
	return err
}

// recordOnce records what happened, unless that was recorded before.
func recordOnce(ctx context.Context, tx pgx.Tx, e event) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO rehome.migration_events (plan_id, event, author, detail) SELECT $1, $2::text, $3, $4::text WHERE NOT EXISTS (
			SELECT FROM rehome.migration_events WHERE plan_id = $1 AND event = $2 AND detail = $4)`,
		e.Plan, e.What, e.Author, e.Detail)
	return err
}
