package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// AddMemory records a memory. A name that exists is ErrConflict, as is a root
// that is, holds or lies in another memory's. The mapping is taken as Examine
// completed it.
func (s *Store) AddMemory(ctx context.Context, m resilience.Memory) error {
	if err := resilience.CheckMemoryName(m.Name); err != nil {
		return problem(ErrInvalid, "%v", err)
	}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		// No other memory may come between the look at the roots and the insert.
		if _, err := tx.Exec(ctx, `LOCK TABLE rehome.memories IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		others, err := listMemories(ctx, tx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(others, func(o resilience.Memory) bool { return o.Name == m.Name }) {
			return problem(ErrConflict, "memory %s exists already; remove it first, or choose another name", m.Name)
		}
		if err := resilience.CheckRoot(m.Root, others); err != nil {
			return problem(ErrConflict, "%v", err)
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO rehome.memories (name, root, builtin, mapping, marker) VALUES ($1, $2, $3, $4, $5)`,
			m.Name, m.Root, m.Builtin, m.Mapping, m.Marker)
		return err
	})
	if err != nil {
		return fmt.Errorf("add memory %s: %w", m.Name, err)
	}
	return nil
}

const selectMemories = `SELECT name, root, builtin, mapping, marker, created_at FROM rehome.memories`

// querier is what a pool and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func listMemories(ctx context.Context, q querier) ([]resilience.Memory, error) {
	rows, err := q.Query(ctx, selectMemories+` ORDER BY name`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Memory])
}

// Memories lists all memories by name.
func (s *Store) Memories(ctx context.Context) ([]resilience.Memory, error) {
	all, err := listMemories(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("list memories: %w", interpret(err))
	}
	return all, nil
}

// Memory returns the memory called name, or ErrNotFound with the names there are.
func (s *Store) Memory(ctx context.Context, name string) (resilience.Memory, error) {
	rows, err := s.pool.Query(ctx, selectMemories+` WHERE name = $1`, name)
	if err != nil {
		return resilience.Memory{}, fmt.Errorf("read memory %s: %w", name, interpret(err))
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[resilience.Memory])
	if errors.Is(err, pgx.ErrNoRows) {
		return resilience.Memory{}, s.noMemory(ctx, name)
	}
	if err != nil {
		return resilience.Memory{}, fmt.Errorf("read memory %s: %w", name, interpret(err))
	}
	return m, nil
}

func (s *Store) noMemory(ctx context.Context, name string) error {
	all, err := s.Memories(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return problem(ErrNotFound, "there is no memory %q, nor any other; add one with `starter memory add %s --root DIR`", name, resilience.DefaultMemory)
	}
	names := make([]string, len(all))
	for i, m := range all {
		names[i] = m.Name
	}
	return problem(ErrNotFound, "there is no memory %q; there is %s", name, strings.Join(names, ", "))
}

// RemoveMemory forgets a memory: its catalogue, aliases, scans, orphans and
// access counts. It is refused while a migration or another run works on it.
//
// No chunk is lost by it. A mapped table is not touched; builtin chunks and
// quarantined rows stay, with what people and applications said of them (holds,
// references), and are found again when a memory of that name is added. Plans
// and cleanup runs stay as the record of what was done.
func (s *Store) RemoveMemory(ctx context.Context, name string) error {
	if _, err := s.Memory(ctx, name); err != nil {
		return err
	}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if err := refuseBusy(ctx, tx, name); err != nil {
			return err
		}
		for _, statement := range []string{
			`DELETE FROM rehome.scan_sources WHERE scan_id IN (SELECT scan_id FROM rehome.scans WHERE memory = $1)`,
			`DELETE FROM rehome.scan_dirs WHERE scan_id IN (SELECT scan_id FROM rehome.scans WHERE memory = $1)`,
			`DELETE FROM rehome.scan_files WHERE scan_id IN (SELECT scan_id FROM rehome.scans WHERE memory = $1)`,
			`DELETE FROM rehome.scans WHERE memory = $1`,
			`DELETE FROM rehome.orphan_chunks WHERE memory = $1`,
			`DELETE FROM rehome.files WHERE memory = $1`,
			`DELETE FROM rehome.version_aliases WHERE memory = $1`,
			`DELETE FROM rehome.chunk_access WHERE memory = $1`,
			`DELETE FROM rehome.memories WHERE name = $1`,
		} {
			if _, err := tx.Exec(ctx, statement, name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove memory %s: %w", name, err)
	}
	return nil
}

// refuseBusy refuses while a plan owns chunks of the memory or a run claims it,
// and keeps both tables still until the transaction ends.
func refuseBusy(ctx context.Context, tx pgx.Tx, memory string) error {
	if _, err := tx.Exec(ctx, `LOCK TABLE rehome.migration_plans, rehome.claims IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return err
	}
	const query = `
		SELECT format('migration %s is %s', plan_id, status) FROM rehome.migration_plans p
		WHERE $1 IN (memory, (SELECT target FROM rehome.migration_transfers x WHERE x.plan_id = p.plan_id)) AND status = ANY($2)
		UNION ALL
		SELECT format('its %s is being done by %s', kind, workflow_id) FROM rehome.claims WHERE memory = $1`
	rows, err := tx.Query(ctx, query, memory, resilience.OpenStatuses())
	if err != nil {
		return err
	}
	busy, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if len(busy) > 0 {
		return problem(ErrRefused, "memory %s is in use: %s; let it finish or abort it first", memory, strings.Join(busy, "; "))
	}
	return nil
}

// Settings returns the settings in force: the defaults, overlaid by what is kept.
func (s *Store) Settings(ctx context.Context) (resilience.Settings, error) {
	settings, err := readSettings(ctx, s.pool)
	if err != nil {
		return settings, fmt.Errorf("read the settings: %w", interpret(err))
	}
	return settings, nil
}

func readSettings(ctx context.Context, q querier) (resilience.Settings, error) {
	settings := resilience.DefaultSettings()
	rows, err := q.Query(ctx, `SELECT key, value FROM rehome.settings`)
	if err != nil {
		return settings, err
	}
	var key, value string
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error {
		if err := settings.Set(key, value); err != nil {
			return problem(ErrInvalid, "%v; correct it in rehome.settings", err)
		}
		return nil
	})
	return settings, err
}
