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

func migrationCommand(s *session) *cobra.Command {
	return noun(s, "migration", "Look at migrations and steer them",
		migrationList(s), migrationShow(s),
		migrationOrder(s, workflows.PauseUpdate, "Stop a migration before its next batch", "  starter migration pause m-20261124-1532-x7k2"),
		migrationOrder(s, workflows.ResumeUpdate, "Let a paused migration go on", "  starter migration resume m-20261124-1532-x7k2"),
		migrationThrottle(s), migrationAbort(s), migrationRollback(s))
}

func migrationList(s *session) *cobra.Command {
	var all bool
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List the migrations of a memory, newest first", Args: cobra.NoArgs,
		Example: "  starter migration list\n  starter migration list --all --limit 5 --json",
		RunE: s.do(func(ctx context.Context, _ []string) error {
			memory := ""
			if !all {
				m, err := s.theMemory(ctx)
				if err != nil {
					return err
				}
				memory = m.Name
			}
			data, err := s.store(ctx)
			if err != nil {
				return err
			}
			plans, err := data.Plans(ctx, memory, limit)
			if err != nil {
				return err
			}
			return s.show(map[string]any{"migrations": orEmpty(plans)}, func(w io.Writer) {
				row(w, "MIGRATION", "MEMORY", "STATUS", "CHUNKS", "MOVED", "CREATED", "UNDOES")
				for _, p := range plans {
					row(w, p.ID, p.Memory, p.Status, p.Moves, p.Moved, moment(p.CreatedAt), p.Undoes)
				}
			})
		}),
	}
	c.Flags().BoolVar(&all, "all", false, "of all memories")
	limitFlag(c, &limit)
	return c
}

// shownPlan is a migration with what was asked of it and what happened.
type shownPlan struct {
	resilience.Plan
	Gates []resilience.Gate `json:"gates"` // why it waits

	Renames []resilience.RenameRule `json:"renames"`
	Events  []resilience.Event      `json:"events"`
	Link    string                  `json:"link,omitempty"`
}

func migrationShow(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a migration: its renames, how far it is, what happened", Args: exactly(1),
		Example: "  starter migration show m-20261124-1532-x7k2",
		RunE: s.do(func(ctx context.Context, args []string) error {
			plan, err := s.plan(ctx, args[0])
			if err != nil {
				return err
			}
			if _, err := s.temporalOptions(); err != nil { // says where the web UI is
				return err
			}
			const most = 100
			renames, err := s.data.Renames(ctx, plan.ID, most)
			if err != nil {
				return err
			}
			gates, err := s.data.Gates(ctx, plan.ID)
			if err != nil {
				return err
			}
			events, err := s.data.Events(ctx, plan.ID)
			if err != nil {
				return err
			}
			shown := shownPlan{plan, orEmpty(gates), orEmpty(renames), orEmpty(events), s.link(plan.WorkflowID, plan.RunID)}
			return s.show(shown, func(w io.Writer) {
				planRows(w, plan)
				gateRows(w, gates)
				if shown.Link != "" {
					row(w, "link", shown.Link)
				}
				for _, r := range renames {
					row(w, "rename", r.Old+" to "+r.New)
				}
				for _, e := range events {
					row(w, moment(e.At), e.What+" "+e.Author+" "+e.Detail)
				}
			})
		}),
	}
}

// plan reads a migration by its id.
func (s *session) plan(ctx context.Context, id string) (resilience.Plan, error) {
	data, err := s.store(ctx)
	if err != nil {
		return resilience.Plan{}, err
	}
	return data.Plan(ctx, id)
}

// migrationOrder is a verb that sends an update without more to say.
func migrationOrder(s *session, update, short, example string) *cobra.Command {
	return &cobra.Command{
		Use: update + " ID", Short: short, Example: example, Args: exactly(1),
		RunE: s.do(func(ctx context.Context, args []string) error {
			return s.orderAndShow(ctx, args[0], update, workflows.Order{Author: author()})
		}),
	}
}

func migrationThrottle(s *session) *cobra.Command {
	var pace resilience.Pace
	c := &cobra.Command{
		Use: "throttle ID --rate CHUNKS/S", Short: "Change the pace of a migration from its next batch on", Args: exactly(1),
		Example: "  starter migration throttle m-20261124-1532-x7k2 --rate 200\n  starter migration throttle m-20261124-1532-x7k2 --rate 0 --batch-size 1000",
		RunE: s.do(func(ctx context.Context, args []string) error {
			if err := checkPace(pace.Rate, pace.Check()); err != nil {
				return err
			}
			pace.Author = author()
			return s.orderAndShow(ctx, args[0], workflows.ThrottleUpdate, pace)
		}),
	}
	c.Flags().Float64Var(&pace.Rate, "rate", 0, "chunks a second at most; 0 is no bound")
	c.Flags().IntVar(&pace.BatchSize, "batch-size", 0, "chunks in one transaction; 0 leaves it as it is")
	c.MarkFlagsOneRequired("rate", "batch-size")
	return c
}

func (s *session) orderAndShow(ctx context.Context, id, update string, arg any) error {
	plan, err := s.plan(ctx, id)
	if err != nil {
		return err
	}
	answer, err := s.order(ctx, plan, update, arg)
	if err != nil {
		return err
	}
	if plan, err = s.plan(ctx, id); err != nil {
		return err
	}
	plan.Status = answer.Status // the status in Postgres may follow in a moment
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
	const answering = 30 * time.Second // a worker may be busy; a workflow task times out after 10 s and is tried again
	timed, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	handle, err := engine.UpdateWorkflow(timed, client.UpdateWorkflowOptions{
		UpdateID: newID(update), WorkflowID: plan.WorkflowID, UpdateName: update,
		Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(timed, &answer)
	}
	if _, gone := errors.AsType[*serviceerror.NotFound](err); gone {
		return answer, fail(exitConflict, "migration %s is %s, and %w; bring it back to its start with `starter migration rollback %s`", plan.ID, plan.Status, errClosed, plan.ID)
	}
	if _, late := errors.AsType[*client.WorkflowUpdateServiceTimeoutOrCanceledError](err); late && ctx.Err() == nil {
		return answer, fail(exitUnreachable, "%s did not answer within %s; see its worker's log and `starter migration show %s`", plan.WorkflowID, answering, plan.ID)
	}
	return answer, err
}

func migrationAbort(s *session) *cobra.Command {
	var reason string
	var detach bool
	c := &cobra.Command{
		Use: "abort ID", Short: "Stop a running migration and put every chunk back", Args: exactly(1),
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
shown; one that still runs is aborted; one whose run was terminated is brought
back to its start.`,
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
	var undone resilience.Plan
	if finished, err := s.perform(ctx, t, detach, &undone); err != nil || !finished {
		return err
	}
	return s.show(undone, func(w io.Writer) {
		row(w, plan.ID+" is rolled back") // the rest may be of the migration that undid it
		planRows(w, undone)
	})
}
