package corpus_test

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rehome/corpus"
)

func TestOpenRootRefusesWhatIsNoDirectory(t *testing.T) {
	t.Parallel()
	dir := tree(t, "file")
	_, err := corpus.OpenRoot(filepath.Join(dir, "file"))
	require.ErrorIs(t, err, unix.ENOTDIR)
	_, err = corpus.OpenRoot(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestSameNoticesThatTheRootIsAnother(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tree(t, "root/file"), "root")
	root := open(t, dir)
	same, err := root.Same()
	require.NoError(t, err)
	require.True(t, same)

	require.NoError(t, os.Rename(dir, dir+".old"))
	_, err = root.Same()
	require.ErrorIs(t, err, fs.ErrNotExist)

	grow(t, dir, "file")
	same, err = root.Same()
	require.NoError(t, err)
	require.False(t, same)

	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.Rename(dir+".old", dir))
	same, err = root.Same()
	require.NoError(t, err)
	require.True(t, same)
}

func TestStatTellsMissingFromUnreachable(t *testing.T) {
	t.Parallel()
	root := open(t, tree(t, "a/file", "a/dir/"))
	for raw, kind := range map[string]corpus.EntryKind{"a/file": corpus.File, "a/dir": corpus.Dir, "a": corpus.Dir} {
		e, err := root.Stat(raw)
		require.NoError(t, err)
		require.Equal(t, kind, e.Kind)
		require.Equal(t, raw, e.Key)
	}
	for raw, want := range map[string]error{"a/none": unix.ENOENT, "none/file": unix.ENOENT, "a/file/x": unix.ENOTDIR, "a/" + strings.Repeat("x", 256): unix.ENAMETOOLONG} {
		_, err := root.Stat(raw)
		require.ErrorIs(t, err, want)
	}
	root.Inject(func(string, string) error { return unix.EACCES })
	_, err := root.Stat("a/file")
	require.ErrorIs(t, err, unix.EACCES)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

func TestReadTextReturnsTheWholeFile(t *testing.T) {
	t.Parallel()
	dir := tree(t, "a/b.md", "empty")
	text := strings.Repeat("ünïcödé\r\n", 200_000)
	at := time.Date(2020, 1, 2, 3, 4, 5, 6789, time.UTC)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/b.md"), []byte(text), 0o644))
	require.NoError(t, os.Chtimes(filepath.Join(dir, "a/b.md"), at, at))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644))
	root := open(t, dir)
	got, err := root.ReadText("a/b.md", 0)
	require.NoError(t, err)
	require.Equal(t, text, got.Content)
	require.Equal(t, sha256.Sum256([]byte(text)), got.Hash)
	require.Equal(t, int64(len(text)), got.Size)
	require.True(t, got.ModTime.Equal(at.Truncate(time.Microsecond)))
	got, err = root.ReadText("empty", 0)
	require.NoError(t, err)
	require.Empty(t, got.Content)
}

func TestReadTextSkipsWithAReason(t *testing.T) {
	t.Parallel()
	dir := tree(t, "dir/", "readable")
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	write("binary", "ELF\x00")
	write("late", strings.Repeat("text ", 10_000)+"\x00")
	write("latin", "caf\xe9")
	write("cut", "caf\xc3")
	write("large", strings.Repeat("x", 101))
	write("fits", strings.Repeat("x", 100))
	require.NoError(t, os.Truncate(filepath.Join(dir, "binary"), 50))
	require.NoError(t, os.Symlink("fits", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink(".", filepath.Join(dir, "loop")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	root := open(t, dir)
	for name, reason := range map[string]corpus.Reason{
		"binary": corpus.Binary, "latin": corpus.InvalidUTF8, "cut": corpus.InvalidUTF8, "large": corpus.TooLarge,
		"link": corpus.NotRegular, "fifo": corpus.NotRegular, "dir": corpus.NotRegular, "none": corpus.Vanished, "loop/fits": corpus.Unreadable,
	} {
		_, err := root.ReadText(name, 100)
		var skip *corpus.Skip
		require.ErrorAs(t, err, &skip, name)
		require.Equal(t, reason, skip.Reason, name)
		require.ErrorContains(t, err, name)
	}
	_, err := root.ReadText("fits", 100)
	require.NoError(t, err)
	_, err = root.ReadText("late", 0)
	require.ErrorContains(t, err, "binary", "a NUL anywhere: Postgres keeps none in a text")

	root.Inject(func(call, name string) error {
		if name == "readable" {
			return unix.EACCES
		}
		return nil
	})
	_, err = root.ReadText("readable", 100)
	require.ErrorContains(t, err, "unreadable")
	require.ErrorIs(t, err, fs.ErrPermission)
}

// Times that no calendar holds end up in Postgres and in JSON.
func TestTimesOutOfRangeAreTakenForNone(t *testing.T) {
	t.Parallel()
	dir := tree(t, "file")
	for _, seconds := range []int64{1 << 40, -(1 << 37)} {
		times := []unix.Timespec{{Sec: seconds}, {Sec: seconds}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "file"), times, 0); err != nil {
			continue // a file system that cannot hold it, either
		}
		e, err := open(t, dir).Stat("file")
		require.NoError(t, err)
		require.True(t, e.ModTime.Year() >= 1 && e.ModTime.Year() <= 9999)
	}
}
