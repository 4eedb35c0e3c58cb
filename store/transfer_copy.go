package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// mover prepares the statements that make the copies of a transfer and
// take them away again. A plan that goes back does the one where another does
// the other.
func (t *transfer) mover(ctx context.Context, s *Store) (*Mover, error) {
	relations, err := s.relations(ctx, t.to)
	if err != nil {
		return nil, fmt.Errorf("look for partitions of %s: %w", t.to.name(), interpret(err))
	}
	if t.acts, err = actsAfter(ctx, s.pool, relations, writesInsert); err != nil {
		return nil, fmt.Errorf("look for triggers of %s: %w", t.to.name(), interpret(err))
	}
	if t.beside, err = t.readBeside(ctx, s.pool); err != nil {
		return nil, fmt.Errorf("look at the columns of %s: %w", t.to.name(), interpret(err))
	}
	changed, err := t.changed(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	m := &Mover{
		store: s, plan: t.plan, onward: onward, args: t.args(pgx.NamedArgs{"relations": relations}),
		apply: &move{statement: t.copyStatement(false)}, revert: &move{statement: t.uncopyStatement(true, nil), undoing: true, uncopies: t}, apart: checkAtOnce,
	}
	copies := m.apply
	if t.back {
		copies = &move{statement: t.copyStatement(true), undoing: true}
	}
	copies.changed = changed
	if t.acts {
		copies.aftermath = t.afterCopies(t.back)
	}
	if !t.back {
		return m, nil
	}
	home, err := readWritable(ctx, s.pool, t.from)
	if err != nil {
		return nil, fmt.Errorf("look at the columns of %s: %w", t.from.name(), interpret(err))
	}
	if m.args["home_relations"], err = s.relations(ctx, t.from); err != nil {
		return nil, fmt.Errorf("look for partitions of %s: %w", t.from.name(), interpret(err))
	}
	m.apply, m.revert, m.before = &move{statement: t.uncopyStatement(false, home), uncopies: t}, copies, checkAtOnce
	return m, nil
}

// fragments are what the statements of a transfer share.
func (t *transfer) fragments(undoing bool) *strings.Replacer {
	var sets []string
	for i, c := range t.columns()[1:] {
		sets = append(sets, fmt.Sprintf("%s = b.f%d", c, i+1))
	}
	lo, hi := t.passed()
	skipped, left := "", "0"
	if undoing { // what did not go there does not come back
		const excepted = "FROM rehome.migration_exceptions e WHERE e.plan_id = @plan AND NOT e.undoing AND e.outcome <> 'edited'"
		skipped = "WHERE NOT EXISTS (SELECT " + excepted + " AND e.ordinal = " + t.ordinal() + " OFFSET 0)"
		left = "(SELECT count(*) " + excepted + " AND e.ordinal > @lo AND e.ordinal <= @hi)"
	}
	return strings.NewReplacer(
		"{source}", t.from.name(), "{target}", t.to.name(), "{ordinal}", t.ordinal(), "{moves}", movesOf("@origin", lo, hi), "{lo}", lo, "{hi}", hi, "{skipped}", skipped, "{left}", left,
		"{is source}", t.from.hasID("p.chunk_id")+" AND "+t.from.scope(), "{is target}", t.to.hasID("p.target_id")+" AND "+t.targetScope(),
		"{at home}", t.from.locatorsAre("p.home")+" IS TRUE", "{values}", t.values(), "{values at hand}", t.valuesAtHand(),
		"{unfit}", t.unfit(), "{chosen id}", t.chosenID("s"), "{columns}", strings.Join(t.columns(), ", "),
		"{f}", strings.Join(t.names(), ", "), "{sets}", strings.Join(sets, ", "),
		"{written}", t.written(), "{written beside}", t.beside.written(), "{mark written}", t.markWritten(), "{written sum}", t.sumOf("written"),
		"{expected}", t.expected("b"), "{mark expected}", t.markExpected("b"), "{mark expected now}", t.markExpected("p"), "{print}", t.print("expected"), "{expected sum}", t.sumOf("expected"),
		"{account}", accounted, "{told}", told, "{put away}", putAway, "{undoing}", fmt.Sprint(undoing))
}

// putAway is what quarantine keeps of the source row of p. Its key alone is looked
// up, whatever the planner believes of tables that grow while its plan is kept.
const putAway = `(SELECT * FROM rehome.quarantine q WHERE q.run_id = @origin_plan AND q.chunk_id = p.chunk_id OFFSET 0) q
			WHERE q.memory = @source AND q.restored_at IS NULL`

// names are f0, f1 …, in the order of columns.
func (t *transfer) names() []string {
	names := make([]string, len(t.fit.Fills))
	for i := range names {
		names[i] = fmt.Sprintf("f%d", i)
	}
	return names
}

// journalled are the rows of a batch, as p.
const journalled = `planned AS MATERIALIZED (` + passedRows + `)`

// passedRows are those of a batch. Copies are looked for only where it has some.
// What was noted of them is written again by its place: in one snapshot that is the row.
const passedRows = `
			SELECT {ordinal} AS ordinal, m.ordinal AS origin, m.chunk_id, m.old_path AS home, m.new_path, c.noted_at, c.target_id, c.made, c.beside, coalesce(c.here, false) AS held
			FROM {moves}
			LEFT JOIN LATERAL ( -- OFFSET 0: by its key, too
				SELECT c.ctid AS noted_at, c.* FROM rehome.migration_copies c WHERE c.plan = @origin AND c.ordinal = m.ordinal
					AND (SELECT EXISTS (SELECT FROM rehome.migration_copies n WHERE n.plan = @origin AND n.ordinal > {lo} AND n.ordinal <= {hi})) OFFSET 0) c ON true
			{skipped}`

// copyStatement makes the copies of a batch, notes what they are, and accounts
// for every row. What the insert returns of every copy, as the triggers before it left it, is
// what it was meant to be where the sums before and after are the same.
func (t *transfer) copyStatement(undoing bool) string {
	return t.fragments(undoing).Replace(`
		WITH planned AS NOT MATERIALIZED (` + passedRows + `),
		state AS MATERIALIZED ( -- a row with an id, f0, is to be copied
			SELECT ordinal, origin, noted_at, held, present, here, unfit, {f}, CASE WHEN f0 IS NOT NULL THEN {mark expected} END AS expected
			FROM (
				SELECT s.*, CASE WHEN s.here AND NOT s.held AND s.unfit IS NULL THEN {chosen id} END AS f0
				FROM (
					SELECT p.ordinal, p.origin, p.chunk_id, p.noted_at, p.target_id, p.held, t.ctid IS NOT NULL AS present, {at home} AS here, {unfit} AS unfit, {values at hand}
					FROM planned p LEFT JOIN {source} t ON {is source}) s
				OFFSET 0) b),
		stayed AS (
			INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing, detail)
			SELECT @plan, ordinal, CASE WHEN here THEN 'conflict' WHEN present THEN 'drifted' ELSE 'vanished' END, {undoing}, CASE WHEN here THEN coalesce(unfit, '') ELSE '' END
			FROM state WHERE NOT held AND f0 IS NULL
			ON CONFLICT DO NOTHING),
		made AS (
			INSERT INTO {target} AS t ({columns}) OVERRIDING SYSTEM VALUE
			SELECT {f} FROM state WHERE f0 IS NOT NULL
			RETURNING {mark written} AS written` + t.returned() + `),` + t.noted("made") + `
		noted AS (
			INSERT INTO rehome.migration_copies (plan, ordinal, target_id, made, here, beside)
			SELECT @origin, origin, f0::text, {print}, true, ` + t.besideOf("s.f0", "NULL") + ` FROM state s WHERE f0 IS NOT NULL AND noted_at IS NULL),
		noted_again AS (
			UPDATE rehome.migration_copies c SET (target_id, made, here, beside) = (s.f0::text, {print}, true, ` + t.besideOf("s.f0", "NULL") + `)
			FROM state s WHERE s.f0 IS NOT NULL AND s.noted_at IS NOT NULL AND c.ctid = s.noted_at),
		wrote AS (SELECT count(*) AS copies, {written sum} AS prints FROM made),
		wrong AS (SELECT ordinal FROM state WHERE f0 IS NOT NULL AND expected NOT IN (SELECT written FROM made)),
		{account} AS (
		SELECT count(*), count(*) FILTER (WHERE present OR held), count(*) FILTER (WHERE f0 IS NOT NULL OR held),
			count(*) FILTER (WHERE held) + (SELECT copies FROM wrote),
			(count(*) + {left} = @hi - @lo) IS NOT FALSE, {expected sum} = (SELECT prints FROM wrote)
		FROM state b)
		{told}`)
}

// uncopyStatement takes away the copies of a batch that still are what we made, beside
// which nothing was written, and whose chunks are at home. Of the others those go whose
// chunks take home what was written to them.
func (t *transfer) uncopyStatement(undoing bool, columns writable) string {
	home := keepCopies
	if h := (homecoming{transfer: t, writable: columns}); len(h.takes()) > 0 {
		home = h.parts().Replace(bringHome)
	}
	// A row that could not be retired has a copy all the same: what was copied says which go.
	held := strings.ReplaceAll(journalled, "{skipped}", "")
	return t.fragments(undoing).Replace(`
		WITH ` + held + `,
		safe AS MATERIALIZED (
			SELECT p.*, EXISTS (SELECT FROM {source} t WHERE {is source}) AND NOT EXISTS (SELECT FROM {put away}) AS safe
			FROM planned p WHERE p.held),
		state AS MATERIALIZED (
			SELECT p.*, p.safe AND same AND more = '' AS ours
			FROM (
				SELECT p.*, t.ctid IS NOT NULL AS present, coalesce({written} = p.made, false) AS same, {written beside} AS more
				FROM safe p LEFT JOIN {target} t ON {is target} OFFSET 0) p),` + home + ` -- OFFSET 0: or the copy would be hashed twice
		stayed AS (
			INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing, detail)
			SELECT @plan, ordinal, CASE WHEN present THEN 'conflict' ELSE 'vanished' END, {undoing}, CASE WHEN present THEN 'its chunk is not at home' ELSE '' END
			FROM state WHERE NOT (present AND safe)
			UNION ALL
			SELECT @plan, ordinal, 'conflict', {undoing}, why FROM judged WHERE why <> ''
			UNION ALL
			SELECT @plan, ordinal, 'edited', {undoing}, 'what was written to ' || changed || ' came home' FROM brought
			UNION ALL
			SELECT @plan, ordinal, 'vanished', false, '' FROM planned WHERE NOT held AND NOT {undoing} -- it was never copied
			ON CONFLICT DO NOTHING),
		gone AS (
			DELETE FROM {target} t USING state p WHERE {is target} AND (p.ours OR p.ordinal IN (SELECT ordinal FROM brought)) RETURNING p.ordinal),
		noted AS (
			UPDATE rehome.migration_copies c SET here = false FROM state p
			WHERE c.ctid = p.noted_at AND (p.ours OR NOT p.present OR p.ordinal IN (SELECT ordinal FROM brought))),
		wrong AS (
			SELECT ordinal FROM state WHERE present AND ours AND ordinal NOT IN (SELECT ordinal FROM gone)
			UNION ALL SELECT ordinal FROM judged
			WHERE why = '' AND (ordinal NOT IN (SELECT ordinal FROM gone) OR ordinal NOT IN (SELECT ordinal FROM brought WHERE verified))),
		{account} AS (
		SELECT (SELECT count(*) FROM planned), count(*) FILTER (WHERE present), count(*) FILTER (WHERE present AND ours) + (SELECT count(*) FROM brought), (SELECT count(*) FROM gone),
			((SELECT count(*) FROM planned) = @hi - @lo) IS NOT FALSE, (SELECT count(*) FROM judged WHERE why = '') = (SELECT count(*) FROM brought WHERE verified)
		FROM state)
		{told}`)
}
