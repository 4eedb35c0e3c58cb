package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rehome/resilience"
	"rehome/workflows"
)

func cleanupCommand(s *session) *cobra.Command {
	var in workflows.CleanupInput
	var grace, confirm string
	var detach bool
	c := &cobra.Command{
		Use: "cleanup", Short: "Move confirmed orphans to quarantine", Args: cobra.NoArgs,
		Long: `Move confirmed orphans to quarantine, from which "starter quarantine restore"
brings them back. An orphan is confirmed when two complete scans at least
orphan_scan_gap apart missed its source and orphan_grace has passed; its source
is looked for once more just before. --grace 0 waives gap and grace, not the two
scans, for one run, and wants the memory's name repeated with --confirm.`,
		Example: `  starter cleanup --dry-run
  starter cleanup --max 500
  starter cleanup --memory docs --grace 0 --confirm docs`,
		RunE: s.do(func(ctx context.Context, _ []string) error {
			memory, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			if in.WaiveGrace, err = s.waived(grace, confirm); err != nil {
				return err
			}
			in.Origin, in.Memory = s.origin(), memory.Name
			t := task{
				id: workflows.CleanupID(s.site.installation, memory.Name), name: workflows.CleanupName, memory: memory.Name, input: in, files: true,
				summary: "Move confirmed orphans of " + memory.Name + " to quarantine",
				look:    "starter status",
			}
			var result resilience.CleanupResult
			if finished, err := s.perform(ctx, t, detach, &result); err != nil || !finished {
				return err
			}
			return s.show(result, func(w io.Writer) { cleanupRows(w, result) })
		}),
	}
	flags := c.Flags()
	flags.BoolVar(&in.DryRun, "dry-run", false, "say what would be moved, move nothing")
	flags.Var((*positive)(&in.Max), "max", "chunks at most; 0 takes the setting max_cleanup_operations")
	flags.StringVar(&grace, "grace", "", "0 waives gap and grace for this run")
	flags.StringVar(&confirm, "confirm", "", "the memory's name, with --grace 0")
	detachFlag(c, &detach)
	return c
}

// waived reads --grace 0 --confirm NAME.
func (s *session) waived(grace, confirm string) (bool, error) {
	switch {
	case grace == "" && confirm == "":
		return false, nil
	case grace != "0":
		return false, fail(exitUsage, "--grace %q: only 0 can be asked for, with --confirm; a lasting change is the setting orphan_grace", grace)
	case confirm == "":
		return false, fail(exitRefused, "--grace 0 waives a safety rule: repeat the memory's name with --confirm %s", s.memory)
	}
	return s.confirmed("confirm", confirm)
}

func cleanupRows(w io.Writer, r resilience.CleanupResult) {
	what := "moved to quarantine"
	if r.DryRun {
		what = "would be moved to quarantine (dry run)"
	}
	row(w, "run", r.RunID)
	row(w, "orphans", fmt.Sprintf("%d confirmed, %d %s, %d skipped, %d failed", r.TotalOrphans, r.CleanedOrphans, what, r.Skipped, r.FailedCleanups))
	if r.TotalOrphans > 0 && r.TotalOrphans == r.Limit {
		row(w, "limit", fmt.Sprintf("%d in one run; clean up again for what is left, or with --max", r.Limit))
	}
	row(w, "text", size(r.BytesFreed))
	row(w, "took", resilience.Spell(r.DurationMS))
}
