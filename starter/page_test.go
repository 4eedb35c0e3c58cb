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
	page, b := openBrowser(t), setupWithUI(t)
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

// TestTheUpdateFormSteersAMigration fills in the form of Temporal's web UI by mouse,
// as a person does.
func TestTheUpdateFormSteersAMigration(t *testing.T) {
	t.Parallel()
	page, b := openBrowser(t), setupWithUI(t)
	id, _ := b.planned("--rate", "1", "--batch-size", "1")
	var shown struct {
		Link string
		Hash string `json:"plan_hash"`
	}
	b.result(&shown, "migration", "show", id)
	page.open(shown.Link)
	page.fill("approve", `{"plan_hash": "`+shown.Hash+`", "author": "ana"}`)
	page.send()
	b.await(id, "executing")
	page.fill("pause", `{"author": "ana", "reason": "a busy hour"}`)
	page.send()
	b.await(id, "paused")
	require.Contains(t, b.ok("migration", "show", id).out, "paused by ana: a busy hour")

	// A person who is refused reads why, in the form.
	page.fill("pause", `{"author": "ben"}`)
	page.click(updateForm+" [type=submit]", "Submit")
	page.shows("document.querySelector('" + updateForm + " [role=alert]')?.innerText.includes('is paused already')")
	keep(t, "refused.png", page.screenshot())
	page.click(updateForm+" button", "Cancel")

	page.fill("resume", `{"author": "ben"}`)
	page.send()
	b.await(id, "executing")
	page.fill("throttle", `{"author": "ana", "rate": 0, "batch_size": 1000}`)
	page.send()
	b.await(id, "completed")
	told := b.ok("migration", "show", id).out
	for _, event := range []string{"approved by ana: " + shown.Hash, "paused by ana: a busy hour", "resumed by ben", "throttled by ana"} {
		require.Contains(t, told, event)
	}
}

// setupWithUI is a bundle with a worker and a Temporal of its own, which has the web UI.
func setupWithUI(t testing.TB) *bundle {
	t.Helper()
	server, err := dev.StartTemporal(t.Context(), dev.Options{Dir: t.TempDir(), Ephemeral: true, UI: true})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	b := setup(t)
	b.env["TEMPORAL_ADDRESS"], b.env["TEMPORAL_UI_URL"] = server.Address, server.UI
	return b.serve()
}

// updateForm is the dialog in which the web UI asks for an update, while it is open.
const updateForm = "#update-confirmation-modal[open]"

// fill opens the form for an update on the page of a workflow, and fills it in.
func (b *browser) fill(update, input string) {
	b.t.Helper()
	b.choose("More Actions", "Send an Update", updateForm)
	b.click(updateForm+" [data-testid=update-select-button]", "")
	b.click(updateForm+" [role=option] span", update)
	b.shows("document.querySelector('" + updateForm + " [data-testid=update-select]')?.value === '" + update + "'")
	b.click(updateForm+" [contenteditable=true]", "")
	b.write(input)
	b.shows("document.querySelector('" + updateForm + " [contenteditable=true]')?.innerText === '" + input + "'")
	// Leaving the editor lays the JSON out anew. By mouse, the button would move away
	// between the press and the release, and the click be none.
	b.shows("document.activeElement.blur() === undefined")
}

// send submits the form and waits until it is gone: the update was accepted.
func (b *browser) send() {
	b.t.Helper()
	b.click(updateForm+" [type=submit]", "Submit")
	b.shows("!document.querySelector('" + updateForm + "')")
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
