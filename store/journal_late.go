package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// putBack says of rows up to one of the journal why they do not count as moved: an
// application put them back, or made them anew by the same id, be it that they are taken
// along once more or cannot be.
func putBack(outcome, chunks string) string {
	return fmt.Sprintf(`
			INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing, detail)
			SELECT @plan, m.ordinal, '%s', false, 'it was put back at its old path'
			FROM rehome.migration_moves m WHERE m.plan = @number AND m.ordinal <= @after AND m.chunk_id IN (%s)
			ON CONFLICT DO NOTHING`, outcome, chunks)
}

// listLate journals the rows that appeared at the old paths since the plan was made, or
// came back there, except for those whose target came to be another's meanwhile: these
// stay where they are, and are recorded as conflicts.
func (j *journal) listLate(ctx context.Context) (listed, error) {
	if _, err := j.listPaths(ctx); err != nil {
		return listed{}, err
	}
	j.conflicts, j.inTheWay = nil, 0 // what lies at the targets now is mostly the plan's own
	before := j.total
	found, err := j.listMoves(ctx)
	if err == nil && found.Moves > 0 {
		err = j.leaveTaken(ctx, before, &found)
	}
	if err == nil && found.Moves > 0 {
		err = j.claimSwept(ctx, before)
	}
	if err == nil && found.Moves > 0 && j.takesBack() {
		_, err = j.tx.Exec(ctx, putBack("drifted", "SELECT chunk_id FROM rehome.migration_moves WHERE plan = @number AND last > @after"),
			j.args(pgx.NamedArgs{"after": before}))
	}
	if err == nil {
		err = j.recordConflicts(ctx)
	}
	return found, err
}

// claimSwept notes the places to which a transfer of a whole memory takes what came there
// since: of its target it owns no others.
func (j *journal) claimSwept(ctx context.Context, before int64) error {
	if j.transfer == nil || j.transfer.prefix != "" {
		return nil
	}
	_, err := j.tx.Exec(ctx, `
		INSERT INTO rehome.migration_renames (plan_id, ordinal, old_path, new_path)
		SELECT @plan, (SELECT coalesce(max(ordinal), 0) FROM rehome.migration_renames WHERE plan_id = @plan) + row_number() OVER (ORDER BY place), place, place
		FROM (
			SELECT DISTINCT p.new_key AS place
			FROM rehome.migration_runs m JOIN rehome.migration_paths p USING (path_id) WHERE m.plan = @number AND m.last > @before) came
		ON CONFLICT DO NOTHING`, j.args(pgx.NamedArgs{"before": before}))
	return err
}

// leaveTaken takes out of the journal, after a row, what cannot go where it
// should: the target is taken, or looks like another.
func (j *journal) leaveTaken(ctx context.Context, before int64, found *listed) error {
	left, err := j.findTaken(ctx, before)
	if err != nil || len(left) == 0 {
		return err
	}
	args := j.args(pgx.NamedArgs{"after": before, "left": left})
	all := found.Moves
	err = j.tx.QueryRow(ctx, fmt.Sprintf(`
		WITH late AS (
			DELETE FROM rehome.migration_runs WHERE plan = @number AND last > @after RETURNING *),
		kept AS (SELECT * FROM late WHERE path_id <> ALL (@left)),
		forgotten AS (
			DELETE FROM rehome.migration_documents d
			WHERE d.plan = @number AND d.chunk_id IN (SELECT unnest(chunk_ids) FROM late WHERE path_id = ANY (@left))),
		returned AS (%s),
		put AS (%s)
		%s`, putBack("conflict", "SELECT unnest(chunk_ids) FROM late WHERE path_id = ANY (@left)"), writeRuns("kept", "last"), writtenRuns), args).Scan(&found.Moves, &found.Bytes)
	if err != nil {
		return err
	}
	j.total = before + found.Moves
	_, err = j.tx.Exec(ctx, `
		DELETE FROM rehome.migration_paths p
		WHERE path_id = ANY (@left) AND NOT EXISTS (SELECT FROM rehome.migration_runs m WHERE m.plan = @number AND m.path_id = p.path_id)`, args)
	if err != nil {
		return err
	}
	return recordOnce(ctx, j.tx, event{
		Plan: j.plan, What: "left",
		Detail: fmt.Sprintf("%d chunks that appeared at the old paths stay there: %s", all-found.Moves, j.conflicts[0].Detail),
	})
}

// findTaken returns the paths of rows after one of the journal that cannot go where
// they should.
func (j *journal) findTaken(ctx context.Context, before int64) (paths []int64, err error) {
	fold, err := j.folding(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := j.tx.Query(ctx, `
		WITH `+j.clashes(fold, `
				SELECT DISTINCT p.path_id, p.old_key AS key, p.new_key AS target_key, p.new_path
				FROM rehome.migration_runs m JOIN rehome.migration_paths p USING (path_id)
				WHERE m.plan = @number AND m.last > @before`)+`,
		`+alsoGoing(fold)+`,
		live AS (`+places(otherLive)+`),
		owned AS ( -- a whole memory may have come to where another plan puts something
			SELECT g.path_id, 'other_plan', g.old_key, g.new_key, format('%s (%s)', l.plan_id, l.workflow_id)
			FROM (SELECT *, unnest(rehome.path_prefixes(new_key)) AS way FROM own WHERE NOT known) g
			JOIN live l ON l.path = g.way AND l.memory = @goal)
		SELECT DISTINCT ON (source, path_id) path_id, kind, source, target, other
		FROM (SELECT * FROM clashes UNION ALL SELECT * FROM met_own UNION ALL SELECT * FROM owned) c ORDER BY source, path_id, kind, other`,
		j.args(pgx.NamedArgs{"before": before, "live": resilience.LiveStatuses(), "goal": j.memories()[len(j.memories())-1]}))
	if err != nil {
		return nil, err
	}
	var path int64
	var c resilience.Conflict
	var other string
	_, err = pgx.ForEachRow(rows, []any{&path, &c.Kind, &c.Source, &c.Target, &other}, func() error {
		paths = append(paths, path)
		if c.Detail = c.Explain(other); len(j.conflicts) < resilience.KeptConflicts {
			j.conflicts = append(j.conflicts, c)
		}
		return nil
	})
	j.inTheWay = int64(len(paths))
	return paths, err
}

// alsoGoing finds, of the files g of which the plan had no chunk up to @before, those that
// would go where another of its files goes: one that it knew already, or that comes first.
func alsoGoing(fold folder) string {
	return fmt.Sprintf(`own AS MATERIALIZED (
			SELECT path_id, old_key, new_key, new_path, %[1]s AS was, %[2]s AS fold, known
			FROM rehome.migration_paths JOIN (
				SELECT path_id, min(first) <= @before AS known FROM rehome.migration_runs WHERE plan = @number GROUP BY path_id) r USING (path_id)
			WHERE plan_id = @plan),
		met_own AS (
			SELECT g.path_id, CASE WHEN g.new_path = o.new_path THEN 'duplicate_target' ELSE 'lookalike' END, g.old_key, g.new_key,
				CASE WHEN g.new_path = o.new_path THEN o.old_key ELSE o.new_key END
			FROM own g JOIN own o ON o.fold = g.fold AND o.old_key <> g.old_key AND (o.new_key = g.new_key OR o.was <> g.was)
			WHERE NOT g.known AND (o.known OR o.old_key < g.old_key))`, fold("old_key"), fold("new_key"))
}

// lateSettings keep a look that only tells from taking long, or from waiting for others.
const lateSettings = `SELECT set_config('statement_timeout', '60s', true), set_config('lock_timeout', '2s', true)`

// Late counts the chunks at the old paths of a plan that are neither in its journal nor
// known to stay, and records that they do. It is for who looks for them no more, and gives
// up where it takes long.
func (s *Store) Late(ctx context.Context, plan string) (late int64, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lateSettings); err != nil {
			return err
		}
		j, err := openJournal(ctx, tx, plan)
		if err != nil || j.undoes != "" {
			return err
		}
		if late, err = j.countLate(ctx); err != nil || late == 0 {
			return err
		}
		return recordOnce(ctx, tx, event{
			Plan: plan, What: "left", Detail: fmt.Sprintf("%d chunks came to the old paths when they had been looked for five times; they stay there. Order the same again to take them along", late),
		})
	})
	if err != nil {
		return 0, fmt.Errorf("look for late chunks of plan %s: %w", plan, err)
	}
	return late, nil
}

// countLate counts them, and takes back the list of paths that it makes for that.
func (j *journal) countLate(ctx context.Context) (late int64, err error) {
	listing, err := j.tx.Begin(ctx)
	if err != nil {
		return 0, err
	}
	if _, err = j.listPaths(ctx); err == nil {
		err = listing.QueryRow(ctx, "SELECT count(*) "+j.atSources("AND NOT EXISTS (SELECT FROM rehome.migration_moves k WHERE k.plan = @number AND k.chunk_id = "+j.table.id()+`)
				AND NOT EXISTS (SELECT FROM rehome.migration_conflicts c WHERE c.plan_id = @plan AND c.source = p.old_key)`, "TRUE"), j.args(nil)).Scan(&late)
	}
	return late, errors.Join(err, listing.Rollback(ctx))
}
