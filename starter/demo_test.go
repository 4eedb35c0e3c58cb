package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
)

func TestDemoSaysWhichClaimDoesNotHold(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := &demo{out: &out}
	err := d.claims(claim{"one is one", 1, 1}, claim{"rows left", int64(0), int64(7)}, claim{"not looked at", 1, 1})
	require.EqualError(t, err, "this claim does not hold: rows left; expected 0, got 7")
	require.Equal(t, 1, d.held)
	require.NotContains(t, out.String(), "rows left")
	require.Error(t, d.claims(claim{"same number, other type", int64(1), 1}))
}

func TestDemoBelievesNothingWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), devtest.EmptyDatabase(t))
	require.NoError(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // nothing was written
	d := &demo{out: t.Output(), sql: conn}
	require.Zero(t, d.count(t.Context(), `SELECT count(*) FROM rehome.chunks`))
	require.ErrorContains(t, d.claims(claim{"chunks", int64(0), int64(0)}), `relation "rehome.chunks" does not exist`)
}

func TestDemoReorganisesGoSource(t *testing.T) {
	t.Parallel()
	copied := tree{filepath.Join(t.TempDir(), "src")}
	require.NoError(t, copyGoSource(t.Context(), copied.root))
	before, err := copied.files()
	require.NoError(t, err)
	require.Greater(t, len(before), 5000)
	sizes := map[string]int64{}
	for _, key := range before {
		sizes[key] = copied.size(t, key)
	}

	done, err := copied.reorganise()
	require.NoError(t, err)
	require.Len(t, done.dirs, 2)
	require.Len(t, done.files, movedFiles)
	require.Len(t, done.edited, editedFiles)
	require.Len(t, done.deleted, deletedFiles)
	for _, r := range append(done.dirs, done.files...) {
		require.NoFileExists(t, copied.at(r.Old))
	}
	for _, key := range done.edited {
		require.Greater(t, copied.size(t, key), sizes[key], key)
		delete(sizes, key)
	}
	for _, key := range done.deleted {
		require.NoFileExists(t, copied.at(key))
		delete(sizes, key)
	}
	after, err := copied.files()
	require.NoError(t, err)
	require.Len(t, after, len(before)-deletedFiles)
	moved := map[string]int64{}
	for key, size := range sizes {
		for _, r := range append(done.dirs, done.files...) {
			if key == r.Old || resilience.Under(key, r.Old) {
				key = r.New + strings.TrimPrefix(key, r.Old)
				break
			}
		}
		moved[key] = size
	}
	for key, size := range moved {
		require.Equal(t, size, copied.size(t, key), key)
	}
}

func (t tree) size(test *testing.T, key string) int64 {
	info, err := os.Stat(t.at(key))
	require.NoError(test, err)
	return info.Size()
}

func TestDemoShowsCommandsAsTyped(t *testing.T) {
	t.Parallel()
	require.Equal(t, `migrate --rename a=b (and 2 more --rename)`, typed([]string{"migrate", "--rename", "a=b", "--rename", "c=d", "--rename", "e=f"}))
	require.Equal(t, `memory add x --path 'metadata->source'`, typed([]string{"memory", "add", "x", "--path", "metadata->source"}))
}
