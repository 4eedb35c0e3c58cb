package activities_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/activities"
	"rehome/corpus"
	"rehome/resilience"
	"rehome/store"
)

func TestEachStepOfAScanRunTwiceIsDoneOnce(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "sub/b.md", "c.md")
	b.twice = true
	first := b.scan()
	require.EqualValues(t, 3, first.Files.Seen)
	require.EqualValues(t, 3, first.Files.New)
	b.remove("sub/b.md")
	for scans := 1; scans <= 2; scans++ {
		require.EqualValues(t, 1, b.scan().Orphans.Total)
		orphans, err := b.store.Orphans(t.Context(), "docs", 10)
		require.NoError(t, err)
		require.Equal(t, scans, orphans[0].MissingScans)
	}
}

func TestOrphansCarryHowTheyWereUsed(t *testing.T) {
	t.Parallel()
	b := newMappedBundle(t, "")
	b.sql(`ALTER TABLE public.docs ADD COLUMN seen timestamptz, ADD COLUMN hits int`)
	b.memory.Mapping.Accessed, b.memory.Mapping.AccessCount = "seen", "hits"
	b.sql(`UPDATE rehome.memories SET mapping = $1`, b.memory.Mapping)
	b.file("keep.md")
	b.row("keep.md")
	used := b.row("used.md")
	b.sql(`UPDATE public.docs SET seen = '2026-01-02Z', hits = 7 WHERE id = $1::text::uuid`, used)
	b.sql(`INSERT INTO rehome.chunk_access VALUES ('docs', $1, '2026-01-01Z', 3)`, used)
	b.scan()
	orphan, err := b.store.Orphan(t.Context(), "docs", used)
	require.NoError(t, err)
	require.EqualValues(t, 10, orphan.AccessCount)
	require.Equal(t, "2026-01-02", orphan.LastAccessedAt.UTC().Format("2006-01-02"))
	require.Equal(t, []string{}, orphan.Owners)
	_, err = b.store.Orphan(t.Context(), "docs", "nothing")
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestT57DryRunLeavesTheDatabaseAsItWas(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.twice = true
	b.source("a.md", "b.md", "c.md")
	b.scan()
	b.remove("a.md")
	b.file("new.md")
	before := b.database()
	rehearsal, err := b.begin(resilience.ScanPolicy{DryRun: true}).rest()
	require.NoError(t, err)
	require.Equal(t, before, b.database())
	b.hooks.listing = func(int, *corpus.Listing) { require.NoError(t, os.RemoveAll(b.root)) }
	tree := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(tree, "root"), os.DirFS(b.root)))
	_, err = b.begin(resilience.ScanPolicy{DryRun: true}).rest()
	requireType(t, err, activities.Refused)
	require.Equal(t, before, b.database(), "nor does one that is refused leave a trace")
	require.NoError(t, os.Rename(filepath.Join(tree, "root"), b.root))
	b.hooks.listing = nil

	real := b.scan()
	require.True(t, rehearsal.DryRun)
	require.Equal(t, real.Orphans, rehearsal.Orphans)
	require.Equal(t, real.Files.New, rehearsal.Files.New)
	require.Equal(t, real.Classes, rehearsal.Classes)
}

// database is every row of every table of the schema, but for sequences.
func (b *scanBundle) database() map[string]string {
	b.Helper()
	rows, err := b.pool.Query(b.Context(), `SELECT relname::text FROM pg_class WHERE relnamespace = 'rehome'::regnamespace AND relkind = 'r'`)
	require.NoError(b, err)
	var tables []string
	for rows.Next() {
		var name string
		require.NoError(b, rows.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(b, rows.Err())
	all := map[string]string{}
	for _, name := range tables {
		var sum string
		require.NoError(b, b.pool.QueryRow(b.Context(), `SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM rehome.`+name+` t`).Scan(&sum))
		all[name] = sum
	}
	return all
}

func TestT49EvidenceThatWasTamperedWithDecidesNothing(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "sub/b.md")
	b.scan()
	for _, tampering := range []string{`TRUNCATE rehome.scan_files`, `DELETE FROM rehome.scan_files WHERE path = 'a.md'`, `DELETE FROM rehome.scan_dirs WHERE path = 'sub'`} {
		b.unchanged(func() {
			s := b.begin(resilience.ScanPolicy{AcceptShrinkage: true})
			require.NoError(t, s.walk())
			b.sql(tampering)
			_, err := s.end(s.judge())
			requireType(t, err, activities.Verify, "not complete any more")
		})
	}
	require.Zero(t, b.scan().Orphans.Total)
}

func TestT47WalkThatWasCutOffDoublesNothing(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a/1.md", "b/2.md", "c/d/3.md", "e/4.md", "5.md")
	whole := b.scan()
	for cut := 1; cut <= 6; cut++ {
		s := b.begin(resilience.ScanPolicy{})
		s.in.Slice.Time = 1 // each directory is recorded by itself
		b.hooks.calls = 0
		b.hooks.listing = func(n int, _ *corpus.Listing) {
			if n == cut+1 {
				b.sql(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`) // T48
			}
		}
		for {
			slice, err := do[activities.ScanSlice](b, "WalkTree", s.in)
			if err == nil && slice.Done {
				break
			}
		}
		b.hooks.listing = nil
		require.NoError(t, s.judge())
		require.NoError(t, s.recheck())
		result, err := s.end(nil)
		require.NoError(t, err)
		require.Equal(t, whole.Files.Seen, result.Files.Seen)
		require.Equal(t, whole.Classes, result.Classes)
		require.Equal(t, resilience.ScanComplete, result.Status)
	}
}

func TestT41AttemptThatWasReplacedCanDoNothing(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md")
	s := b.begin(resilience.ScanPolicy{})
	owner := store.Claim{Memory: "docs", Kind: store.ScanClaim, WorkflowID: s.in.WorkflowID, RunID: s.in.RunID, Epoch: 1}
	b.hooks.listing = func(int, *corpus.Listing) { // it sleeps here, is given up for dead, and wakes up
		_, err := b.store.ReplaceClaim(t.Context(), owner, store.Claim{Memory: "docs", Kind: store.ScanClaim, WorkflowID: "w2", RunID: "r2"})
		require.NoError(t, err)
	}
	require.Error(t, s.walk())
	requireType(t, s.walk(), activities.Fenced)
	var rows int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.scan_files`).Scan(&rows))
	require.Zero(t, rows)
	requireType(t, s.judge(), activities.Fenced)
}
