package store

import "strings"

// homeStatement looks at rows (@lo, @hi] of a transfer that has gone back. It counts
// those of the journal, and names those that are left with nothing to say why: their copy is
// noted as standing in the target, or they are in quarantine still. It lists, and
// counts, those that an application took from their place since they came home, and
// those whose copy stands in the target again: whoever put it there may want it, so it
// is kept as one that an undo left. Rows that were never copied never left.
func (t *transfer) homeStatement(undoing bool) string {
	// IS TRUE keeps an index on the scope, which has all rows of a memory, from standing in for the one on the id.
	source := t.from.hasID("p.chunk_id") + " AND " + t.from.scope() + " IS TRUE"
	target := t.to.hasID("p.target_id") + " AND " + t.targetScope() + " IS TRUE"
	return t.fragments(undoing).Replace(`
		WITH ` + strings.ReplaceAll(journalled, "{skipped}", "") + `,
		state AS MATERIALIZED (
			SELECT p.ordinal, p.origin, t.ctid IS NOT NULL AS present, {at home} AS home,
				p.held OR EXISTS (SELECT FROM {put away}) AS unaccounted,
				EXISTS (SELECT FROM {target} t WHERE ` + target + ` AND {written} = p.made OFFSET 0) AS again
			FROM planned p LEFT JOIN {source} t ON ` + source + `
			WHERE p.noted_at IS NOT NULL AND NOT EXISTS (
				SELECT FROM rehome.migration_exceptions e WHERE e.plan_id = @plan AND e.ordinal = p.ordinal AND e.undoing = {undoing} AND e.outcome <> 'edited' OFFSET 0)),
		since AS MATERIALIZED (
			SELECT * FROM state WHERE NOT unaccounted AND (again OR NOT home)),
		listed AS (
			INSERT INTO rehome.migration_exceptions AS e (plan_id, ordinal, outcome, undoing, detail)
			SELECT @plan, ordinal, CASE WHEN again THEN 'conflict' WHEN present THEN 'drifted' ELSE 'vanished' END, {undoing},
				CASE WHEN again THEN 'its copy was put back into memory ' || @target::text ELSE '' END
			FROM since
			ON CONFLICT (plan_id, ordinal, undoing) DO UPDATE SET outcome = excluded.outcome, detail = concat_ws('; ', nullif(excluded.detail, ''), nullif(e.detail, ''))),
		kept AS (
			UPDATE rehome.migration_copies c SET here = true FROM since s WHERE s.again AND c.plan = @origin AND c.ordinal = s.origin)
		SELECT (SELECT count(*) FROM planned), ARRAY(SELECT ordinal FROM state WHERE unaccounted ORDER BY ordinal), (SELECT count(*) FROM since)`)
}
