package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"rehome/resilience"
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
	Gates  []resilience.Gate  `json:"gates"`  // why it waits
	Groups []resilience.Group `json:"groups"` // as an intelligent plan decided

	Renames  []resilience.RenameRule `json:"renames"`
	InTheWay []resilience.Conflict   `json:"conflict_list"` // the first of the conflicts
	Events   []resilience.Event      `json:"events"`
	Link     string                  `json:"link,omitempty"`
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
			_, before, err := s.data.Standing(ctx, plan.ID)
			if err != nil {
				return err
			}
			conflicts, err := s.conflictsOf(ctx, plan)
			if err != nil {
				return err
			}
			groups, err := s.groupsOf(ctx, plan)
			if err != nil {
				return err
			}
			shown := shownPlan{plan, orEmpty(gates), groups, orEmpty(renames), conflicts, orEmpty(events), s.link(plan.WorkflowID, plan.RunID)}
			return s.show(shown, func(w io.Writer) {
				planRows(w, plan)
				gateRows(w, gates)
				if len(before) > 0 {
					row(w, "queue", waitsFor(plan.ID, before))
				}
				if shown.Link != "" {
					row(w, "link", shown.Link)
				}
				groupRows(w, groups)
				conflictRows(w, plan, conflicts)
				for _, r := range renames {
					row(w, "rename", r.Old+" to "+r.New)
				}
				eventRows(w, events)
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
