package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// What was at a path and is now at another, said by the rules of a plan or by a
// person. All rules are true at the same moment.
const (
	rulesOfPlan = `SELECT old_path, new_path FROM rehome.migration_renames WHERE plan_id = @plan`
	ruleGiven   = `SELECT @old::text COLLATE "C" AS old_path, @new::text COLLATE "C" AS new_path`
)

// These come before statements that go through rows just written in bulk: the
// planner takes them for a handful, and compares each with each.
const (
	lookAtPaths  = `ANALYZE rehome.migration_paths`
	lookAtTables = lookAtPaths + `, rehome.migration_renames, rehome.files, rehome.version_aliases, rehome.migration_files`
)

// interpretPlans keeps Postgres from compiling the statements below, which takes
// longer than they do.
const interpretPlans = `SET LOCAL jit = off`

// planFiles notes what becomes of the catalogue: living files at or below an
// old path go to the new one. A file that a scan saw at its new place already
// stays as it was seen. '0' is the character after '/'.
const planFiles = `
	INSERT INTO rehome.migration_files (plan_id, path, moved_to, before, after)
	WITH moved AS (
		SELECT DISTINCT ON (f.path) f.path, r.new_path || substr(f.path, length(r.old_path) + 1) AS target,
			r.new_path || rehome.below(convert_from(f.raw_path, 'UTF8'), r.old_path) AS raw, to_jsonb(f) AS row
		FROM rehome.migration_renames r
		JOIN rehome.files f ON f.memory = @memory AND f.gone_at IS NULL AND f.path >= r.old_path AND f.path < r.old_path || '0'
			AND (f.path = r.old_path OR starts_with(f.path, r.old_path || '/'))
		WHERE r.plan_id = @plan
		ORDER BY f.path, length(r.old_path) DESC),
	arrived AS (
		SELECT DISTINCT ON (m.target) m.target AS path,
			m.row || jsonb_build_object('path', m.target, 'raw_path', convert_to(m.raw, 'UTF8')) AS after
		FROM moved m
		LEFT JOIN rehome.files there ON there.memory = @memory AND there.path = m.target AND there.gone_at IS NULL
		LEFT JOIN moved leaves ON leaves.path = m.target
		WHERE there.path IS NULL OR leaves.path IS NOT NULL)
	SELECT @plan, p.path, p.target, to_jsonb(f), coalesce(p.after, to_jsonb(f) || jsonb_build_object('gone_at', now()))
	FROM (SELECT path, target, after FROM moved FULL JOIN arrived USING (path)) p
	LEFT JOIN rehome.files f ON f.memory = @memory AND f.path = p.path`

// endTaken notes the aliases at paths where a file arrives: the catalogue ends
// them by itself.
const endTaken = `
	INSERT INTO rehome.migration_aliases (plan_id, original_path, current_path, before)
	SELECT @plan, a.original_path, NULL, to_jsonb(a)
	FROM rehome.migration_files f
	JOIN rehome.version_aliases a ON a.memory = @memory AND a.original_path = f.path
	WHERE f.plan_id = @plan AND f.after->>'gone_at' IS NULL`

// The catalogue's rows are replaced whole, so that no column is forgotten.
const (
	takeFiles = `
	DELETE FROM rehome.files f USING rehome.migration_files m
	WHERE m.plan_id = @plan AND f.memory = @memory AND f.path = m.path`
	putFilesAfter = `
	INSERT INTO rehome.files
	SELECT f.* FROM rehome.migration_files m, jsonb_populate_record(NULL::rehome.files, m.after) f
	WHERE m.plan_id = @plan ON CONFLICT DO NOTHING`
	putFilesBefore = `
	INSERT INTO rehome.files
	SELECT f.* FROM rehome.migration_files m, jsonb_populate_record(NULL::rehome.files, m.before) f
	WHERE m.plan_id = @plan AND m.before IS NOT NULL ON CONFLICT DO NOTHING`
)

// planAliases notes what becomes of the aliases, all from the state before. In
// order of precedence: what the rules say; aliases that led to a path that
// moves, or below it; what lay below an alias and moves to elsewhere; and where
// a rule gives a path a new meaning, the files that its old meaning led to (not
// where a person, who moves nothing, says an alias anew) or a directory comes to
// an alias. An alias at a path that is taken, or that would lead to itself, ends.
const planAliases = `
	INSERT INTO rehome.migration_aliases (plan_id, original_path, current_path, before)
	WITH rules AS NOT MATERIALIZED (%s),
	alive AS NOT MATERIALIZED (
		SELECT original_path, current_path FROM rehome.version_aliases
		WHERE memory = @memory AND (expires_at IS NULL OR expires_at > now())),
	arriving AS (
		SELECT new_key AS path FROM rehome.migration_paths WHERE plan_id = @plan
		UNION SELECT path FROM rehome.migration_files WHERE plan_id = @plan AND after->>'gone_at' IS NULL),
	nested AS (
		SELECT a.original_path || substr(r.old_path, length(dir) + 1) AS original, r.new_path AS target
		FROM rules r CROSS JOIN LATERAL unnest(rehome.path_prefixes(r.old_path)) dir
		JOIN alive a ON a.current_path = dir
		WHERE dir <> r.old_path AND rehome.where_is(@memory, a.original_path || substr(r.old_path, length(dir) + 1)) = r.old_path),
	below AS (
		SELECT a.original_path AS path FROM rules r
		JOIN alive a ON a.original_path > r.new_path || '/' AND a.original_path < r.new_path || '0'
		UNION SELECT o.old_path FROM rules r
		JOIN rules o ON o.old_path > r.new_path || '/' AND o.old_path < r.new_path || '0'
		UNION SELECT original FROM nested),
	filled AS ( -- where a catalogue tells the files that their aliases led to
		SELECT DISTINCT dir AS path FROM arriving a CROSS JOIN LATERAL unnest(rehome.path_prefixes(a.path)) dir
		WHERE EXISTS (SELECT FROM below) AND dir <> a.path AND dir IN (SELECT path FROM below)
			AND EXISTS (SELECT FROM rehome.files WHERE memory = @memory)),
	taken AS (
		SELECT new_path AS path FROM rules UNION SELECT path FROM arriving UNION SELECT path FROM filled),
	led AS (
		SELECT x.path, was, coalesce(m.target, was) AS now
		FROM (SELECT old_path AS path FROM rules WHERE @moves UNION SELECT new_path FROM rules UNION SELECT path FROM filled) x
		CROSS JOIN LATERAL rehome.where_is(@memory, x.path) was
		LEFT JOIN LATERAL (
			SELECT r.new_path || substr(was, length(r.old_path) + 1) AS target
			FROM unnest(rehome.path_prefixes(was)) dir JOIN rules r ON r.old_path = dir
			ORDER BY length(dir) DESC LIMIT 1) m ON true
		WHERE was <> x.path),
	wanted AS (
		SELECT old_path AS original, new_path AS target, 1 AS rank, 0 AS depth FROM rules
		UNION ALL
		SELECT a.original_path, r.new_path || substr(a.current_path, length(r.old_path) + 1), 2, length(r.old_path)
		FROM rules r JOIN alive a ON a.current_path >= r.old_path AND a.current_path < r.old_path || '0'
			AND (a.current_path = r.old_path OR starts_with(a.current_path, r.old_path || '/'))
		UNION ALL
		SELECT original, target, 3, 0 FROM nested
		UNION ALL
		SELECT l.path || substr(f.path, length(l.now) + 1), f.path, 4, 0
		FROM led l JOIN rehome.files f ON f.memory = @memory AND f.gone_at IS NULL
			AND f.path > l.now || '/' AND f.path < l.now || '0'
		WHERE rehome.where_is(@memory, l.path || substr(f.path, length(l.now) + 1)) = l.was || substr(f.path, length(l.now) + 1)
		UNION ALL
		SELECT a.original_path, NULL, 5, 0 FROM taken t JOIN rehome.version_aliases a ON a.memory = @memory AND a.original_path = t.path),
	planned AS (
		SELECT DISTINCT ON (original) original, target FROM wanted ORDER BY original, rank, depth DESC)
	SELECT @plan, p.original, CASE WHEN t.path IS NULL AND p.target <> p.original THEN p.target END, to_jsonb(a)
	FROM planned p
	LEFT JOIN taken t ON t.path = p.original
	LEFT JOIN rehome.version_aliases a ON a.memory = @memory AND a.original_path = p.original
	ON CONFLICT (plan_id, original_path) DO UPDATE SET current_path = excluded.current_path`

// mendAliases gives a path of its own to every moved file that its old path
// does not lead to yet: one below an older alias of a directory, or below a
// directory whose place is taken.
const mendAliases = `
	INSERT INTO rehome.migration_aliases (plan_id, original_path, current_path, before)
	SELECT DISTINCT ON (m.path) @plan, m.path, m.target, to_jsonb(a)
	FROM (
		SELECT path, moved_to AS target FROM rehome.migration_files
		WHERE plan_id = @plan AND moved_to IS NOT NULL AND after->>'gone_at' IS NOT NULL
		UNION
		SELECT p.old_key, p.new_key FROM rehome.migration_paths p
		WHERE p.plan_id = @plan AND NOT EXISTS (
			SELECT FROM rehome.migration_paths t WHERE t.plan_id = @plan AND t.new_key = p.old_key)
		OFFSET 0) m -- OFFSET 0: where_is is asked once for each, not on both sides of the union
	LEFT JOIN rehome.version_aliases a ON a.memory = @memory AND a.original_path = m.path
	LEFT JOIN rehome.files f ON f.memory = @memory AND f.path = m.path AND f.gone_at IS NULL
	WHERE f.path IS NULL AND rehome.where_is(@memory, m.path) <> m.target
	ON CONFLICT (plan_id, original_path) DO UPDATE SET current_path = excluded.current_path`

// endLost ends the aliases that would lead to another file's old place, and whose own
// file is gone: nothing came there, and nothing is there.
const endLost = `
	WITH lost AS MATERIALIZED (
		SELECT m.original_path, m.current_path FROM rehome.migration_aliases m
		JOIN rehome.version_aliases a ON a.memory = @memory AND a.original_path = m.current_path AND (a.expires_at IS NULL OR a.expires_at > now())
		WHERE m.plan_id = @plan),
	came AS (
		SELECT DISTINCT dir AS path
		FROM rehome.migration_paths p CROSS JOIN LATERAL unnest(rehome.path_prefixes(p.new_key)) dir
		WHERE p.plan_id = @plan AND EXISTS (SELECT FROM lost) AND dir IN (SELECT current_path FROM lost))
	UPDATE rehome.migration_aliases m SET current_path = NULL
	FROM lost l
	WHERE m.plan_id = @plan AND m.original_path = l.original_path
		AND NOT EXISTS (SELECT FROM came WHERE came.path = l.current_path)
		AND NOT EXISTS (
			SELECT FROM rehome.files f WHERE f.memory = @memory AND f.gone_at IS NULL
				AND (f.path = l.current_path OR f.path > l.current_path || '/' AND f.path < l.current_path || '0'))`

const (
	dropAliases = `
	DELETE FROM rehome.version_aliases a USING rehome.migration_aliases m
	WHERE m.plan_id = @plan AND m.current_path IS NULL AND a.memory = @memory AND a.original_path = m.original_path`
	// An alias that expired and is said again begins anew.
	putAliases = `
	INSERT INTO rehome.version_aliases AS a (memory, original_path, current_path, version_history, plan_id)
	SELECT @memory, original_path, current_path, rehome.add_version('[]', current_path, 1), nullif(@by, '')
	FROM rehome.migration_aliases WHERE plan_id = @plan AND current_path IS NOT NULL
	ON CONFLICT (memory, original_path) DO UPDATE
	SET current_path = excluded.current_path, plan_id = excluded.plan_id, updated_at = now(),
		version_history = rehome.add_version(a.version_history, excluded.current_path, @keep),
		expires_at = CASE WHEN a.expires_at > now() THEN a.expires_at END
	WHERE a.current_path <> excluded.current_path OR a.expires_at <= now()`
)

// switchAliases makes aliases and catalogue follow all renames of a plan at
// once, and notes what they were. Done before, it does nothing.
func (s *Store) switchAliases(ctx context.Context, tx pgx.Tx, plan, memory string) error {
	if err := lockMemory(ctx, tx, memory); err != nil {
		return err
	}
	var done bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM rehome.migration_aliases WHERE plan_id = $1)`, plan).Scan(&done)
	if err != nil || done {
		return err
	}
	settings, err := readSettings(ctx, tx)
	if err != nil {
		return err
	}
	args := pgx.NamedArgs{"plan": plan, "by": plan, "memory": memory, "moves": true, "keep": settings.MaxVersionHistory}
	return execAll(ctx, tx, args, interpretPlans, lookAtTables, planFiles, endTaken, takeFiles, putFilesAfter,
		fmt.Sprintf(planAliases, rulesOfPlan), dropAliases, putAliases, lookAtTables, mendAliases, putAliases, endLost, dropAliases)
}

// What somebody changed since is not the plan's any more, and stays.
const (
	leaveFiles = `
	DELETE FROM rehome.migration_files m
	WHERE m.plan_id = @plan AND NOT EXISTS (
		SELECT FROM rehome.files f, jsonb_populate_record(NULL::rehome.files, m.after) ours
		WHERE f.memory = @memory AND f.path = m.path AND (f.gone_at IS NULL) = (ours.gone_at IS NULL)
			AND f.raw_path = ours.raw_path AND f.content_hash IS NOT DISTINCT FROM ours.content_hash)`
	leaveAliases = `
	DELETE FROM rehome.migration_aliases m
	WHERE m.plan_id = @plan AND (
		m.current_path IS DISTINCT FROM (
			SELECT a.current_path FROM rehome.version_aliases a WHERE a.memory = @memory AND a.original_path = m.original_path)
		OR EXISTS (SELECT FROM rehome.files f WHERE f.memory = @memory AND f.path = m.original_path AND f.gone_at IS NULL))`
	unmakeAliases = `
	DELETE FROM rehome.version_aliases a USING rehome.migration_aliases m
	WHERE m.plan_id = @plan AND m.before IS NULL AND a.memory = @memory AND a.original_path = m.original_path`
	// What was counted since stays counted.
	restoreAliases = `
	INSERT INTO rehome.version_aliases AS a
	SELECT b.* FROM rehome.migration_aliases m, jsonb_populate_record(NULL::rehome.version_aliases, m.before) b
	WHERE m.plan_id = @plan AND m.before IS NOT NULL
	ON CONFLICT (memory, original_path) DO UPDATE
	SET current_path = excluded.current_path, version_history = excluded.version_history, plan_id = excluded.plan_id,
		updated_at = excluded.updated_at, expires_at = excluded.expires_at`
	forgetFiles   = `DELETE FROM rehome.migration_files WHERE plan_id = @plan`
	forgetAliases = `DELETE FROM rehome.migration_aliases WHERE plan_id = @plan`
)

// unswitchAliases puts back what switchAliases changed, where it still is what
// the plan made of it. Done before, or with nothing to undo, it does nothing.
func (s *Store) unswitchAliases(ctx context.Context, tx pgx.Tx, plan, memory string) error {
	if err := lockMemory(ctx, tx, memory); err != nil {
		return err
	}
	return execAll(ctx, tx, pgx.NamedArgs{"plan": plan, "memory": memory},
		leaveFiles, takeFiles, putFilesBefore, forgetFiles,
		leaveAliases, unmakeAliases, restoreAliases, forgetAliases)
}

// lockMemory lets one writer at a time work on the aliases of a memory.
func lockMemory(ctx context.Context, tx pgx.Tx, memory string) error {
	tag, err := tx.Exec(ctx, `SELECT FROM rehome.memories WHERE name = $1 FOR NO KEY UPDATE`, memory)
	if err == nil && tag.RowsAffected() == 0 {
		return problem(ErrNotFound, "there is no memory %q; see `starter memory list`", memory)
	}
	return err
}

func execAll(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs, statements ...string) error {
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement, args); err != nil {
			return err
		}
	}
	return nil
}
