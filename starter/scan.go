package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"rehome/resilience"
	"rehome/workflows"
)

func scanCommand(s *session) *cobra.Command {
	var in workflows.ScanInput
	var shrunken string
	var detach bool
	c := &cobra.Command{
		Use: "scan", Short: "Find chunks whose source is gone", Args: cobra.NoArgs,
		Long: `Find chunks whose source is gone. Nothing is removed by it. Faults only shrink
what is found: a directory that cannot be read makes what lies below it unknown,
never an orphan, and a root that is empty, or has lost many of its files since
the last scan, stops the scan. When that loss is real, --accept-shrinkage with
the memory's name lets one scan pass.`,
		Example: `  starter scan
  starter scan --memory docs --dry-run --json
  starter scan --memory docs --accept-shrinkage docs`,
		RunE: s.do(func(ctx context.Context, _ []string) error {
			memory, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			if in.AcceptShrinkage, err = s.confirmed("accept-shrinkage", shrunken); err != nil {
				return err
			}
			in.Origin, in.Memory = s.origin(), memory.Name
			return s.scan(ctx, in, detach)
		}),
	}
	c.Flags().BoolVar(&in.DryRun, "dry-run", false, "find and show, record nothing")
	c.Flags().StringVar(&shrunken, "accept-shrinkage", "", "the memory's name: fewer files than before are right, this once")
	detachFlag(c, &detach)
	return c
}

func (s *session) scan(ctx context.Context, in workflows.ScanInput, detach bool) error {
	t := task{
		id: workflows.ScanID(s.site.installation, in.Memory), name: workflows.ScanName, memory: in.Memory, input: in, files: true,
		summary: "Look for chunks of " + in.Memory + " whose source is gone",
		look:    "starter status",
	}
	var found resilience.ScanResult
	if finished, err := s.perform(ctx, t, detach, &found); err != nil || !finished {
		return err
	}
	found.Migrations = orEmpty(found.Migrations)
	return s.show(found, func(w io.Writer) { scanRows(w, found) })
}

func scanRows(w io.Writer, r resilience.ScanResult) {
	row(w, "scan", r.ScanID)
	row(w, "status", r.Status)
	if r.Reason != "" {
		row(w, "reason", r.Reason)
	}
	f := r.Files
	files := fmt.Sprintf("%d seen, %d new, %d changed, %d missing", f.Seen, f.New, f.Changed, f.Missing)
	if f.Renamed > 0 {
		files += fmt.Sprintf(", %d renamed", f.Renamed)
	}
	row(w, "files", files)
	row(w, "orphans", fmt.Sprintf("%d, %s", r.Orphans.Total, size(r.Orphans.Bytes)))
	for _, class := range slices.Sorted(maps.Keys(r.Classes)) {
		row(w, "  chunks "+string(class), r.Classes[class].Chunks)
	}
	row(w, "conflicts", r.Conflicts)
	row(w, "took", resilience.Spell(r.DurationMS))
}

// confirmed reports whether a person typed the memory's name for a flag that
// waives a safety rule.
func (s *session) confirmed(flag, typed string) (bool, error) {
	if typed != "" && typed != s.memory {
		return false, fail(exitRefused, "--%s %s: the memory is called %s; the flag waives a safety rule, so it wants that name typed", flag, typed, s.memory)
	}
	return typed != "", nil
}
