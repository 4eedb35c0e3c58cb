package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Verify looks at the rows of a plan after at, n at most, once all have moved,
// and returns how far it came. Each has to be at its target or listed as an
// exception. A row that an application moved on or deleted since its batch is
// listed now; one that lies where it came from, or is missing in the journal, is
// ErrVerify: the plan is to be undone.
func (s *Store) Verify(ctx context.Context, plan string, at resilience.Verified, n int64) (resilience.Verified, error) {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		v, err := openVerification(ctx, tx, plan)
		if err != nil {
			return err
		}
		at.Total = v.total
		if v.transfer != nil { // its copies are compared when what they were made of retires
			at.Last = v.total
			return nil
		}
		to := min(v.total, at.Last+n)
		var planned, back, since int64
		v.args["lo"], v.args["hi"] = at.Last, to
		if err := tx.QueryRow(ctx, v.statement(), v.args).Scan(&planned, &back, &since); err != nil {
			return err
		}
		switch {
		case planned != to-at.Last:
			return problem(ErrVerify, "rows %d to %d of plan %s: the journal has %d of %d; somebody wrote to rehome.migration_runs or migration_paths", at.Last+1, to, plan, planned, to-at.Last)
		case back > 0:
			return problem(ErrVerify, "rows %d to %d of plan %s: %d chunks that had moved are back at their old path; stop what writes the old paths, then plan it anew", at.Last+1, to, plan, back)
		}
		at.Last, at.Since = to, at.Since+since
		return nil
	})
	if err != nil {
		return at, fmt.Errorf("verify plan %s after row %d: %w", plan, at.Last, err)
	}
	return at, nil
}

// verification is a look at a plan whose rows have all moved.
type verification struct {
	table    table
	transfer *transfer // nil for a plan of another kind
	total    int64
	args     pgx.NamedArgs
}

func openVerification(ctx context.Context, tx pgx.Tx, plan string) (*verification, error) {
	if _, err := tx.Exec(ctx, `SELECT set_config('jit', 'off', true), set_config('work_mem', '64MB', true)`); err != nil {
		return nil, err
	}
	var v verification
	var number int
	var stays string
	err := tx.QueryRow(ctx, `
		SELECT p.number, p.mapping, g.total, `+staying+` FROM rehome.migration_plans p JOIN rehome.migration_progress g USING (plan_id)
		WHERE plan_id = $1 AND g.last = g.total`, plan).Scan(&number, &v.table.m, &v.total, &stays)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, problem(ErrVerify, "migration %s has not moved all of its rows; see `starter migration show %s`", plan, plan)
	}
	v.args = v.table.args(pgx.NamedArgs{"plan": plan, "number": number, "stays": stays})
	if err == nil {
		v.transfer, err = readTransfer(ctx, tx, plan)
	}
	if v.transfer != nil {
		v.args = v.transfer.args(nil)
	}
	return &v, err
}

// foreign counts the rows at the targets that are not of the plan, and names a
// path of one. They are told apart by EXCEPT, which looks at each row once
// however many the planner expects; of a new plan it knows nothing.
func (v *verification) foreign() string {
	targets, path, scope, ours := v.table, v.table.path(), v.table.scope(), "SELECT chunk_id FROM rehome.migration_moves WHERE plan = @number"
	if t := v.transfer; t != nil {
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

// statement counts rows (@lo, @hi] of the journal, those that lie at their old
// path again, and those that went elsewhere since, which it lists.
func (v *verification) statement() string {
	t := v.table
	return strings.NewReplacer(
		"{table}", t.name(), "{id}", t.column(t.m.ID), "{has id}", t.hasID("p.chunk_id"), "{scope}", t.scope(),
		"{at source}", t.locatorsAre("p.old_path"), "{at target}", t.locatorsAre("p.new_path"),
	).Replace(`
		WITH planned AS MATERIALIZED (
			SELECT * FROM ` + movesOf("@number", "@lo", "@hi") + `),
		astray AS MATERIALIZED (
			SELECT p.ordinal, {id} IS NOT NULL AS present, {at source} IS TRUE AS back
			FROM planned p LEFT JOIN {table} t ON {has id} AND {scope}
			WHERE {at target} IS NOT TRUE AND NOT p.ordinal <@ @stays::int8multirange AND NOT EXISTS (
				SELECT FROM rehome.migration_exceptions e WHERE e.plan_id = @plan AND e.ordinal = p.ordinal AND NOT e.undoing)),
		listed AS (
			INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing)
			SELECT @plan, ordinal, CASE WHEN present THEN 'drifted' ELSE 'vanished' END, false FROM astray WHERE NOT back)
		SELECT (SELECT count(*) FROM planned), count(*) FILTER (WHERE back), count(*) FILTER (WHERE NOT back) FROM astray`)
}

// VerifyTargets counts the rows at the targets of a plan that are not its own: an
// application, or somebody else, wrote them there since it was planned. They are
// left alone and reported, once.
func (s *Store) VerifyTargets(ctx context.Context, plan string) (int64, error) {
	var foreign int64
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		v, err := openVerification(ctx, tx, plan)
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
