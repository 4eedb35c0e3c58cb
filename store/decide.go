package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// liveMoves are the paths that a migration which is not over takes away or to.
const liveMoves = `
	SELECT DISTINCT unnest(ARRAY[r.old_path, r.new_path]) AS path
	FROM rehome.migration_plans p JOIN rehome.migration_renames r USING (plan_id)
	WHERE @memory IN (p.memory, (SELECT target FROM rehome.migration_transfers x WHERE x.plan_id = p.plan_id)) AND p.status = ANY (@live)`

// inFlight holds where a migration that is not over moves the file at a path.
// The query must have live_moves among its CTEs.
func inFlight(path string) string {
	return "EXISTS (SELECT FROM live_moves WHERE live_moves.path = ANY (rehome.path_prefixes(" + path + ")))"
}

// hash is the sha256 of the chunk's text.
func (t table) hash() string { return "sha256(convert_to(" + t.text() + ", 'UTF8'))" }

// held holds where a person holds the chunk, or where it was restored and is
// unchanged since.
func (t table) held() string {
	return fmt.Sprintf(`EXISTS (SELECT FROM rehome.holds h WHERE h.memory = @memory AND h.chunk_id = %s
		AND (h.content_hash IS NULL OR h.content_hash = %s AND h.locator = %s))`, t.id(), t.hash(), t.path())
}

// accessed and uses combine what the application keeps in the table with what
// it told rehome.touch. The query must have chunk_access as a.
func (t table) accessed() string {
	if t.m.Accessed == "" {
		return "a.last_accessed_at"
	}
	return "greatest(a.last_accessed_at, " + t.column(t.m.Accessed) + "::timestamptz)"
}

func (t table) uses() string {
	if t.m.AccessCount == "" {
		return "coalesce(a.access_count, 0)"
	}
	return "coalesce(a.access_count, 0) + coalesce(" + t.column(t.m.AccessCount) + "::bigint, 0)"
}

// tooNew holds for chunks that appeared after the scan began, as far as the
// table says when a chunk appeared.
func (v *verdict) tooNew() string {
	if !v.memory.Builtin {
		return "false" // the second scan covers these
	}
	return "t.created_at >= n.cutoff"
}

// decideOrphans records the chunks of missing sources, adds to how often they
// were missed, and drops the orphans of sources that are not missing any more.
// What is unknown neither adds nor drops. It also tallies the classes.
func (v *verdict) decideOrphans(ctx context.Context) error {
	t := table{v.memory.Mapping}
	query := fmt.Sprintf(`
		WITH live_moves AS MATERIALIZED (%s),
		missing AS MATERIALIZED (
			SELECT s.locator, s.path, s.witness, %s AS in_flight FROM rehome.scan_sources s
			WHERE s.scan_id = @scan AND s.verdict = 'missing' AND s.locator IS NOT NULL),
		found AS MATERIALIZED (
			SELECT %s AS chunk_id, m.path, m.locator, m.witness, n.cutoff, octet_length(%s) AS bytes, %s AS hash, %s AS accessed, %s AS uses,
				CASE WHEN %s IS NOT TRUE THEN 'unknown' WHEN %s THEN 'held' WHEN m.in_flight THEN 'in_flight'
					WHEN %s THEN 'too_new' ELSE 'missing' END AS class
			FROM rehome.scans n, missing m JOIN %s t ON %s = m.locator
			LEFT JOIN rehome.chunk_access a ON a.memory = @memory AND a.chunk_id = %s
			WHERE n.scan_id = @scan AND %s),
		recorded AS (
			INSERT INTO rehome.orphan_chunks AS o (memory, chunk_id, file_path, locator, kind, reason, bytes, content_hash,
				last_accessed_at, access_count, priority, first_missing_at, last_missing_at, missing_scans, last_scan)
			SELECT @memory, chunk_id, path, locator, @kind, %s, bytes, hash, accessed, uses, 0, cutoff, cutoff, 1, @scan
			FROM found WHERE class = 'missing'
			ON CONFLICT (memory, chunk_id) DO UPDATE SET
				(file_path, locator, kind, reason, bytes, content_hash, last_accessed_at, access_count, last_missing_at, last_scan) =
				(excluded.file_path, excluded.locator, excluded.kind, excluded.reason, excluded.bytes, excluded.content_hash,
					excluded.last_accessed_at, excluded.access_count, excluded.last_missing_at, excluded.last_scan),
				(first_missing_at, missing_scans) = (SELECT
					CASE WHEN same THEN o.first_missing_at ELSE excluded.first_missing_at END,
					CASE WHEN same THEN o.missing_scans + 1 ELSE 1 END
					FROM (SELECT (o.file_path, o.content_hash) = (excluded.file_path, excluded.content_hash)) AS c (same)))
		SELECT class, count(*), coalesce(sum(bytes), 0)::bigint FROM found GROUP BY class`,
		liveMoves, inFlight("s.path"), t.id(), t.text(), t.hash(), t.accessed(), t.uses(), t.locatorsAre("m.locator"), t.held(),
		v.tooNew(), t.name(), t.path(), t.id(), t.scope(), reasonMissing)
	rows, err := v.tx.Query(ctx, query, v.args(pgx.NamedArgs{"live": resilience.LiveStatuses(), "kind": resilience.Missing}))
	if err != nil {
		return err
	}
	if err := v.tally(rows); err != nil {
		return err
	}
	if _, err := v.exec(ctx, dropSighted); err != nil {
		return err
	}
	return v.score(ctx)
}

const reasonMissing = `format('Its file %s is gone: scan %s read %s to its end, and what should lead to the file was not in it.',
	path, @scan::text, CASE witness WHEN '.' THEN 'the root' ELSE 'the directory ' || witness END)`

// dropSighted forgets orphans that this scan did not find missing, but for
// those of which it could not know.
const dropSighted = `
	DELETE FROM rehome.orphan_chunks o
	WHERE o.memory = @memory AND o.last_scan <> @scan AND NOT EXISTS (
		SELECT FROM rehome.scan_sources s WHERE s.scan_id = @scan AND s.path = o.file_path AND s.verdict = 'unknown')`

func (v *verdict) tally(rows pgx.Rows) error {
	var class resilience.Class
	var n resilience.Tally
	_, err := pgx.ForEachRow(rows, []any{&class, &n.Chunks, &n.Bytes}, func() error {
		if v.result.Classes == nil {
			v.result.Classes = map[resilience.Class]resilience.Tally{}
		}
		have := v.result.Classes[class]
		v.result.Classes[class] = resilience.Tally{Chunks: have.Chunks + n.Chunks, Bytes: have.Bytes + n.Bytes}
		return nil
	})
	return err
}

// scorePage is how many orphans are scored with one round trip.
const scorePage = 5000

// score gives the orphans of this scan their priority. The formula is in
// resilience and only there, so the figures come here page by page.
func (v *verdict) score(ctx context.Context) error {
	for after := ""; ; {
		rows, err := v.tx.Query(ctx, `
			SELECT chunk_id, bytes, last_missing_at - first_missing_at, access_count, greatest(last_missing_at - last_accessed_at, interval '0')
			FROM rehome.orphan_chunks WHERE memory = $1 AND last_scan = $2 AND chunk_id > $3 ORDER BY chunk_id LIMIT $4`,
			v.memory.Name, v.scan.ID, after, scorePage)
		if err != nil {
			return err
		}
		var ids []string
		var priorities []float64
		var id string
		var b resilience.Burden
		var unused *time.Duration
		_, err = pgx.ForEachRow(rows, []any{&id, &b.Bytes, &b.Age, &b.Uses, &unused}, func() error {
			b.Unused = 0
			if unused != nil {
				b.Unused = *unused
			}
			ids, priorities = append(ids, id), append(priorities, resilience.Priority(b))
			return nil
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		_, err = v.tx.Exec(ctx, `
			UPDATE rehome.orphan_chunks o SET priority = p.priority
			FROM unnest($2::text[], $3::float8[]) AS p (chunk_id, priority) WHERE o.memory = $1 AND o.chunk_id = p.chunk_id`,
			v.memory.Name, ids, priorities)
		if err != nil {
			return err
		}
		after = ids[len(ids)-1]
	}
}
