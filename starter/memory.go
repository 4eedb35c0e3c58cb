package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rehome/resilience"
)

func memoryCommand(s *session) *cobra.Command {
	return noun(s, "memory", "Name a chunk table and the tree its chunks were cut from",
		memoryAdd(s), memoryList(s), memoryShow(s), memoryRemove(s))
}

func memoryList(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the memories", Args: cobra.NoArgs,
		Example: "  starter memory list\n  starter memory list --json",
		RunE: s.do(func(ctx context.Context, _ []string) error {
			data, err := s.store(ctx)
			if err != nil {
				return err
			}
			memories, err := data.Memories(ctx)
			if err != nil {
				return err
			}
			return s.show(map[string]any{"memories": orEmpty(memories)}, func(w io.Writer) {
				row(w, "MEMORY", "TABLE", "ROOT")
				for _, m := range memories {
					row(w, m.Name, tableOf(m), m.Root)
				}
			})
		}),
	}
}

func tableOf(m resilience.Memory) string {
	if m.Builtin {
		return "builtin"
	}
	return m.Mapping.Schema + "." + m.Mapping.Table
}

func memoryShow(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a memory and its mapping", Args: exactly(1),
		Example: "  starter memory show docs",
		RunE: s.do(func(ctx context.Context, args []string) error {
			s.memory = args[0]
			m, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			return s.show(m, func(w io.Writer) { memoryRows(w, m) })
		}),
	}
}

func memoryRows(w io.Writer, m resilience.Memory) {
	row(w, "memory", m.Name)
	row(w, "root", m.Root)
	row(w, "table", tableOf(m))
	if m.Marker != "" {
		row(w, "marker", m.Marker)
	}
	row(w, "id", m.Mapping.ID+" ("+m.Mapping.IDType+")")
	row(w, "content", m.Mapping.Content)
	for _, l := range m.Mapping.Locators {
		row(w, "path", l.String()+" ("+l.Type+")")
	}
	for _, f := range m.Mapping.Scope {
		row(w, "scope", f.Column+"="+f.Value)
	}
	for _, named := range [][2]string{
		{"strip prefix", m.Mapping.StripPrefix},
		{"embedding", m.Mapping.Embedding},
		{"metadata", m.Mapping.Metadata},
		{"accessed", m.Mapping.Accessed},
		{"access count", m.Mapping.AccessCount},
	} {
		if named[1] != "" {
			row(w, named[0], named[1])
		}
	}
}

func memoryRemove(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Forget a memory; its chunks stay", Args: exactly(1),
		Long: strings.TrimSpace(`
Forget a memory: its catalogue of files, aliases, scans and orphans. Chunks and
what is in quarantine stay, and are found again when a memory of that name is
added. It is refused while a migration or another run works on the memory.`),
		Example: "  starter memory remove docs",
		RunE: s.do(func(ctx context.Context, args []string) error {
			s.memory = args[0]
			m, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			if err := s.data.RemoveMemory(ctx, m.Name); err != nil {
				return err
			}
			return s.show(m, func(w io.Writer) { row(w, "memory "+m.Name+" is forgotten; its chunks are where they were") })
		}),
	}
}
