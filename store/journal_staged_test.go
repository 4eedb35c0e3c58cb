package store_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// list gives out rules as lines of a list.
func list(rules ...resilience.RenameRule) func() (resilience.Move, error) {
	at := 0
	return func() (resilience.Move, error) {
		if at == len(rules) {
			return resilience.Move{}, io.EOF
		}
		at++
		return resilience.Move{Line: int64(at), RenameRule: rules[at-1]}, nil
	}
}

func TestStagedRenamesBecomeThoseOfThePlan(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(2, "a.md", "b.md", "c/x.md", "d.md", "e.md", "f.md")
	var bad resilience.BadLines
	require.NoError(t, m.store.StageRenames(t.Context(), "m-1",
		list(rule("d.md", "c/below.md"), rule("e.md", "f.md"), rule("a.md", "b.md"), rule("f.md", "e.md"), rule("b.md", "z.md"), rule("c", "y")), &bad))
	require.Empty(t, bad)
	require.NoError(t, m.store.StageRenames(t.Context(), "m-other", list(rule("q", "r")), &bad))

	id, err := m.plan("")
	require.NoError(t, err)
	rules, err := m.store.Renames(t.Context(), id, 10)
	require.NoError(t, err)
	require.Equal(t, []resilience.RenameRule{
		rule("b.md", "z.md"), rule("c", "y"), // nothing has to leave before
		rule("d.md", "c/below.md"), rule("f.md", "e.md"), rule("e.md", "f.md"), rule("a.md", "b.md"),
	}, rules)
	require.Len(t, m.rows("rehome.migration_staged"), 1, "what another plan waits for stays")
	require.NoError(t, m.store.DropStaged(t.Context(), "m-other"))
	require.Empty(t, m.rows("rehome.migration_staged"))
	m.apply(id, -1)
	require.Equal(t, map[string]int{"z.md": 2, "b.md": 2, "y/x.md": 2, "c/below.md": 2, "e.md": 2, "f.md": 2}, m.at())
}

func TestStagingKeepsNothingOfABadList(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	var bad resilience.BadLines
	require.NoError(t, m.store.StageRenames(t.Context(), "m-1",
		list(rule("a", "b"), rule("c", "b"), rule("a", "d"), rule("a", "b")), &bad))
	require.Equal(t, []resilience.BadLine{
		{Line: 2, Why: "two are renamed to b, the first on line 1"},
		{Line: 3, Why: "a is renamed twice, first on line 1"},
		{Line: 4, Why: "a is renamed twice, first on line 1"},
	}, bad.First)
	require.Empty(t, m.rows("rehome.migration_staged"))

	bad = resilience.BadLines{}
	bad.Add(7, "as the reader found")
	require.NoError(t, m.store.StageRenames(t.Context(), "m-1", list(rule("a", "b")), &bad))
	require.Empty(t, m.rows("rehome.migration_staged"))

	broken := errors.New("the file is gone")
	err := m.store.StageRenames(t.Context(), "m-1", func() (resilience.Move, error) { return resilience.Move{}, broken }, &resilience.BadLines{})
	require.ErrorContains(t, err, "the file is gone")
	require.Empty(t, m.rows("rehome.migration_staged"))
}

func TestAPlanWithoutRenamesIsRefused(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	for _, rules := range [][]resilience.RenameRule{nil, {rule("a", "b"), rule("a", "c")}} {
		err := m.store.CreatePlan(t.Context(), store.NewPlan{ID: "m-1", Memory: "docs", Strategy: resilience.Batch, Renames: rules, WorkflowID: "w", RunID: "r", Rollback: []string{}})
		require.ErrorIs(t, err, store.ErrInvalid, rules)
	}
	require.Empty(t, m.rows("rehome.migration_plans"))
}
