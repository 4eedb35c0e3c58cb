package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Where each chunk of a transfer is to be found, before and after its switch.
const (
	toTarget = `SELECT @source::text AS left_memory, m.chunk_id AS left_id, m.old_path AS left_path, @target::text AS memory, c.target_id AS chunk_id, m.new_path AS path`
	toSource = `SELECT @target::text AS left_memory, c.target_id AS left_id, m.new_path AS left_path, @source::text AS memory, m.chunk_id, m.old_path AS path`
	copied   = ` FROM rehome.migration_moves m JOIN rehome.migration_copies c USING (plan, ordinal)
		WHERE m.plan = @origin AND c.here`
)

// What is said of a chunk goes with it. Where both chunks have it, it is added up.
const (
	repointReferences = `
	WITH moved AS MATERIALIZED (%s),
	taken AS (
		DELETE FROM rehome.chunk_references r USING moved m WHERE r.memory = m.left_memory AND r.chunk_id = m.left_id
		RETURNING m.memory, m.chunk_id, r.referrer, r.last_referenced_at, r.reference_count)
	INSERT INTO rehome.chunk_references AS r (memory, chunk_id, referrer, last_referenced_at, reference_count)
	SELECT * FROM taken
	ON CONFLICT (memory, chunk_id, referrer) DO UPDATE
	SET last_referenced_at = greatest(r.last_referenced_at, excluded.last_referenced_at), reference_count = r.reference_count + excluded.reference_count`
	repointAccess = `
	WITH moved AS MATERIALIZED (%s),
	taken AS (
		DELETE FROM rehome.chunk_access r USING moved m WHERE r.memory = m.left_memory AND r.chunk_id = m.left_id
		RETURNING m.memory, m.chunk_id, r.last_accessed_at, r.access_count)
	INSERT INTO rehome.chunk_access AS r (memory, chunk_id, last_accessed_at, access_count)
	SELECT * FROM taken
	ON CONFLICT (memory, chunk_id) DO UPDATE
	SET last_accessed_at = greatest(r.last_accessed_at, excluded.last_accessed_at), access_count = r.access_count + excluded.access_count`
	// What holds as long as the chunk is where it was, holds where it is now. What a
	// person said of the chunk there is left.
	repointHolds = `
	WITH moved AS MATERIALIZED (%s),
	taken AS (
		DELETE FROM rehome.holds h USING moved m WHERE h.memory = m.left_memory AND h.chunk_id = m.left_id
		RETURNING m.memory, m.chunk_id, h.reason, CASE WHEN h.locator = m.left_path THEN m.path ELSE h.locator END, h.content_hash, h.held_at)
	INSERT INTO rehome.holds AS h (memory, chunk_id, reason, locator, content_hash, held_at)
	SELECT * FROM taken
	ON CONFLICT (memory, chunk_id) DO UPDATE
	SET (reason, locator, content_hash, held_at) = (excluded.reason, excluded.locator, excluded.content_hash, excluded.held_at)
	WHERE h.content_hash IS NOT NULL`
)

// An alias names paths of one memory, and those of the moved files stay as they
// are; so what leads to a moved file in the source leads to it in the target
// too, unless that path has a meaning there. In the source it stays.
const (
	bringAliases = `
	INSERT INTO rehome.version_aliases (memory, original_path, current_path, version_history, metadata, plan_id, created_at, expires_at)
	SELECT @target, a.original_path, a.current_path, a.version_history, a.metadata, @origin_plan, a.created_at, a.expires_at
	FROM rehome.version_aliases a
	WHERE a.memory = @source AND (a.expires_at IS NULL OR a.expires_at > now())
		AND a.current_path IN (
			SELECT unnest(rehome.path_prefixes(p.new_key))
			FROM rehome.migration_paths p WHERE p.plan_id = @origin_plan)
		AND NOT EXISTS (SELECT FROM rehome.version_aliases b WHERE b.memory = @target AND b.original_path = a.original_path)
		AND NOT EXISTS (SELECT FROM rehome.files f WHERE f.memory = @target AND f.path = a.original_path AND f.gone_at IS NULL)`
	// One that somebody changed since has another plan, or none.
	takeAliases = `DELETE FROM rehome.version_aliases WHERE memory = @target AND plan_id = @origin_plan`
)

// SwitchReferences lets who refers to the source chunks of a transfer refer to
// the copies, and holds hold them, in one transaction; a plan that goes back does
// the opposite. It can be done again for rows that were copied later.
func (s *Store) SwitchReferences(ctx context.Context, plan string) error {
	return s.switchReferences(ctx, plan, false)
}

// UndoSwitchReferences takes back what SwitchReferences did.
func (s *Store) UndoSwitchReferences(ctx context.Context, plan string) error {
	return s.switchReferences(ctx, plan, true)
}

func (s *Store) switchReferences(ctx context.Context, plan string, undoing bool) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		t, err := readTransfer(ctx, tx, plan)
		if err != nil || t == nil {
			return err
		}
		if err := lockMemory(ctx, tx, t.target); err != nil { // before its plan, as who plans does
			return err
		}
		var status resilience.Status
		if err := tx.QueryRow(ctx, `SELECT status FROM rehome.migration_plans WHERE plan_id = $1 FOR UPDATE`, plan).Scan(&status); err != nil {
			return err
		}
		if (status == resilience.RollingBack) != undoing {
			return problem(ErrFenced, "migration %s is %s: another run goes on with it; see `starter migration show %s`", plan, status, plan)
		}
		if _, err := tx.Exec(ctx, bulkSettings); err != nil {
			return err
		}
		way, aliases := toTarget, bringAliases
		if t.back != undoing {
			way, aliases = toSource, takeAliases
		}
		if err := repoint(ctx, tx, way+copied, t.args(nil)); err != nil {
			return err
		}
		return execAll(ctx, tx, t.args(nil), aliases)
	})
	if err != nil {
		return fmt.Errorf("switch the references of plan %s: %w", plan, err)
	}
	return nil
}
