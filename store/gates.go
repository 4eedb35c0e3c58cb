package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// SaveGates keeps what people are to know of a plan's gates: those that are
// shut, near their limit, or not available here. While a gate stays in a state,
// its start stays.
func (s *Store) SaveGates(ctx context.Context, plan string, gates []resilience.Gate) error {
	var told []resilience.Gate
	names := []string{}
	for _, g := range gates {
		if g.State != resilience.GateOpen {
			told, names = append(told, g), append(names, string(g.Name))
		}
	}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(`DELETE FROM rehome.migration_gates WHERE plan_id = $1 AND gate <> ALL ($2)`, plan, names)
		for _, g := range told {
			batch.Queue(`
				INSERT INTO rehome.migration_gates AS g (plan_id, gate, state, detail, since) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (plan_id, gate) DO UPDATE SET state = excluded.state, detail = excluded.detail,
					since = CASE WHEN g.state = excluded.state THEN least(g.since, excluded.since) ELSE excluded.since END`,
				plan, g.Name, g.State, g.Detail, g.Since)
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("save the gates of plan %s: %w", plan, err)
	}
	return nil
}

// Gates lists the gates of a plan that has not ended: first what keeps it
// waiting, longest first, then what is near its limit, then what does not apply.
func (s *Store) Gates(ctx context.Context, plan string) ([]resilience.Gate, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT gate, state, detail, since FROM rehome.migration_gates JOIN rehome.migration_plans USING (plan_id)
		WHERE plan_id = $1 AND status = ANY ($2)
		ORDER BY array_position(ARRAY['shut', 'near', 'not_available'], state), since, gate`, plan, resilience.OpenStatuses())
	if err != nil {
		return nil, fmt.Errorf("read the gates of %s: %w", plan, interpret(err))
	}
	gates, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g resilience.Gate, err error) {
		return g, row.Scan(&g.Name, &g.State, &g.Detail, &g.Since)
	})
	if err != nil {
		return nil, fmt.Errorf("read the gates of %s: %w", plan, interpret(err))
	}
	return gates, nil
}
