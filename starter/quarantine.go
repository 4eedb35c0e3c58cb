package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rehome/resilience"
	"rehome/store"
)

func quarantineCommand(s *session) *cobra.Command {
	return noun(s, "quarantine", "Look at chunks that were taken out, and bring them back", quarantineList(s), quarantineRestore(s))
}

func quarantineList(s *session) *cobra.Command {
	var filter store.QuarantineFilter
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List what is in quarantine, newest first", Args: cobra.NoArgs,
		Example: "  starter quarantine list\n  starter quarantine list --path guide --reason missing --json",
		RunE: s.do(func(ctx context.Context, _ []string) error {
			memory, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			if err := checkFilter(&filter); err != nil {
				return err
			}
			entries, err := s.data.Quarantined(ctx, memory.Name, filter, limit)
			if err != nil {
				return err
			}
			return s.show(map[string]any{"quarantined": orEmpty(entries)}, func(w io.Writer) {
				row(w, "ID", "CHUNK", "REASON", "SIZE", "SINCE", "KEPT UNTIL", "RUN", "PATH")
				for _, q := range entries {
					row(w, q.ID, q.ChunkID, q.Reason, size(q.Bytes), moment(q.QuarantinedAt), moment(q.RetainUntil), q.RunID, q.FilePath)
				}
			})
		}),
	}
	filterFlags(c, &filter)
	limitFlag(c, &limit)
	return c
}

func filterFlags(c *cobra.Command, filter *store.QuarantineFilter) {
	c.Flags().StringVar(&filter.Run, "run", "", "only what this cleanup run took")
	c.Flags().StringVar(&filter.PathPrefix, "path", "", "only chunks of this file, or below this directory")
	c.Flags().StringVar(&filter.Reason, "reason", "", "only "+resilience.ReasonMissing+" or "+resilience.ReasonReplaced)
}

func checkFilter(filter *store.QuarantineFilter) error {
	if !storable(filter.Run) {
		return fail(exitUsage, "--run %q: want the id of a cleanup run", filter.Run)
	}
	switch filter.Reason {
	case "", resilience.ReasonMissing, resilience.ReasonReplaced:
	default:
		return fail(exitUsage, "--reason %q: want %s or %s", filter.Reason, resilience.ReasonMissing, resilience.ReasonReplaced)
	}
	if filter.PathPrefix == "" {
		return nil
	}
	var err error
	filter.PathPrefix, err = cleanPath(filter.PathPrefix)
	return err
}

func quarantineRestore(s *session) *cobra.Command {
	var filter store.QuarantineFilter
	c := &cobra.Command{
		Use: "restore [ID]...", Short: "Put chunks back where they were, byte for byte",
		Long: `Put chunks back into the memory's table, byte for byte: those with the given
ids of quarantine entries, of a cleanup run, or at or below a path. A chunk
whose place is taken stays in quarantine and is listed. A restored chunk is held
until its path or its text changes.`,
		Example: "  starter quarantine restore 17 18\n  starter quarantine restore --path guide/old.md\n  starter quarantine restore --run c-20261124-1532-x7k2",
		RunE: s.do(func(ctx context.Context, args []string) error {
			for _, text := range args {
				id, err := strconv.ParseInt(text, 10, 64)
				if err != nil || id < 1 {
					return fail(exitUsage, "id %q: want the id of an entry, as `starter quarantine list` shows it", text)
				}
				filter.IDs = append(filter.IDs, id)
			}
			memory, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			if err := checkFilter(&filter); err != nil {
				return err
			}
			return s.restore(ctx, memory.Name, filter)
		}),
	}
	filterFlags(c, &filter)
	return c
}

func (s *session) restore(ctx context.Context, memory string, filter store.QuarantineFilter) error {
	result, err := s.data.Restore(ctx, memory, filter)
	if err != nil {
		return err
	}
	err = s.show(result, func(w io.Writer) {
		row(w, "restored", fmt.Sprintf("%s, %s", count(int(result.Restored), "chunk"), size(result.Bytes)))
		for _, l := range result.Left {
			row(w, "left", fmt.Sprintf("%d, chunk %s of %s: %s", l.ID, l.ChunkID, l.FilePath, l.Why))
		}
		if len(result.Dropped) > 0 {
			row(w, "dropped", "the table no longer has "+strings.Join(result.Dropped, ", "))
		}
	})
	if err == nil && result.Restored == 0 && len(result.Left) > 0 {
		return fail(exitConflict, "nothing was restored: %s", result.Left[0].Why)
	}
	return err
}
