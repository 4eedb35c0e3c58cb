package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Overview counts what is kept in an installation.
type Overview struct {
	Aliases    int64             `json:"aliases"`
	Orphans    map[string]int64  `json:"orphans"`    // by kind
	Migrations map[string]int64  `json:"migrations"` // by status
	Quarantine QuarantineSummary `json:"quarantine"`
}

// QuarantineSummary sums up what can be restored.
type QuarantineSummary struct {
	Chunks int64 `json:"chunks"`
	Bytes  int64 `json:"bytes"`
}

// Overview counts aliases, orphans, migrations and what is in quarantine.
func (s *Store) Overview(ctx context.Context) (Overview, error) {
	var o Overview
	err := s.pool.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM rehome.version_aliases), count(*), coalesce(sum(bytes), 0)::bigint
		FROM rehome.quarantine WHERE restored_at IS NULL`).Scan(&o.Aliases, &o.Quarantine.Chunks, &o.Quarantine.Bytes)
	if err != nil {
		return o, fmt.Errorf("count what is kept: %w", interpret(err))
	}
	if o.Orphans, err = s.countBy(ctx, `SELECT kind, count(*) FROM rehome.orphan_chunks GROUP BY kind`); err != nil {
		return o, fmt.Errorf("count the orphans: %w", err)
	}
	if o.Migrations, err = s.countBy(ctx, `SELECT status, count(*) FROM rehome.migration_plans GROUP BY status`); err != nil {
		return o, fmt.Errorf("count the migrations: %w", err)
	}
	return o, nil
}

func (s *Store) countBy(ctx context.Context, query string) (map[string]int64, error) {
	counts := map[string]int64{}
	rows, err := s.pool.Query(ctx, query)
	if err != nil {
		return nil, interpret(err)
	}
	var by string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&by, &n}, func() error { counts[by] = n; return nil })
	return counts, interpret(err)
}
