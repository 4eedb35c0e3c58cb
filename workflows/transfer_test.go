package workflows_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/internal/dev/workertest"
	"rehome/resilience"
	"rehome/store"
	"rehome/workflows"
)

// withArchive adds a memory that chunks of docs can go to.
func (in *installation) withArchive() {
	in.Helper()
	require.NoError(in, in.store.AddMemory(in.Context(), resilience.Memory{Name: "archive", Root: in.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("archive")}))
}

// transfer starts one of the guide to the archive.
func (in *installation) transfer(strategy resilience.Strategy, soak float64) (string, client.WorkflowRun) {
	in.Helper()
	in.made++
	id := fmt.Sprintf("t-%d", in.made)
	seconds := resilience.Seconds(soak)
	return id, in.start(workflows.MigrateID(in.id, "docs", id), workflows.MigrateName(strategy), workflows.MigrateInput{
		Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: id, Approve: true,
		TransferOrder: resilience.TransferOrder{To: "archive", Prefix: "guide", Soak: &seconds},
		Policy:        resilience.Policy{BatchSize: 10}, Tuning: quick(),
	})
}

// carried is the order of a transfer that does not soak.
func carried() workflows.MigrateInput {
	in := planned()
	soak := resilience.Seconds(0)
	in.TransferOrder = resilience.TransferOrder{To: "archive", Soak: &soak}
	return in
}

// of counts the chunks of a memory.
func (in *installation) of(memory string) int {
	in.Helper()
	var n int
	require.NoError(in, in.pool.QueryRow(in.Context(), `SELECT count(*) FROM rehome.chunks WHERE memory = $1`, memory).Scan(&n))
	return n
}

func TestTransferByEachStrategyAndBack(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.withArchive()
	in.fill("guide/a.md", 40)
	in.fill("guide/b.md", 5)
	in.fill("other.md", 5)
	start := in.checksum()
	for _, strategy := range []resilience.Strategy{resilience.Batch, resilience.Immediate, resilience.Gradual, resilience.Intelligent} {
		id, run := in.transfer(strategy, 0)
		var plan resilience.Plan
		require.Empty(t, ends(t, run, &plan))
		require.Equal(t, resilience.Completed, plan.Status)
		require.Equal(t, resilience.Transfer, plan.Kind)
		require.Equal(t, strategy, plan.Strategy)
		require.EqualValues(t, 45, plan.Moved)
		require.EqualValues(t, 45, plan.Transfer.Retired)
		require.Equal(t, 45, in.of("archive"))
		require.Equal(t, 5, in.of("docs"))

		undo, run := in.rollback(id)
		require.Empty(t, ends(t, run, &plan))
		require.Equal(t, undo, plan.ID)
		require.True(t, plan.Transfer.Back)
		require.Equal(t, start, in.checksum())
		require.Equal(t, resilience.RolledBack, in.plan(id).Status)
	}
}

func TestEachStepOfATransferFailingPutsEverythingBack(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.withArchive()
	in.fill("guide/a.md", 40)
	start := in.checksum()
	for _, step := range []string{"PlanMigration", "BeginMigration", "MoveSlice", "SweepMigration", "SwitchReferences", "RetireSlice", "CompleteMigration"} {
		for _, after := range []bool{false, true} {
			if step == "CompleteMigration" && after {
				continue // a completed plan stays so
			}
			in.faults.inject(step, fault{after: after, times: 1})
			id, run := in.transfer(resilience.Batch, 0)
			require.Equal(t, "Injected", ends(t, run, nil), "%s after=%v", step, after)
			require.Equal(t, start, in.checksum(), "%s after=%v", step, after)
			if step != "PlanMigration" || after {
				require.False(t, in.plan(id).Status.Live(), "%s after=%v", step, after)
			}
		}
	}
}

func TestEachStepOfTheUndoOfATransferFailingLeavesItDone(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.withArchive()
	in.fill("guide/a.md", 25)
	id, run := in.transfer(resilience.Batch, 0)
	require.Empty(t, ends(t, run, nil))
	for i, step := range []string{"RetireSlice", "SwitchReferences", "MoveSlice", "VerifyMigration", "CompleteMigration"} {
		in.faults.inject(step, fault{after: step != "CompleteMigration", times: 1})
		run := in.start(fmt.Sprintf("%s-%d", workflows.RollbackID(in.id, "docs", id), i), workflows.RollbackName, workflows.RollbackInput{
			Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: id, Undo: fmt.Sprintf("undo-%d", i), BatchSize: 10, Tuning: quick(),
		})
		require.Equal(t, "Injected", ends(t, run, nil), step)
		require.Equal(t, 25, in.of("archive"), step)
		require.Zero(t, in.of("docs"), step)
		require.Equal(t, resilience.Completed, in.plan(id).Status, step)
	}
}

// soaking waits until a transfer has switched and both memories have the chunks.
func (in *installation) soaking(id string, chunks int) {
	in.Helper()
	require.Eventually(in, func() bool {
		var until bool
		err := in.pool.QueryRow(in.Context(), `
			SELECT g.last = g.total AND g.last = $2 FROM rehome.migration_progress g WHERE plan_id = $1`, id, chunks).Scan(&until)
		return err == nil && until && in.of("archive") == chunks
	}, 30*time.Second, 50*time.Millisecond)
}

func TestWhatIsWrittenDuringTheSoakIsNotLost(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.withArchive()
	in.fill("guide/a.md", 20)
	id, run := in.transfer(resilience.Batch, 3)
	in.soaking(id, 20)
	_, err := in.pool.Exec(t.Context(), `
		UPDATE rehome.chunks SET content = 'edited in the soak' WHERE memory = 'docs' AND ordinal = 3`)
	require.NoError(t, err)
	_, err = in.pool.Exec(t.Context(), `DELETE FROM rehome.chunks WHERE memory = 'docs' AND ordinal = 4`)
	require.NoError(t, err)
	in.exec(`UPDATE rehome.chunks SET content = 'edited there' WHERE memory = 'archive' AND ordinal = 6`)
	in.fill("guide/late.md", 2)

	var plan resilience.Plan
	require.Empty(t, ends(t, run, &plan))
	require.EqualValues(t, 22, plan.Moves)
	require.EqualValues(t, 21, plan.Moved)
	require.EqualValues(t, 1, plan.Vanished)
	require.Zero(t, in.of("docs"))
	require.Equal(t, 21, in.of("archive"), "what came is there, what was deleted is not")
	var edited int
	require.NoError(t, in.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.chunks WHERE memory = 'archive' AND content = 'edited in the soak'`).Scan(&edited))
	require.Equal(t, 1, edited)
	require.Equal(t, 1, in.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'archive' AND ordinal = 6 AND content = 'edited there'`))
	left, err := in.store.Exceptions(t.Context(), id, 10)
	require.NoError(t, err)
	require.Len(t, left, 2)
	require.Equal(t, resilience.Edited, left[1].Outcome, "it is listed that the copy is not what was made")
	require.Equal(t, "its copy was written to in memory archive", left[1].Detail)
}

// inASoak is a transfer of 20 chunks with an hour of soak, and what the tables were before.
func inASoak(t *testing.T) (in *installation, start, id string, run client.WorkflowRun) {
	t.Helper()
	in = newInstallation(t)
	in.withArchive()
	in.fill("guide/a.md", 20)
	start = in.checksum()
	id, run = in.transfer(resilience.Batch, 3600)
	return in, start, id, run
}

func TestATransferIsAbortedInItsSoak(t *testing.T) {
	t.Parallel()
	in, start, id, run := inASoak(t)
	in.soaking(id, 20)
	_, err := in.update(run, workflows.AbortUpdate, workflows.Order{Author: "ana", Reason: "changed my mind"})
	require.NoError(t, err)
	require.Equal(t, workflows.Aborted, ends(t, run, nil))
	require.Equal(t, start, in.checksum())
	plan := in.plan(id)
	require.Equal(t, resilience.RolledBack, plan.Status)
	require.Equal(t, []string{
		"bring the source rows back from quarantine", "switch the references and aliases back", "delete the copies, last made first", "close the plan as rolled back",
	}, plan.Steps, "as people read them")
}

// TestATransferGoesOnInAnotherWorker stops the worker in the soak; the next one
// finds the rest in the database.
func TestATransferGoesOnInAnotherWorker(t *testing.T) {
	t.Parallel()
	database := devtest.Database(t)
	pool := devtest.Connect(t, database)
	in := &installation{T: t, pool: pool, store: store.New(pool), temporal: devtest.Temporal(t), faults: &faults{}}
	var err error
	in.id, err = in.store.Installation(t.Context())
	require.NoError(t, err)
	require.NoError(t, in.store.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	in.withArchive()
	in.fill("guide/a.md", 60)
	start := in.checksum()
	var id string
	var run client.WorkflowRun
	t.Run("the first worker", func(t *testing.T) {
		workertest.Start(t, database, in.temporal)
		id, run = in.transfer(resilience.Batch, 2)
		in.soaking(id, 60)
	})
	workertest.Start(t, database, in.temporal)
	var plan resilience.Plan
	require.Empty(t, ends(t, run, &plan))
	require.EqualValues(t, 60, plan.Moved)
	require.Equal(t, 60, in.of("archive"))
	require.Zero(t, in.of("docs"))
	_, run = in.rollback(id)
	require.Empty(t, ends(t, run, nil))
	require.Equal(t, start, in.checksum())
}

func TestBadTransfersAreRefused(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.withArchive()
	in.fill("guide/a.md", 5)
	for name, order := range map[string]resilience.TransferOrder{
		activities.Invalid:  {To: "docs"},
		activities.NotFound: {To: "nowhere"},
	} {
		run := in.start(workflows.MigrateID(in.id, "docs", name), workflows.MigrateName(resilience.Batch), workflows.MigrateInput{
			Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: name, TransferOrder: order, Policy: resilience.Policy{BatchSize: 10}, Tuning: quick(),
		})
		require.Equal(t, name, ends(t, run, nil))
	}
}

// TestChunksOfOthersAreFoundBeforeTheSwitch: an application writes to a path of the target
// while copies are made there, and that is known before anybody is led to them.
func TestChunksOfOthersAreFoundBeforeTheSwitch(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.withArchive()
	in.fill("guide/a.md", 40)
	in.faults.inject("MoveSlice", fault{times: 1, meets: func(int) {
		in.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('archive', 'guide/a.md', 900, 'of somebody else')`)
	}})
	found := -1
	in.faults.inject("SwitchReferences", fault{times: 1, meets: func(int) {
		found = in.number(`SELECT count(*) FROM rehome.migration_events WHERE event = 'foreign'`)
	}})
	id, run := in.transfer(resilience.Batch, 0)
	require.Empty(t, ends(t, run, nil))
	require.Equal(t, 1, found)
	require.EqualValues(t, 40, in.plan(id).Moved)
}
