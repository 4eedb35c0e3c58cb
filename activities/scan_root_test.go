package activities_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rehome/activities"
	"rehome/corpus"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// unchanged asserts that a refused scan left orphans, catalogue and aliases alone.
func (b *scanBundle) unchanged(during func()) {
	b.Helper()
	print := func() string {
		var sum string
		require.NoError(b, b.pool.QueryRow(b.Context(), `
			SELECT (SELECT coalesce(string_agg(o::text, '|' ORDER BY o::text), '') FROM rehome.orphan_chunks o) || '/' ||
				(SELECT coalesce(string_agg(f::text, '|' ORDER BY f::text), '') FROM rehome.files f) || '/' ||
				(SELECT coalesce(string_agg(a::text, '|' ORDER BY a::text), '') FROM rehome.version_aliases a) || '/' ||
				(SELECT coalesce(string_agg(c::text, '|' ORDER BY c::text), '') FROM rehome.chunks c)`).Scan(&sum))
		return sum
	}
	before := print()
	during()
	require.Equal(b, before, print())
}

func TestT1MissingRootIsRefused(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md")
	b.scan()
	require.NoError(t, os.RemoveAll(b.root))
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{AcceptShrinkage: true}).rest()
		requireType(t, err, activities.Refused, b.root, "mount it", "Nothing was changed")
	})
	latest, err := b.store.LatestScan(t.Context(), "docs")
	require.NoError(t, err)
	require.Equal(t, resilience.ScanAborted, latest.Status)
	require.Contains(t, latest.Reason, "mount it")

	require.NoError(t, os.WriteFile(b.root, nil, 0o644))
	_, err = b.begin(resilience.ScanPolicy{}).rest()
	requireType(t, err, activities.Refused, "not a directory")
}

func TestT2EmptyRootIsRefusedAndSaysTheConsequence(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "sub/b.md")
	b.scan()
	b.remove("a.md")
	b.remove("sub")
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{}).rest()
		requireType(t, err, activities.Refused, "it is empty", "2 files of its 2 chunks missing", "--accept-shrinkage docs")
	})
	// A person said that it is right, this once.
	result, err := b.begin(resilience.ScanPolicy{AcceptShrinkage: true}).rest()
	require.NoError(t, err)
	require.EqualValues(t, 2, result.Orphans.Total)
	var policy resilience.ScanPolicy
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT policy FROM rehome.scans WHERE scan_id = $1`, result.ScanID).Scan(&policy))
	require.True(t, policy.AcceptShrinkage)
	_, err = b.begin(resilience.ScanPolicy{}).rest()
	requireType(t, err, activities.Refused)
}

func TestAnEmptyMemoryHasAnEmptyRoot(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	require.Equal(t, resilience.ScanComplete, b.scan().Status)
}

func newMarkedBundle(t *testing.T) *scanBundle {
	root := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.Mkdir(root, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, resilience.MarkerFile), []byte("mine\n"), 0o644))
	return newScanBundleOf(t, resilience.Memory{Name: "docs", Root: root, Builtin: true, Mapping: resilience.BuiltinMapping("docs"), Marker: "mine"})
}

func TestT3EmptyRootWithItsMarkerIsRefused(t *testing.T) {
	t.Parallel()
	b := newMarkedBundle(t)
	b.source("a.md")
	b.scan()
	b.remove("a.md")
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{}).rest()
		requireType(t, err, activities.Refused, "it is empty")
	})
}

func TestT4ForeignAndMissingMarkersAreRefused(t *testing.T) {
	t.Parallel()
	b := newMarkedBundle(t)
	b.source("a.md", "b.md")
	require.EqualValues(t, 2, b.scan().Files.Seen, "T64: the marker is no source")
	require.NoError(t, os.WriteFile(filepath.Join(b.root, resilience.MarkerFile), []byte("foreign"), 0o644))
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{AcceptShrinkage: true}).rest()
		requireType(t, err, activities.Refused, `"foreign"`, `"mine"`)
	})
	b.remove(resilience.MarkerFile)
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{AcceptShrinkage: true}).rest()
		requireType(t, err, activities.Refused, "no readable marker file")
	})
	_, err := os.Stat(filepath.Join(b.root, resilience.MarkerFile))
	require.ErrorIs(t, err, os.ErrNotExist, "it is never made by itself")
}

func TestT5RootReplacedDuringTheWalkVoidsIt(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "sub/b.md")
	b.scan()
	b.hooks.listing = func(_ int, l *corpus.Listing) {
		if l.Dir == "sub" {
			require.NoError(t, os.Rename(b.root, b.root+".old"))
			require.NoError(t, os.Mkdir(b.root, 0o755))
		}
	}
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{AcceptShrinkage: true}).rest()
		requireType(t, err, activities.Refused, "was replaced while it was read")
	})
	b.hooks.listing = func(int, *corpus.Listing) { require.NoError(t, os.RemoveAll(b.root)) }
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{AcceptShrinkage: true}).rest()
		requireType(t, err, activities.Refused, "went away while it was read")
	})
}

func TestT5RootReplacedBeforeTheSecondLookMakesNoOrphan(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md", "c.md")
	b.scan()
	s := b.begin(resilience.ScanPolicy{})
	require.NoError(t, s.walk())
	require.NoError(t, os.Rename(b.root, b.root+".old"))
	require.NoError(t, os.Mkdir(b.root, 0o755))
	require.NoError(t, s.judge())
	require.NoError(t, s.recheck())
	result, err := s.end(nil)
	require.NoError(t, err)
	require.Zero(t, result.Orphans.Total)
}

func TestT69AnotherTreeWithOtherFilesIsRefused(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md", "c.md") // few enough that the share says nothing
	b.scan()
	require.NoError(t, os.Rename(b.root, b.root+".old"))
	require.NoError(t, os.Mkdir(b.root, 0o755))
	b.file("x.md")
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{}).rest()
		requireType(t, err, activities.Refused, "none of 3 files that stand for the last complete scan")
	})
}

func TestT54ShrunkenTreeIsRefusedAndMovedFilesAreNotLost(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	for i := range 30 {
		b.source(fmt.Sprintf("guide/%02d.md", i))
	}
	b.source("readme.md")
	b.scan()

	// Everything moved, with nothing known of it but the files' names and sizes.
	b.rename("guide", "handbook/guide")
	result := b.scan()
	require.EqualValues(t, 30, result.Orphans.Total)
	require.EqualValues(t, 30, result.Files.New)
	b.rename("handbook/guide", "guide")
	require.Empty(t, b.scan().Orphans.Total, "a sighting takes back what was recorded")

	for i := range 15 {
		b.remove(fmt.Sprintf("guide/%02d.md", i))
	}
	require.EqualValues(t, 15, b.scan().Orphans.Total, "half of a directory")
	for i := range 11 {
		b.remove(fmt.Sprintf("guide/%02d.md", i+15))
	}
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{}).rest()
		requireType(t, err, activities.Refused, "11 of the 16 files known in it are gone", "26 chunks missing")
	})
}

func TestFirstScanOfAForeignTableIsRefusedWhenMostSourcesAreNotThere(t *testing.T) {
	t.Parallel()
	b := newMappedBundle(t, "")
	for i := range 3 {
		b.file(fmt.Sprintf("f%d.md", i))
	}
	for i := range 7 {
		b.row(fmt.Sprintf("f%d.md", i))
	}
	b.unchanged(func() {
		_, err := b.begin(resilience.ScanPolicy{}).rest()
		requireType(t, err, activities.Refused, "of 7 sampled source paths", "4 are not there")
	})
	b.file("f3.md")
	require.EqualValues(t, 3, b.scan().Orphans.Total)
}

// newMappedBundle is a memory over a table of an application, with the path in
// a json key and, again, in a column.
func newMappedBundle(t *testing.T, prefix string) *scanBundle {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.Mkdir(root, 0o755))
	pool := devtest.Pool(t)
	_, err := pool.Exec(t.Context(), `CREATE TABLE public.docs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), body text, source text, meta jsonb)`)
	require.NoError(t, err)
	return newScanBundleIn(t, pool, resilience.Memory{Name: "docs", Root: root, Mapping: resilience.Mapping{
		Schema: "public", Table: "docs", ID: "id", IDType: "uuid", Content: "body", StripPrefix: prefix,
		Locators: []resilience.Locator{{Column: "meta", Keys: []string{"loc", "source"}, Type: "jsonb"}, {Column: "source", Type: "text"}},
	}})
}

// row adds a row of a mapped memory and returns its id.
func (b *scanBundle) row(path string) string {
	b.Helper()
	var id string
	require.NoError(b, b.pool.QueryRow(b.Context(), `
		INSERT INTO public.docs (body, source, meta) VALUES ('text of ' || $1, $1, jsonb_build_object('loc', jsonb_build_object('source', $1::text)))
		RETURNING id::text`, path).Scan(&id))
	return id
}

func TestT11ErrorsOfOpeningTheRootNeverMeanMissing(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md")
	b.scan()
	for _, errno := range []unix.Errno{unix.EACCES, unix.EPERM, unix.EIO, unix.ESTALE, unix.ENOTCONN, unix.ETIMEDOUT, unix.ELOOP, unix.EMFILE, unix.ENFILE} {
		b.hooks.open = func(int) error { return &os.PathError{Op: "open", Path: b.root, Err: errno} }
		b.unchanged(func() {
			s := b.begin(resilience.ScanPolicy{AcceptShrinkage: true})
			err := s.walk()
			require.Error(t, err)
			b.hooks.open = nil
			if errors.Is(errno, os.ErrPermission) {
				_, err = s.end(err)
				requireType(t, err, activities.Refused)
				return
			}
			// T12: what passes by itself is tried again.
			result, err := s.rest()
			require.NoError(t, err)
			require.Equal(t, resilience.ScanComplete, result.Status)
			require.Zero(t, result.Orphans.Total)
		})
	}
}

func TestT39OneScanAtATime(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md")
	s := b.begin(resilience.ScanPolicy{})
	_, err := b.store.TakeClaim(t.Context(), store.Claim{Memory: "docs", Kind: store.ScanClaim, WorkflowID: "other", RunID: "other"})
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = s.rest()
	require.NoError(t, err)
}
