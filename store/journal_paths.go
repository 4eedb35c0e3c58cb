package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// sources lists the distinct source paths of the memory, as they stand in it
// (raw), relative to the root (rest), and canonical (key).
func (j *journal) sources() string {
	return fmt.Sprintf(`spelled AS MATERIALIZED ( -- each path once, or path_rest would run for every chunk
		SELECT DISTINCT %s AS raw FROM %s t WHERE %s),
	sources AS MATERIALIZED (
		SELECT raw, rest, `+keyOf("rest")+` AS key
		FROM (SELECT raw, rehome.path_rest(raw, @prefix) AS rest FROM spelled OFFSET 0) r -- OFFSET 0: once, not wherever it is named
		WHERE rest IS NOT NULL)`, j.table.path(), j.table.name(), j.table.scope())
}

// keyOf is the canonical key of a path relative to the root. One in ASCII is its
// own, which is seen in a fraction of the time that normalising takes.
func keyOf(rest string) string {
	return fmt.Sprintf(`CASE WHEN octet_length(%[1]s) = length(%[1]s) THEN %[1]s ELSE normalize(%[1]s, NFC) END COLLATE "C"`, rest)
}

// listPaths finds the source paths of the memory that the plan moves, and for
// each of them another file, if there is one, that is where it would go, above
// that, or below it; or would be, for people and file systems that do not tell
// case or Unicode forms apart. It returns the first three of what is in the way.
func (j *journal) listPaths(ctx context.Context) (taken []string, err error) {
	fold, err := j.folding(ctx)
	if err != nil {
		return nil, err
	}
	if j.transfer != nil {
		taken, err = j.listTransferred(ctx, fold)
	} else {
		taken, err = j.listRenamed(ctx, fold)
	}
	return firstPaths(taken), err
}

// firstPaths are the first three of what is in the way of a plan, which a person is told.
func firstPaths(all []string) []string {
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(3, len(all))]
}

// listRenamed lists the paths that a rename moves. The longest one wins, so that a
// file can go another way than its directory. What looks like another already may
// do so where it goes.
func (j *journal) listRenamed(ctx context.Context, fold folder) (taken []string, err error) {
	rules, err := j.rules(ctx)
	if err != nil {
		return nil, err
	}
	return j.find(ctx, `
		WITH `+j.sources()+`,
		ruled AS (
			SELECT DISTINCT ON (s.raw) s.*, r.ordinal, r.old_path, r.new_path FROM sources s `+rules+`
			ORDER BY s.raw, length(r.old_path) DESC),
		planned AS MATERIALIZED (
			SELECT p.*, `+fold("target_key")+` AS fold, `+fold("key")+` AS was
			FROM (
				SELECT s.raw, s.key, left(s.raw, length(s.raw) - length(s.rest)) || n.rest AS target, n.rest COLLATE "C" AS target_rest,
					`+keyOf("n.rest")+` AS target_key, s.ordinal
				FROM ruled s
				CROSS JOIN LATERAL (
					SELECT concat_ws('/', s.new_path, nullif(array_to_string(
						(string_to_array(s.rest, '/'))[cardinality(string_to_array(s.old_path, '/')) + 1 :], '/'), '')) AS rest OFFSET 0) n
				OFFSET 0) p),
		listed AS (
			INSERT INTO rehome.migration_paths (plan_id, old_path, old_key, new_path, new_key, rule)
			SELECT @plan, raw, key, target, target_key, ordinal FROM planned p
			WHERE NOT EXISTS (SELECT FROM rehome.migration_paths k WHERE k.plan_id = @plan AND k.old_path = p.raw)),
		others AS MATERIALIZED (
			SELECT key, min(rest COLLATE "C") AS rest, `+fold("key")+` AS fold FROM sources s
			WHERE NOT EXISTS (SELECT FROM planned p WHERE p.key = s.key) GROUP BY key),
		`+meeting("planned", "g.key, g.target_key, g.target_rest, g.was = o.fold AS alike, o.key AS other, o.rest AS other_rest")+`,
		judged AS (
			SELECT *, other_rest = target_rest OR starts_with(target_key, other || '/') OR starts_with(other, target_key || '/') AS same FROM met),
		clashes AS (
			SELECT DISTINCT ON (key) CASE WHEN same THEN 'target_taken' ELSE 'lookalike' END AS kind, key AS source, target_key AS target, other
			FROM judged WHERE same OR NOT alike ORDER BY key, same DESC, other)
		SELECT kind, source, target, other, count(*) OVER () FROM clashes ORDER BY source LIMIT @kept`)
}

// fewRules are compared with each path; of more, each path looks for its own.
const fewRules = 4

// rules joins the sources s to the renames r that move them.
func (j *journal) rules(ctx context.Context) (string, error) {
	var few bool
	err := j.tx.QueryRow(ctx, `
		SELECT count(*) <= $2 FROM (SELECT FROM rehome.migration_renames WHERE plan_id = $1 LIMIT $2 + 1) r`, j.plan, fewRules).Scan(&few)
	if few {
		return `JOIN rehome.migration_renames r ON r.plan_id = @plan AND (s.key = r.old_path OR starts_with(s.key, r.old_path || '/'))`, err
	}
	// A rename of the path itself is the longest there can be: what is above it need not be looked for.
	return `LEFT JOIN rehome.migration_renames own ON own.plan_id = @plan AND own.old_path = s.key
			CROSS JOIN LATERAL unnest(CASE WHEN own.old_path IS NULL THEN rehome.path_prefixes(s.key) ELSE ARRAY[s.key] END) AS way (path)
			JOIN rehome.migration_renames r ON r.plan_id = @plan AND r.old_path = way.path`, err
}

// folder makes equal of paths that differ in nothing but case or Unicode form.
type folder func(path string) string

// folding returns the folder of this server: how to tell the case of a letter
// depends on what it has.
func (j *journal) folding(ctx context.Context) (folder, error) {
	var collation string
	err := j.tx.QueryRow(ctx, `
		SELECT coalesce((
			SELECT quote_ident(collname) FROM pg_collation
			WHERE collnamespace = 'pg_catalog'::regnamespace AND collname = ANY ($1) AND collencoding IN (-1, 6) -- 6: UTF8
			ORDER BY array_position($1, collname::text) LIMIT 1), '"default"')`,
		[]string{"und-x-icu", "pg_c_utf8", "C.UTF-8", "C.utf8", "en_US.utf8"}).Scan(&collation)
	return func(path string) string {
		// To upper case first: some letters have two lower ones.
		return fmt.Sprintf(`CASE WHEN octet_length(%[1]s) = length(%[1]s) THEN lower(%[1]s COLLATE "C")
			ELSE normalize(lower(upper(normalize(%[1]s, NFKC) COLLATE %[2]s)), NFKC) COLLATE "C" END`, path, collation)
	}, err
}

// misnamed lists the renames that move nothing, and of those to one place all but
// the first.
const misnamed = `
		WITH bad AS (
			SELECT ordinal, CASE WHEN old_path = new_path THEN 'same_path' ELSE 'nested_scope' END AS kind, old_path, new_path, '' AS other
			FROM rehome.migration_renames
			WHERE plan_id = @plan AND (old_path = new_path OR starts_with(new_path, old_path || '/') OR starts_with(old_path, new_path || '/'))
			UNION ALL
			SELECT ordinal, 'duplicate_target', old_path, new_path, first
			FROM (
				SELECT ordinal, old_path, new_path, first_value(old_path) OVER same AS first, row_number() OVER same AS nth
				FROM rehome.migration_renames WHERE plan_id = @plan WINDOW same AS (PARTITION BY new_path ORDER BY ordinal)) r
			WHERE nth > 1)
		SELECT kind, old_path, new_path, other, count(*) OVER () FROM bad ORDER BY ordinal LIMIT @kept`

// unmatched lists the renames that no file is found for.
const unmatched = `
		SELECT 'no_source', old_path, new_path, '', count(*) OVER () FROM rehome.migration_renames r
		WHERE plan_id = @plan AND NOT EXISTS (
			SELECT FROM rehome.migration_paths p WHERE p.plan_id = @plan AND p.rule = r.ordinal)
		ORDER BY ordinal LIMIT @kept`

// explained is how many conflicts for which there may be more to say are looked into.
const explained = 3

// explainStayed says of paths with no chunk at or under them which chunks stayed, when they
// were renamed to there by alias only, and are where they were.
func (j *journal) explainStayed(ctx context.Context) error {
	left := explained
	for i, c := range j.conflicts {
		if c.Kind != resilience.NoSource || left == 0 {
			continue
		}
		left--
		var stayed string
		err := j.tx.QueryRow(ctx, fmt.Sprintf(`
			WITH stays AS MATERIALIZED (
				SELECT plan_id, number FROM rehome.migration_plans o WHERE memory = @memory AND status = 'completed' AND (way = 'alias_only' OR EXISTS (
					SELECT FROM rehome.migration_groups g WHERE g.plan_id = o.plan_id AND g.way = 'alias_only'))),
			named AS MATERIALIZED (
				SELECT s.number, p.old_key, p.old_path FROM stays s JOIN rehome.migration_paths p USING (plan_id)
				WHERE (SELECT EXISTS (SELECT FROM stays)) AND (p.new_key = @source OR starts_with(p.new_key, @source || '/'))
				ORDER BY s.number DESC, p.old_key LIMIT 100)
			SELECT coalesce((
				SELECT n.old_key FROM named n WHERE EXISTS (SELECT FROM %s t WHERE %s = n.old_path AND %s)
				ORDER BY n.number DESC, n.old_key LIMIT 1), '')`, j.table.name(), j.table.path(), j.table.scope()),
			j.args(pgx.NamedArgs{"source": c.Source})).Scan(&stayed)
		if err != nil {
			return err
		}
		j.conflicts[i].Detail = c.Explain(stayed)
	}
	return nil
}

// twoToOne lists the files that would go where another goes.
func twoToOne(fold folder) string {
	return `
		WITH going AS (
			SELECT DISTINCT old_key, new_key, new_path, ` + fold("old_key") + ` AS was, ` + fold("new_key") + ` AS fold
			FROM rehome.migration_paths WHERE plan_id = @plan),
		compared AS (
			SELECT *, first_value(old_key) OVER same AS other, first_value(new_key) OVER same AS other_key,
				first_value(new_path) OVER same AS other_path, first_value(was) OVER same AS other_was
			FROM going WINDOW same AS (PARTITION BY fold ORDER BY old_key)),
		bad AS (
			SELECT DISTINCT ON (old_key) new_path = other_path AS same, old_key, new_key, other, other_key
			FROM compared WHERE old_key <> other AND (new_key = other_key OR was <> other_was) ORDER BY old_key)
		SELECT CASE WHEN same THEN 'duplicate_target' ELSE 'lookalike' END, old_key, new_key, CASE WHEN same THEN other ELSE other_key END, count(*) OVER ()
		FROM bad ORDER BY old_key LIMIT @kept`
}

// tooLong lists the new paths that the columns of paths do not take.
const tooLong = `
		WITH narrow AS ( -- the narrowest of them
			SELECT atttypmod - 4 AS most, -- as Postgres keeps a length
				format('%I %s', attname, format_type(atttypid, atttypmod)) AS says
			FROM pg_attribute WHERE attrelid = @table::regclass AND attname = ANY (@locators) AND atttypid = 'varchar'::regtype AND atttypmod > 0
			ORDER BY 1 LIMIT 1),
		bad AS (
			SELECT DISTINCT ON (old_key) old_key, new_key, says FROM rehome.migration_paths, narrow
			WHERE plan_id = @plan AND length(new_path) > most ORDER BY old_key)
		SELECT 'too_long', old_key, new_key, says, count(*) OVER () FROM bad ORDER BY old_key LIMIT @kept`

// findMisfits looks for orders that move nothing or cannot be true, for files that
// would go to one place, and for what is too long, or taken, where it is to stand.
func (j *journal) findMisfits(ctx context.Context) error {
	fold, err := j.folding(ctx)
	if err != nil {
		return err
	}
	queries := []string{misnamed, twoToOne(fold), unmatched}
	if j.transfer != nil {
		queries = j.transferMisfits(fold)
	}
	if j.policy.Way != resilience.AliasOnly { // which writes none
		queries = append(queries, tooLong)
	}
	for _, query := range queries {
		if _, err := j.find(ctx, query); err != nil {
			return err
		}
	}
	return j.explainStayed(ctx)
}

// places are those that plans p own while they are live: what a rename leaves and what
// it takes, in its memory, and what a transfer takes along, in both of its memories.
func places(of string) string {
	return `
			SELECT * FROM (
				SELECT p.plan_id, p.workflow_id, r.ordinal, r.old_path, r.new_path,
					unnest(ARRAY[p.memory, p.memory, x.target]) AS memory, unnest(ARRAY[r.old_path, r.new_path, r.new_path]) AS path
				FROM rehome.migration_plans p JOIN rehome.migration_renames r USING (plan_id)
				LEFT JOIN rehome.migration_transfers x USING (plan_id)
				WHERE (p.memory = ANY (@memories) OR x.target = ANY (@memories)) AND ` + of + `) p
			WHERE memory = ANY (@memories)`
}

// otherLive holds for the other live plans. One without a journal owns nothing yet, and
// will see ours.
const otherLive = `p.plan_id <> @plan AND p.status = ANY (@live) AND p.plan_id IN (SELECT plan_id FROM rehome.migration_progress)`

// findOwners looks for other live plans that touch a path of a memory, or something
// above or below it, that this plan touches there too. It has no LATERAL: next to a loop
// that has no other way, all loops look equally costly to the planner (see bulkSettings).
func (j *journal) findOwners(ctx context.Context) error {
	_, err := j.find(ctx, `
		WITH live AS (`+places(otherLive)+`),
		mine AS (`+places(`p.plan_id = @plan AND (SELECT EXISTS (SELECT FROM live))`)+`), -- without others no path is taken apart
		met AS (
			SELECT m.ordinal, m.old_path, m.new_path, l.plan_id, l.workflow_id
			FROM (SELECT *, unnest(rehome.path_prefixes(path)) AS way FROM mine) m JOIN live l ON l.path = m.way AND l.memory = m.memory
			UNION ALL
			SELECT m.ordinal, m.old_path, m.new_path, l.plan_id, l.workflow_id
			FROM (SELECT *, unnest(rehome.path_prefixes(path)) AS way FROM live) l JOIN mine m ON m.path = l.way AND m.memory = l.memory
			UNION ALL -- another has the whole memory, with what nobody has put into it yet
			SELECT m.ordinal, m.old_path, m.new_path, l.plan_id, l.workflow_id
			FROM (SELECT DISTINCT plan_id, workflow_id, memory FROM live) l JOIN mine m USING (memory) WHERE `+wholeMemory("l.plan_id", "l.memory")+`),
		unmet AS ( -- this one has, and another is to put something into it
			SELECT m.ordinal, l.path, l.path AS new_path, l.plan_id, l.workflow_id
			FROM (SELECT memory, min(ordinal) AS ordinal FROM mine GROUP BY memory) m JOIN live l USING (memory)
			WHERE `+wholeMemory("@plan", "l.memory")+` AND NOT EXISTS (SELECT FROM met WHERE met.plan_id = l.plan_id)),
		owned AS (
			SELECT DISTINCT ON (ordinal) ordinal, old_path, new_path, format('%s (%s)', plan_id, workflow_id) AS owner
			FROM (SELECT * FROM met UNION ALL (SELECT * FROM unmet ORDER BY ordinal, path LIMIT 1)) m ORDER BY ordinal, plan_id)
		SELECT 'other_plan', old_path, new_path, owner, count(*) OVER () FROM owned ORDER BY ordinal LIMIT @kept`)
	if err != nil {
		return err
	}
	_, err = j.find(ctx, `
		WITH live AS (`+owning(otherLive)+`),
		mine AS (`+owning(`p.plan_id = @plan`)+`)
		SELECT 'shared_table', l.memory, '', format('%s (%s)', l.plan_id, l.workflow_id), count(*) OVER ()
		FROM live l WHERE EXISTS (SELECT FROM mine m WHERE m.memory <> l.memory AND `+shareRows("m.mapping", "l.mapping")+`)
		ORDER BY l.plan_id LIMIT @kept`)
	return err
}

// wholeMemory holds where a plan takes all that is in a memory, and what comes there. An
// undo, also of an undo, takes what the journal of the other has.
func wholeMemory(plan, memory string) string {
	return `EXISTS (
				SELECT FROM rehome.migration_transfers x JOIN rehome.migration_plans p USING (plan_id)
				WHERE x.plan_id = ` + plan + ` AND x.prefix = '' AND p.undoes IS NULL AND p.memory = ` + memory + `)`
}

// owning are the memories of plans p, with their tables. Where another memory is over one
// of these nobody knows which of its paths are the same files: each has its own root.
func owning(of string) string {
	return `
			SELECT p.plan_id, p.workflow_id, p.memory, p.mapping FROM rehome.migration_plans p WHERE ` + of + `
			UNION ALL
			SELECT p.plan_id, p.workflow_id, x.target, x.mapping FROM rehome.migration_plans p JOIN rehome.migration_transfers x USING (plan_id) WHERE ` + of
}

// find adds what a query says stands in the plan's way: kind, source, target,
// what is in the way, and of how many in all it is one.
func (j *journal) find(ctx context.Context, query string) (inTheWay []string, err error) {
	rows, err := j.tx.Query(ctx, query, j.args(pgx.NamedArgs{
		"live": resilience.LiveStatuses(), "kept": resilience.KeptConflicts, "table": j.goal().name(), "locators": j.goal().pathColumns(),
	}))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all, again int64
	for rows.Next() {
		var c resilience.Conflict
		var other string
		if err := rows.Scan(&c.Kind, &c.Source, &c.Target, &other, &all); err != nil {
			return nil, err
		}
		c.Detail = c.Explain(other)
		if slices.Contains(j.conflicts, c) { // another query found it too
			again++
			continue
		}
		inTheWay = append(inTheWay, other)
		if len(j.conflicts) < resilience.KeptConflicts {
			j.conflicts = append(j.conflicts, c)
		}
	}
	j.inTheWay += all - again
	return inTheWay, rows.Err()
}
