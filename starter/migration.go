package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"rehome/resilience"
	"rehome/store"
)

func migrationCommand(s *session) *cobra.Command {
	return noun(s, "migration", "Look at migrations and steer them",
		migrationList(s), migrationShow(s),
		migrationPause(s), migrationResume(s), migrationThrottle(s), migrationApprove(s), migrationStrategy(s),
		migrationAbort(s), migrationRollback(s), migrationRetry(s), migrationSkip(s))
}

func migrationList(s *session) *cobra.Command {
	var all bool
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List the migrations of a memory, newest first", Args: cobra.NoArgs,
		Long: `List the migrations of a memory, newest first.

Temporal's web UI finds those that are at something, or kept from it, by a filter:
  RehomePhase = "paused" AND ExecutionStatus = "Running"
Other phases are plan, approval, queued, move, waiting, soak, build, switch, retire,
undo and stuck.`,
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
				row(w, "MIGRATION", "MEMORY", "STATUS", "CHUNKS", "MOVED", "STAY", "CREATED", "UNDOES")
				for _, p := range plans {
					row(w, p.ID, p.Memory, p.Status, p.Moves, p.Moved, p.Stayed, moment(p.CreatedAt), p.Undoes)
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
	Gates  []resilience.Gate  `json:"gates"`  // why it waits
	Groups []resilience.Group `json:"groups"` // as an intelligent plan decided

	Renames  []resilience.RenameRule `json:"renames"`
	InTheWay []resilience.Conflict   `json:"conflict_list"`            // the first of the conflicts
	Behind   []store.Exception       `json:"exceptions"`               // rows that did not go where they should
	More     bool                    `json:"exceptions_cut,omitempty"` // there are more of these
	Events   []resilience.Event      `json:"events"`
	Waits    resilience.Wait         `json:"waits_for,omitzero"`      // in the queue
	Tries    []try                   `json:"tries"`                   // what failed and is tried again
	Untold   string                  `json:"tries_unknown,omitempty"` // why nobody knows that
	Link     string                  `json:"link,omitempty"`
}

func migrationShow(s *session) *cobra.Command {
	var exceptions int
	c := &cobra.Command{
		Use: "show ID", Short: "Show a migration: its renames, how far it is, what happened", Args: exactly(1),
		Long: `Show a migration: what was asked of it, how far it is, and what happened.

Of the ways the one that it goes comes first, below it the others: what the whole
plan is expected to take by each, or why it cannot. "tries again" is a step that
failed, with the reason (the disk is full, say): it goes on by itself once it can.
"stay" are chunks that keep
their old path. Of an intelligent plan each group follows: how it moves, why, from
what, and what else it could have been. Then come conflicts, rows that did not go
where they should, renames and events.`,
		Example: "  starter migration show m-20261124-1532-x7k2",
		RunE: s.do(func(ctx context.Context, args []string) error {
			plan, err := s.plan(ctx, args[0])
			if err != nil {
				return err
			}
			shown, err := s.look(ctx, plan, exceptions)
			if err != nil {
				return err
			}
			return s.show(shown, shown.rows)
		}),
	}
	c.Flags().IntVar(&exceptions, "exceptions", shownExceptions, "how many rows that did not go where they should to list; 0: all")
	return c
}

// look reads all that is known of a migration, of the rows that did not go where they
// should so many at most.
func (s *session) look(ctx context.Context, plan resilience.Plan, exceptions int) (shownPlan, error) {
	shown := shownPlan{Plan: plan}
	if _, err := s.temporalOptions(); err != nil { // says where the web UI is
		return shown, err
	}
	shown.Link = s.link(plan.WorkflowID, plan.RunID)
	const most = 100
	var err error
	if shown.Renames, err = s.data.Renames(ctx, plan.ID, most); err != nil {
		return shown, err
	}
	if shown.Gates, err = s.data.Gates(ctx, plan.ID); err != nil {
		return shown, err
	}
	if shown.Events, err = s.data.Events(ctx, plan.ID); err != nil {
		return shown, err
	}
	_, before, err := s.data.Standing(ctx, plan.ID)
	if err != nil {
		return shown, err
	}
	shown.Waits = store.Waiting(before)
	if shown.InTheWay, err = s.conflictsOf(ctx, plan); err != nil {
		return shown, err
	}
	if shown.Behind, shown.More, err = s.exceptionsOf(ctx, plan, exceptions); err != nil {
		return shown, err
	}
	if shown.Tries, err = s.triesOf(ctx, plan); err != nil { // all else is known without Temporal
		shown.Untold = err.Error()
	}
	shown.Groups, err = s.groupsOf(ctx, plan)
	shown.Gates, shown.Renames, shown.Events, shown.Tries = orEmpty(shown.Gates), orEmpty(shown.Renames), orEmpty(shown.Events), orEmpty(shown.Tries)
	return shown, err
}

func (p shownPlan) rows(w io.Writer) {
	planRows(w, p.Plan)
	gateRows(w, p.Gates)
	if waits := p.Waits.String(); waits != "" {
		row(w, "waits for", waits)
	}
	tryRows(w, p.Tries)
	if p.Untold != "" {
		row(w, "tries again", "unknown: "+p.Untold)
	}
	stuckRows(w, p.Plan, stuckAt(p.Plan, p.Events))
	if p.Link != "" {
		row(w, "link", p.Link)
	}
	groupRows(w, p.Groups)
	conflictRows(w, p.Plan, p.InTheWay)
	exceptionRows(w, p.Behind, p.More)
	for _, r := range p.Renames {
		row(w, "rename", r.Old+" to "+r.New)
	}
	eventRows(w, p.Events)
}

// plan reads a migration by its id.
func (s *session) plan(ctx context.Context, id string) (resilience.Plan, error) {
	data, err := s.store(ctx)
	if err != nil {
		return resilience.Plan{}, err
	}
	return data.Plan(ctx, id)
}
