package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Watermark returns how far a plan has come and what the operator wants of it.
func (s *Store) Watermark(ctx context.Context, plan string) (resilience.Watermark, error) {
	var w resilience.Watermark
	err := s.pool.QueryRow(ctx, `
		SELECT last, total, epoch, wish, CASE WHEN throttle_until > now() THEN throttle_rate ELSE rate END,
			(SELECT count(*) FROM rehome.migration_exceptions e WHERE e.plan_id = g.plan_id AND NOT undoing AND outcome = 'drifted'),
			(SELECT count(*) FROM rehome.migration_exceptions e WHERE e.plan_id = g.plan_id AND NOT undoing AND outcome = 'vanished')
		FROM rehome.migration_progress g WHERE plan_id = $1`, plan).
		Scan(&w.Last, &w.Total, &w.Epoch, &w.Wish, &w.Rate, &w.Drifted, &w.Vanished)
	if errors.Is(err, pgx.ErrNoRows) {
		return w, problem(ErrNotFound, "migration %s has no journal; see `starter migration show %s`", plan, plan)
	}
	if err != nil {
		return w, fmt.Errorf("read the watermark of %s: %w", plan, interpret(err))
	}
	return w, nil
}

// InForce returns what the operator wants of a plan, and the rate at which its
// next batch would go within bounds.
func (s *Store) InForce(ctx context.Context, plan string, b Bounds) (resilience.Watermark, error) {
	var w resilience.Watermark
	err := s.pool.QueryRow(ctx, `
		SELECT g.epoch, g.wish, p.rate FROM rehome.migration_progress g, (`+pace+` FROM rehome.migration_progress WHERE plan_id = @plan) p
		WHERE plan_id = @plan`, pgx.NamedArgs{"plan": plan, "rate": b.Rate, "batch": b.Batch}).Scan(&w.Epoch, &w.Wish, &w.Rate)
	if err != nil {
		return w, fmt.Errorf("read the pace of %s: %w", plan, interpret(err))
	}
	return w, nil
}

// Settle returns when the batches of a plan that have been committed are on disk:
// they do not wait for it one by one. A commit that waits takes along all before it.
func (s *Store) Settle(ctx context.Context, plan string) error {
	if _, err := s.pool.Exec(ctx, `UPDATE rehome.migration_progress SET last = last WHERE plan_id = $1`, plan); err != nil {
		return fmt.Errorf("wait until the batches of %s are on disk: %w", plan, interpret(err))
	}
	return nil
}

// MarkApplied stamps the end of the apply phase, once, when the last row is at
// its place, and returns how long the phase took by the server's clock.
func (s *Store) MarkApplied(ctx context.Context, plan string) (time.Duration, error) {
	var ms int64
	err := s.pool.QueryRow(ctx, `
		UPDATE rehome.migration_progress SET last_at = coalesce(last_at, clock_timestamp())
		WHERE plan_id = $1 AND last = total
		RETURNING coalesce(extract(epoch FROM last_at - first_at) * 1000, 0)::bigint`, plan).Scan(&ms)
	if err != nil {
		return 0, fmt.Errorf("mark plan %s as applied: %w", plan, interpret(err))
	}
	return time.Duration(ms) * time.Millisecond, nil
}
