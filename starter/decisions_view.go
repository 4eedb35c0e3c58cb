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

// groupRows shows the groups in the order in which they move, with what was decided
// for each, by what and why, and what else it could have been.
func groupRows(w io.Writer, groups []resilience.Group) {
	for _, g := range groups {
		row(w, "group", fmt.Sprintf("%d of %d, %s: %d chunks %s", g.Position, len(groups), g.Name, g.Rows, g.Decision()))
		row(w, "", g.Reason)
		row(w, "", "from: "+g.Inputs.String())
		for _, a := range g.Alternatives {
			row(w, "", a)
		}
		if g.Course != nil {
			row(w, "", "now "+g.Course.String())
		}
	}
}
