package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// ErrOutdated says that the last look at the files was too long ago to act on.
var ErrOutdated = errors.New("outdated")

// Cleanup names a cleanup and the chain of runs that does it under the claim
// for cleanups.
type Cleanup struct {
	ID         string
	Memory     string
	WorkflowID string
	RunID      string
	DryRun     bool
}

// PlanCleanup chooses the confirmed orphans that the cleanup takes on, those
// most in the way first, and stores the policy it is done by. A limit of 0 is
// the setting. A cleanup that was planned is left as it is. It is ErrRefused
// where what surrounds the table would let a removal change other rows.
func (s *Store) PlanCleanup(ctx context.Context, run Cleanup, limit int, waived bool) (resilience.CleanupResult, error) {
	var result resilience.CleanupResult
	settings, err := s.Settings(ctx)
	if err != nil {
		return result, err
	}
	policy := resilience.CleanupPolicy{Max: cmp.Or(limit, settings.MaxCleanupOperations), Waived: waived, Rule: settings.Confirmation(waived)}
	claim, err := s.ReadClaim(ctx, run.Memory, CleanupClaim, run.RunID, nil)
	if err != nil {
		return result, err
	}
	if claim.Cursor != "" {
		return s.CleanupResult(ctx, run.ID)
	}
	if err := s.refuseCleanup(ctx, run.Memory); err != nil {
		return result, err
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if err := advance(ctx, tx, claim, "0", struct{}{}); err != nil {
			return err
		}
		args := confirmation(policy.Rule)
		args["run"], args["memory"], args["workflow"], args["dry"], args["policy"], args["max"] = run.ID, run.Memory, run.WorkflowID, run.DryRun, policy, policy.Max
		_, err := tx.Exec(ctx, `
			WITH chosen AS (
				INSERT INTO rehome.cleanup_chunks (run_id, ordinal, chunk_id)
				SELECT @run, row_number() OVER (), chunk_id FROM (
					SELECT o.chunk_id FROM rehome.orphan_chunks o
					WHERE o.memory = @memory AND `+confirmed+` ORDER BY o.priority DESC, o.chunk_id LIMIT @max) o
				RETURNING ordinal)
			INSERT INTO rehome.cleanup_runs (run_id, memory, workflow_id, dry_run, policy, total_orphans)
			SELECT @run, @memory, @workflow, @dry, @policy, count(*) FROM chosen`, args)
		return err
	})
	if err != nil {
		return result, fmt.Errorf("plan cleanup %s: %w", run.ID, err)
	}
	return s.CleanupResult(ctx, run.ID)
}

// refuseCleanup looks at the table as it is now: it may have changed since the
// memory was added.
func (s *Store) refuseCleanup(ctx context.Context, memory string) error {
	m, err := s.Memory(ctx, memory)
	if err != nil {
		return err
	}
	_, around, err := s.Examine(ctx, m.Mapping)
	if err != nil {
		return err
	}
	if why := around.CleanupRefusal(); why != "" {
		return problem(ErrRefused, "memory %s cannot be cleaned up: %s. Nothing was changed", memory, why)
	}
	return nil
}

// CleanupResult returns what a cleanup has done so far.
func (s *Store) CleanupResult(ctx context.Context, run string) (resilience.CleanupResult, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT run_id, memory, dry_run, total_orphans, (policy->>'max')::bigint, cleaned_orphans, failed_cleanups, skipped, bytes_freed, 0::bigint, 0::bigint,
			(extract(epoch FROM coalesce(finished_at, now()) - started_at) * 1000)::bigint, workflow_id
		FROM rehome.cleanup_runs WHERE run_id = $1`, run)
	if err != nil {
		return resilience.CleanupResult{}, fmt.Errorf("read cleanup %s: %w", run, interpret(err))
	}
	result, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[resilience.CleanupResult])
	if err != nil {
		return result, fmt.Errorf("read cleanup %s: %w", run, interpret(err))
	}
	return result, nil
}

// Doomed is the next part of a cleanup: orphans whose files are to be looked
// for once more, now.
type Doomed struct {
	Suspects []Suspect // those that still are orphans
	Last     int64     // ordinal of the last one of this part
	ReadAt   time.Time // by the database's clock, before anybody looked
	Over     bool      // nothing is left
	claim    Claim
}

// NextDoomed returns at most limit orphans that the cleanup has not come to yet.
func (s *Store) NextDoomed(ctx context.Context, run Cleanup, limit int) (Doomed, error) {
	var d Doomed
	memory, err := s.Memory(ctx, run.Memory)
	if err != nil {
		return d, err
	}
	if d.claim, err = s.ReadClaim(ctx, run.Memory, CleanupClaim, run.RunID, nil); err != nil {
		return d, err
	}
	args := pgx.NamedArgs{"run": run.ID, "memory": run.Memory, "after": d.claim.Cursor, "limit": limit, "prefix": memory.Mapping.StripPrefix}
	err = s.pool.QueryRow(ctx, `
		SELECT clock_timestamp(), coalesce(max(ordinal), 0), count(*) = 0 FROM (
			SELECT ordinal FROM rehome.cleanup_chunks WHERE run_id = @run AND ordinal > @after::text::bigint ORDER BY ordinal LIMIT @limit) c`, args).
		Scan(&d.ReadAt, &d.Last, &d.Over)
	if err != nil {
		return d, fmt.Errorf("read what cleanup %s has to do: %w", run.ID, interpret(err))
	}
	args["last"] = d.Last
	rows, err := s.pool.Query(ctx, `
		SELECT c.ordinal, s.path, `+spellings+`
		FROM rehome.cleanup_chunks c
		JOIN (SELECT chunk_id, file_path AS path, locator FROM rehome.orphan_chunks WHERE memory = @memory) s USING (chunk_id)
		LEFT JOIN rehome.files f ON f.memory = @memory AND f.path = s.path
		WHERE c.run_id = @run AND c.ordinal > @after::text::bigint AND c.ordinal <= @last ORDER BY c.ordinal`, args)
	if err != nil {
		return d, fmt.Errorf("read what cleanup %s has to do: %w", run.ID, interpret(err))
	}
	if d.Suspects, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Suspect]); err != nil {
		return d, fmt.Errorf("read what cleanup %s has to do: %w", run.ID, interpret(err))
	}
	return d, nil
}

// Quarantine takes those of the doomed orphans out of the memory whose files
// were found gone just now, in one transaction that compares everything else
// again. It is ErrOutdated when that takes longer than the look is good for. A
// row that the database refuses fails alone; a dry run takes everything back
// and counts.
func (s *Store) Quarantine(ctx context.Context, run Cleanup, d Doomed, gone []int64) error {
	memory, err := s.Memory(ctx, run.Memory)
	if err != nil {
		return err
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		last := strconv.FormatInt(d.Last, 10)
		if err := advance(ctx, tx, d.claim, last, struct{}{}); err != nil {
			return err
		}
		c := cleaning{memory: memory, run: run}
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			if err := c.clean(ctx, tx, gone); err != nil || !run.DryRun {
				return err
			}
			return errTakeBack
		})
		if err != nil && !errors.Is(err, errTakeBack) {
			return err
		}
		return c.settle(ctx, tx, d)
	})
	if err != nil {
		return fmt.Errorf("quarantine orphans of %s: %w", run.Memory, err)
	}
	return nil
}

// cleaning is one batch of a cleanup under way.
type cleaning struct {
	memory resilience.Memory
	run    Cleanup
	rule   resilience.Confirmation
	out    taken
	failed int64
}

func (c *cleaning) clean(ctx context.Context, tx pgx.Tx, ordinals []int64) error {
	var policy resilience.CleanupPolicy
	if err := tx.QueryRow(ctx, `SELECT policy FROM rehome.cleanup_runs WHERE run_id = $1`, c.run.ID).Scan(&policy); err != nil {
		return err
	}
	c.rule = policy.Rule
	if _, err := tx.Exec(ctx, checkAtOnce); err != nil {
		return err
	}
	r, err := prepareRemoval(ctx, tx, c.memory, resilience.ReasonMissing, c.run.ID)
	if err != nil {
		return err
	}
	return halving(ctx, tx, ordinals,
		func(tx pgx.Tx, ordinals []int64) error { return c.take(ctx, tx, r, ordinals) },
		func(int64, error) { c.failed++ })
}

// take moves the rows that still are what the scans judged: the same file, the
// same text, not held, not in a migration, not known to live there or where an
// alias leads, and not locked by anybody. Rows that do not match are left, and counted by settle.
func (c *cleaning) take(ctx context.Context, tx pgx.Tx, r removal, ordinals []int64) error {
	t := table{c.memory.Mapping}
	chosen := fmt.Sprintf(`
		WITH live_moves AS MATERIALIZED (%s)
		SELECT o.chunk_id
		FROM rehome.cleanup_chunks c
		JOIN rehome.orphan_chunks o ON o.memory = @memory AND o.chunk_id = c.chunk_id
		JOIN %s t ON %s
		WHERE c.run_id = @run AND c.ordinal = ANY (@ordinals) AND %s AND %s
			AND %s IS TRUE AND %s = o.content_hash AND NOT %s AND NOT %s
			AND NOT EXISTS (SELECT FROM rehome.files f WHERE f.memory = @memory AND f.path = o.file_path AND f.gone_at IS NULL)
			AND %s = '{}'
		FOR UPDATE OF t, o SKIP LOCKED`,
		liveMoves, t.name(), t.hasID("o.chunk_id"), t.scope(), confirmed,
		t.locatorsAre("o.locator"), t.hash(), t.held(), inFlight("o.file_path"), ownersOf)
	args := confirmation(c.rule)
	args["ordinals"], args["live"] = ordinals, resilience.LiveStatuses()
	out, err := r.take(ctx, tx, chosen, args)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM rehome.orphan_chunks WHERE memory = $1 AND chunk_id = ANY ($2)`, c.memory.Name, out.IDs)
	if err == nil {
		c.out.add(out)
	}
	return err
}

// settle counts the batch, in rows that really moved, and asks the database's
// clock whether the look at the files still holds.
func (c *cleaning) settle(ctx context.Context, tx pgx.Tx, d Doomed) error {
	first, err := strconv.ParseInt(d.claim.Cursor, 10, 64)
	if err != nil {
		return err
	}
	cleaned := int64(len(c.out.IDs))
	skipped := d.Last - first - cleaned - c.failed
	var fresh bool
	err = tx.QueryRow(ctx, `
		UPDATE rehome.cleanup_runs
		SET cleaned_orphans = cleaned_orphans + $2, failed_cleanups = failed_cleanups + $3, skipped = skipped + $4, bytes_freed = bytes_freed + $5
		WHERE run_id = $1
		RETURNING clock_timestamp() - $6 <= $7::interval`, c.run.ID, cleaned, c.failed, skipped, c.out.Bytes, d.ReadAt, resilience.LookExpires).Scan(&fresh)
	if err != nil {
		return err
	}
	if !fresh {
		return problem(ErrOutdated, "more than %s went by since the files were looked for", resilience.LookExpires)
	}
	return nil
}

// FinishCleanup closes a cleanup, also one that was cut short, and returns what
// it did.
func (s *Store) FinishCleanup(ctx context.Context, run Cleanup) (resilience.CleanupResult, error) {
	_, err := s.pool.Exec(ctx, `
		WITH done AS (DELETE FROM rehome.cleanup_chunks WHERE run_id = $1)
		UPDATE rehome.cleanup_runs SET finished_at = now() WHERE run_id = $1 AND finished_at IS NULL`, run.ID)
	if err != nil {
		return resilience.CleanupResult{}, fmt.Errorf("finish cleanup %s: %w", run.ID, interpret(err))
	}
	return s.CleanupResult(ctx, run.ID)
}
