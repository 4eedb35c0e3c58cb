package workflows_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
	"rehome/workflows"
)

// root is the directory of the memory docs.
func (in *installation) root() string {
	in.Helper()
	m, err := in.store.Memory(in.Context(), "docs")
	require.NoError(in, err)
	return m.Root
}

// write makes files in the root and gives each of them two chunks.
func (in *installation) write(paths ...string) {
	in.Helper()
	for _, path := range paths {
		in.touch(path)
		in.fill(path, 2)
	}
}

// touch makes a file in the root.
func (in *installation) touch(path string) {
	in.Helper()
	full := filepath.Join(in.root(), path)
	require.NoError(in, os.MkdirAll(filepath.Dir(full), 0o755))
	require.NoError(in, os.WriteFile(full, []byte("text of "+path), 0o644))
}

func (in *installation) remove(path string) {
	in.Helper()
	require.NoError(in, os.RemoveAll(filepath.Join(in.root(), path)))
}

func (in *installation) startScan(input workflows.ScanInput) client.WorkflowRun {
	in.Helper()
	input.Origin, input.Memory, input.Tuning = activities.Origin{Installation: in.id}, "docs", quick()
	return in.start(workflows.ScanID(in.id, "docs"), workflows.ScanName, input)
}

// scan runs a scan that succeeds.
func (in *installation) scan() resilience.ScanResult {
	in.Helper()
	var result resilience.ScanResult
	require.NoError(in, in.startScan(workflows.ScanInput{}).Get(in.Context(), &result))
	return result
}

func (in *installation) startCleanup(input workflows.CleanupInput) client.WorkflowRun {
	in.Helper()
	input.Origin, input.Memory, input.Tuning = activities.Origin{Installation: in.id}, "docs", quick()
	return in.start(workflows.CleanupID(in.id, "docs"), workflows.CleanupName, input)
}

func (in *installation) cleanup(input workflows.CleanupInput) resilience.CleanupResult {
	in.Helper()
	var result resilience.CleanupResult
	require.NoError(in, in.startCleanup(input).Get(in.Context(), &result))
	return result
}

func TestScanCleanupRestore(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.write("a.md", "guide/b.md", "guide/c.md", "guide/deep/d.md")
	start := in.checksum()

	first := in.scan()
	require.Equal(t, resilience.ScanComplete, first.Status)
	require.EqualValues(t, 4, first.Files.New)
	require.Zero(t, first.Orphans.Total)
	require.EqualValues(t, 8, first.Classes[resilience.ClassAlive].Chunks)

	in.remove("guide/c.md")
	second := in.scan()
	require.EqualValues(t, 2, second.Orphans.Total)
	require.EqualValues(t, 1, second.Files.Missing)
	orphans, err := in.store.Orphans(t.Context(), "docs", 10)
	require.NoError(t, err)
	require.Len(t, orphans, 2)
	require.Equal(t, "guide/c.md", orphans[0].FilePath)
	require.Contains(t, orphans[0].Reason, "read the directory guide to its end")
	require.Positive(t, orphans[0].Priority)
	require.False(t, orphans[0].Confirmed)

	require.Zero(t, in.cleanup(workflows.CleanupInput{WaiveGrace: true}).TotalOrphans, "one scan is not enough, whatever is waived")
	third := in.scan()
	require.EqualValues(t, 2, third.Orphans.Total)
	require.Zero(t, in.cleanup(workflows.CleanupInput{}).TotalOrphans, "grace is not over")

	rehearsal := in.cleanup(workflows.CleanupInput{WaiveGrace: true, DryRun: true})
	require.EqualValues(t, 2, rehearsal.CleanedOrphans)
	require.Equal(t, start, in.checksum(), "a dry run takes nothing")
	cleaned := in.cleanup(workflows.CleanupInput{WaiveGrace: true})
	require.EqualValues(t, 2, cleaned.TotalOrphans)
	require.EqualValues(t, 2, cleaned.CleanedOrphans)
	require.Equal(t, rehearsal.BytesFreed, cleaned.BytesFreed)
	require.Positive(t, cleaned.BytesFreed)
	require.Zero(t, in.count("guide/c.md"))

	// T58: what comes back is what it was, and no orphan, though its file is gone.
	back, err := in.store.Restore(t.Context(), "docs", store.QuarantineFilter{Run: cleaned.RunID})
	require.NoError(t, err)
	require.EqualValues(t, 2, back.Restored)
	require.Equal(t, start, in.checksum())
	fourth := in.scan()
	require.Zero(t, fourth.Orphans.Total)
	require.EqualValues(t, 2, fourth.Classes[resilience.ClassHeld].Chunks)
	latest, err := in.store.LatestScan(t.Context(), "docs")
	require.NoError(t, err)
	require.Equal(t, fourth, latest)
}
