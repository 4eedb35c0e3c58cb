package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// refreshCatalogue makes the catalogue say what the walk saw. Rows of files
// that are as they were known are not written again.
func (v *verdict) refreshCatalogue(ctx context.Context) error {
	var aliases int64
	if err := v.tx.QueryRow(ctx, countAliases, v.args(nil)).Scan(&aliases); err != nil {
		return err
	}
	added, err := v.exec(ctx, `
		INSERT INTO rehome.files (memory, path, raw_path, size, mtime)
		SELECT @memory, x.path, x.raw_path, x.size, x.mtime FROM rehome.scan_files x
		WHERE x.scan_id = @scan AND x.kind = 'file' AND x.path <> '' AND NOT EXISTS (
			SELECT FROM rehome.files f WHERE f.memory = @memory AND f.path = x.path)
		ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	err = v.tx.QueryRow(ctx, updateFiles, v.args(nil)).Scan(&v.result.Files.New, &v.result.Files.Changed)
	if err != nil {
		return err
	}
	v.result.Files.New += added
	if _, err := v.exec(ctx, loseFiles); err != nil {
		return err
	}
	var left int64
	err = v.tx.QueryRow(ctx, countAliases, v.args(nil)).Scan(&left)
	v.result.AliasesEnded = aliases - left
	return err
}

const countAliases = `SELECT count(*) FROM rehome.version_aliases WHERE memory = @memory`

// updateFiles forgets the hash of files that changed or came back: their text
// must be read again, also when they look as they did.
const updateFiles = `
	WITH changed AS (
		UPDATE rehome.files f
		SET raw_path = x.raw_path, size = x.size, mtime = x.mtime, content_hash = NULL, skipped = NULL, seen_at = now(), gone_at = NULL
		FROM rehome.scan_files x, rehome.files old
		WHERE x.scan_id = @scan AND x.kind = 'file' AND f.memory = @memory AND f.path = x.path
			AND old.memory = f.memory AND old.path = f.path
			AND (f.gone_at IS NOT NULL OR (f.size, f.mtime) <> (x.size, x.mtime))
		RETURNING old.gone_at IS NOT NULL AS came_back)
	SELECT count(*) FILTER (WHERE came_back), count(*) FILTER (WHERE NOT came_back) FROM changed`

// loseFiles also forgets the hash, so that a file that comes back is read again.
const loseFiles = `
	UPDATE rehome.files f SET gone_at = now(), content_hash = NULL
	FROM rehome.scans n
	WHERE n.scan_id = @scan AND f.memory = @memory AND f.gone_at IS NULL AND f.seen_at < n.cutoff AND EXISTS (
		SELECT FROM rehome.scan_sources s WHERE s.scan_id = @scan AND s.path = f.path AND s.verdict IN ('missing', 'conflict'))`

// report completes the result and closes the scan.
func (v *verdict) report(ctx context.Context) error {
	rows, err := v.tx.Query(ctx, `
		SELECT CASE WHEN path IS NULL THEN 'unowned' ELSE coalesce(verdict, 'alive') END, sum(chunks)::bigint, sum(bytes)::bigint
		FROM rehome.scan_sources WHERE scan_id = @scan AND chunks > 0 AND verdict IS DISTINCT FROM 'missing' GROUP BY 1`, v.args(nil))
	if err != nil {
		return err
	}
	if err := v.tally(rows); err != nil {
		return err
	}
	r := &v.result
	r.ScanID, r.Memory, r.WorkflowID, r.DryRun, r.Migrations = v.scan.ID, v.scan.Memory, v.scan.WorkflowID, v.policy.DryRun, []string{}
	r.Orphans.ByKind = map[resilience.OrphanKind]int64{resilience.Missing: 0}
	err = v.tx.QueryRow(ctx, countUp, v.args(nil)).Scan(&r.Files.Seen, &r.Files.Missing, &r.Conflicts, &r.Orphans.Total, &r.Orphans.Bytes, &r.Reason, &r.DurationMS)
	if err != nil {
		return err
	}
	r.Orphans.ByKind[resilience.Missing] = r.Orphans.Total
	r.Status = resilience.ScanComplete
	if r.Reason != "" {
		r.Status = resilience.ScanIncomplete
	}
	_, err = v.tx.Exec(ctx, closeScan, v.args(pgx.NamedArgs{
		"status": r.Status, "reason": r.Reason, "result": r,
		"device": v.at.Progress.Device, "canaries": resilience.SampledCanaries,
	}))
	return err
}

// countUp counts two names with one key, which differ in normalisation only,
// as a conflict too.
const countUp = `
	WITH unread AS (
		SELECT path, error FROM rehome.scan_dirs WHERE scan_id = @scan AND error <> ''
		UNION ALL
		SELECT f.path, 'not reached' FROM rehome.scan_files f
		WHERE f.scan_id = @scan AND f.kind = 'dir' AND f.path <> '' AND NOT EXISTS (
			SELECT FROM rehome.scan_dirs d WHERE d.scan_id = @scan AND d.path = f.path))
	SELECT
		(SELECT count(*) FROM rehome.scan_files WHERE scan_id = @scan AND kind = 'file'),
		(SELECT count(DISTINCT path) FROM rehome.scan_sources WHERE scan_id = @scan AND verdict = 'missing'),
		(SELECT count(DISTINCT path) FROM rehome.scan_sources WHERE scan_id = @scan AND verdict = 'conflict')
			+ (SELECT count(*) FROM (SELECT FROM rehome.scan_files WHERE scan_id = @scan AND path <> '' GROUP BY path HAVING count(*) > 1) t),
		o.total, o.bytes,
		coalesce((SELECT format('%s directories could not be read, among them %s: %s', count(*), min(path),
			(SELECT error FROM unread ORDER BY path LIMIT 1)) FROM unread HAVING count(*) > 0), ''),
		(extract(epoch FROM clock_timestamp() - n.cutoff) * 1000)::bigint
	FROM rehome.scans n,
		(SELECT count(*) AS total, coalesce(sum(bytes), 0)::bigint AS bytes FROM rehome.orphan_chunks WHERE memory = @memory) o
	WHERE n.scan_id = @scan`

const closeScan = `
	UPDATE rehome.scans
	SET mounts = ARRAY(
			SELECT path FROM rehome.scan_dirs WHERE scan_id = @scan AND mounted
			UNION SELECT unnest(` + mountsBefore + `)),
		status = @status, reason = @reason, result = @result, device = @device, finished_at = now(), canaries = ARRAY(
		SELECT path FROM rehome.scan_files WHERE scan_id = @scan AND kind = 'file' AND path <> ''
		ORDER BY hashtext(path || scan_id), path LIMIT @canaries)
	WHERE scan_id = @scan`
