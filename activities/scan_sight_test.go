package activities_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rehome/corpus"
	"rehome/resilience"
	"rehome/store"
)

func TestT6RootThatVanishesBetweenSlicesLeavesTheRestUnknown(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a/1.md", "b/2.md", "c/3.md")
	b.scan()
	s := b.begin(resilience.ScanPolicy{})
	s.in.Slice.Time = 1 // each directory is recorded by itself
	for range 2 {       // the root and a
		require.NoError(t, s.walk())
	}
	require.NoError(t, os.Rename(b.root, b.root+".old"))
	require.NoError(t, os.Mkdir(b.root, 0o755))
	s.in.Slice.Time = 0
	require.NoError(t, s.walk())
	require.NoError(t, os.Remove(b.root))
	require.NoError(t, os.Rename(b.root+".old", b.root))
	require.NoError(t, s.judge())
	require.NoError(t, s.recheck())
	result, err := s.end(nil)
	require.NoError(t, err)
	require.Equal(t, resilience.ScanIncomplete, result.Status)
	require.Zero(t, result.Orphans.Total)
	require.EqualValues(t, 2, result.Classes[resilience.ClassUnknown].Chunks, "b and c were not read")
}

// unreadable makes a directory fail to be read.
func unreadable(dir string, err error) func(int, *corpus.Listing) {
	return func(_ int, l *corpus.Listing) {
		if l.Dir == dir {
			l.Entries, l.Err = nil, err
		}
	}
}

func TestT8T11UnreadableDirectoryIsUnknownAndItsSiblingsAreJudged(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("in/a.md", "in/b.md", "in/deep/c.md", "out/d.md", "e.md", "f.md")
	b.scan()
	b.remove("in/a.md")
	b.remove("out/d.md")
	for _, errno := range []unix.Errno{
		unix.EACCES, unix.EPERM, unix.EIO, unix.ESTALE, unix.ENOTCONN, unix.ETIMEDOUT, unix.ELOOP,
		unix.ENAMETOOLONG, unix.EMFILE, unix.ENFILE, unix.EINTR, unix.ENOTDIR, unix.ENOENT,
	} {
		b.hooks.listing = unreadable("in", &fs.PathError{Op: "open", Path: "in", Err: errno})
		result := b.scan()
		require.Equal(t, resilience.ScanIncomplete, result.Status)
		require.Contains(t, result.Reason, "in: open in: "+errno.Error())
		require.Equal(t, []string{"out/d.md"}, b.orphans(), errno.Error())
		require.EqualValues(t, 2, result.Classes[resilience.ClassUnknown].Chunks, "what was seen below is alive: %v", errno)
	}
	b.hooks.listing = nil
	require.Equal(t, resilience.ScanComplete, b.scan().Status)
	require.ElementsMatch(t, []string{"in/a.md", "out/d.md"}, b.orphans())

	// T46: what cannot be looked at now keeps what was known of it, and counts no scan.
	b.hooks.listing = unreadable("in", unix.EIO)
	b.scan()
	orphans, err := b.store.Orphans(t.Context(), "docs", 10)
	require.NoError(t, err)
	scans := map[string]int{}
	for _, o := range orphans {
		scans[o.FilePath] = o.MissingScans
	}
	require.Equal(t, map[string]int{"in/a.md": 1, "out/d.md": 15}, scans)
}

func TestT7NestedMountThatIsAbsentLeavesItsSourcesUnknown(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("keep.md", "other.md")
	b.file("ext/.keep")
	b.remove("ext/.keep")
	b.chunk("ext/a.md", "on the other file system")
	b.chunk("ext/deep/b.md", "on the other file system")
	b.hooks.listing = unreadable("ext", &fs.PathError{Op: "read directory", Path: "ext", Err: corpus.ErrOtherDevice})
	require.Equal(t, resilience.ScanIncomplete, b.scan().Status)
	b.hooks.listing = nil // unmounted: the mount point is a directory with nothing in it
	for range 2 {
		require.EqualValues(t, 2, b.scan().Classes[resilience.ClassUnknown].Chunks)
	}
	b.remove("ext")
	require.EqualValues(t, 2, b.scan().Classes[resilience.ClassUnknown].Chunks)
	require.Empty(t, b.orphans())
	result, err := b.begin(resilience.ScanPolicy{AcceptShrinkage: true}).rest()
	require.NoError(t, err)
	require.EqualValues(t, 2, result.Orphans.Total)
	require.EqualValues(t, 2, b.scan().Orphans.Total, "what a person accepted stays accepted")
}

func TestT9NameThatCannotBeLookedAtIsAlive(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("in/a.md", "b.md")
	b.hooks.listing = func(_ int, l *corpus.Listing) {
		for i := range l.Entries {
			l.Entries[i].Kind = corpus.Other
			if l.Entries[i].Key == "in" {
				l.Entries[i].Kind = corpus.Dir
			}
		}
	}
	require.EqualValues(t, 2, b.begin(resilience.ScanPolicy{}).classes()[resilience.ClassAlive].Chunks)
}

// classes runs the rest of a scan and returns what it made of the chunks.
func (s *scanning) classes() map[resilience.Class]resilience.Tally {
	s.Helper()
	result, err := s.rest()
	require.NoError(s, err)
	return result.Classes
}

func TestT11ErrorsOfTheSecondLookMeanUnknown(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md", "c.md")
	b.scan()
	b.remove("a.md")
	for _, errno := range []unix.Errno{
		unix.EACCES, unix.EPERM, unix.EIO, unix.ESTALE, unix.ENOTCONN, unix.ETIMEDOUT, unix.ELOOP,
		unix.ENAMETOOLONG, unix.EMFILE, unix.ENFILE, unix.EINTR, unix.ENOTDIR,
	} {
		b.hooks.stat = func(int, string) error { return &fs.PathError{Op: "lstat", Path: "a.md", Err: errno} }
		require.EqualValues(t, 1, b.begin(resilience.ScanPolicy{}).classes()[resilience.ClassUnknown].Chunks, errno.Error())
		require.Empty(t, b.orphans(), errno.Error())
	}
	b.hooks.stat = nil
	require.EqualValues(t, 1, b.scan().Orphans.Total)
}

func TestT20RootThroughALinkIsTheSameTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	require.NoError(t, os.Symlink("real", filepath.Join(dir, "link")))
	b := newScanBundleOf(t, resilience.Memory{Name: "docs", Root: filepath.Join(dir, "link"), Builtin: true, Mapping: resilience.BuiltinMapping("docs")})
	b.source("a.md", "b.md")
	require.EqualValues(t, 2, b.scan().Classes[resilience.ClassAlive].Chunks)
}

func TestT24T26LinksAreNeverFollowed(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("dir/a.md", "dir/b.md", "link.md", "keep.md")
	b.scan()
	b.remove("link.md")
	require.NoError(t, os.Symlink("nowhere", filepath.Join(b.root, "link.md")))
	s := b.begin(resilience.ScanPolicy{})
	b.remove("dir/a.md")
	require.NoError(t, s.walk())
	require.NoError(t, s.judge())
	// Between the walk and the second look the directory becomes a link to one without the files.
	b.rename("dir", "dir.old")
	require.NoError(t, os.Mkdir(filepath.Join(b.root, "empty"), 0o755))
	require.NoError(t, os.Symlink("empty", filepath.Join(b.root, "dir")))
	require.NoError(t, s.recheck())
	result, err := s.end(nil)
	require.NoError(t, err)
	require.Empty(t, b.orphans())
	require.EqualValues(t, 1, result.Classes[resilience.ClassUnknown].Chunks)
	require.EqualValues(t, 3, result.Classes[resilience.ClassAlive].Chunks, "a broken link is a name that is there")

	result = b.scan()
	require.EqualValues(t, 2, result.Classes[resilience.ClassUnknown].Chunks, "what lies behind a link")
}

func TestT28ChangeOfTypeIsUnknown(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("was-file", "was-dir/a.md", "was-dir/b.md", "keep.md")
	b.scan()
	b.remove("was-file")
	b.file("was-file/x.md")
	b.remove("was-dir")
	b.file("was-dir")
	require.EqualValues(t, 3, b.begin(resilience.ScanPolicy{}).classes()[resilience.ClassUnknown].Chunks)
	require.Empty(t, b.orphans())
}

func TestT29T30FileThatComesBackIsAliveAgain(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md", "c.md")
	b.scan()
	b.remove("a.md")
	b.scan()
	require.Equal(t, []string{"a.md"}, b.orphans())
	require.NoError(t, os.WriteFile(filepath.Join(b.root, "a.md"), []byte("other text"), 0o644))
	result := b.scan()
	require.Empty(t, b.orphans())
	require.EqualValues(t, 1, result.Files.New)
	b.remove("a.md")
	b.scan()
	orphan, err := b.store.Orphans(t.Context(), "docs", 10)
	require.NoError(t, err)
	require.Equal(t, 1, orphan[0].MissingScans, "a sighting begins the count anew")
}

func TestT32T33MovesDuringTheWalk(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a/keep.md", "z/file.md", "y/dir/one.md", "y/dir/two.md")
	b.scan()
	b.chunk("a/file.md", "of the place it goes to")
	b.chunk("a/dir/one.md", "of the place it goes to")
	b.hooks.listing = func(_ int, l *corpus.Listing) {
		if l.Dir == "a" { // read already, and not to be read again
			b.rename("z/file.md", "a/file.md")
			b.rename("y/dir", "a/dir")
		}
	}
	s := b.begin(resilience.ScanPolicy{})
	result, err := s.rest()
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"z/file.md", "y/dir/one.md", "y/dir/two.md"}, b.orphans(), "they are gone from there; the second scan and the rename will tell")
	require.EqualValues(t, 3, result.Classes[resilience.ClassAlive].Chunks, "the second look finds what the walk could not see")
}

func TestT34ChunksThatAppearDuringTheScanAreNoCandidates(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md")
	b.scan()
	b.remove("a.md")
	s := b.begin(resilience.ScanPolicy{})
	b.chunk("a.md", "written after the scan began, for a file that is gone")
	b.chunk("new.md", "for a file the scan never heard of")
	result, err := s.rest()
	require.NoError(t, err)
	require.EqualValues(t, 1, result.Orphans.Total)
	require.EqualValues(t, 1, result.Classes[resilience.ClassTooNew].Chunks)
}

func TestT50ChunksWithoutAPathAndNamesThatAreNoKeys(t *testing.T) {
	t.Parallel()
	b := newMappedBundle(t, "/srv/docs/")
	require.NoError(t, os.WriteFile(filepath.Join(b.root, "bad\xffname"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(b.root, "line\nbreak"), nil, 0o644))
	for _, name := range []string{"a.md", "b.md", "c.md"} {
		b.file(name)
		b.row("/srv/docs/" + name)
	}
	b.sql(`INSERT INTO public.docs (body, source, meta) VALUES ('none', NULL, NULL), ('none', '', '{"loc": {"source": ""}}')`)
	for _, path := range []string{"http://example.org/a.md", "s3://bucket/a.md", "/elsewhere/a.md", "/srv/docs2/a.md", "../a.md", "x//y.md", "manual"} {
		b.row(path) // T66
	}
	b.row("/srv/docs/gone.md")
	b.sql(`INSERT INTO public.docs (body, source, meta) VALUES ('they disagree', 'a.md', '{"loc": {"source": "gone2.md"}}')`)
	result := b.scan()
	require.EqualValues(t, 8, result.Classes[resilience.ClassUnowned].Chunks)
	require.EqualValues(t, 3, result.Classes[resilience.ClassAlive].Chunks)
	require.EqualValues(t, 1, result.Classes[resilience.ClassUnknown].Chunks)
	require.ElementsMatch(t, []string{"gone.md", "manual"}, b.orphans())
	var total int64
	for _, n := range result.Classes {
		total += n.Chunks
	}
	require.EqualValues(t, 14, total, "classes sum to the memory")
}

func TestHeldAndInFlightChunksAreNoOrphans(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md", "old/c.md", "keep.md")
	b.scan()
	b.remove("a.md")
	b.remove("b.md")
	b.remove("old")
	b.scan()
	require.Len(t, b.orphans(), 3)
	var id string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT id::text FROM rehome.chunks WHERE path = 'a.md'`).Scan(&id))
	require.NoError(t, b.store.Hold(t.Context(), "docs", id, "still needed"))
	require.NoError(t, b.store.CreatePlan(t.Context(), store.NewPlan{
		ID: "m1", Memory: "docs", Strategy: resilience.Batch,
		Renames: []resilience.RenameRule{{Old: "old", New: "new"}}, WorkflowID: "w", RunID: "r", Rollback: []string{},
	}))
	classes := b.begin(resilience.ScanPolicy{}).classes()
	require.EqualValues(t, 1, classes[resilience.ClassHeld].Chunks)
	require.EqualValues(t, 1, classes[resilience.ClassInFlight].Chunks)
	require.Equal(t, []string{"b.md"}, b.orphans())
	require.NoError(t, b.store.Unhold(t.Context(), "docs", id))
	require.ErrorIs(t, b.store.Unhold(t.Context(), "docs", id), store.ErrNotFound)
	require.ErrorIs(t, b.store.Hold(t.Context(), "docs", "999999", "x"), store.ErrNotFound)
}

func TestScanKeepsTheCatalogueAndEndsAliases(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "b.md")
	first := b.scan()
	require.EqualValues(t, 2, first.Files.New)
	b.rename("a.md", "c.md")
	require.NoError(t, os.WriteFile(filepath.Join(b.root, "b.md"), []byte(strings.Repeat("longer", 9)), 0o644))
	second := b.scan()
	require.Equal(t, resilience.FileCounts{Seen: 2, New: 1, Changed: 1, Missing: 1}, second.Files)
	_, err := b.store.AddAlias(t.Context(), "docs", "a.md", "c.md", nil)
	require.NoError(t, err)
	resolved, err := b.store.Resolve(t.Context(), "docs", "a.md")
	require.NoError(t, err)
	require.Equal(t, "c.md", resolved.CurrentPath)
	b.file("a.md")
	third := b.scan()
	require.EqualValues(t, 1, third.AliasesEnded)
	resolved, err = b.store.Resolve(t.Context(), "docs", "a.md")
	require.NoError(t, err)
	require.Equal(t, "a.md", resolved.CurrentPath)
}
