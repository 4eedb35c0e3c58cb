package corpus_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"rehome/corpus"
)

// tree makes files, whose content is their path, below a new directory; a name
// that ends with a slash is a directory.
func tree(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	grow(t, dir, names...)
	return dir
}

func grow(t require.TestingT, dir string, names ...string) {
	for _, name := range names {
		at := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(at, 0o755))
			continue
		}
		require.NoError(t, os.WriteFile(at, []byte(name), 0o644))
	}
}

func open(t testing.TB, dir string) *corpus.Root {
	t.Helper()
	root, err := corpus.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return root
}

// walk collects what a walk visits.
func walk(t require.TestingT, root *corpus.Root, after string) []corpus.Listing {
	var seen []corpus.Listing
	require.NoError(t, root.Walk(context.Background(), after, func(l corpus.Listing) error {
		seen = append(seen, l)
		return nil
	}))
	return seen
}

func dirs(listings []corpus.Listing) []string {
	keys := make([]string, len(listings))
	for i, l := range listings {
		keys[i] = l.Dir
	}
	return keys
}

func keys(entries []corpus.Entry) []string {
	keys := make([]string, len(entries))
	for i, e := range entries {
		keys[i] = e.Key
	}
	return keys
}

func TestWalkVisitsDirectoriesInOrder(t *testing.T) {
	t.Parallel()
	root := open(t, tree(t, "b.txt", "a/x/deep.md", "a/y.md", "a-b/z", "a.b/", "é/1"))
	seen := walk(t, root, "")
	require.Equal(t, []string{".", "a", "a/x", "a-b", "a.b", "é"}, dirs(seen))
	require.Equal(t, []string{"a", "a-b", "a.b", "b.txt", "é"}, keys(seen[0].Entries))
	require.Equal(t, []string{"a/x", "a/y.md"}, keys(seen[1].Entries))
	require.Empty(t, seen[4].Entries)
	file := seen[1].Entries[1]
	require.Equal(t, corpus.File, file.Kind)
	require.Equal(t, int64(len("a/y.md")), file.Size)
	info, err := os.Stat(filepath.Join(root.Path(), "a/y.md"))
	require.NoError(t, err)
	require.WithinDuration(t, info.ModTime(), file.ModTime, 1000)
}

// A walk may be cut anywhere and go on there: nothing is visited twice, nothing
// is left out. And it sees what filepath.WalkDir sees.
func TestWalkProperties(t *testing.T) {
	t.Parallel()
	name := rapid.SampledFrom([]string{"a", "b", "a-", "a.b", "e\u0301", "ü", "z z", "A"})
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp("", "corpus-walk-")
		require.NoError(r, err)
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
		for _, parts := range rapid.SliceOfN(rapid.SliceOfN(name, 1, 5), 0, 12).Draw(r, "paths") {
			// One may stand where the other is to be: then there is one less.
			_ = os.MkdirAll(filepath.Join(dir, path.Join(parts[:len(parts)-1]...)), 0o755)
			_ = os.WriteFile(filepath.Join(dir, path.Join(parts...)), nil, 0o644)
		}
		root, err := corpus.OpenRoot(dir)
		require.NoError(r, err)
		defer root.Close() //nolint:errcheck // read only
		whole := walk(r, root, "")
		for i, last := range whole {
			require.Equal(r, whole[i+1:], append([]corpus.Listing{}, walk(r, root, last.Dir)...), "after %s", last.Dir)
		}
		var ours, theirs []string
		for _, l := range whole {
			require.NoError(r, l.Err)
			for _, e := range l.Entries {
				ours = append(ours, e.Raw)
			}
		}
		require.NoError(r, filepath.WalkDir(dir, func(at string, _ fs.DirEntry, err error) error {
			if at != dir {
				theirs = append(theirs, strings.TrimPrefix(at, dir+"/"))
			}
			return err
		}))
		require.ElementsMatch(r, theirs, ours)
	})
}

// Whatever system call fails, and however: what a listing without an error
// shows is what is there, and what is left out lies below one with an error.
func TestWalkSaysWhatItDidNotSee(t *testing.T) {
	t.Parallel()
	dir := tree(t, "a/1", "a/b/2", "a/b/c/3", "a/d/", "e/4", "e/f/5", "g")
	faultless := map[string][]string{}
	for _, l := range walk(t, open(t, dir), "") {
		faultless[l.Dir] = keys(l.Entries)
	}
	for _, errno := range []error{unix.EACCES, unix.EIO, unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ESTALE, unix.EMFILE} {
		for n, failed := 1, true; failed; n++ {
			failed = false
			root := open(t, dir)
			calls := 0
			root.Inject(func(call, name string) error {
				if calls++; calls == n {
					failed = true
					return errno
				}
				return nil
			})
			checkVisible(t, faultless, walk(t, root, ""))
		}
	}
}

func checkVisible(t *testing.T, faultless map[string][]string, seen []corpus.Listing) {
	t.Helper()
	visible := map[string]corpus.Listing{}
	for _, l := range seen {
		visible[l.Dir] = l
		if l.Err == nil {
			require.Equal(t, faultless[l.Dir], keys(l.Entries))
		} else {
			require.Empty(t, l.Entries)
		}
	}
	for dir := range faultless {
		if _, ok := visible[dir]; ok {
			continue
		}
		above := path.Dir(dir)
		for _, known := visible[above]; !known && above != "."; _, known = visible[above] {
			above = path.Dir(above)
		}
		l := visible[above]
		unseen := slices.ContainsFunc(l.Entries, func(e corpus.Entry) bool { return e.Kind == corpus.Other })
		require.True(t, l.Err != nil || unseen, "%s is left out and %s does not say so", dir, above)
	}
}

func TestWalkGoesOnAfterAnInterruptedCall(t *testing.T) {
	t.Parallel()
	root := open(t, tree(t, "a/1", "b"))
	calls := 0
	root.Inject(func(call, name string) error {
		if calls++; calls%2 == 1 && call != "read" {
			return unix.EINTR
		}
		return nil
	})
	require.Equal(t, []string{".", "a"}, dirs(walk(t, root, "")))
}

func TestWalkStopsWhenTold(t *testing.T) {
	t.Parallel()
	root := open(t, tree(t, "a/1", "b/2"))
	enough := errors.New("enough")
	require.ErrorIs(t, root.Walk(t.Context(), "", func(corpus.Listing) error { return enough }), enough)
	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, root.Walk(ctx, "", func(corpus.Listing) error { cancel(); return nil }), context.Canceled)
}

// A directory on the way to where a walk goes on must be readable still.
func TestWalkReportsALostWayBack(t *testing.T) {
	t.Parallel()
	root := open(t, tree(t, "a/b/1", "a/c/2", "d/3"))
	root.Inject(func(call, name string) error {
		if call == "read" && path.Base(name) == "a" {
			return unix.EIO
		}
		return nil
	})
	seen := walk(t, root, "a/b")
	require.Equal(t, []string{"a", "d"}, dirs(seen))
	require.ErrorIs(t, seen[0].Err, unix.EIO)
}

func TestWalkNeverFollowsLinks(t *testing.T) {
	t.Parallel()
	outside := tree(t, "secret/file")
	dir := tree(t, "real/file")
	for name, target := range map[string]string{
		"loop": "loop", "up": "..", "here": ".", "inside": "real", "abroad": outside, "real/back": "../real", "dangling": "nowhere", "file": "real/file",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	root := open(t, dir)
	seen := walk(t, root, "")
	require.Equal(t, []string{".", "real"}, dirs(seen))
	for _, e := range slices.Concat(seen[0].Entries, seen[1].Entries) {
		if e.Key != "real" && e.Key != "real/file" {
			require.Equal(t, corpus.Symlink, e.Kind, e.Key)
		}
	}
	_, err := root.Stat("inside/file")
	require.ErrorIs(t, err, unix.ENOTDIR, "there, but not to be reached by this name")
	linked, err := root.Stat("file")
	require.NoError(t, err)
	require.Equal(t, corpus.Symlink, linked.Kind)
}

// A directory that became a link between two looks is not read as another.
func TestWalkRefusesADirectoryThatBecameALink(t *testing.T) {
	t.Parallel()
	dir := tree(t, "a/1", "b/2")
	root := open(t, dir)
	var seen []corpus.Listing
	require.NoError(t, root.Walk(t.Context(), "", func(l corpus.Listing) error {
		if l.Dir == "." {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "b")))
			require.NoError(t, os.Symlink("a", filepath.Join(dir, "b")))
		}
		seen = append(seen, l)
		return nil
	}))
	require.Equal(t, []string{".", "a", "b"}, dirs(seen))
	require.Error(t, seen[2].Err)
	require.NotErrorIs(t, seen[2].Err, fs.ErrNotExist)
}

func TestWalkMarksNamesThatCannotBeKeys(t *testing.T) {
	t.Parallel()
	dir := tree(t, "good")
	for _, raw := range []string{"latin\xe9", "line\nbreak", "bell\a", "dir\xff/"} {
		grow(t, dir, raw)
	}
	seen := walk(t, open(t, dir), "")
	require.Equal(t, []string{"."}, dirs(seen), "below a name without key nothing has one")
	require.Equal(t, []string{"", "", "", "", "good"}, keys(seen[0].Entries))
	for _, e := range seen[0].Entries {
		require.Equal(t, e.Key == "", e.Unkeyed)
		require.False(t, e.Twin)
	}
}

func TestWalkMarksTwins(t *testing.T) {
	t.Parallel()
	const composed, decomposed = "\u00e9", "e\u0301"
	dir := tree(t, composed+".md", decomposed+".md", "one.md", "sub/"+composed+"/1", "sub/"+decomposed+"/2", "sub/z/3")
	if names, err := os.ReadDir(dir); err != nil || len(names) < 4 {
		t.Skip("this file system takes the two spellings for one")
	}
	seen := walk(t, open(t, dir), "")
	require.Equal(t, []string{".", "sub", "sub/z", "sub/" + composed}, dirs(seen))
	for _, e := range seen[0].Entries {
		require.Equal(t, e.Key == composed+".md", e.Twin, e.Raw)
	}
	require.ErrorIs(t, seen[3].Err, corpus.ErrTwins)
	require.Equal(t, []string{"sub/" + composed}, dirs(walk(t, open(t, dir), "sub/z")))
	require.Empty(t, walk(t, open(t, dir), "sub/"+composed))
}

func TestWalkKeepsToItsFileSystem(t *testing.T) {
	t.Parallel()
	root := open(t, tree(t, "a/1"))
	root.Remount()
	seen := walk(t, root, "")
	require.Len(t, seen, 1)
	require.ErrorIs(t, seen[0].Err, corpus.ErrOtherDevice)
}

func TestWalkLeavesVersionControlAlone(t *testing.T) {
	t.Parallel()
	seen := walk(t, open(t, tree(t, ".git/config", "sub/.git", ".gitignore", ".rehome/state", "src/.hg/x")), "")
	require.Equal(t, []string{".", "src", "sub"}, dirs(seen))
	for _, l := range seen {
		for _, e := range l.Entries {
			base := path.Base(e.Key)
			require.Equal(t, base == ".git" || base == ".rehome" || base == ".hg", e.Kind == corpus.Excluded, e.Key)
		}
	}
}

func TestWalkGoesDeepAndWide(t *testing.T) {
	t.Parallel()
	dir := tree(t, strings.Repeat("seven77/", 300))
	for i := range 4200 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file"+strings.Repeat("i", i%200)+string(rune('a'+i/200))), nil, 0o644))
	}
	seen := walk(t, open(t, dir), "")
	require.Len(t, seen[0].Entries, 4201)
	require.True(t, slices.IsSortedFunc(seen[0].Entries, func(a, b corpus.Entry) int { return strings.Compare(a.Key, b.Key) }))
	deepest := seen[len(seen)-1]
	require.Equal(t, 256, strings.Count(deepest.Dir, "seven77"), "as deep as a key can be long")
	require.True(t, deepest.Entries[0].Unkeyed)
}
