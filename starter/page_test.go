package main

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev"
)

// TestTheWorkflowPageShowsTheProgress opens the page of a migration in Temporal's
// web UI, as a person does, and finds there how far it is and who paused it.
// `go test -artifacts` keeps the screenshot.
func TestTheWorkflowPageShowsTheProgress(t *testing.T) {
	t.Parallel()
	page := openBrowser(t)
	server, err := dev.StartTemporal(t.Context(), dev.Options{Dir: t.TempDir(), Ephemeral: true, UI: true})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	b := setup(t)
	b.env["TEMPORAL_ADDRESS"], b.env["TEMPORAL_UI_URL"] = server.Address, server.UI
	b.serve()
	id := b.slow()
	b.arrive(3)
	b.ok("migration", "pause", id, "--reason", "a busy hour")
	var shown struct{ Link string }
	b.result(&shown, "migration", "show", id)

	page.open(strings.TrimSuffix(shown.Link, "history") + "user-metadata")
	page.says(
		"Let chunks of default follow 1 rename", "guide\thandbook", // what was asked for
		"Find the chunks to move and journal them", "Pause, for "+author()+": a busy hour", "Move chunks to their new paths", // what was done
		"Migration "+id+" of memory default", "Phase\tPaused", "of 200 chunks", "by "+author()+" since", "a busy hour",
		"chunks a second, of at most 1", "ETA p50", "ETA p90",
	)
	keep(t, "progress.png", page.screenshot())
	b.ok("migration", "abort", id)
}

// arrive waits until a slow migration has moved so many chunks.
func (b *bundle) arrive(chunks int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		var moved int
		err := b.pool.QueryRow(b.t.Context(), `SELECT count(*) FROM rehome.chunks WHERE path LIKE 'handbook/%'`).Scan(&moved)
		return err == nil && moved >= chunks
	}, 30*time.Second, 20*time.Millisecond)
}

// keep looks whether a screenshot is a picture with something on it, and puts
// it where a person finds it.
func keep(t testing.TB, name string, screenshot []byte) {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(screenshot))
	require.NoError(t, err)
	require.Greater(t, picture.Bounds().Dx(), 1000)
	require.Greater(t, len(screenshot), 20_000, "an empty page is smaller")
	require.NoError(t, os.WriteFile(filepath.Join(t.ArtifactDir(), name), screenshot, 0o600))
}
