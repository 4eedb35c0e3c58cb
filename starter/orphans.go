package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehome/resilience"
)

func orphansCommand(s *session) *cobra.Command {
	return noun(s, "orphans", "Look at chunks whose source is gone, and hold what must stay",
		orphansList(s), orphansShow(s), orphansHold(s), orphansUnhold(s))
}

func orphansList(s *session) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List the orphans of a memory, those most in the way first", Args: cobra.NoArgs,
		Example: "  starter orphans list\n  starter orphans list --memory docs --limit 500 --json",
		RunE: s.do(func(ctx context.Context, _ []string) error {
			memory, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			orphans, err := s.data.Orphans(ctx, memory.Name, limit)
			if err != nil {
				return err
			}
			return s.show(map[string]any{"orphans": orEmpty(orphans)}, func(w io.Writer) {
				row(w, "CHUNK", "PRIORITY", "KIND", "CONFIRMED", "SIZE", "SINCE", "PATH")
				for _, o := range orphans {
					row(w, o.ChunkID, fmt.Sprintf("%.2f", o.Priority), o.Kind, o.Confirmed, size(o.Bytes), moment(o.FirstMissingAt), o.FilePath)
				}
			})
		}),
	}
	limitFlag(c, &limit)
	return c
}

func orphansShow(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "show CHUNK", Short: "Show why a chunk is an orphan", Args: exactly(1),
		Example: "  starter orphans show 4711",
		RunE: s.do(func(ctx context.Context, args []string) error {
			chunk, err := s.chunk(ctx, args[0])
			if err != nil {
				return err
			}
			o, err := s.data.Orphan(ctx, s.memory, chunk)
			if err != nil {
				return err
			}
			return s.show(o, func(w io.Writer) { orphanRows(w, o) })
		}),
	}
}

// chunk checks the id of a chunk as typed, and the memory.
func (s *session) chunk(ctx context.Context, typed string) (string, error) {
	if typed == "" || !storable(typed) {
		return "", fail(exitUsage, "chunk %q: want the id of a chunk, as `starter orphans list` shows it", typed)
	}
	_, err := s.theMemory(ctx)
	return typed, err
}

func orphanRows(w io.Writer, o resilience.Orphan) {
	row(w, "chunk", o.ChunkID)
	row(w, "path", o.FilePath)
	row(w, "kind", o.Kind)
	row(w, "reason", o.Reason)
	row(w, "priority", fmt.Sprintf("%.2f", o.Priority))
	row(w, "text", size(o.Bytes))
	var last time.Time
	if o.LastAccessedAt != nil {
		last = *o.LastAccessedAt
	}
	row(w, "used", fmt.Sprintf("%d times, last %s", o.AccessCount, moment(last)))
	row(w, "missing", fmt.Sprintf("in %d scans, from %s to %s", o.MissingScans, moment(o.FirstMissingAt), moment(o.LastMissingAt)))
	row(w, "confirmed", o.Confirmed)
	if len(o.Owners) > 0 {
		row(w, "owners", strings.Join(o.Owners, ", "))
	}
}

// hold is a chunk that is held, or no more.
type hold struct {
	Memory  string `json:"memory"`
	ChunkID string `json:"chunk_id"`
	Held    bool   `json:"held"`
	Reason  string `json:"reason,omitempty"`
}

func orphansHold(s *session) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "hold CHUNK", Short: "Keep a chunk from ever being an orphan", Args: exactly(1),
		Example: "  starter orphans hold 4711 --reason 'source lives in the archive'",
		RunE: s.do(func(ctx context.Context, args []string) error {
			if !storable(reason) {
				return fail(exitUsage, "--reason %q: want UTF-8 without NUL", reason)
			}
			chunk, err := s.chunk(ctx, args[0])
			if err != nil {
				return err
			}
			if err := s.data.Hold(ctx, s.memory, chunk, reason); err != nil {
				return err
			}
			return s.show(hold{s.memory, chunk, true, reason}, func(w io.Writer) { row(w, "chunk "+chunk+" is held") })
		}),
	}
	c.Flags().StringVar(&reason, "reason", "held by a person", "why; kept with the hold")
	return c
}

func orphansUnhold(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "unhold CHUNK", Short: "Let a chunk be judged like any other again", Args: exactly(1),
		Example: "  starter orphans unhold 4711",
		RunE: s.do(func(ctx context.Context, args []string) error {
			chunk, err := s.chunk(ctx, args[0])
			if err != nil {
				return err
			}
			if err := s.data.Unhold(ctx, s.memory, chunk); err != nil {
				return err
			}
			return s.show(hold{s.memory, chunk, false, ""}, func(w io.Writer) { row(w, "chunk "+chunk+" is no longer held") })
		}),
	}
}
