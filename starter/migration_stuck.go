package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

func migrationRetry(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "retry ID", Short: "Have a stuck undo try its step again, now", Args: exactly(1),
		Long: `Have a stuck undo try its step again, now. A step of an undo that has failed ten
times, or in a way that no retry mends, is stuck: it is shown by migration show,
and tried again by itself at growing intervals.`,
		Example: "  starter migration retry m-20261124-1532-x7k2",
		RunE: s.do(func(ctx context.Context, args []string) error {
			return s.unstick(ctx, args[0], workflows.RetryUpdate, workflows.Order{Author: author()})
		}),
	}
}

func migrationSkip(s *session) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "skip ID --reason WHY", Short: "Let a stuck undo go on without what keeps it", Args: exactly(1),
		Long: `Let a stuck undo go on without what keeps it. Rows that cannot go back stay where
they are and are listed with the reason, the rest of the undo goes on, and the
migration ends as rolled back. A whole step that is left out, such as restoring
the aliases, makes it end as failed; migration rollback tries that again.`,
		Example: "  starter migration skip m-20261124-1532-x7k2 --reason 'that file may stay'",
		RunE: s.do(func(ctx context.Context, args []string) error {
			return s.unstick(ctx, args[0], workflows.SkipUpdate, workflows.Order{Author: author(), Reason: reason})
		}),
	}
	c.Flags().StringVar(&reason, "reason", "", "why; kept with what is left out")
	_ = c.MarkFlagRequired("reason") // the flag is there
	return c
}

// unstick sends an order to whichever run undoes a migration.
func (s *session) unstick(ctx context.Context, id, update string, o workflows.Order) error {
	plan, err := s.plan(ctx, id)
	if err != nil {
		return err
	}
	answer, err := s.orderUndo(ctx, plan, update, o)
	if err != nil {
		return err
	}
	plan.Status = answer.Status
	return s.showPlan(plan)
}

// orderUndo sends an order to the run of a migration, or, when that was terminated, to
// the rollback.
func (s *session) orderUndo(ctx context.Context, plan resilience.Plan, update string, arg any) (workflows.Answer, error) {
	answer, err := s.order(ctx, plan, update, arg)
	if errors.Is(err, errClosed) {
		plan.WorkflowID = workflows.RollbackID(s.site.installation, plan.Memory, plan.ID)
		return s.order(ctx, plan, update, arg)
	}
	return answer, err
}

// stuckAt is where the undo of a migration is stuck, empty when it is not.
func stuckAt(plan resilience.Plan, events []resilience.Event) string {
	if plan.Status.Ended() || len(events) == 0 || events[len(events)-1].What != activities.Stuck {
		return ""
	}
	return events[len(events)-1].Detail
}

// stuckRows says where an undo is stuck and what to do.
func stuckRows(w io.Writer, plan resilience.Plan, at string) {
	if at == "" {
		return
	}
	row(w, "stuck", at)
	row(w, "to try now", "starter migration retry "+plan.ID)
	row(w, "to go on", "starter migration skip "+plan.ID+" --reason WHY")
}
