package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Verify looks at the rows of a plan after at, n at most, once all have moved,
// and returns how far it came. Each has to be at its target or listed as an
// exception. A row that an application moved on or deleted since its batch is
// listed now. One that lies where it came from is ErrReturned where the next Sweep takes
// it along once more. Where it does not, and where one is missing in the journal, it is
// ErrVerify: the plan is to be undone.
//
// Of a transfer that goes back, each chunk has to be at home and its copy gone, see
// VerifyUndo. One that does not compares its copies when it retires what they were
// made of.
func (s *Store) Verify(ctx context.Context, plan string, at resilience.Verified, n int64) (resilience.Verified, error) {
	return s.verify(ctx, plan, at, n, false)
}

// VerifyUndo looks at the rows of a plan after at, n at most, once all have gone back
// by its own undo, and returns how far it came. Of a rename these are the rows that it
// had come to when it was turned round: each that moved has to be where it came from.
// Of a transfer each chunk that was copied has to be at home and its copy gone. Else an
// outcome has to say why not. A chunk that an application moved on or deleted since, be
// it to its new path, or whose copy somebody put back, is listed now; a copy or a
// quarantined chunk that is left for no reason is ErrVerify.
func (s *Store) VerifyUndo(ctx context.Context, plan string, at resilience.Verified, n int64) (resilience.Verified, error) {
	return s.verify(ctx, plan, at, n, true)
}

func (s *Store) verify(ctx context.Context, plan string, at resilience.Verified, n int64, undoing bool) (resilience.Verified, error) {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		v, err := openVerification(ctx, tx, plan, undoing)
		if err != nil {
			return err
		}
		at.Total = v.total
		if needless, err := v.needless(ctx, tx); needless || err != nil {
			at.Last = v.total
			return err
		}
		to := min(v.total, at.Last+n)
		since, err := v.look(ctx, tx, at.Last, to)
		if err != nil {
			return err
		}
		at.Last, at.Since = to, at.Since+since
		return v.hold(ctx, tx)
	})
	if err != nil {
		return at, fmt.Errorf("verify plan %s after row %d: %w", plan, at.Last, err)
	}
	return at, nil
}

// verification is a look at a plan whose rows have all moved, or all gone back.
type verification struct {
	plan     string
	undoing  bool
	table    table
	transfer *transfer // nil for a plan of another kind
	total    int64
	sweeps   bool // what came back can be taken along once more
	args     pgx.NamedArgs
}

// hold says whether the plan still is in the status in which its rows are looked at, and
// keeps it there until the commit. An attempt that was given up may go on when the plan is
// closed and others move its rows; it has nothing to list then. It comes last, so that
// nobody who pauses the plan waits for the look.
func (v *verification) hold(ctx context.Context, tx pgx.Tx) error {
	while := []resilience.Status{resilience.Executing, resilience.Paused}
	if v.undoing {
		while = []resilience.Status{resilience.RollingBack}
	}
	var status resilience.Status
	err := tx.QueryRow(ctx, `SELECT status FROM rehome.migration_plans WHERE plan_id = $1 FOR SHARE`, v.plan).Scan(&status)
	if err == nil && !slices.Contains(while, status) {
		err = problem(ErrConflict, "migration %s is %s; all of its rows are looked at while it is %s (`starter migration show %s`)", v.plan, status, while[0], v.plan)
	}
	return err
}

// needless says that there are no rows to look at: the copies of a transfer are compared
// when it retires what they were made of, and one that made none has none to take away,
// as a rename that had not begun has nothing to put back, whatever became of its tables.
func (v *verification) needless(ctx context.Context, tx pgx.Tx) (needless bool, err error) {
	if v.transfer == nil || v.transfer.back {
		return v.total == 0, nil
	}
	if v.undoing {
		err = tx.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM rehome.migration_copies WHERE plan = @origin)`, v.args).Scan(&needless)
		return needless, err
	}
	return true, nil
}

// look looks at rows (lo, hi] of the journal, and returns how many an application
// changed since their batch.
func (v *verification) look(ctx context.Context, tx pgx.Tx, lo, hi int64) (since int64, err error) {
	statement, what, next := v.statement(), "chunks that had moved are back at their old path", "stop what writes the old paths, then plan it anew"
	if v.transfer != nil {
		statement, what = v.transfer.homeStatement(v.undoing), "chunks did not come home, or left their copies, and no outcome says why"
		next = "put back what others changed in migration_copies, migration_exceptions or quarantine of schema rehome, and undo it again"
	}
	v.args["lo"], v.args["hi"] = lo, hi
	var planned int64
	var wrong []int64
	if err := tx.QueryRow(ctx, statement, v.args).Scan(&planned, &wrong, &since); err != nil {
		return 0, err
	}
	which, err := see(ctx, tx, v.args, wrong)
	if err != nil {
		return 0, err
	}
	kind := ErrVerify
	if len(wrong) > 0 && v.sweeps {
		if kind, err = v.returned(ctx, tx); err != nil {
			return 0, err
		}
	}
	switch {
	case planned != hi-lo:
		return 0, problem(ErrVerify, "rows %d to %d of plan %s: the journal has %d of %d; somebody wrote to rehome.migration_runs or migration_paths: restore these tables", lo+1, hi, v.plan, planned, hi-lo)
	case len(wrong) > 0:
		return 0, problem(kind, "rows %d to %d of plan %s: %d %s%s; %s", lo+1, hi, v.plan, len(wrong), what, which, next)
	}
	return since, nil
}

// returned is ErrReturned where a sweep takes along all rows, of those that are looked at,
// that are back where they came from, and else ErrVerify.
func (v *verification) returned(ctx context.Context, tx pgx.Tx) (kind, err error) {
	var again string
	if err := tx.QueryRow(ctx, returning, v.args).Scan(&again); err != nil {
		return nil, err
	}
	v.args["again"] = again
	var forGood bool
	err = tx.QueryRow(ctx, fmt.Sprintf(`
		SELECT EXISTS (
			SELECT FROM %s JOIN %s t ON %s AND %s
			WHERE %s IS TRUE AND NOT m.ordinal <@ @stays::int8multirange AND NOT m.ordinal <@ @again::int8multirange AND NOT EXISTS (
				SELECT FROM rehome.migration_exceptions e WHERE e.plan_id = @plan AND e.ordinal = m.ordinal AND NOT e.undoing))`,
		movesOf("@number", "@lo", "@hi"), v.table.name(), v.table.hasID("m.chunk_id"), v.table.scope(), v.table.locatorsAre("m.old_path")), v.args).Scan(&forGood)
	if kind = ErrReturned; forGood {
		kind = ErrVerify
	}
	return kind, err
}

func openVerification(ctx context.Context, tx pgx.Tx, plan string, undoing bool) (*verification, error) {
	if _, err := tx.Exec(ctx, `SELECT set_config('jit', 'off', true), set_config('work_mem', '64MB', true)`); err != nil {
		return nil, err
	}
	v := verification{plan: plan, undoing: undoing}
	var number int
	var last, turned int64
	var stays string
	var policy resilience.Policy
	var undoes bool
	err := tx.QueryRow(ctx, `
		SELECT p.number, p.mapping, p.policy, p.undoes IS NOT NULL, g.last, g.total, coalesce(g.turned, 0), `+staying+` FROM rehome.migration_plans p JOIN rehome.migration_progress g USING (plan_id)
		WHERE plan_id = $1`, plan).Scan(&number, &v.table.m, &policy, &undoes, &last, &v.total, &turned, &stays)
	if err == nil {
		v.transfer, err = readTransfer(ctx, tx, plan)
	}
	v.args = v.table.args(pgx.NamedArgs{"plan": plan, "number": number, "stays": stays})
	v.sweeps = v.transfer == nil && !undoing && !undoes && v.table.mayTakeBack(policy)
	switch {
	case v.transfer == nil && undoing:
		v.total = turned
	case v.transfer != nil:
		v.args = v.transfer.args(pgx.NamedArgs{"number": v.transfer.number})
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows) || err == nil && !undoing && last != v.total:
		err = problem(ErrVerify, "migration %s has not moved all of its rows; see `starter migration show %s`", plan, plan)
	case err == nil && undoing && v.transfer != nil && v.transfer.back:
		err = problem(ErrInvalid, "migration %s takes a transfer back; its chunks are compared as they leave again; see `starter migration show %s`", plan, plan)
	case err == nil && undoing && last != 0:
		err = problem(ErrVerify, "migration %s still has %d rows that have not gone back; let them: `starter migration rollback %s`", plan, last, plan)
	}
	return &v, err
}

// foreign counts the rows at the targets that are not of the plan, and names a path of
// one. The targets of a transfer that goes back are where its chunks came from. Rows are
// told apart by EXCEPT, which looks at each once however many the planner expects; of a
// new plan it knows nothing.
func (v *verification) foreign() string {
	targets, path, scope, ours := v.table, v.table.path(), v.table.scope(), "SELECT chunk_id FROM rehome.migration_moves WHERE plan = @number"
	if t := v.transfer; t != nil && !t.back {
		targets, path, scope, ours = t.to, t.targetPath(), t.targetScope(), "SELECT target_id FROM rehome.migration_copies WHERE plan = @origin AND here"
	}
	return fmt.Sprintf(`
		WITH there AS MATERIALIZED (
			SELECT %s AS id, p.new_path
			FROM (SELECT DISTINCT new_path FROM rehome.migration_paths WHERE plan_id = @plan) p JOIN %s t ON %s = p.new_path
			WHERE %s),
		others AS MATERIALIZED (SELECT id FROM there EXCEPT %s)
		SELECT count(*), coalesce((SELECT min(new_path) FROM there WHERE id = (SELECT min(id) FROM others)), '') FROM others`,
		targets.id(), targets.name(), path, scope, ours)
}

// statement counts rows (@lo, @hi] of the journal, names those that lie at their old path
// again, and counts those that went elsewhere since, which it lists. Once all have gone back,
// elsewhere is also the new path, and rows that had not moved are left out.
func (v *verification) statement() string {
	t, source, target, known := v.table, "p.old_path", "p.new_path", "AND NOT e.undoing"
	if v.undoing {
		source, target, known = target, source, ""
	}
	return strings.NewReplacer(
		"{table}", t.name(), "{id}", t.column(t.m.ID), "{has id}", t.hasID("p.chunk_id"), "{scope}", t.scope(),
		"{at source}", t.locatorsAre(source), "{at target}", t.locatorsAre(target), "{known}", known, "{undoing}", fmt.Sprint(v.undoing),
	).Replace(`
		WITH planned AS MATERIALIZED (
			SELECT * FROM ` + movesOf("@number", "@lo", "@hi") + `),
		astray AS MATERIALIZED (
			SELECT p.ordinal, {id} IS NOT NULL AS present, {at source} IS TRUE AS again
			FROM planned p LEFT JOIN {table} t ON {has id} AND {scope}
			WHERE {at target} IS NOT TRUE AND NOT p.ordinal <@ @stays::int8multirange AND NOT EXISTS (
				SELECT FROM rehome.migration_exceptions e WHERE e.plan_id = @plan AND e.ordinal = p.ordinal {known})),
		listed AS (
			INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing, detail)
			SELECT @plan, ordinal, CASE WHEN present THEN 'drifted' ELSE 'vanished' END, {undoing}, CASE WHEN again THEN 'it is at its new path' ELSE '' END
			FROM astray WHERE {undoing} OR NOT again
			ON CONFLICT DO NOTHING)
		SELECT (SELECT count(*) FROM planned), array_agg(ordinal ORDER BY ordinal) FILTER (WHERE again AND NOT {undoing}), count(*) FILTER (WHERE {undoing} OR NOT again) FROM astray`)
}

// VerifyTargets counts the rows at the targets of a plan that are not its own: an
// application, or somebody else, wrote them there since it was planned. They are
// left alone and reported, once.
func (s *Store) VerifyTargets(ctx context.Context, plan string) (int64, error) {
	var foreign int64
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		v, err := openVerification(ctx, tx, plan, false)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lookAtPaths); err != nil {
			return err
		}
		var example string
		err = tx.QueryRow(ctx, v.foreign(), v.args).Scan(&foreign, &example)
		if err != nil || foreign == 0 {
			return err
		}
		detail := fmt.Sprintf("%d chunks that are not of this plan came to its targets, at %s for one; they were left alone", foreign, example)
		return recordOnce(ctx, tx, event{Plan: plan, What: "foreign", Detail: detail})
	})
	if err != nil {
		return 0, fmt.Errorf("look at the targets of plan %s: %w", plan, err)
	}
	return foreign, nil
}
