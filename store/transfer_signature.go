package store

import (
	"context"
	"fmt"
	"strings"

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

// refuseChanged refuses to make the copies of a transfer of tables that are not what it was
// planned for, and says what to do.
func (t *transfer) refuseChanged(ctx context.Context, q querier, kind error, next string) error {
	if t == nil || t.back {
		return nil
	}
	changed, err := t.changed(ctx, q)
	if err == nil && changed != "" {
		err = problem(kind, "%s. Nothing was moved; %s", changed, next)
	}
	return err
}
