package workflows_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// startIngest starts an ingest of a memory under the id that the command line gives it.
func (in *installation) startIngest(memory string) client.WorkflowRun {
	in.Helper()
	return in.start(workflows.IngestID(in.id, memory), workflows.IngestName, workflows.IngestInput{
		Origin: activities.Origin{Installation: in.id}, Memory: memory, Tuning: quick(),
	})
}

func (in *installation) claims() (n int) {
	in.Helper()
	require.NoError(in, in.pool.QueryRow(in.Context(), `SELECT count(*) FROM rehome.claims`).Scan(&n))
	return n
}

func TestIngestReadsTheRoot(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.touch("a.md")
	in.touch("sub/b.md")
	in.touch("sub/c.md")
	run := in.startIngest("docs")
	var result workflows.IngestResult
	require.Empty(t, ends(t, run, &result))
	require.Equal(t, resilience.IngestedFiles{Seen: 3, New: 3}, result.Files)
	require.Equal(t, resilience.IngestedChunks{New: 3}, result.Chunks)
	require.Equal(t, 1, in.count("a.md"))
	require.Equal(t, 2, in.count("sub"))
	require.Zero(t, in.claims())
	shown, err := in.temporal.QueryWorkflow(t.Context(), run.GetID(), "", workflows.ProgressQuery)
	require.NoError(t, err)
	var progress workflows.Progress
	require.NoError(t, shown.Get(&progress))
	require.Equal(t, int64(3), progress.Done)
	require.Equal(t, "files", progress.Unit)

	encoded, err := json.Marshal(result)
	require.NoError(t, err)
	var names map[string]any
	require.NoError(t, json.Unmarshal(encoded, &names))
	for _, name := range []string{"memory", "files", "skipped_by_reason", "chunks", "bytes", "duration_ms", "workflow_id"} {
		require.Contains(t, names, name)
	}
	require.Equal(t, map[string]any{}, names["skipped_by_reason"])

	before := in.checksum()
	require.Empty(t, ends(t, in.startIngest("docs"), &result))
	require.Equal(t, resilience.IngestedFiles{Seen: 3, Unchanged: 3}, result.Files)
	require.Equal(t, before, in.checksum())
}

// A worker that dies after its work, before it could tell, has its work counted once.
func TestIngestCountsOnceWhatWasDoneTwice(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.touch("a.md")
	in.touch("b.md")
	for _, step := range []string{"Claim", "IngestSlice", "Release"} {
		in.faults.inject(step, fault{after: true, times: 2, err: errors.New("the answer was lost")})
	}
	var result workflows.IngestResult
	require.Empty(t, ends(t, in.startIngest("docs"), &result))
	require.Equal(t, resilience.IngestedFiles{Seen: 2, New: 2}, result.Files)
	require.Equal(t, 1, in.count("a.md"))
	require.Zero(t, in.claims())
}

func TestIngestHasOneOwner(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.touch("a.md")
	in.faults.inject("IngestSlice", fault{times: -1, err: errors.New("the disk is away")})
	first := in.startIngest("docs")
	require.Eventually(t, func() bool { return in.claims() == 1 }, wait, tick)
	other := in.start("another id", workflows.IngestName, workflows.IngestInput{Origin: activities.Origin{Installation: in.id}, Memory: "docs", Tuning: quick()})
	err := other.Get(t.Context(), nil)
	require.ErrorContains(t, err, first.GetID())
	require.Equal(t, activities.Conflict, ends(t, other, nil))
	require.Equal(t, 1, in.claims(), "the claim of the first is not given up by the second")

	// A run that was terminated cannot give up its claim; the next takes it over.
	require.NoError(t, in.temporal.TerminateWorkflow(t.Context(), first.GetID(), "", "test"))
	in.faults.inject("IngestSlice", fault{})
	require.Empty(t, ends(t, in.startIngest("docs"), nil))
	require.Zero(t, in.claims())
}

func TestIngestGivesUpItsClaimWhenCancelled(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.faults.inject("IngestSlice", fault{times: -1, err: errors.New("the disk is away")})
	run := in.startIngest("docs")
	require.Eventually(t, func() bool { return in.claims() == 1 }, wait, tick)
	require.NoError(t, in.temporal.CancelWorkflow(t.Context(), run.GetID(), ""))
	require.Error(t, run.Get(t.Context(), nil))
	require.Zero(t, in.claims())
}

func TestIngestRefusesMappedMemories(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	mapping := resilience.BuiltinMapping("app")
	require.NoError(t, in.store.AddMemory(t.Context(), resilience.Memory{Name: "app", Root: t.TempDir(), Mapping: mapping}))
	require.Equal(t, activities.Refused, ends(t, in.startIngest("app"), nil))
	require.Zero(t, in.claims())
	require.Equal(t, activities.NotFound, ends(t, in.startIngest("none"), nil))
}
