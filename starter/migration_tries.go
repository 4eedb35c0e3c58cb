package main

import (
	"context"
	"fmt"
	"io"

	failurepb "go.temporal.io/api/failure/v1"

	"rehome/resilience"
)

// try is a step of a migration that failed and is tried again: the disk is full, say.
// Nothing but Temporal knows of it, since Postgres may be what it fails for.
type try struct {
	Step    string `json:"step"`
	Attempt int32  `json:"attempt"` // the one that is next, or under way
	Failure string `json:"failure"` // of the last one
}

// triesOf asks Temporal what steps of a plan that is at work are tried again.
func (s *session) triesOf(ctx context.Context, plan resilience.Plan) ([]try, error) {
	if plan.Status != resilience.Executing && plan.Status != resilience.RollingBack {
		return nil, nil
	}
	engine, err := s.temporal(ctx)
	if err != nil {
		return nil, err
	}
	run, err := engine.DescribeWorkflowExecution(ctx, plan.WorkflowID, "")
	if err != nil {
		return nil, fmt.Errorf("ask Temporal what migration %s is at: %w", plan.ID, s.engineError(err))
	}
	var tries []try
	for _, a := range run.GetPendingActivities() {
		if a.GetLastFailure() != nil {
			tries = append(tries, try{a.GetActivityType().GetName(), a.GetAttempt(), rootCause(a.GetLastFailure())})
		}
	}
	return tries, nil
}

// rootCause is the innermost message of a failure.
func rootCause(f *failurepb.Failure) string {
	for f.GetCause().GetMessage() != "" {
		f = f.GetCause()
	}
	return f.GetMessage()
}

// tryRows says what is tried again, and why.
func tryRows(w io.Writer, tries []try) {
	for _, t := range tries {
		row(w, "tries again", fmt.Sprintf("%s, attempt %d: %s", t.Step, t.Attempt, t.Failure))
	}
}
