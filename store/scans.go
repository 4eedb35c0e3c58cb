package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Scan names a scan and the chain of runs that does it under the claim for scans.
type Scan struct {
	ID         string
	Memory     string
	WorkflowID string
	RunID      string
}

// The stages of a scan, in this order. Each transaction of a scan moves the
// claim's cursor, which holds the stage and the place in it.
const (
	StageWalk    = "walk"    // at: the directory visited last
	StageJudge   = "judge"   // the walk is over
	StageRecheck = "recheck" // at: the ordinal of the source looked at last
	StageFinish  = "finish"  // every source has its verdict
	StageDone    = "done"
)

// ScanProgress counts what a scan has done so far. It also is what the evidence
// must add up to when it is judged.
type ScanProgress struct {
	Dirs     int64  `json:"dirs"`
	Files    int64  `json:"files"`  // rows of scan_files, of every kind
	Unread   int64  `json:"unread"` // directories
	Suspects int64  `json:"suspects"`
	Looked   int64  `json:"looked"` // of the suspects
	Device   string `json:"device"` // of the root

	Result *resilience.ScanResult `json:"result,omitempty"` // when it is done
}

// ScanPosition is how far a scan has come, as an attempt read it.
type ScanPosition struct {
	Stage    string
	At       string
	Progress ScanProgress
	claim    Claim
}

// ScanPosition returns how far a scan has come, or ErrFenced when its run does
// not hold the claim any more.
func (s *Store) ScanPosition(ctx context.Context, scan Scan) (ScanPosition, error) {
	var p ScanPosition
	claim, err := s.ReadClaim(ctx, scan.Memory, ScanClaim, scan.RunID, &p.Progress)
	if err != nil {
		return p, err
	}
	p.claim = claim
	p.Stage, p.At, _ = strings.Cut(claim.Cursor, ":")
	return p, nil
}

// advanceTo moves the claim from where it was read to a place further on.
func (p ScanPosition) advanceTo(ctx context.Context, tx pgx.Tx, stage, at string) (ScanPosition, error) {
	next := p
	next.Stage, next.At = stage, at
	next.claim.Cursor = stage + ":" + at
	return next, advance(ctx, tx, p.claim, next.claim.Cursor, p.Progress)
}

// Listed is what a scan has to find the sources of.
type Listed struct {
	Sources int64 `json:"sources"` // paths that name a file of the tree
	Chunks  int64 `json:"chunks"`
	Bytes   int64 `json:"bytes"`
}

// BeginScan stamps the cutoff by the database's clock and lists the sources of
// the memory's chunks, before anybody looks at the tree: what appears later is
// no candidate. A scan that has begun is left as it is.
func (s *Store) BeginScan(ctx context.Context, scan Scan, policy resilience.ScanPolicy) (Listed, error) {
	var listed Listed
	memory, err := s.Memory(ctx, scan.Memory)
	if err != nil {
		return listed, err
	}
	at, err := s.ScanPosition(ctx, scan)
	if err != nil {
		return listed, err
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if at.Stage == "" {
			if _, err := at.advanceTo(ctx, tx, StageWalk, ""); err != nil {
				return err
			}
			if err := clearScans(ctx, tx, scan, policy.DryRun); err != nil {
				return err
			}
			if err := listSources(ctx, tx, scan, memory, policy); err != nil {
				return err
			}
		}
		return tx.QueryRow(ctx, `
			SELECT count(DISTINCT path), coalesce(sum(chunks), 0)::bigint, coalesce(sum(bytes), 0)::bigint
			FROM rehome.scan_sources WHERE scan_id = $1`, scan.ID).Scan(&listed.Sources, &listed.Chunks, &listed.Bytes)
	})
	if err != nil {
		return listed, fmt.Errorf("begin scan %s: %w", scan.ID, err)
	}
	return listed, nil
}

// clearScans closes scans of the memory whose run ended without a word, and
// drops the evidence of earlier ones. A dry run leaves that where it is.
func clearScans(ctx context.Context, tx pgx.Tx, scan Scan, dryRun bool) error {
	const closeOpen = `
		UPDATE rehome.scans SET status = 'aborted', reason = 'its run ended without finishing it', finished_at = now()
		WHERE memory = $1 AND scan_id <> $2 AND status = 'running'`
	if dryRun {
		return nil
	}
	if _, err := tx.Exec(ctx, closeOpen, scan.Memory, scan.ID); err != nil {
		return err
	}
	return dropEvidence(ctx, tx, `scan_id IN (SELECT scan_id FROM rehome.scans WHERE memory = $1)`, scan.Memory)
}

// dropEvidence removes what the scans that the condition chooses have seen.
func dropEvidence(ctx context.Context, tx pgx.Tx, condition string, arg string) error {
	for _, kept := range []string{"scan_sources", "scan_dirs", "scan_files"} {
		if _, err := tx.Exec(ctx, "DELETE FROM rehome."+kept+" WHERE "+condition, arg); err != nil {
			return err
		}
	}
	return nil
}

func listSources(ctx context.Context, tx pgx.Tx, scan Scan, memory resilience.Memory, policy resilience.ScanPolicy) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO rehome.scans (scan_id, memory, workflow_id, run_id, policy) VALUES ($1, $2, $3, $4, $5)`,
		scan.ID, scan.Memory, scan.WorkflowID, scan.RunID, policy)
	if err != nil {
		return err
	}
	t := table{memory.Mapping}
	query := fmt.Sprintf(`
		INSERT INTO rehome.scan_sources (scan_id, ordinal, locator, path, chunks, bytes)
		SELECT @scan, row_number() OVER (), locator, rehome.path_key(locator, @prefix), chunks, bytes
		FROM (
			SELECT coalesce(%s, '') AS locator, count(*) AS chunks, sum(octet_length(%s)) AS bytes
			FROM %s t WHERE %s GROUP BY 1) s`, t.path(), t.text(), t.name(), t.scope())
	_, err = tx.Exec(ctx, query, t.args(pgx.NamedArgs{"scan": scan.ID}))
	return err
}

// AbortScan ends a scan that found nothing to be relied on. Of a dry run
// nothing is kept.
func (s *Store) AbortScan(ctx context.Context, scan Scan, reason string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var dryRun bool
		err := tx.QueryRow(ctx, `
			UPDATE rehome.scans SET status = 'aborted', reason = $2, finished_at = now(),
				result = jsonb_build_object('scan_id', scan_id, 'memory', memory, 'status', 'aborted', 'reason', $2::text,
					'started_at', cutoff, 'workflow_id', workflow_id,
					'duration_ms', (extract(epoch FROM clock_timestamp() - cutoff) * 1000)::bigint)
			WHERE scan_id = $1 AND status = 'running'
			RETURNING (policy->>'dry_run')::boolean`, scan.ID, reason).Scan(&dryRun)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // it never began, or has ended
		}
		if err != nil || !dryRun {
			return err
		}
		return forgetScan(ctx, tx, scan)
	})
	if err != nil {
		return fmt.Errorf("abort scan %s: %w", scan.ID, err)
	}
	return nil
}

// forgetScan removes every trace of a dry run.
func forgetScan(ctx context.Context, tx pgx.Tx, scan Scan) error {
	if err := dropEvidence(ctx, tx, "scan_id = $1", scan.ID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM rehome.scans WHERE scan_id = $1`, scan.ID)
	return err
}

// LatestScan returns the result of the last scan of a memory that has ended,
// or ErrNotFound.
func (s *Store) LatestScan(ctx context.Context, memory string) (resilience.ScanResult, error) {
	var result resilience.ScanResult
	var raw []byte
	err := s.pool.QueryRow(ctx, `
		SELECT result FROM rehome.scans
		WHERE memory = $1 AND status <> 'running' AND NOT (policy->>'dry_run')::boolean
		ORDER BY cutoff DESC LIMIT 1`, memory).Scan(&raw)
	if errors.Is(err, pgx.ErrNoRows) {
		return result, problem(ErrNotFound, "memory %s was not scanned yet; run `starter scan --memory %s`", memory, memory)
	}
	if err != nil {
		return result, fmt.Errorf("read the last scan of %s: %w", memory, interpret(err))
	}
	return result, decode(raw, &result)
}

// Canaries returns the files that stand for the last scan that was not aborted,
// as the file system spells them.
func (s *Store) Canaries(ctx context.Context, memory string) ([][]byte, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT f.raw_path FROM (
			SELECT canaries FROM rehome.scans WHERE memory = $1 AND status IN ('complete', 'incomplete') ORDER BY cutoff DESC LIMIT 1) n
		CROSS JOIN LATERAL unnest(n.canaries) AS c (path)
		JOIN rehome.files f ON f.memory = $1 AND f.path = c.path`, memory)
	if err != nil {
		return nil, fmt.Errorf("read the canaries of %s: %w", memory, interpret(err))
	}
	canaries, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	return canaries, interpret(err)
}
