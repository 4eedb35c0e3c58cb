package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehome/resilience"
	"rehome/store"
)

// overview is the installation on one screen.
type overview struct {
	Installation string        `json:"installation"`
	Memories     []memoryState `json:"memories"`
	store.Overview
	Schedules []string `json:"schedules"`
	Healthy   bool     `json:"healthy"`
	Problems  []string `json:"problems"`
}

// memoryState is a memory as its last scan found it.
type memoryState struct {
	Name      string                `json:"name"`
	Root      string                `json:"root"`
	Table     string                `json:"table"`
	Chunks    int64                 `json:"chunks"`
	Orphans   int64                 `json:"orphans"`
	Status    resilience.ScanStatus `json:"scan_status,omitempty"` // empty: never scanned
	ScannedAt *time.Time            `json:"scanned_at"`            // the time of the counts
}

func statusCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the installation on one screen", Args: cobra.NoArgs,
		Long: `Show the installation on one screen. Chunks are counted as of the last scan. The
exit code is 6 when Temporal does not answer or no worker runs; what Postgres
knows is shown all the same.`,
		Example: "  starter status\n  starter status --json",
		RunE: s.do(func(ctx context.Context, _ []string) error {
			o, err := s.overview(ctx)
			if err != nil {
				return err
			}
			trouble := s.trouble(ctx)
			o.Healthy = trouble == nil && len(o.Problems) == 0
			if trouble != nil {
				o.Problems = append([]string{message(trouble)}, o.Problems...)
			}
			return errors.Join(s.show(o, func(w io.Writer) { overviewRows(w, o) }), trouble)
		}),
	}
}

// trouble is what keeps workflows from running.
func (s *session) trouble(ctx context.Context) error {
	if _, err := s.temporal(ctx); err != nil {
		return err
	}
	return s.checkWorkers(ctx, true)
}

func (s *session) overview(ctx context.Context) (overview, error) {
	data, err := s.store(ctx)
	if err != nil {
		return overview{}, err
	}
	counts, err := data.Overview(ctx)
	if err != nil {
		return overview{}, err
	}
	memories, err := data.Memories(ctx)
	if err != nil {
		return overview{}, err
	}
	o := overview{Installation: s.site.installation, Overview: counts, Memories: []memoryState{}, Schedules: []string{}, Problems: []string{}}
	for _, m := range memories {
		state := memoryState{Name: m.Name, Root: m.Root, Table: tableOf(m)}
		last, err := data.LatestScan(ctx, m.Name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return o, err
		}
		if err == nil {
			state.add(last)
		}
		if last.Status == resilience.ScanAborted {
			o.Problems = append(o.Problems, fmt.Sprintf("the last scan of %s was stopped: %s", m.Name, last.Reason))
		}
		o.Memories = append(o.Memories, state)
	}
	if failed := counts.Migrations[string(resilience.Failed)]; failed > 0 {
		o.Problems = append(o.Problems, fmt.Sprintf("%s could not be rolled back; see `starter migration list --all`", count(int(failed), "migration")))
	}
	return o, nil
}

func (m *memoryState) add(last resilience.ScanResult) {
	for _, tally := range last.Classes {
		m.Chunks += tally.Chunks
	}
	m.Orphans, m.Status, m.ScannedAt = last.Orphans.Total, last.Status, &last.StartedAt
}

func overviewRows(w io.Writer, o overview) {
	row(w, "installation", o.Installation)
	for _, m := range o.Memories {
		seen := "never scanned"
		if m.ScannedAt != nil {
			seen = fmt.Sprintf("%d chunks, %d orphans; scan of %s %s", m.Chunks, m.Orphans, moment(*m.ScannedAt), m.Status)
		}
		row(w, "memory "+m.Name, seen)
	}
	row(w, "aliases", o.Aliases)
	row(w, "orphans", tally(o.Orphans))
	row(w, "migrations", tally(o.Migrations))
	row(w, "quarantine", fmt.Sprintf("%s, %s", count(int(o.Quarantine.Chunks), "chunk"), size(o.Quarantine.Bytes)))
	for _, p := range o.Problems {
		row(w, "problem", p)
	}
	row(w, "healthy", o.Healthy)
}

func tally(counts map[string]int64) string {
	if len(counts) == 0 {
		return "none"
	}
	parts := make([]string, 0, len(counts))
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(parts, ", ")
}
