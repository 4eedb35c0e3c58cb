package main

import (
	"context"
	"fmt"
	"io"

	"rehome/resilience"
)

// conflictsOf reads what stands in the way of a plan: the first of it, when it is much.
func (s *session) conflictsOf(ctx context.Context, plan resilience.Plan) ([]resilience.Conflict, error) {
	if plan.Conflicts == 0 {
		return []resilience.Conflict{}, nil
	}
	found, err := s.data.Conflicts(ctx, plan.ID, resilience.KeptConflicts)
	return orEmpty(found), err
}

// conflictRows shows what stands in the way of a plan.
func conflictRows(w io.Writer, plan resilience.Plan, conflicts []resilience.Conflict) {
	if len(conflicts) == 0 {
		return // those that came up while it moved are exceptions
	}
	const shown = 50
	for _, c := range conflicts[:min(shown, len(conflicts))] {
		row(w, "conflict", fmt.Sprintf("%s (%s)", c.Detail, c.Kind))
	}
	if more := plan.Conflicts - int64(min(shown, len(conflicts))); more > 0 {
		row(w, "conflict", fmt.Sprintf("and %d more; --json lists the first %d", more, resilience.KeptConflicts))
	}
}
