package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rehome/resilience"
	"rehome/workflows"
)

func migrationAbort(s *session) *cobra.Command {
	var reason string
	var detach bool
	c := &cobra.Command{
		Use: "abort ID", Short: "Stop a migration and put every chunk back", Args: exactly(1),
		Long: `Stop a migration and put every chunk back. One that has not begun, since it
waits for an approval or in the queue, is cancelled.`,
		Example: "  starter migration abort m-20261124-1532-x7k2 --reason 'wrong folder'",
		RunE: s.do(func(ctx context.Context, args []string) error {
			plan, err := s.plan(ctx, args[0])
			if err != nil {
				return err
			}
			return s.abort(ctx, plan, reason, detach)
		}),
	}
	c.Flags().StringVar(&reason, "reason", "", "why; kept with the migration")
	detachFlag(c, &detach)
	return c
}

// abort turns a running migration round and waits until all is back.
func (s *session) abort(ctx context.Context, plan resilience.Plan, reason string, detach bool) error {
	answer, err := s.order(ctx, plan, workflows.AbortUpdate, workflows.Order{Author: author(), Reason: reason})
	if err != nil {
		return err
	}
	plan.Status = answer.Status
	if detach {
		return s.showPlan(plan)
	}
	s.say("aborting %s%s", plan.WorkflowID, s.at(plan.WorkflowID, plan.RunID))
	t := task{id: plan.WorkflowID, memory: plan.Memory, look: "starter migration show " + plan.ID, migration: plan.ID}
	ended := s.wait(ctx, t, s.engine.GetWorkflow(ctx, plan.WorkflowID, ""), nil)
	if plan, err = s.plan(ctx, plan.ID); err != nil {
		return errors.Join(ended, err)
	}
	// An aborted run ends in an error; what counts is that all is back.
	if plan.Status != resilience.RolledBack && plan.Status != resilience.Cancelled {
		return ended
	}
	return s.showPlan(plan)
}

func migrationRollback(s *session) *cobra.Command {
	var detach bool
	c := &cobra.Command{
		Use: "rollback ID", Short: "Undo a migration", Args: exactly(1),
		Long: `Undo a migration. A completed one is undone by a new migration, whose id is
shown, for as long as the setting undo_window says, 7 days unless it was changed;
one that still runs or waits is aborted; one whose run was terminated is brought
back to its start.

The new migration goes as the one it undoes was ordered: by its strategy, at its
rate and in its hours. To let it go faster, throttle it: --rate 0 is no bound. To
have it done at another hour, pause it and let it go on by another strategy, such
as batch.`,
		Example: "  starter migration rollback m-20261124-1532-x7k2",
		RunE: s.do(func(ctx context.Context, args []string) error {
			plan, err := s.plan(ctx, args[0])
			if err != nil {
				return err
			}
			if !plan.Status.Ended() {
				err := s.abort(ctx, plan, "rolled back", detach)
				if !errors.Is(err, errClosed) {
					return err
				}
			}
			return s.rollback(ctx, plan, detach)
		}),
	}
	detachFlag(c, &detach)
	return c
}

func (s *session) rollback(ctx context.Context, plan resilience.Plan, detach bool) error {
	in := workflows.RollbackInput{Origin: s.origin(), Memory: plan.Memory, Migration: plan.ID, Undo: newID("m"), Author: author()}
	t := task{
		id: workflows.RollbackID(s.site.installation, plan.Memory, plan.ID), name: workflows.RollbackName,
		memory: plan.Memory, input: in, strategy: string(plan.Strategy), migration: plan.ID,
		summary: fmt.Sprintf("Undo migration %s of %s", plan.ID, plan.Memory),
		look:    "starter migration show " + plan.ID,
	}
	if plan.Status == resilience.Completed {
		t.migration, t.look = in.Undo, "starter migration show "+in.Undo
	}
	t.goOn = s.attend(t)
	var undone resilience.Plan
	finished, err := s.perform(ctx, t, detach, &undone)
	if errors.Is(err, errAwaitsApproval) {
		return s.showAsking(ctx, t, err, false)
	}
	if err != nil || !finished {
		return err
	}
	return s.show(undone, func(w io.Writer) {
		row(w, plan.ID+" is rolled back") // the rest may be of the migration that undid it
		planRows(w, undone)
	})
}
