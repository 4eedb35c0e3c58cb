package main

import (
	"context"
	"fmt"
	"io"

	"rehome/resilience"
)

// groupsOf reads the groups that an intelligent plan was split into, without the
// measurements that their batches go by.
func (s *session) groupsOf(ctx context.Context, plan resilience.Plan) ([]resilience.Group, error) {
	groups, err := s.data.Groups(ctx, plan.ID)
	for _, g := range groups {
		if g.Course != nil {
			g.Course.Errors, g.Course.Measured, g.Course.Servo.Window = nil, nil, nil
		}
	}
	return orEmpty(groups), err
}

// groupRows shows what was decided for each group, why, and what else it could
// have been.
func groupRows(w io.Writer, groups []resilience.Group) {
	for _, g := range groups {
		pace := fmt.Sprintf("%d in the first transaction", g.BatchSize)
		if g.Rate > 0 {
			pace += fmt.Sprintf(", %g a second", g.Rate)
		}
		row(w, "group", fmt.Sprintf("%d of %d, %s: %d chunks, %s, %s, %s, about %s", g.Position, len(groups), g.Name, g.Rows, g.Inputs.Heat, g.Way, pace, took(int64(g.ExpectedMS))))
		row(w, "", g.Reason)
		for _, a := range g.Alternatives {
			row(w, "", fmt.Sprintf("not %s, about %s: %s", a.Way, took(int64(a.ExpectedMS)), a.Why))
		}
		if g.Course != nil {
			row(w, "", "now "+g.Course.String())
		}
	}
}
