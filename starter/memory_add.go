package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"rehome/resilience"
)

// mappingFlags are a mapping as it is typed.
type mappingFlags struct {
	table string
	paths []string
	scope []string
	resilience.Mapping
}

// shownMemory is a memory with what stands around its table.
type shownMemory struct {
	resilience.Memory
	Surroundings *resilience.Surroundings `json:"surroundings,omitempty"` // of a mapped table
	Notes        []string                 `json:"notes"`
}

func memoryAdd(s *session) *cobra.Command {
	var root string
	var marker bool
	var typed mappingFlags
	c := &cobra.Command{
		Use: "add NAME --root DIR", Short: "Name a chunk table and the tree its chunks were cut from", Args: exactly(1),
		Long: `Name a chunk table and the tree its chunks were cut from. Without --table the
chunks are kept in rehome's own table, and "starter ingest" fills it. With it
they stay in a table of yours: only the columns named here are ever looked at,
and only the paths are changed.

A path is kept in a column, or in a key of a json or jsonb column, written
COLUMN->key->key; name every place that holds it, they are changed together.
Everything is checked before anything is written.`,
		Example: `  starter memory add docs --root ~/docs
  starter memory add docs --root /srv/docs --table rag.chunks --id id --content body --path 'metadata->source'
  starter memory add docs --root /srv/docs --table documents --id id --content content \
    --path path --path 'metadata->loc->file' --strip-prefix /srv/docs/ --scope tenant=7`,
		RunE: s.do(func(ctx context.Context, args []string) error {
			s.memory = args[0]
			if err := resilience.CheckMemoryName(s.memory); err != nil {
				return fail(exitUsage, "%w", err)
			}
			mapping, err := typed.parse(s.memory)
			if err != nil {
				return err
			}
			return s.addMemory(ctx, root, mapping, typed.table == "", marker)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&root, "root", "", "the directory that the paths are relative to")
	flags.BoolVar(&marker, "marker", false, "put a file "+resilience.MarkerFile+" into the root, by which a wrong mount is noticed")
	flags.StringVar(&typed.table, "table", "", "SCHEMA.TABLE that holds the chunks; empty is rehome's own")
	flags.StringVar(&typed.ID, "id", "", "column with the unique id of a chunk")
	flags.StringVar(&typed.Content, "content", "", "column with its text")
	flags.StringArrayVar(&typed.paths, "path", nil, "COLUMN or COLUMN->key with its path; repeat for more")
	flags.StringArrayVar(&typed.scope, "scope", nil, "COLUMN=VALUE that the memory's rows have; repeat for more")
	flags.StringVar(&typed.StripPrefix, "strip-prefix", "", "what stands in the table before the path relative to the root")
	flags.StringVar(&typed.Embedding, "embedding", "", "column with its embedding")
	flags.StringVar(&typed.Metadata, "metadata", "", "column with its metadata")
	flags.StringVar(&typed.Accessed, "accessed", "", "timestamp column that your application keeps")
	flags.StringVar(&typed.AccessCount, "access-count", "", "integer column that your application keeps")
	return c
}

var tableName = regexp.MustCompile(`^(?:("(?:[^"]|"")+"|[^".]+)\.)?("(?:[^"]|"")+"|[^".]+)$`)

// parse makes a mapping of what was typed; the types of columns are still open.
func (f mappingFlags) parse(memory string) (resilience.Mapping, error) {
	m := f.Mapping
	if f.table == "" {
		named := strings.Join(append(append([]string{m.ID, m.Content, m.StripPrefix, m.Embedding, m.Metadata, m.Accessed, m.AccessCount}, f.paths...), f.scope...), "")
		if named != "" {
			return m, fail(exitUsage, "columns are named and no table: add --table SCHEMA.TABLE, or name none for rehome's own table")
		}
		return resilience.BuiltinMapping(memory), nil
	}
	parts := tableName.FindStringSubmatch(f.table)
	if parts == nil {
		return m, fail(exitUsage, "--table %q: want TABLE or SCHEMA.TABLE, a name with a dot or quotes in double quotes", f.table)
	}
	m.Schema, m.Table = unquote(parts[1]), unquote(parts[2])
	if m.Schema == "" {
		m.Schema = "public"
	}
	if m.ID == "" || m.Content == "" || len(f.paths) == 0 {
		return m, fail(exitUsage, "--table %s: its columns are not all named: want --id, --content and at least one --path", f.table)
	}
	for _, text := range f.paths {
		locator, err := resilience.ParseLocator(text)
		if err != nil {
			return m, fail(exitUsage, "%w", err)
		}
		m.Locators = append(m.Locators, locator)
	}
	for _, text := range f.scope {
		scope, err := resilience.ParseScope(text)
		if err != nil {
			return m, fail(exitUsage, "%w", err)
		}
		m.Scope = append(m.Scope, scope)
	}
	if !storable(fmt.Sprint(m)) {
		return m, fail(exitUsage, "a name or a value of the mapping is not UTF-8, or holds a NUL byte: correct it")
	}
	return m, nil
}

// unquote takes a name out of its double quotes.
func unquote(name string) string {
	if inner, ok := strings.CutPrefix(name, `"`); ok {
		return strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
	}
	return name
}

// addMemory checks everything, then writes.
func (s *session) addMemory(ctx context.Context, dir string, mapping resilience.Mapping, builtin, marker bool) error {
	root, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // nothing is written to it
	data, err := s.store(ctx)
	if err != nil {
		return err
	}
	others, err := data.Memories(ctx)
	if err != nil {
		return err
	}
	if err := resilience.CheckRoot(root.Path(), others); err != nil {
		return fail(exitConflict, "%w", err)
	}
	added := shownMemory{Memory: resilience.Memory{Name: s.memory, Root: root.Path(), Builtin: builtin, Mapping: mapping}, Notes: []string{}}
	if !builtin {
		var around resilience.Surroundings
		if added.Mapping, around, err = data.Examine(ctx, mapping); err != nil {
			return err
		}
		added.Surroundings, added.Notes = &around, orEmpty(around.Notes())
	}
	if err := s.checkSample(ctx, root, added.Mapping); err != nil {
		return err
	}
	forget := func() error { return nil }
	if marker {
		if added.Marker, forget, err = mark(root.Path()); err != nil {
			return err
		}
	}
	if err := data.AddMemory(ctx, added.Memory); err != nil {
		return errors.Join(err, forget())
	}
	if added.Memory, err = data.Memory(ctx, s.memory); err != nil {
		return err
	}
	return s.show(added, func(w io.Writer) {
		memoryRows(w, added.Memory)
		for _, note := range added.Notes {
			row(w, "note", note)
		}
	})
}
