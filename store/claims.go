package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Kinds of work that has one owner per memory.
const (
	IngestClaim  = "ingest"
	ScanClaim    = "scan"
	CleanupClaim = "cleanup"
)

// ErrOutrun is the ErrFenced of an attempt whose run may still own the claim:
// the next attempt goes on from where the other one came to.
var ErrOutrun = fmt.Errorf("%w by another attempt", ErrFenced)

// Claim is the right of one workflow run to do one kind of work on a memory,
// with how far it has come.
type Claim struct {
	Memory     string
	Kind       string
	WorkflowID string
	RunID      string
	Epoch      int64
	Cursor     string // empty at the start
}

// TakeClaim gives the claim to the run named in want, or returns the one that
// another run holds, with ErrConflict. Taking a claim again returns it as it is.
func (s *Store) TakeClaim(ctx context.Context, want Claim) (Claim, error) {
	const query = `
		WITH taken AS (
			INSERT INTO rehome.claims (memory, kind, workflow_id, run_id)
			VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING *)
		SELECT memory, kind, workflow_id, run_id, epoch, cursor FROM taken
		UNION ALL
		SELECT memory, kind, workflow_id, run_id, epoch, cursor FROM rehome.claims WHERE memory = $1 AND kind = $2`
	rows, err := s.pool.Query(ctx, query, want.Memory, want.Kind, want.WorkflowID, want.RunID)
	if err != nil {
		return Claim{}, fmt.Errorf("claim %s of %s: %w", want.Kind, want.Memory, interpret(err))
	}
	have, err := pgx.CollectOneRow(rows, pgx.RowToStructByPos[Claim])
	if errors.Is(err, pgx.ErrNoRows) {
		// The owner left between the two halves of the statement.
		return s.TakeClaim(ctx, want)
	}
	if err != nil {
		return Claim{}, fmt.Errorf("claim %s of %s: %w", want.Kind, want.Memory, interpret(err))
	}
	if have.RunID != want.RunID {
		return have, problem(ErrConflict, "%s of memory %s is already being done by %s (run %s); wait for it, or look at it in the Temporal web UI", want.Kind, want.Memory, have.WorkflowID, have.RunID)
	}
	return have, nil
}

// ReplaceClaim takes a claim over from an owner whose run is closed. The epoch
// is raised, the cursor starts anew. It returns ErrConflict when the owner has
// changed meanwhile.
func (s *Store) ReplaceClaim(ctx context.Context, owner, want Claim) (Claim, error) {
	const query = `
		UPDATE rehome.claims
		SET workflow_id = $3, run_id = $4, epoch = epoch + 1, cursor = '', counters = '{}', claimed_at = now()
		WHERE memory = $1 AND kind = $2 AND run_id = $5 AND epoch = $6
		RETURNING memory, kind, workflow_id, run_id, epoch, cursor`
	rows, err := s.pool.Query(ctx, query, want.Memory, want.Kind, want.WorkflowID, want.RunID, owner.RunID, owner.Epoch)
	if err != nil {
		return Claim{}, fmt.Errorf("take over %s of %s: %w", want.Kind, want.Memory, interpret(err))
	}
	have, err := pgx.CollectOneRow(rows, pgx.RowToStructByPos[Claim])
	if errors.Is(err, pgx.ErrNoRows) {
		return Claim{}, problem(ErrConflict, "%s of memory %s was taken by another run just now; try again", want.Kind, want.Memory)
	}
	return have, interpret(err)
}

// ReleaseClaim gives the claim up. A claim that is not ours any more is left alone.
func (s *Store) ReleaseClaim(ctx context.Context, c Claim) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM rehome.claims WHERE memory = $1 AND kind = $2 AND run_id = $3`, c.Memory, c.Kind, c.RunID)
	if err != nil {
		return fmt.Errorf("release %s of %s: %w", c.Kind, c.Memory, interpret(err))
	}
	return nil
}

// ReadClaim returns the claim a run holds, or ErrFenced when it holds it no
// more, and reads the run's counters into counters unless that is nil.
func (s *Store) ReadClaim(ctx context.Context, memory, kind, runID string, counters any) (Claim, error) {
	var c Claim
	var raw []byte
	err := s.pool.QueryRow(ctx, `
		SELECT memory, kind, workflow_id, run_id, epoch, cursor, counters FROM rehome.claims
		WHERE memory = $1 AND kind = $2 AND run_id = $3`, memory, kind, runID).
		Scan(&c.Memory, &c.Kind, &c.WorkflowID, &c.RunID, &c.Epoch, &c.Cursor, &raw)
	if errors.Is(err, pgx.ErrNoRows) {
		return Claim{}, problem(ErrFenced, "run %s does not hold the claim for %s of memory %s any more", runID, kind, memory)
	}
	if err != nil {
		return Claim{}, fmt.Errorf("read the claim for %s of %s: %w", kind, memory, interpret(err))
	}
	return c, decode(raw, counters)
}

// advance is the first statement of each transaction of claimed work: it moves
// the cursor from where this attempt read it to the next place, and stores the
// counters. ErrOutrun means that another attempt has been here.
func advance(ctx context.Context, tx pgx.Tx, c Claim, next string, counters any) error {
	tag, err := tx.Exec(ctx, `
		UPDATE rehome.claims SET cursor = $6, counters = $7
		WHERE memory = $1 AND kind = $2 AND run_id = $3 AND epoch = $4 AND cursor = $5`,
		c.Memory, c.Kind, c.RunID, c.Epoch, c.Cursor, next, counters)
	if err != nil {
		return fmt.Errorf("advance %s of %s: %w", c.Kind, c.Memory, err)
	}
	if tag.RowsAffected() == 0 {
		return problem(ErrOutrun, "another attempt of %s went on from here", c.WorkflowID)
	}
	return nil
}
