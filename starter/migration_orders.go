package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"rehome/resilience"
	"rehome/workflows"
)

func migrationPause(s *session) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "pause ID", Short: "Stop a migration before its next batch", Args: exactly(1),
		Example: "  starter migration pause m-20261124-1532-x7k2 --reason 'a busy hour'",
		RunE: s.do(func(ctx context.Context, args []string) error {
			return s.orderAndShow(ctx, args[0], workflows.PauseUpdate, workflows.Order{Author: author(), Reason: reason})
		}),
	}
	c.Flags().StringVar(&reason, "reason", "", "why; kept with the migration")
	return c
}

func migrationResume(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "resume ID", Short: "Let a paused migration go on", Args: exactly(1),
		Long: `Let a paused migration go on. Its slot went to others: when
max_concurrent_migrations are at work, it waits for one and then goes on by itself.`,
		Example: "  starter migration resume m-20261124-1532-x7k2",
		RunE: s.do(func(ctx context.Context, args []string) error {
			plan, err := s.send(ctx, args[0], workflows.ResumeUpdate, workflows.Order{Author: author()})
			if err != nil {
				return err
			}
			if plan.Status == resilience.Paused {
				if _, before, err := s.data.Standing(ctx, plan.ID); err == nil {
					s.say("%s; it goes on by itself", waitsFor(plan.ID, before))
				}
			}
			return s.showPlan(plan)
		}),
	}
}

func migrationThrottle(s *session) *cobra.Command {
	var rate float64
	var size int
	var lasts time.Duration
	c := &cobra.Command{
		Use: "throttle ID --rate CHUNKS/S", Short: "Change the pace of a migration from its next batch on", Args: exactly(1),
		Long: `Change the pace of a migration from its next batch on, also of one that goes back.
What is not given stays as it is: the rate that an order before set, for as long as
that one said, else the plan's own; and so does the size of its batches.
One that goes by immediate has no pace: pause it and let it go on by another
strategy first.`,
		Example: `  starter migration throttle m-20261124-1532-x7k2 --rate 200 --for 2h
  starter migration throttle m-20261124-1532-x7k2 --rate 0 --batch-size 1000`,
	}
	c.Flags().Float64Var(&rate, "rate", 0, "chunks a second at most; 0 is no bound")
	c.Flags().IntVar(&size, "batch-size", 0, "chunks in one transaction; 0 is the plan's own size again")
	c.Flags().DurationVar(&lasts, "for", 0, "how long, such as 30m; the plan's own is in force again after it, in place of what this order sets. 0 is for good")
	c.MarkFlagsOneRequired("rate", "batch-size")
	c.RunE = s.do(func(ctx context.Context, args []string) error {
		if lasts < 0 {
			return fail(exitUsage, "--for %s: want how long the pace is to be in force, such as 30m; 0 is for good", lasts)
		}
		pace := resilience.Pace{Expires: resilience.Seconds(lasts.Seconds()), Author: author()}
		if c.Flags().Changed("rate") {
			pace.Rate = &rate
		}
		if c.Flags().Changed("batch-size") {
			pace.BatchSize = &size
		}
		if err := checkPace(rate, pace.Check()); err != nil {
			return err
		}
		plan, err := s.plan(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := s.orderUndo(ctx, plan, workflows.ThrottleUpdate, pace)
		if err != nil {
			return err
		}
		return s.showAnswered(ctx, plan.ID, answer)
	})
	return c
}

func migrationApprove(s *session) *cobra.Command {
	var hash string
	c := &cobra.Command{
		Use: "approve ID", Short: "Say yes to a plan that waits for it", Args: exactly(1),
		Long: fmt.Sprintf(`Say yes to a plan that waits for it. The approval is of the plan with this hash
and no other: a plan that has changed by the time it begins asks again, and so
does one that has not begun within %s.`, hours(resilience.ApprovalLasts)),
		Example: `  starter migration approve m-20261124-1532-x7k2
  starter migration approve m-20261124-1532-x7k2 --hash 1f0c…`,
		RunE: s.do(func(ctx context.Context, args []string) error {
			plan, err := s.plan(ctx, args[0])
			if err != nil {
				return err
			}
			if hash == "" {
				hash = plan.Hash
			}
			answer, err := s.order(ctx, plan, workflows.ApproveUpdate, workflows.Approval{Hash: hash, Author: author()})
			if err != nil {
				return err
			}
			s.say("approved: %s by strategy %s, risk %s, plan hash %s", count(int(plan.Moves), "chunk"), plan.Strategy, riskOf(plan.Risk), hash)
			return s.showAnswered(ctx, plan.ID, answer)
		}),
	}
	c.Flags().StringVar(&hash, "hash", "", "approve only the plan with this hash; without it, the one that `migration show` shows now")
	return c
}

func migrationStrategy(s *session) *cobra.Command {
	var approve bool
	c := &cobra.Command{
		Use: "strategy ID NEW", Short: "Let a queued or paused migration go on by another strategy", Args: exactly(2),
		Long: `Let a queued or paused migration go on by another strategy, from where it is.
A paused one stays paused: resume it.

The plan is judged anew. An approval that it has holds while the level of its risk
does not rise; a high risk that nobody approved is refused without --approve. So is
a strategy that does not keep what was asked of the plan: hours and ways are for
one strategy each, and immediate keeps to no rate.`,
		Example: `  starter migration strategy m-20261124-1532-x7k2 gradual
  starter migration strategy m-20261124-1532-x7k2 immediate --approve`,
		RunE: s.do(func(ctx context.Context, args []string) error {
			next, err := resilience.ParseStrategy(args[1])
			if err != nil {
				return fail(exitUsage, "%w", err)
			}
			return s.orderAndShow(ctx, args[0], workflows.StrategyUpdate, workflows.NewStrategy{Strategy: next, Approve: approve, Author: author()})
		}),
	}
	c.Flags().BoolVar(&approve, "approve", false, "approve the plan as it is by the new strategy, whatever its risk")
	return c
}

// orderAndShow sends an update and shows the migration as it is then.
func (s *session) orderAndShow(ctx context.Context, id, update string, arg any) error {
	plan, err := s.send(ctx, id, update, arg)
	if err != nil {
		return err
	}
	return s.showPlan(plan)
}

// send sends an update and returns the migration as it is then.
func (s *session) send(ctx context.Context, id, update string, arg any) (resilience.Plan, error) {
	plan, err := s.plan(ctx, id)
	if err != nil {
		return plan, err
	}
	answer, err := s.order(ctx, plan, update, arg)
	if err != nil {
		return plan, err
	}
	return s.answered(ctx, id, answer)
}

func (s *session) answered(ctx context.Context, id string, answer workflows.Answer) (resilience.Plan, error) {
	plan, err := s.plan(ctx, id)
	if !plan.Status.Ended() {
		plan.Status = answer.Status // the status in Postgres may follow in a moment
	}
	return plan, err
}

func (s *session) showAnswered(ctx context.Context, id string, answer workflows.Answer) error {
	plan, err := s.answered(ctx, id, answer)
	if err != nil {
		return err
	}
	return s.showPlan(plan)
}

// errClosed says that no run is there to take an order.
var errClosed = errors.New("its workflow is closed")

// order sends an update to the run of a migration and waits for its answer.
func (s *session) order(ctx context.Context, plan resilience.Plan, update string, arg any) (workflows.Answer, error) {
	var answer workflows.Answer
	if plan.Status.Ended() {
		return answer, fail(exitConflict, "migration %s is %s; there is nothing to %s (`starter migration show %s`)", plan.ID, plan.Status, update, plan.ID)
	}
	engine, err := s.temporal(ctx)
	if err != nil {
		return answer, err
	}
	if err := s.checkWorkers(ctx, false); err != nil {
		return answer, err
	}
	id := newID(update)                // however often it is sent, it is one order
	const answering = 30 * time.Second // a worker may be busy; a workflow task times out after 10 s and is tried again
	timed, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	err = insist(timed, func() error {
		handle, err := engine.UpdateWorkflow(timed, client.UpdateWorkflowOptions{
			UpdateID: id, WorkflowID: plan.WorkflowID, UpdateName: update,
			Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		if err != nil {
			return err
		}
		return handle.Get(timed, &answer)
	})
	if _, gone := errors.AsType[*serviceerror.NotFound](err); gone {
		return answer, fail(exitConflict, "migration %s is %s, and %w; bring it back to its start with `starter migration rollback %s`", plan.ID, plan.Status, errClosed, plan.ID)
	}
	if _, late := errors.AsType[*client.WorkflowUpdateServiceTimeoutOrCanceledError](err); late && ctx.Err() == nil {
		return answer, fail(exitUnreachable, "%s did not answer within %s; see its worker's log and `starter migration show %s`", plan.WorkflowID, answering, plan.ID)
	}
	return answer, err
}

// insist sends an order again while the run is not ready for it: it has just gone on in a
// fresh history, say.
func insist(ctx context.Context, send func() error) error {
	const between = 100 * time.Millisecond
	for {
		err := send()
		if _, unready := errors.AsType[*serviceerror.WorkflowNotReady](err); !unready {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(between):
		}
	}
}

// hours says a time of whole hours.
func hours(d time.Duration) string { return fmt.Sprintf("%.0f hours", d.Hours()) }

// riskOf says how high a risk is.
func riskOf(r resilience.Risk) string {
	if r.Level == "" {
		return "unknown"
	}
	return fmt.Sprintf("%s (%d of 100)", r.Level, r.Score)
}

// eventRows lists what happened to a migration, when, and who did it.
func eventRows(w io.Writer, events []resilience.Event) {
	for _, e := range events {
		what := e.What
		if e.Author != "" {
			what += " by " + e.Author
		}
		if e.Detail != "" {
			what += ": " + e.Detail
		}
		row(w, moment(e.At), what)
	}
}
