package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

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

// interrupted says what becomes of a run that nobody waits for any more, and how
// it goes on.
func (s *session) interrupted(ctx context.Context, t task, run client.WorkflowRun) error {
	at, id := s.at(t.id, run.GetRunID()), t.migration
	if id != "" {
		ctx, cancel := context.WithTimeout(ctx, time.Second) // who interrupts wants to go
		defer cancel()
		status, before, err := s.data.Standing(ctx, id)
		switch {
		case err != nil: // it may not be there yet
		case status == resilience.AwaitingApproval:
			return fail(exitInterrupted, "interrupted; migration %s waits for an approval%s: `starter migration approve %s` lets it begin, `starter migration abort %s` drops it", id, at, id, id)
		case len(before) > 0:
			return fail(exitInterrupted, "interrupted; %s, and goes on by itself%s; see `%s`, or drop it with `starter migration abort %s`", waitsFor(id, before), at, t.look, id)
		}
	}
	return fail(exitInterrupted, "interrupted; %s goes on%s; see `%s`", t.id, at, t.look)
}

// waitsFor says for whom a plan waits.
func waitsFor(plan string, before []store.Slot) string {
	return fmt.Sprintf("migration %s waits in the queue: %s", plan, store.Waiting(before))
}
