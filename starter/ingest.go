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

func ingestCommand(s *session) *cobra.Command {
	var in workflows.IngestInput
	var detach bool
	c := &cobra.Command{
		Use: "ingest", Short: "Read the root of a builtin memory into chunks", Args: cobra.NoArgs,
		Long: `Read the root of a builtin memory: walk, split, store. Run again, it changes
only the chunks of files that changed. Files that are binary, too large,
unreadable or not UTF-8 are skipped and counted with their reason. The embedding
of a new chunk is NULL until your application fills it.`,
		Example: "  starter ingest\n  starter ingest --memory docs --max-file-bytes 1000000",
		RunE: s.do(func(ctx context.Context, _ []string) error {
			if in.MaxFileBytes < 0 {
				return fail(exitUsage, "--max-file-bytes %d: want 1 or more, 0 for the default", in.MaxFileBytes)
			}
			memory, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			if !memory.Builtin {
				return fail(exitRefused, "memory %s maps the table %s.%s, which your application fills; ingest is for builtin memories (`starter memory add NAME --root DIR`)", memory.Name, memory.Mapping.Schema, memory.Mapping.Table)
			}
			in.Origin, in.Memory = s.origin(), memory.Name
			t := task{
				id: workflows.IngestID(s.site.installation, memory.Name), name: workflows.IngestName, memory: memory.Name, input: in, files: true,
				summary: "Read " + memory.Root + " into " + memory.Name,
				look:    "starter status",
			}
			var result workflows.IngestResult
			if finished, err := s.perform(ctx, t, detach, &result); err != nil || !finished {
				return err
			}
			return s.show(result, func(w io.Writer) { ingestRows(w, result) })
		}),
	}
	c.Flags().Int64Var(&in.MaxFileBytes, "max-file-bytes", 0, "skip larger files; 0 is the default")
	detachFlag(c, &detach)
	return c
}

func ingestRows(w io.Writer, r workflows.IngestResult) {
	f, c := r.Files, r.Chunks
	row(w, "files", fmt.Sprintf("%d seen, %d new, %d changed, %d unchanged, %d skipped", f.Seen, f.New, f.Changed, f.Unchanged, f.Skipped))
	for _, reason := range slices.Sorted(maps.Keys(r.SkippedByReason)) {
		row(w, "  skipped", fmt.Sprintf("%d %s", r.SkippedByReason[reason], reason))
	}
	row(w, "chunks", fmt.Sprintf("%d new, %d kept, %d replaced (in quarantine)", c.New, c.Kept, c.Replaced))
	row(w, "text", size(r.Bytes))
	row(w, "took", resilience.Spell(r.DurationMS))
}
