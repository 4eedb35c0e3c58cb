package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// shapes reads the columns of both tables of a transfer.
func shapes(ctx context.Context, q querier, source, target resilience.Memory) (from, to resilience.Shape, err error) {
	if from, err = shape(ctx, q, source); err == nil {
		to, err = shape(ctx, q, target)
	}
	return from, to, err
}

// changed says why chunks of a transfer cannot go to its target with the tables as they
// are now: they are not those that its fit is of. It is empty where they are, and where
// nobody knows what they were. Whoever prepares a slice asks; a column that was added must
// not keep chunks from coming home.
func (t *transfer) changed(ctx context.Context, q querier) (string, error) {
	if t.signature == nil {
		return "", nil
	}
	from, to, err := shapes(ctx, q, resilience.Memory{Name: t.source, Mapping: t.from.m}, resilience.Memory{Name: t.target, Mapping: t.to.m})
	if err != nil {
		return "", fmt.Errorf("look at the columns of %s and %s: %w", t.from.name(), t.to.name(), interpret(err))
	}
	changes := t.signature.Changes(from, to)
	if len(changes) == 0 {
		return "", nil
	}
	return fmt.Sprintf("migration %s was planned before %s", t.origin, strings.Join(changes, " and ")), nil
}

// checkAgain refuses to make the copies of a transfer again, once they went back, of tables
// that are not what it was planned for.
func checkAgain(ctx context.Context, tx pgx.Tx, plan string) error {
	t, err := readTransfer(ctx, tx, plan)
	if err != nil || t == nil || t.back {
		return err
	}
	changed, err := t.changed(ctx, tx)
	if err == nil && changed != "" {
		err = problem(ErrRefused, "%s. Nothing was moved; transfer the chunks anew: `starter migrate --to-memory %s`", changed, t.target)
	}
	return err
}

// checkSignature refuses to begin a transfer whose tables are not what it was planned for.
func (j *journal) checkSignature(ctx context.Context) error {
	if j.transfer == nil || j.transfer.back {
		return nil
	}
	changed, err := j.transfer.changed(ctx, j.tx)
	if err == nil && changed != "" {
		err = problem(ErrChanged, "%s. Nothing was moved; plan it anew", changed)
	}
	return err
}
