package activities_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/corpus"
	"rehome/resilience"
	"rehome/store"
)

// renameByAlias lets paths lead to others and leaves all rows where they are.
func (b *scanBundle) renameByAlias(from, to string) {
	b.Helper()
	require.NoError(b, b.store.CreatePlan(b.Context(), store.NewPlan{
		ID: "m1", Memory: "docs", Strategy: resilience.Intelligent, Policy: resilience.Policy{BatchSize: 10, Way: resilience.AliasOnly},
		Renames: []resilience.RenameRule{{Old: from, New: to}}, WorkflowID: "w", RunID: "r", Rollback: []string{},
	}))
	require.NoError(b, b.store.Journal(b.Context(), "m1"))
	b.sql(`UPDATE rehome.migration_plans SET way = 'alias_only' WHERE plan_id = 'm1'`)
	require.NoError(b, b.store.Queue(b.Context(), "m1"))
	require.NoError(b, b.store.Begin(b.Context(), "m1"))
	mover, err := b.store.Mover(b.Context(), "m1")
	require.NoError(b, err)
	at, err := b.store.Watermark(b.Context(), "m1")
	require.NoError(b, err)
	for at.Last < at.Total {
		at, err = mover.Apply(b.Context(), at, store.Bounds{})
		require.NoError(b, err)
	}
	require.NoError(b, b.store.Switch(b.Context(), "m1"))
	require.NoError(b, b.store.Complete(b.Context(), "m1"))
}

// TestChunksThatStayedBehindAnAliasAreNoOrphans: as long as the file that it
// leads to is there, or nobody could look.
func TestChunksThatStayedBehindAnAliasAreNoOrphans(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("keep.md", "old/a.md", "old/sub/b.md")
	b.scan()
	b.rename("old", "new")
	b.scan()
	require.ElementsMatch(t, []string{"old/a.md", "old/sub/b.md"}, b.orphans())
	b.renameByAlias("old", "new")

	result := b.scan()
	require.Empty(t, b.orphans())
	require.Equal(t, map[resilience.Class]resilience.Tally{resilience.ClassAlive: {Chunks: 3, Bytes: result.Classes[resilience.ClassAlive].Bytes}}, result.Classes)
	require.Zero(t, result.Files.Missing)

	// From now on they go by the fate of that file.
	b.remove("new/a.md")
	require.EqualValues(t, 1, b.scan().Classes[resilience.ClassMissing].Chunks)
	require.Equal(t, []string{"old/a.md"}, b.orphans())
	b.file("new/a.md")
	b.scan()
	require.Empty(t, b.orphans())
}

// TestAFaultAtTheFileOfAnAliasIsADoubt: also where no scan and no ingest has seen
// the file before.
func TestAFaultAtTheFileOfAnAliasIsADoubt(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("keep.md", "old/a.md", "old/b.md")
	b.scan()
	b.rename("old/a.md", "new/a.md")
	b.remove("old/b.md")
	b.hooks.listing = func(_ int, l *corpus.Listing) {
		if strings.HasPrefix(l.Dir, "new") {
			l.Entries, l.Err = nil, &os.PathError{Op: "open", Path: "new", Err: errors.New("input/output error")}
		}
	}
	b.scan()
	require.ElementsMatch(t, []string{"old/a.md", "old/b.md"}, b.orphans())
	_, err := b.store.AddAlias(t.Context(), "docs", "old/a.md", "new/a.md", nil)
	require.NoError(t, err)
	b.sql(`DELETE FROM rehome.orphan_chunks`) // a doubt would not take them off the list
	result := b.scan()
	require.Equal(t, resilience.ScanIncomplete, result.Status)
	require.Equal(t, []string{"old/b.md"}, b.orphans())
	require.EqualValues(t, 1, result.Classes[resilience.ClassUnknown].Chunks)
}
