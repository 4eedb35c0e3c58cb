package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// FinishScan turns what a scan saw into what it means, in one transaction:
// conflicts, whether this is the memory's tree at all, orphans, the catalogue,
// and the result. A tree in doubt is ErrRefused, with everything as it was. A
// scan that is finished returns its result again; a dry run does the same work,
// takes it back, and leaves no trace.
func (s *Store) FinishScan(ctx context.Context, scan Scan) (resilience.ScanResult, error) {
	v := verdict{scan: scan}
	var err error
	if v.memory, err = s.Memory(ctx, scan.Memory); err != nil {
		return v.result, err
	}
	if v.at, err = s.ScanPosition(ctx, scan); err != nil {
		return v.result, err
	}
	if v.at.Stage == StageDone {
		return *v.at.Progress.Result, nil
	}
	// Their verdicts are new to the planner.
	if _, err := s.pool.Exec(ctx, `ANALYZE rehome.scan_sources`); err != nil {
		return v.result, fmt.Errorf("finish scan %s: %w", scan.ID, interpret(err))
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		v.tx = tx
		return v.finish(ctx)
	})
	if err != nil {
		return v.result, fmt.Errorf("finish scan %s: %w", scan.ID, err)
	}
	return v.result, nil
}

// verdict is the end of a scan under way.
type verdict struct {
	tx     pgx.Tx
	scan   Scan
	memory resilience.Memory
	policy resilience.ScanPolicy
	at     ScanPosition
	result resilience.ScanResult
}

// args holds what the statements refer to.
func (v *verdict) args(extra pgx.NamedArgs) pgx.NamedArgs {
	args := table{v.memory.Mapping}.args(extra)
	args["scan"], args["memory"] = v.scan.ID, v.scan.Memory
	return args
}

// exec runs one statement and returns how many rows it touched.
func (v *verdict) exec(ctx context.Context, query string) (int64, error) {
	tag, err := v.tx.Exec(ctx, query, v.args(nil))
	return tag.RowsAffected(), err
}

func (v *verdict) finish(ctx context.Context) error {
	// The claim first: whoever is not the owner any more stops here.
	next, err := v.at.advanceTo(ctx, v.tx, StageFinish, "deciding")
	if err != nil {
		return err
	}
	err = v.tx.QueryRow(ctx, `SELECT policy, cutoff FROM rehome.scans WHERE scan_id = $1 AND status = 'running'`, v.scan.ID).
		Scan(&v.policy, &v.result.StartedAt)
	if err != nil {
		return err
	}
	if err := v.findConflicts(ctx); err != nil {
		return err
	}
	if err := v.followAliases(ctx); err != nil {
		return err
	}
	if err := v.checkTree(ctx); err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, v.tx, func(pgx.Tx) error {
		for _, step := range []func(context.Context) error{v.decideOrphans, v.refreshCatalogue, v.report} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		if v.policy.DryRun {
			return errTakeBack
		}
		return nil
	})
	if errors.Is(err, errTakeBack) {
		err = forgetScan(ctx, v.tx, v.scan)
	}
	if err != nil {
		return err
	}
	next.Progress.Result = &v.result
	_, err = next.advanceTo(ctx, v.tx, StageDone, "")
	return err
}

// errTakeBack rolls the effects of a dry run back.
var errTakeBack = errors.New("dry run")

// findConflicts turns missing sources that a living file equals but for case,
// normalisation or encoding into conflicts. A file that was known beside the
// missing one, before that went, is another file and proves nothing. Names that
// cannot be keys count at every level of the way.
func (v *verdict) findConflicts(ctx context.Context) error {
	_, err := v.exec(ctx, `
		WITH twins AS MATERIALIZED ( -- one join over all names, before the few it finds are looked at
			SELECT s.ordinal, s.path, f.path AS other
			FROM rehome.scan_sources s CROSS JOIN LATERAL unnest(s.folds) WITH ORDINALITY AS way (fold, height)
			JOIN rehome.scan_files f ON f.scan_id = @scan AND f.fold = way.fold
			WHERE s.scan_id = @scan AND s.verdict = 'missing' AND (f.path = '' OR way.height = 1))
		UPDATE rehome.scan_sources s SET verdict = 'conflict'
		FROM rehome.scans n, twins t
		WHERE n.scan_id = @scan AND s.scan_id = @scan AND s.ordinal = t.ordinal AND (t.other = '' OR NOT EXISTS (
			SELECT FROM rehome.files gone JOIN rehome.files other USING (memory)
			WHERE gone.memory = @memory AND gone.path = t.path AND other.path = t.other
				AND other.first_seen_at < coalesce(gone.gone_at, n.cutoff)))`)
	return err
}

// followAliases gives a source that is not where its chunks say the verdict of the
// file that an alias leads to: such chunks answer through the alias, some of them
// for good, since a migration left them where they are.
func (v *verdict) followAliases(ctx context.Context) error {
	_, err := v.exec(ctx, `
		WITH led AS MATERIALIZED (
			SELECT ordinal, rehome.where_is(@memory, path) COLLATE "C" AS target FROM rehome.scan_sources
			WHERE scan_id = @scan AND verdict IN ('missing', 'conflict')),
		known AS (
			SELECT path, NULL AS verdict FROM rehome.scan_files WHERE scan_id = @scan AND kind IN ('file', 'symlink', 'other')
			UNION ALL
			SELECT path, verdict FROM rehome.scan_sources WHERE scan_id = @scan AND verdict IS DISTINCT FROM 'missing'),
		judged AS MATERIALIZED (
			SELECT DISTINCT ON (l.ordinal) l.ordinal, k.verdict FROM led l JOIN known k ON k.path = l.target
			ORDER BY l.ordinal, k.verdict NULLS FIRST)
		UPDATE rehome.scan_sources s SET verdict = j.verdict
		FROM judged j WHERE s.scan_id = @scan AND s.ordinal = j.ordinal AND s.verdict IS DISTINCT FROM j.verdict`)
	return err
}

// checkTree refuses to judge by a tree that may not be the memory's.
func (v *verdict) checkTree(ctx context.Context) error {
	seen, err := v.sighting(ctx)
	if err != nil {
		return err
	}
	doubt := seen.Doubt()
	if doubt == "" || v.policy.AcceptShrinkage {
		return nil
	}
	return problem(ErrRefused, "%s", resilience.Refusal(v.memory.Name, v.memory.Root, doubt, fmt.Sprintf("%d chunks", seen.Chunks)))
}

// sighting gathers what the tree is judged by.
func (v *verdict) sighting(ctx context.Context) (resilience.Sighting, error) {
	var seen resilience.Sighting
	lost, err := v.exec(ctx, markLost)
	if err != nil {
		return seen, err
	}
	var sources, scanned int64
	err = v.tx.QueryRow(ctx, sight, v.args(pgx.NamedArgs{"device": v.at.Progress.Device})).Scan(&seen.Files, &seen.Known,
		&sources, &seen.Chunks, &scanned, &seen.Canaries, &seen.CanariesGone, &seen.OtherDevice)
	if err != nil {
		return seen, err
	}
	if seen.Known == 0 && scanned == 0 {
		seen.Known = sources
		return seen, v.tx.QueryRow(ctx, sampleSources, v.args(pgx.NamedArgs{"sample": resilience.SampledSources})).
			Scan(&seen.Sampled, &seen.SampledGone)
	}
	if lost == 0 {
		return seen, nil
	}
	rows, err := v.tx.Query(ctx, regions, v.args(nil))
	if err != nil {
		return seen, err
	}
	seen.Regions, err = pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Region])
	return seen, err
}

// markLost marks the known files that are missing and did not turn up, by name
// and size, where no file was at the last complete scan: one for one, since a
// thousand empty files are no proof for another thousand. Where no scan was
// complete, what ingest saw after the last of the missing files is what turned up.
const markLost = `
	WITH missing AS (
		SELECT f.path, split_part(f.path, '/', -1) AS name, f.size, f.first_seen_at,
			row_number() OVER (PARTITION BY split_part(f.path, '/', -1), f.size ORDER BY f.path) AS n
		FROM rehome.files f
		WHERE f.memory = @memory AND f.gone_at IS NULL AND EXISTS (
			SELECT FROM rehome.scan_sources s WHERE s.scan_id = @scan AND s.path = f.path AND s.verdict = 'missing')),
	baseline AS (
		SELECT coalesce(
			(SELECT max(cutoff) FROM rehome.scans WHERE memory = @memory AND status = 'complete' AND scan_id <> @scan),
			(SELECT max(first_seen_at) FROM missing)) AS at),
	appeared AS (
		SELECT split_part(x.path, '/', -1) AS name, x.size,
			row_number() OVER (PARTITION BY split_part(x.path, '/', -1), x.size) AS n
		FROM rehome.scan_files x
		WHERE x.scan_id = @scan AND x.kind = 'file' AND x.path <> '' AND NOT EXISTS (
			SELECT FROM rehome.files f
			WHERE f.memory = @memory AND f.path = x.path AND f.gone_at IS NULL AND f.first_seen_at <= (SELECT at FROM baseline)))
	UPDATE rehome.scan_sources s SET lost = true
	FROM missing m LEFT JOIN appeared a USING (name, size, n)
	WHERE s.scan_id = @scan AND s.path = m.path AND a.n IS NULL`

const sight = `
	WITH before AS (
		SELECT device, canaries FROM rehome.scans
		WHERE memory = @memory AND status = 'complete' AND scan_id <> @scan ORDER BY cutoff DESC LIMIT 1)
	SELECT
		(SELECT count(*) FROM rehome.scan_files WHERE scan_id = @scan AND kind IN ('file', 'symlink', 'other')),
		(SELECT count(*) FROM rehome.files f JOIN rehome.scans n ON n.scan_id = @scan
			WHERE f.memory = @memory AND f.gone_at IS NULL AND f.first_seen_at < n.cutoff),
		(SELECT count(DISTINCT path) FROM rehome.scan_sources WHERE scan_id = @scan AND chunks > 0),
		(SELECT coalesce(sum(chunks), 0)::bigint FROM rehome.scan_sources WHERE scan_id = @scan AND verdict = 'missing'),
		(SELECT count(*) FROM before),
		coalesce((SELECT cardinality(canaries) FROM before), 0),
		(SELECT count(*) FROM before, unnest(before.canaries) AS c (path) WHERE EXISTS (
			SELECT FROM rehome.scan_sources s WHERE s.scan_id = @scan AND s.path = c.path AND s.lost)),
		coalesce((SELECT device <> @device FROM before), false)`

const sampleSources = `
	SELECT count(*), count(*) FILTER (WHERE verdict = 'missing') FROM (
		SELECT verdict FROM rehome.scan_sources
		WHERE scan_id = @scan AND path IS NOT NULL AND verdict IS DISTINCT FROM 'unknown'
		ORDER BY hashtext(path), path LIMIT @sample) s`

const regions = `
	WITH known AS (
		SELECT region, count(*) AS files
		FROM rehome.files f CROSS JOIN LATERAL (VALUES ('.'), (split_part(f.path, '/', 1))) AS r (region)
		WHERE f.memory = @memory AND f.gone_at IS NULL AND region <> f.path GROUP BY region),
	lost AS (
		SELECT region, count(DISTINCT s.path) AS files
		FROM rehome.scan_sources s CROSS JOIN LATERAL (VALUES ('.'), (split_part(s.path, '/', 1))) AS r (region)
		WHERE s.scan_id = @scan AND s.lost AND region <> s.path GROUP BY region)
	SELECT region, known.files, lost.files FROM lost JOIN known USING (region) ORDER BY lost.files DESC, region`
