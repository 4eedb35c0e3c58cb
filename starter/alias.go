package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rehome/corpus"
	"rehome/resilience"
)

func aliasCommand(s *session) *cobra.Command {
	return noun(s, "alias", "Say where old paths lead now", aliasAdd(s), aliasList(s), aliasRemove(s), aliasHistory(s))
}

func aliasAdd(s *session) *cobra.Command {
	var pairs []string
	c := &cobra.Command{
		Use: "add OLD NEW", Short: "Let an old path, of a file or a directory, resolve to a new one", Args: exactly(2),
		Long: `Let an old path, of a file or a directory, resolve to a new one. Chunks stay as
they are: to move them, use "starter migrate". Paths are relative to the
memory's root; what led to OLD leads on to NEW.`,
		Example: "  starter alias add guide/old.md guide/new.md\n  starter alias add guide handbook --meta ticket=DOC-7",
		RunE: s.do(func(ctx context.Context, args []string) error {
			meta, err := parsePairs(pairs)
			if err != nil {
				return err
			}
			before, err := cleanPath(args[0])
			if err != nil {
				return err
			}
			after, err := cleanPath(args[1])
			if err != nil {
				return err
			}
			memory, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			alias, err := s.data.AddAlias(ctx, memory.Name, before, after, meta)
			if err != nil {
				return err
			}
			return s.show(alias, func(w io.Writer) { row(w, alias.OriginalPath+" leads to "+alias.CurrentPath) })
		}),
	}
	c.Flags().StringArrayVar(&pairs, "meta", nil, "KEY=VALUE to keep with the alias; repeat for more")
	return c
}

func parsePairs(given []string) (map[string]string, error) {
	pairs := map[string]string{}
	for _, text := range given {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" || !storable(text) {
			return nil, fail(exitUsage, "meta %q: want KEY=VALUE, in UTF-8 and without NUL", text)
		}
		pairs[key] = value
	}
	return pairs, nil
}

func aliasList(s *session) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List the aliases of a memory", Args: cobra.NoArgs,
		Example: "  starter alias list\n  starter alias list --limit 1000 --json",
		RunE: s.do(func(ctx context.Context, _ []string) error {
			memory, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			aliases, err := s.data.Aliases(ctx, memory.Name, limit)
			if err != nil {
				return err
			}
			return s.show(map[string]any{"aliases": orEmpty(aliases)}, func(w io.Writer) {
				row(w, "OLD PATH", "NOW", "USED", "CHANGED", "BY")
				for _, a := range aliases {
					row(w, a.OriginalPath, a.CurrentPath, a.AccessCount, moment(a.UpdatedAt), a.MigrationID)
				}
			})
		}),
	}
	limitFlag(c, &limit)
	return c
}

func aliasRemove(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "remove OLD", Short: "Forget the alias of an old path", Args: exactly(1),
		Example: "  starter alias remove guide/old.md",
		RunE: s.do(func(ctx context.Context, args []string) error {
			alias, err := s.alias(ctx, args[0])
			if err != nil {
				return err
			}
			if err := s.data.RemoveAlias(ctx, s.memory, alias.OriginalPath); err != nil {
				return err
			}
			return s.show(alias, func(w io.Writer) { row(w, alias.OriginalPath+" no longer leads to "+alias.CurrentPath) })
		}),
	}
}

func aliasHistory(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "history OLD", Short: "Show where an old path has led", Args: exactly(1),
		Example: "  starter alias history guide/old.md",
		RunE: s.do(func(ctx context.Context, args []string) error {
			alias, err := s.alias(ctx, args[0])
			if err != nil {
				return err
			}
			return s.show(alias, func(w io.Writer) { versionRows(w, alias.History) })
		}),
	}
}

func (s *session) alias(ctx context.Context, typed string) (resilience.Alias, error) {
	path, err := cleanPath(typed)
	if err != nil {
		return resilience.Alias{}, err
	}
	memory, err := s.theMemory(ctx)
	if err != nil {
		return resilience.Alias{}, err
	}
	return s.data.Alias(ctx, memory.Name, path)
}

func versionRows(w io.Writer, history []resilience.Version) {
	for _, v := range history {
		row(w, moment(v.At), v.Path)
	}
}

func resolveCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "resolve PATH", Short: "Say where the file of a path is now", Args: exactly(1),
		Long: `Say where the file of a path is now, and count the access. The path may be
relative to the memory's root or in the form in which the memory keeps paths; a
path that nothing is known of resolves to itself.`,
		Example: "  starter resolve guide/old.md\n  starter resolve guide/old.md --json",
		RunE: s.do(func(ctx context.Context, args []string) error {
			memory, err := s.theMemory(ctx)
			if err != nil {
				return err
			}
			// A memory may keep paths behind a prefix that no path a person types may have.
			prefix := memory.Mapping.StripPrefix
			typed, kept := strings.CutPrefix(args[0], prefix)
			path, err := corpus.Clean(typed)
			if err != nil {
				return fail(exitUsage, "%w", err)
			}
			if kept {
				path = prefix + path
			}
			answer, err := s.data.Resolve(ctx, memory.Name, path)
			if err != nil {
				return err
			}
			answer.History = orEmpty(answer.History)
			return s.show(answer, func(w io.Writer) { row(w, answer.CurrentPath) })
		}),
	}
}
