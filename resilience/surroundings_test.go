package resilience_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestCheckRoot(t *testing.T) {
	t.Parallel()
	others := []resilience.Memory{{Name: "docs", Root: "/srv/docs"}, {Name: "code", Root: "/home/me/code"}}
	for root, say := range map[string]string{
		"/srv/docs2": "", "/srv/doc": "", "/home/me/notes": "",
		"/srv/docs": "root of memory docs already", "/srv/docs/guide": "lies in the root of memory docs",
		"/srv": "holds the root of memory docs", "/": "holds the root of",
		"docs": "want an absolute path", "/srv/": "want an absolute path", "/srv/../etc": "want an absolute path", "": "want an absolute path",
	} {
		err := resilience.CheckRoot(root, others)
		if say == "" {
			require.NoError(t, err, root)
			continue
		}
		require.ErrorContains(t, err, say, root)
	}
}

func TestCheckAlias(t *testing.T) {
	t.Parallel()
	require.NoError(t, resilience.CheckAlias("docs", "docs2"))
	require.NoError(t, resilience.CheckAlias("a/b", "a/c"))
	for _, c := range [][3]string{{"a", "a", "itself"}, {"a", "a/b", "into itself"}, {"a/b", "a", "taken the place"}, {"", "a", "two paths"}, {"a", "", "two paths"}} {
		require.ErrorContains(t, resilience.CheckAlias(c[0], c[1]), c[2])
	}
}

func TestCheckSample(t *testing.T) {
	t.Parallel()
	tree := map[string]bool{"guide/a.md": true, "guide/b.md": true, "c.md": true}
	exists := func(path string) bool { return tree[path] }
	absolute := []string{"/srv/old/docs/guide/a.md", "/srv/old/docs/guide/b.md", "/srv/old/docs/c.md", "/tmp/x.md"}
	for _, c := range []struct {
		found, missing []string
		say            []string // nothing: the sample will do
	}{
		{nil, nil, nil},
		{[]string{"c.md"}, []string{"x.md"}, nil},
		{[]string{"c.md"}, []string{"x.md", "y.md"}, []string{"only 1 of 3", "x.md, y.md", "check the root"}},
		{nil, absolute, []string{"only 0 of 4", "/srv/old/docs/c.md;", `strip the prefix "/srv/old/docs/"`}},
		{nil, []string{"docs/c.md", "docs/x.md"}, []string{"check the root"}}, // one of two is no majority
	} {
		err := resilience.CheckSample(c.found, c.missing, exists)
		if c.say == nil {
			require.NoError(t, err)
			continue
		}
		for _, say := range c.say {
			require.ErrorContains(t, err, say)
		}
		require.NotContains(t, err.Error(), "/tmp/x.md", "three are enough")
	}
}

func TestNotesSayWhatWillHappen(t *testing.T) {
	t.Parallel()
	require.Empty(t, resilience.Surroundings{}.Notes())
	require.Empty(t, resilience.Surroundings{}.CleanupRefusal())
	s := resilience.Surroundings{
		Partitioned: true, EmptyScope: true, Generated: []string{"words"}, Identity: []string{"id"}, UniqueIndexes: []string{"by_path"}, Deferrable: []string{"one_place"},
		MissingRights: []string{"UPDATE", "DELETE", "INSERT"},
		ForeignKeys: []resilience.ForeignKey{
			{Name: "fk1", Table: "public.votes", OnDelete: "RESTRICT", Rows: resilience.MaxCounted},
			{Name: "fk2", Table: "public.answers", OnDelete: "SET NULL", Rows: -1},
		},
		Triggers: []resilience.Trigger{{Name: "stamp", Events: []string{"INSERT", "UPDATE"}}},
	}
	all := strings.Join(s.Notes(), "\n")
	for _, say := range []string{
		"No row of the table is in the scope", "may not UPDATE: migration will be refused", "may not DELETE: cleanup", "may not INSERT: restore",
		"10000 rows or more in public.votes point here (fk1); a chunk they point to cannot be cleaned up.",
		"An unknown number of rows in public.answers point here (fk2); their foreign key would SET NULL, so cleanup will refuse.",
		"Trigger stamp fires on INSERT, UPDATE", "Unique index by_path", "Constraint one_place is deferrable", "computes words", "numbers id", "partitioned",
	} {
		require.Contains(t, all, say)
	}
	require.Contains(t, s.CleanupRefusal(), "fk2")
	require.NotContains(t, s.CleanupRefusal(), "fk1")
	require.Contains(t, resilience.Surroundings{Deferrable: []string{"one_place"}}.CleanupRefusal(), "constraint one_place is deferrable")
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b"}
	require.Equal(t, names, resilience.Nearest("documents", names), "few are shown as they are")
	for i := range 20 {
		names = append(names, fmt.Sprintf("quite_other_%d", i))
	}
	names = append(names, "langchain_documents", "Document")
	near := resilience.Nearest("documents", names)
	require.Equal(t, "Document", near[0])
	require.Contains(t, near, "langchain_documents")
	require.Len(t, near, 8)
	require.NotPanics(t, func() { resilience.Nearest("", names) })
}

func TestSettingsSet(t *testing.T) {
	t.Parallel()
	s := resilience.DefaultSettings()
	require.NoError(t, s.Set("orphan_grace", "1.5d"))
	require.Equal(t, 36*time.Hour, s.OrphanGrace)
	require.NoError(t, s.Set("quarantine_retention", "720h"))
	require.NoError(t, s.Set("orphan_scan_gap", "0s"))
	require.NoError(t, s.Set("undo_window", "30d"))
	require.Equal(t, 30*24*time.Hour, s.UndoWindow)
	require.NoError(t, s.Set("max_cleanup_operations", "7"))
	require.NoError(t, s.Set("approve_by_another", "true"))
	require.True(t, s.ApproveByAnother)
	before := s
	for key, value := range map[string]string{
		"max_version_history": "0", "migration_batch_size": "20001", "compare_one_in": "0", "approve_by_another": "maybe", "orphan_grace": "23h", "quarantine_retention": "d", "orphan_scan_gap": "-1h", "undo_window": "-1d", "max_cleanup_operations": "many", "other": "1",
	} {
		require.ErrorContains(t, s.Set(key, value), key)
	}
	require.ErrorContains(t, s.Set("orphan_grace", "1e30d"), "orphan_grace")
	require.ErrorContains(t, s.Set("orphan_grace", "NaNd"), "orphan_grace")
	require.Equal(t, before, s, "a value that is refused changes nothing")
}
