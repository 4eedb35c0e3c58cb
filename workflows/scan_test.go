package workflows_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

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

func TestRefusedScanSaysWhyAndChangesNothing(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.write("a.md", "guide/b.md")
	in.scan()
	in.remove("a.md")
	in.remove("guide")
	run := in.startScan(workflows.ScanInput{})
	require.Equal(t, activities.Refused, ends(t, run, nil))
	require.ErrorContains(t, run.Get(t.Context(), nil), "--accept-shrinkage docs")
	latest, err := in.store.LatestScan(t.Context(), "docs")
	require.NoError(t, err)
	require.Equal(t, resilience.ScanAborted, latest.Status)
	require.Equal(t, run.GetID(), latest.WorkflowID)
	orphans, err := in.store.Orphans(t.Context(), "docs", 10)
	require.NoError(t, err)
	require.Empty(t, orphans)

	var accepted resilience.ScanResult
	require.NoError(t, in.startScan(workflows.ScanInput{AcceptShrinkage: true}).Get(t.Context(), &accepted))
	require.EqualValues(t, 4, accepted.Orphans.Total)
}

func TestT39SecondScanIsRefusedAndTheFirstIsNotDisturbed(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.write("a.md", "b.md")
	in.scan()
	in.remove("a.md")
	in.faults.inject("JudgeSources", fault{times: 3, err: errors.New("not yet")})
	first := in.startScan(workflows.ScanInput{})
	in.claimedBy("scan", first.GetID())
	// By a schedule, which puts a time into the id.
	second := in.start(workflows.ScanID(in.id, "docs")+"-2026-11-24T10:00:00Z", workflows.ScanName,
		workflows.ScanInput{Origin: activities.Origin{Installation: in.id}, Memory: "docs", Tuning: quick()})
	require.Equal(t, activities.Conflict, ends(t, second, nil))
	require.ErrorContains(t, second.Get(t.Context(), nil), first.GetID())
	var result resilience.ScanResult
	require.NoError(t, first.Get(t.Context(), &result))
	require.EqualValues(t, 2, result.Orphans.Total)
}

// claimedBy waits until a workflow holds the claim for a kind of work.
func (in *installation) claimedBy(kind, workflow string) {
	in.Helper()
	require.Eventually(in, func() bool {
		var n int
		err := in.pool.QueryRow(in.Context(), `SELECT count(*) FROM rehome.claims WHERE kind = $1 AND workflow_id = $2`, kind, workflow).Scan(&n)
		return err == nil && n == 1
	}, wait, tick)
}

// unclaimed asserts that nobody holds a claim.
func (in *installation) unclaimed() {
	in.Helper()
	var n int
	require.NoError(in, in.pool.QueryRow(in.Context(), `SELECT count(*) FROM rehome.claims`).Scan(&n))
	require.Zero(in, n)
}

func TestT72ScanThatIsCancelledInAnyPhaseLeavesNothing(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.write("a.md", "b.md", "c.md")
	in.scan()
	in.remove("a.md")
	for _, phase := range []string{"BeginScan", "WalkTree", "JudgeSources", "RecheckSources", "FinishScan"} {
		in.faults.inject(phase, fault{times: -1, err: errors.New("stuck")})
		run := in.startScan(workflows.ScanInput{})
		in.attempts(run, phase)
		require.NoError(t, in.temporal.CancelWorkflow(t.Context(), run.GetID(), ""))
		var canceled *temporal.CanceledError
		require.ErrorAs(t, run.Get(t.Context(), nil), &canceled, phase)
		in.faults.inject(phase, fault{})
		in.unclaimed()
		orphans, err := in.store.Orphans(t.Context(), "docs", 10)
		require.NoError(t, err)
		require.Empty(t, orphans, phase)
		if phase != "BeginScan" {
			latest, err := in.store.LatestScan(t.Context(), "docs")
			require.NoError(t, err)
			require.Equal(t, resilience.ScanAborted, latest.Status)
		}
	}
	require.EqualValues(t, 2, in.scan().Orphans.Total)
}

// attempts waits until a run has tried an activity at least twice.
func (in *installation) attempts(run client.WorkflowRun, activity string) {
	in.Helper()
	require.Eventually(in, func() bool {
		described, err := in.temporal.DescribeWorkflowExecution(in.Context(), run.GetID(), "")
		if err != nil {
			return false
		}
		for _, pending := range described.GetPendingActivities() {
			if pending.GetActivityType().GetName() == activity && pending.GetAttempt() > 1 {
				return true
			}
		}
		return false
	}, wait, tick)
}

func TestT72CleanupThatIsCancelledLeavesWholeBatchesAndCountsThem(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.write("keep.md")
	in.scan()
	for i := range 30 {
		in.fill(fmt.Sprintf("gone/%d.md", i), 50)
	}
	in.scan()
	in.scan()
	in.faults.inject("CleanOrphans", fault{times: -1, after: true, err: errors.New("lost on the way")}) // T40
	input := workflows.CleanupInput{WaiveGrace: true, Max: 1500, Origin: activities.Origin{Installation: in.id}, Memory: "docs", Tuning: quick()}
	input.Tuning.Slice.Time = 1 // one batch
	run := in.start(workflows.CleanupID(in.id, "docs"), workflows.CleanupName, input)
	in.attempts(run, "CleanOrphans")
	require.NoError(t, in.temporal.CancelWorkflow(t.Context(), run.GetID(), ""))
	require.Error(t, run.Get(t.Context(), nil))
	in.faults.inject("CleanOrphans", fault{})
	in.unclaimed()
	var cleaned, kept int
	require.NoError(t, in.pool.QueryRow(t.Context(), `SELECT sum(cleaned_orphans), (SELECT count(*) FROM rehome.quarantine) FROM rehome.cleanup_runs WHERE finished_at IS NOT NULL`).Scan(&cleaned, &kept))
	require.Positive(t, cleaned)
	require.Equal(t, kept, cleaned)
	require.Equal(t, 1500-kept, in.count("gone"))

	rest := in.cleanup(workflows.CleanupInput{WaiveGrace: true, Max: 1500})
	require.EqualValues(t, 1500-kept, rest.CleanedOrphans)
	require.Zero(t, in.count("gone"))
}

// A long scan or cleanup goes on in a new run under the same claim, so its
// input must name it.
func TestScanAndCleanupContinueAsNewUnderTheirName(t *testing.T) {
	t.Parallel()
	suite := silent()
	for name, run := range map[string]func(*testsuite.TestWorkflowEnvironment){
		workflows.ScanName: func(env *testsuite.TestWorkflowEnvironment) {
			env.ExecuteWorkflow(workflows.OrphanScan, workflows.ScanInput{Memory: "docs"})
		},
		workflows.CleanupName: func(env *testsuite.TestWorkflowEnvironment) {
			env.ExecuteWorkflow(workflows.Cleanup, workflows.CleanupInput{Memory: "docs"})
		},
	} {
		env := suite.NewTestWorkflowEnvironment()
		env.RegisterActivity(&activities.Database{})
		env.RegisterActivity(&activities.Files{})
		env.OnActivity("Claim", mock.Anything, mock.Anything).Return(nil)
		env.OnActivity("BeginScan", mock.Anything, mock.Anything).Return(store.Listed{}, nil).Maybe()
		env.OnActivity("WalkTree", mock.Anything, mock.Anything).Return(activities.ScanSlice{}, nil).Maybe()
		env.OnActivity("PlanCleanup", mock.Anything, mock.Anything).Return(resilience.CleanupResult{}, nil).Maybe()
		env.OnActivity("CleanOrphans", mock.Anything, mock.Anything).Return(activities.CleanupSlice{}, nil).Maybe()
		env.SetContinueAsNewSuggested(true)
		run(env)
		require.True(t, workflow.IsContinueAsNewError(env.GetWorkflowError()), "%s: %v", name, env.GetWorkflowError())
		var next *workflow.ContinueAsNewError
		require.ErrorAs(t, env.GetWorkflowError(), &next)
		require.Equal(t, name, next.WorkflowType.Name)
		env.AssertActivityNotCalled(t, "Release", mock.Anything, mock.Anything)
		if name == workflows.ScanName {
			var in workflows.ScanInput
			require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(next.Input, &in))
			require.NotEmpty(t, in.ScanID)
		}
	}
}
