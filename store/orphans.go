package store

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// confirmed holds for orphans that a cleanup may take, by a resilience.Confirmation.
const confirmed = `(o.missing_scans >= @scans AND o.last_missing_at - o.first_missing_at >= @gap::interval
	AND o.first_missing_at <= now() - @grace::interval)`

func confirmation(rule resilience.Confirmation) pgx.NamedArgs {
	return pgx.NamedArgs{"scans": rule.Scans, "gap": rule.Gap, "grace": rule.Grace}
}

// ownersOf lists the living file that an alias leads to from the orphan's path.
const ownersOf = `ARRAY(
	SELECT f.path FROM rehome.files f WHERE f.memory = o.memory AND f.gone_at IS NULL AND f.path = rehome.current_path(o.memory, o.file_path))`

const selectOrphans = `
	SELECT o.memory, o.chunk_id, o.file_path, o.kind, o.reason, o.priority, o.bytes, ` + ownersOf + `, o.last_accessed_at,
		o.access_count, o.first_missing_at, o.last_missing_at, o.missing_scans, o.last_scan, ` + confirmed + `
	FROM rehome.orphan_chunks o`

// Orphans lists the orphans of a memory, those most in the way first.
func (s *Store) Orphans(ctx context.Context, memory string, limit int) ([]resilience.Orphan, error) {
	orphans, err := s.orphans(ctx, memory, selectOrphans+` WHERE o.memory = @memory ORDER BY o.priority DESC, o.chunk_id LIMIT @limit`,
		pgx.NamedArgs{"limit": limit})
	if err != nil {
		return nil, fmt.Errorf("list the orphans of %s: %w", memory, err)
	}
	return orphans, nil
}

// Orphan returns one orphan, or ErrNotFound.
func (s *Store) Orphan(ctx context.Context, memory, chunk string) (resilience.Orphan, error) {
	orphans, err := s.orphans(ctx, memory, selectOrphans+` WHERE o.memory = @memory AND o.chunk_id = @chunk`, pgx.NamedArgs{"chunk": chunk})
	if err != nil {
		return resilience.Orphan{}, fmt.Errorf("read orphan %s of %s: %w", chunk, memory, err)
	}
	if len(orphans) == 0 {
		return resilience.Orphan{}, problem(ErrNotFound, "chunk %s of memory %s is not an orphan; see `starter orphans list --memory %s`", chunk, memory, memory)
	}
	return orphans[0], nil
}

func (s *Store) orphans(ctx context.Context, memory, query string, args pgx.NamedArgs) ([]resilience.Orphan, error) {
	if _, err := s.Memory(ctx, memory); err != nil {
		return nil, err
	}
	settings, err := s.Settings(ctx)
	if err != nil {
		return nil, err
	}
	all := confirmation(settings.Confirmation(false))
	all["memory"] = memory
	maps.Copy(all, args)
	rows, err := s.pool.Query(ctx, query, all)
	if err != nil {
		return nil, interpret(err)
	}
	orphans, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Orphan])
	return orphans, interpret(err)
}

// Hold keeps a chunk from ever being an orphan, until Unhold. A chunk that the
// memory does not have is ErrNotFound.
func (s *Store) Hold(ctx context.Context, memory, chunk, reason string) error {
	m, err := s.Memory(ctx, memory)
	if err != nil {
		return err
	}
	t := table{m.Mapping}
	args := t.args(pgx.NamedArgs{"memory": memory, "chunk": chunk, "reason": reason})
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		var id string
		err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT %s FROM %s t WHERE %s AND %s FOR SHARE OF t`,
			t.id(), t.name(), t.hasID("@chunk"), t.scope()), args).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return problem(ErrNotFound, "memory %s has no chunk %s; see `starter orphans list --memory %s`", memory, chunk, memory)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			WITH forgotten AS (DELETE FROM rehome.orphan_chunks WHERE memory = @memory AND chunk_id = @chunk)
			INSERT INTO rehome.holds (memory, chunk_id, reason) VALUES (@memory, @chunk, @reason)
			ON CONFLICT (memory, chunk_id) DO UPDATE SET reason = excluded.reason, locator = NULL, content_hash = NULL, held_at = now()`, args)
		return err
	})
	if err != nil {
		return fmt.Errorf("hold chunk %s of %s: %w", chunk, memory, err)
	}
	return nil
}

// Unhold lets a chunk be judged like any other again, or returns ErrNotFound
// when it was not held.
func (s *Store) Unhold(ctx context.Context, memory, chunk string) error {
	if _, err := s.Memory(ctx, memory); err != nil {
		return err
	}
	tag, err := s.pool.Exec(ctx, `DELETE FROM rehome.holds WHERE memory = $1 AND chunk_id = $2`, memory, chunk)
	if err != nil {
		return fmt.Errorf("release chunk %s of %s: %w", chunk, memory, interpret(err))
	}
	if tag.RowsAffected() == 0 {
		return problem(ErrNotFound, "chunk %s of memory %s is not held", chunk, memory)
	}
	return nil
}
