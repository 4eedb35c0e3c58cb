package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rehome/resilience"
	"rehome/store"
)

// errAwaitsApproval says that a plan goes on only when a person says so.
var errAwaitsApproval = errors.New("it waits for an approval")

// attend is what a wait for a migration looks at from time to time: it says for
// whom a plan waits in the queue, and ends the wait for one that waits for a
// person.
func (s *session) attend(t task) func(ctx context.Context) error {
	var said string
	return func(ctx context.Context) error {
		status, before, err := s.data.Standing(ctx, t.migration)
		if err != nil {
			return nil //nolint:nilerr // it may not be there yet, or Postgres is away for a moment
		}
		if status == resilience.AwaitingApproval {
			return s.asks(ctx, t)
		}
		if text := waitsFor(t.migration, before); len(before) > 0 && text != said {
			s.say("%s; Ctrl-C leaves it waiting", text)
			said = text
		}
		return nil
	}
}

// asks is the failure of a migration that goes on only when a person says so.
func (s *session) asks(ctx context.Context, t task) error {
	plan, err := s.plan(ctx, t.migration)
	if err != nil {
		return nil //nolint:nilerr // the next look may tell
	}
	return fail(exitRefused, "migration %s has not begun: %s, so %w; `starter migration approve %s` lets it begin, `starter migration abort %s` drops it, and so do the updates approve and abort in the web UI%s",
		plan.ID, plan.Reason, errAwaitsApproval, plan.ID, plan.ID, s.at(plan.WorkflowID, plan.RunID))
}

// showAsking shows a plan that waits for a person. That is a refusal, unless a
// plan is all that was asked for.
func (s *session) showAsking(ctx context.Context, t task, asks error, planOnly bool) error {
	plan, err := s.plan(ctx, t.migration)
	if err == nil {
		err = s.showPlan(plan)
	}
	if err != nil || !planOnly {
		return errors.Join(err, asks)
	}
	s.say("%s", message(asks))
	return nil
}

// waitsFor says for whom a plan waits.
func waitsFor(plan string, before []store.Slot) string {
	var at, first []string
	for _, b := range before {
		if b.Taken {
			at = append(at, b.Plan)
		} else {
			first = append(first, b.Plan)
		}
	}
	text := fmt.Sprintf("migration %s waits in the queue", plan)
	if len(at) > 0 {
		text += ": " + strings.Join(at, ", ") + " at work"
	}
	if len(first) > 0 {
		text += ", " + strings.Join(first, ", ") + " before it"
	}
	return text
}
