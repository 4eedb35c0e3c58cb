package store

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Facts finds out what the risk and the cost of a plan are made of. It reads
// the catalogue and a few pages of the table.
func (s *Store) Facts(ctx context.Context, p resilience.Plan) (resilience.Facts, error) {
	f := resilience.Facts{Strategy: p.Strategy, Way: p.Policy.Way, Effort: p.Strategy.Effort(p.Moves, p.Policy)}
	if f.Way == "" {
		f.Way = resilience.Update
	}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var from, to table // rows are written to the latter; of a rename both are one
		var home bool      // they come back to where they were transferred from
		err := tx.QueryRow(ctx, `
			SELECT p.mapping, coalesce(x.mapping, p.mapping), coalesce(x.back, false)
			FROM rehome.migration_plans p LEFT JOIN rehome.migration_transfers x USING (plan_id) WHERE p.plan_id = $1`, p.ID).Scan(&from.m, &to.m, &home)
		if err != nil {
			return err
		}
		if home {
			from, to = to, from
		}
		if f.Physics, err = lookAtPhysics(ctx, tx, to); err != nil {
			return err
		}
		if p.Kind != resilience.Rename { // new rows go into every index
			f.Physics.HOT, f.Physics.HOTShare = false, 0
		}
		if p.Kind == resilience.Transfer { // rows are about as wide as where they come from
			home, err := lookAtPhysics(ctx, tx, from)
			if err != nil {
				return err
			}
			f.Physics.RowBytes, f.Physics.StoredBytes = cmp.Or(f.Physics.RowBytes, home.RowBytes), home.StoredBytes
		}
		if f.Load, err = lookAtLoad(ctx, tx, to); err != nil {
			return err
		}
		if p.Kind == resilience.Rename && p.Undoes == "" && f.Physics.Cost(resilience.Turns, f.Effort).Closed == "" { // the only way that minds
			if _, err := tx.Exec(ctx, bulkSettings); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, `SELECT `+chained, pgx.NamedArgs{"plan": p.ID}).Scan(&f.Settled); err != nil {
				return err
			}
		}
		return tx.QueryRow(ctx, `
			SELECT NOT EXISTS (SELECT FROM rehome.migration_plans WHERE memory = $1 AND status IN ('completed', 'rolled_back')),
				CASE WHEN $2 = 'rename' THEN 0 ELSE (SELECT count(*) FROM (SELECT FROM rehome.chunk_references WHERE memory = $1 LIMIT $3) counted) END`,
			p.Memory, p.Kind, maxReferences).Scan(&f.First, &f.References)
	})
	if err != nil {
		return f, fmt.Errorf("look at what plan %s will cost: %w", p.ID, err)
	}
	return f, nil
}

// The server's averages say something when they are over as many seconds, and
// dead rows when there are as many. More references than these make no difference.
const (
	leastCounted  = 3600
	leastDead     = 1000
	maxReferences = 10_000
)

// lookAtLoad says what happens to a table, on average since the server's
// counters began, without the rows that migrations moved.
func lookAtLoad(ctx context.Context, tx pgx.Tx, t table) (resilience.Load, error) {
	const query = parts + `,
		began AS (
			SELECT coalesce((SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()), (SELECT stats_reset FROM pg_stat_bgwriter)) AS at),
		age AS (SELECT nullif(extract(epoch FROM now() - at)::float8, 0) / 60 AS minutes FROM began),
		counted AS (
			SELECT sum(pg_stat_get_tuples_inserted(relid) + pg_stat_get_tuples_updated(relid) + pg_stat_get_tuples_deleted(relid))::float8 AS writes,
				sum(pg_stat_get_numscans(relid) + coalesce((SELECT sum(pg_stat_get_numscans(indexrelid)) FROM pg_index WHERE indrelid = relid), 0))::float8 AS reads,
				sum(pg_stat_get_dead_tuples(relid))::float8 AS dead, sum(pg_stat_get_live_tuples(relid))::float8 AS live
			FROM parts),
		ours AS (
			SELECT coalesce(sum(g.last), 0)::float8 AS writes
			FROM rehome.migration_plans p JOIN rehome.migration_progress g USING (plan_id), began
			WHERE p.mapping->>'schema' = @schema AND p.mapping->>'table' = @name AND p.created_at > began.at)
		SELECT coalesce(minutes * 60 >= @least, false), coalesce(greatest(0, counted.writes - ours.writes) / minutes, 0), coalesce(reads / minutes, 0),
			CASE WHEN dead >= @dead THEN dead / (dead + live) ELSE 0 END,
			EXISTS (SELECT FROM pg_stat_replication WHERE state IS NULL)
		FROM counted, ours, age`
	rows, err := tx.Query(ctx, query, pgx.NamedArgs{
		"table": t.name(), "schema": t.m.Schema, "name": t.m.Table, "least": leastCounted, "dead": leastDead,
	})
	if err != nil {
		return resilience.Load{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[resilience.Load])
}
