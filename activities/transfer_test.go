package activities_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// transferable are two memories, one of them with chunks that are referred to and used.
func transferable(t *testing.T) (*pgxpool.Pool, *store.Store) {
	t.Helper()
	pool := devtest.Pool(t)
	data := store.New(pool)
	for _, name := range []string{"docs", "archive"} {
		require.NoError(t, data.AddMemory(t.Context(), resilience.Memory{Name: name, Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping(name)}))
	}
	_, err := pool.Exec(t.Context(), `
		INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
		SELECT 'docs', 'guide/f' || i % 3 || '.md', i, 'text ' || i, ARRAY[i]::real[] FROM generate_series(1, 25) i`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `SELECT rehome.refer('docs', id::text, 'answer'), rehome.touch('docs', ARRAY[id::text]) FROM rehome.chunks`)
	require.NoError(t, err)
	return pool, data
}

// transferState is all that an activity of a transfer may change.
func transferState(t *testing.T, pool *pgxpool.Pool) map[string]string {
	t.Helper()
	all := snapshot(t, pool)
	for name, query := range map[string]string{
		"copies":     `SELECT string_agg(c::text, E'\n' ORDER BY plan, ordinal) FROM rehome.migration_copies c`,
		"transfers":  `SELECT string_agg(concat_ws(' ', plan_id, origin, back, retired), E'\n' ORDER BY plan_id) FROM rehome.migration_transfers`,
		"references": `SELECT string_agg(r::text, E'\n' ORDER BY memory, chunk_id) FROM rehome.chunk_references r`,
		"access":     `SELECT string_agg(r::text, E'\n' ORDER BY memory, chunk_id) FROM rehome.chunk_access r`,
		"quarantine": `SELECT string_agg(concat_ws(' ', quarantine_id, memory, chunk_id, restored_at IS NULL), E'\n' ORDER BY quarantine_id) FROM rehome.quarantine`,
	} {
		var text string
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce((`+query+`), '')`).Scan(&text), name)
		all[name] = text
	}
	return all
}

// TestTransferActivitiesAreIdempotent runs every activity of a transfer, of its
// rollback and of its undo, twice: the second run finds the work done.
func TestTransferActivitiesAreIdempotent(t *testing.T) {
	t.Parallel()
	pool, data := transferable(t)
	a := &activities.Database{Store: data}
	env := new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()
	activities.Register(env, a)

	state := func() map[string]string { return transferState(t, pool) }
	twice := func(activity, in any) {
		t.Helper()
		_, err := env.ExecuteActivity(activity, in)
		require.NoError(t, err)
		once := state()
		_, err = env.ExecuteActivity(activity, in)
		require.NoError(t, err)
		require.Equal(t, once, state())
	}
	start := state()
	home := func() {
		t.Helper()
		now := state()
		for _, of := range []string{"chunks", "references", "access"} {
			require.Equal(t, start[of], now[of], of)
		}
	}
	named := func(id string) activities.PlanInput {
		return activities.PlanInput{Migration: id, Author: "ana", Reason: "a test"}
	}
	slice := func(id string, epoch int64) activities.SliceInput {
		return activities.SliceInput{Migration: id, Epoch: epoch, Slice: activities.Slice{Time: activities.Duration(time.Minute)}}
	}
	plan := func(id, undoes string) {
		t.Helper()
		in := activities.PlanMigrationInput{
			Owner: activities.Owner{WorkflowID: "w", RunID: "r"}, Memory: "docs", Migration: id, Strategy: resilience.Batch, Undoes: undoes,
			Policy: resilience.Policy{BatchSize: 4}, Rollback: []string{"undo"},
		}
		if undoes == "" {
			in.Transfer = resilience.TransferOrder{To: "archive", Prefix: "guide"}
		}
		twice(a.PlanMigration, in)
		twice(a.QueueMigration, activities.QueueInput{PlanInput: named(id)})
		twice(a.TakeSlot, named(id))
		twice(a.BeginMigration, activities.BeginInput{PlanInput: named(id), Recheck: true})
	}
	forward := func(id string) {
		t.Helper()
		plan(id, "")
		twice(a.MoveSlice, slice(id, 1))
		twice(a.SweepMigration, named(id))
		twice(a.SwitchReferences, named(id))
		twice(a.ReadRetired, named(id))
		twice(a.RetireSlice, slice(id, 1))
	}

	forward("t-1")
	twice(a.BeginUndo, named("t-1"))
	twice(a.UnretireSlice, slice("t-1", 2))
	twice(a.UndoSwitchReferences, named("t-1"))
	twice(a.RevertSlice, slice("t-1", 2))
	twice(a.VerifyUndo, activities.VerifyInput{Migration: "t-1"})
	twice(a.EndUndo, named("t-1"))
	home()

	forward("t-2")
	twice(a.CompleteMigration, named("t-2"))
	plan("u-2", "t-2")
	caring, servo := slice("u-2", 1), resilience.NewServo(resilience.GradualAim, 1000, false)
	caring.Servo = &servo
	twice(a.RetireSlice, caring)
	twice(a.SwitchReferences, named("u-2"))
	twice(a.MoveSlice, slice("u-2", 1))
	twice(a.VerifyMigration, activities.VerifyInput{Migration: "u-2"})
	twice(a.CompleteMigration, named("u-2"))
	home()
}

// TestSlicesAreOnDiskWhenTheyAreTold: their batches commit without waiting for that.
func TestSlicesAreOnDiskWhenTheyAreTold(t *testing.T) {
	t.Parallel()
	pool, _ := transferable(t)
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := pool.Exec(t.Context(), query, args...)
		require.NoError(t, err)
	}
	exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', current_database()); END $$`)
	awaiting, err := pgxpool.NewWithConfig(t.Context(), pool.Config())
	require.NoError(t, err)
	t.Cleanup(awaiting.Close)
	pool = awaiting
	exec(`CREATE TABLE public.marks (step text, lsn pg_lsn);
		CREATE FUNCTION public.mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.marks VALUES (TG_ARGV[0], pg_current_wal_insert_lsn()); RETURN NEW; END $$;
		CREATE TRIGGER mark AFTER UPDATE OF last ON rehome.migration_progress FOR EACH ROW EXECUTE FUNCTION public.mark('move');
		CREATE TRIGGER mark AFTER UPDATE OF retired ON rehome.migration_transfers FOR EACH ROW EXECUTE FUNCTION public.mark('retire')`)
	a := &activities.Database{Store: store.New(pool)}
	env := new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()
	activities.Register(env, a)
	run := func(activity, in any) {
		t.Helper()
		_, err := env.ExecuteActivity(activity, in)
		require.NoError(t, err)
	}
	named := activities.PlanInput{Migration: "t-1", Author: "ana", Reason: "a test"}
	run(a.PlanMigration, activities.PlanMigrationInput{
		Owner: activities.Owner{WorkflowID: "w", RunID: "r"}, Memory: "docs", Migration: "t-1", Strategy: resilience.Batch,
		Policy: resilience.Policy{BatchSize: 4}, Rollback: []string{"undo"}, Transfer: resilience.TransferOrder{To: "archive", Prefix: "guide"},
	})
	run(a.QueueMigration, activities.QueueInput{PlanInput: named})
	run(a.TakeSlot, named)
	run(a.BeginMigration, activities.BeginInput{PlanInput: named})
	epoch := int64(1)
	slice := func(step string, activity any) {
		t.Helper()
		exec(`DELETE FROM public.marks`)
		run(activity, activities.SliceInput{Migration: "t-1", Epoch: epoch, Slice: activities.Slice{Time: activities.Duration(time.Minute)}})
		var settled bool
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT pg_current_wal_flush_lsn() >= max(lsn) FROM public.marks WHERE step = $1`, step).Scan(&settled))
		require.True(t, settled, step)
	}
	slice("move", a.MoveSlice)
	run(a.SwitchReferences, named)
	slice("retire", a.RetireSlice)
	run(a.BeginUndo, named)
	epoch = 2
	slice("retire", a.UnretireSlice)
	run(a.UndoSwitchReferences, named)
	slice("move", a.RevertSlice)
}
