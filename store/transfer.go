package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// transfer is what a plan of that kind is made of.
type transfer struct {
	carriage
	plan   string
	number int    // of the origin: copies and journal are found under it
	origin string // plan id
	back   bool
	source string // memory
	target string // memory
	prefix string
	total  int64 // rows of the origin's journal

	signature *resilience.Signature // nil: an earlier version planned it

	// Known to what writes copies, and takes them away:
	beside beside
	acts   bool // triggers of the target act after rows are written
}

// readTransfer returns the transfer of a plan, or nil when it is of another kind.
func readTransfer(ctx context.Context, q querier, plan string) (*transfer, error) {
	t := &transfer{plan: plan}
	err := q.QueryRow(ctx, `
		SELECT o.number, x.origin, x.back, p.memory, x.target, x.prefix, p.mapping, x.mapping, x.fit, coalesce(x.prints, CASE WHEN x.hash64 THEN 'row' ELSE 'sha256' END), x.signature, coalesce(g.total, 0)
		FROM rehome.migration_transfers x
		JOIN rehome.migration_plans p USING (plan_id)
		JOIN rehome.migration_plans o ON o.plan_id = x.origin
		LEFT JOIN rehome.migration_progress g ON g.plan_id = x.origin
		WHERE x.plan_id = $1`, plan).
		Scan(&t.number, &t.origin, &t.back, &t.source, &t.target, &t.prefix, &t.from.m, &t.to.m, &t.fit, &t.prints, &t.signature, &t.total)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return t, err
}

func (t *transfer) args(extra pgx.NamedArgs) pgx.NamedArgs {
	args := t.carriage.args(extra)
	args["plan"], args["origin"], args["origin_plan"], args["total"] = t.plan, t.number, t.origin, t.total
	args["source"], args["target"], args["only"] = t.source, t.target, t.prefix
	return args
}

// A plan that goes back works through the origin's journal from its end.

// passed are the bounds (lo, hi] in the origin's journal of the rows that a step of
// this plan is about.
func (t *transfer) passed() (lo, hi string) {
	if t.back {
		return "@total - @hi::bigint", "@total - @lo::bigint"
	}
	return "@lo", "@hi"
}

// ordinal is the number that a row m of the origin's journal has in this plan.
func (t *transfer) ordinal() string {
	if t.back {
		return "@total + 1 - m.ordinal"
	}
	return "m.ordinal"
}

// openTransfer makes a plan one of kind transfer when that was asked for, or
// when the plan that it undoes is one.
func (s *Store) openTransfer(ctx context.Context, tx pgx.Tx, p NewPlan) error {
	if p.Undoes != "" {
		return openWayBack(ctx, tx, p)
	}
	if p.Transfer.To == "" {
		return nil
	}
	if err := p.Transfer.Check(p.Memory, p.Policy.Way); err != nil {
		return problem(ErrInvalid, "%v", err)
	}
	source, err := s.Memory(ctx, p.Memory)
	if err != nil {
		return err
	}
	target, err := s.Memory(ctx, p.Transfer.To)
	if err != nil {
		return err
	}
	fit, signature, err := s.fit(ctx, tx, source, target)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		WITH kind AS (UPDATE rehome.migration_plans SET kind = $6 WHERE plan_id = $1)
		INSERT INTO rehome.migration_transfers (plan_id, origin, back, target, prefix, mapping, fit, hash64, prints, soak, signature) VALUES ($1, $1, false, $2, $3, $4, $5, NULL, $8, $7, $9)`,
		p.ID, target.Name, p.Transfer.Prefix, target.Mapping, fit, resilience.Transfer, p.Transfer.Lasts().Seconds(), byColumns, signature)
	if err != nil {
		return err
	}
	return claimPlaces(ctx, tx, p, table{source.Mapping})
}

// openWayBack turns the transfer of the undone plan round.
func openWayBack(ctx context.Context, tx pgx.Tx, p NewPlan) error {
	_, err := tx.Exec(ctx, `
		WITH turned AS (
			INSERT INTO rehome.migration_transfers (plan_id, origin, back, target, prefix, mapping, fit, hash64, prints, soak, signature)
			SELECT $1, origin, NOT back, target, prefix, mapping, fit, hash64, prints, soak, signature FROM rehome.migration_transfers WHERE plan_id = $2
			RETURNING plan_id)
		UPDATE rehome.migration_plans p SET kind = $3 FROM turned t WHERE p.plan_id = t.plan_id`, p.ID, p.Undoes, resilience.Transfer)
	if err != nil {
		return err
	}
	t, err := readTransfer(ctx, tx, p.ID)
	if err != nil || t == nil {
		return err
	}
	return t.refuseChanged(ctx, tx, ErrRefused, fmt.Sprintf("transfer the chunks anew: `starter migrate --to-memory %s`", t.target)) // where they came home from
}

// claimPlaces notes the places whose chunks the plan owns while it is live, as
// those of a rename are: the prefix, or all that stands at the top of the tree; of its
// source a whole memory owns what comes there later, too.
func claimPlaces(ctx context.Context, tx pgx.Tx, p NewPlan, t table) error {
	if p.Transfer.Prefix != "" {
		_, err := tx.Exec(ctx, `
			INSERT INTO rehome.migration_renames (plan_id, ordinal, old_path, new_path) VALUES ($1, 1, $2, $2)`, p.ID, p.Transfer.Prefix)
		return err
	}
	_, err := tx.Exec(ctx, fmt.Sprintf(`
		INSERT INTO rehome.migration_renames (plan_id, ordinal, old_path, new_path)
		SELECT @plan, row_number() OVER (ORDER BY top COLLATE "C"), top, top
		FROM (SELECT DISTINCT split_part(coalesce(%s, %s), '/', 1) AS top FROM %s t WHERE %s AND %s IS NOT NULL) tops`,
		t.key(), t.path(), t.name(), t.scope(), t.path()), t.args(pgx.NamedArgs{"plan": p.ID}))
	return err
}

// fit matches the tables as they are now, and refuses what could not be
// carried out to its end, or not be undone. The signature is what that rests on.
func (s *Store) fit(ctx context.Context, tx pgx.Tx, source, target resilience.Memory) (fit resilience.Fit, signature resilience.Signature, err error) {
	from, to, err := shapes(ctx, tx, source, target)
	if err != nil {
		return fit, signature, err
	}
	fit, err = resilience.FitTables(from, to)
	if err != nil {
		return fit, signature, problem(ErrUnfit, "%v", err)
	}
	_, around, err := s.Examine(ctx, source.Mapping)
	if err != nil {
		return fit, signature, err
	}
	if why := around.CleanupRefusal(); why != "" {
		return fit, signature, problem(ErrRefused, "chunks cannot leave memory %s: %s. Nothing was moved", source.Name, why)
	}
	if _, around, err = s.Examine(ctx, target.Mapping); err != nil {
		return fit, signature, err
	}
	for _, right := range []string{"INSERT", "UPDATE", "DELETE"} {
		if slices.Contains(around.MissingRights, right) {
			return fit, signature, problem(ErrRights, "rehome's role may not %s in the table of memory %s; grant it. Nothing was moved", right, target.Name)
		}
	}
	return fit, resilience.Sign(from, to, fit), nil
}
