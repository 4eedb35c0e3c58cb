package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// SaveAssessment keeps what planning found out about a plan. One that is past
// planning keeps what it was approved and begun with.
func (s *Store) SaveAssessment(ctx context.Context, plan string, a resilience.Assessment) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE rehome.migration_plans SET physics = $2, way = $3, risk = $4, estimate = $5 WHERE plan_id = $1 AND status = $6`,
		plan, a.Physics, a.Way, a.Risk, a.Estimate, resilience.Pending)
	if err != nil {
		return fmt.Errorf("save what plan %s was found to be: %w", plan, interpret(err))
	}
	return nil
}

// Reassess keeps what a plan was found to be under the strategy and the way that it
// had when it was looked at. One that has others by now is left as it is.
func (s *Store) Reassess(ctx context.Context, plan resilience.Plan, a resilience.Assessment) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE rehome.migration_plans SET risk = $4, estimate = $5 WHERE plan_id = $1 AND strategy = $2 AND way = $3`,
		plan.ID, plan.Strategy, plan.Way, a.Risk, a.Estimate)
	if err != nil {
		return fmt.Errorf("save what plan %s was found to be by %s: %w", plan.ID, plan.Way, interpret(err))
	}
	return nil
}

// PastRuns lists what runs alike took, newest first: those of the same memory,
// then those of others. Without a strategy they are those that moved back to back:
// gradual, and intelligent with a group that is, rest and wait for others. Intelligent
// ones are alike where both have such a group, or neither has.
func (s *Store) PastRuns(ctx context.Context, like resilience.Alike) ([]resilience.PastRun, error) {
	const query = `
		SELECT memory, rows, batch_size, apply_ms, duration_ms, by_rule_ms FROM (
			SELECT *, row_number() OVER (PARTITION BY memory = @memory ORDER BY at DESC, sample_id DESC) AS age
			FROM rehome.performance_samples p
			WHERE kind = @kind AND CASE @strategy WHEN '' THEN strategy <> 'gradual' ELSE strategy = @strategy END
				AND EXISTS (SELECT FROM rehome.migration_groups g WHERE g.plan_id = p.plan_id AND g.decision->>'strategy' = 'gradual') = @careful
				AND way = @way AND index_class = @class) s
		WHERE age <= @most ORDER BY memory = @memory DESC, age`
	const most = 50
	rows, err := s.pool.Query(ctx, query, pgx.NamedArgs{
		"memory": like.Memory, "kind": like.Kind, "strategy": like.Strategy, "way": like.Way, "class": like.Class, "careful": like.Careful, "most": most,
	})
	if err != nil {
		return nil, fmt.Errorf("read what past runs took: %w", interpret(err))
	}
	runs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.PastRun])
	if err != nil {
		return nil, fmt.Errorf("read what past runs took: %w", interpret(err))
	}
	return runs, nil
}

// sampleRun records what the work of a plan took that is about to be completed. Time in
// which it was paused is left out, and so is the soak of a transfer. One that its rate
// held up, that an operator throttled, or let go on by another strategy once it had begun
// or had groups, teaches nothing, nor one that soaks and was paused: nobody knows how much
// of the soak was pause. A plan is locked before it is looked at, so it is recorded once.
func sampleRun(ctx context.Context, tx pgx.Tx, plan string) error {
	const query = `
		WITH plan AS MATERIALIZED (
			SELECT * FROM rehome.migration_plans WHERE plan_id = @plan AND status = @executing FOR UPDATE),
		stopped AS (
			SELECT event, at, lead(at) OVER (ORDER BY event_id) AS until
			FROM rehome.migration_events WHERE plan_id = @plan AND event IN ('paused', 'resumed')),
		started AS (SELECT min(at) AS at FROM rehome.migration_events WHERE plan_id = @plan AND event = 'started'),
		paused AS (SELECT coalesce(sum(extract(epoch FROM until - at)) * 1000, 0)::float8 AS ms FROM stopped WHERE event = 'paused'),
		soaked AS (SELECT coalesce(sum(soak) * 1000, 0) AS ms FROM rehome.migration_transfers WHERE plan_id = @plan AND NOT back)
		SELECT p.plan_id, p.memory, p.strategy, p.kind, coalesce(p.undoes, ''), p.moves, p.policy, p.physics, p.way,
			coalesce((p.estimate->>'p50_ms')::bigint, 0),
			greatest(0, extract(epoch FROM coalesce(g.last_at, now()) - g.first_at) * 1000 - paused.ms)::float8,
			greatest(0, extract(epoch FROM now() - s.at) * 1000 - paused.ms - soaked.ms)::float8
		FROM plan p JOIN rehome.migration_progress g USING (plan_id), started s, paused, soaked
		WHERE g.first_at IS NOT NULL AND (paused.ms = 0 OR soaked.ms = 0)
			AND NOT EXISTS (SELECT FROM rehome.migration_events e WHERE e.plan_id = @plan
				AND (e.event = 'throttled' OR e.event = 'strategy changed' AND e.at > s.at))
			AND (p.strategy = 'intelligent' OR NOT EXISTS (SELECT FROM rehome.migration_groups WHERE plan_id = @plan))`
	rows, err := tx.Query(ctx, query, pgx.NamedArgs{"plan": plan, "executing": resilience.Executing})
	if err != nil {
		return err
	}
	type ended struct {
		resilience.Plan
		applyMS, tookMS float64
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ended, error) {
		var p ended
		err := row.Scan(&p.ID, &p.Memory, &p.Strategy, &p.Kind, &p.Undoes, &p.Moves, &p.Policy, &p.Physics, &p.Way, &p.EstimateMS, &p.applyMS, &p.tookMS)
		return p, err
	})
	if err != nil || len(found) == 0 {
		return err
	}
	p := found[0]
	if !p.Teaches(p.tookMS) {
		return nil
	}
	like := p.Alike()
	_, err = tx.Exec(ctx, `
		INSERT INTO rehome.performance_samples
			(memory, plan_id, kind, strategy, way, index_class, batch_size, rows, row_bytes, apply_ms, duration_ms, estimated_ms, by_rule_ms)
		VALUES (@memory, @plan, @kind, @strategy, @way, @class, @batch, @rows, @bytes, @apply, @took, @estimated, @rule)`,
		pgx.NamedArgs{
			"memory": like.Memory, "plan": p.ID, "kind": like.Kind, "strategy": like.Strategy, "way": like.Way, "class": like.Class,
			"batch": p.Strategy.Effort(p.Moves, p.Policy).Batch, "rows": p.Moves, "bytes": p.Physics.RowBytes,
			"apply": p.applyMS, "took": p.tookMS, "estimated": p.EstimateMS, "rule": p.ByRuleMS(),
		})
	return err
}
