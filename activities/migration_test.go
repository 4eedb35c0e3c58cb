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

// snapshot is all that a migration may change, but for times.
func snapshot(t *testing.T, pool *pgxpool.Pool) map[string]string {
	t.Helper()
	state := map[string]string{}
	for name, query := range map[string]string{
		"chunks":     `SELECT md5(string_agg(t::text, E'\n' ORDER BY id)) FROM rehome.chunks t`,
		"plans":      `SELECT string_agg(concat_ws(' ', plan_id, status, moves, bytes, plan_hash, reason), E'\n' ORDER BY plan_id) FROM rehome.migration_plans t`,
		"moves":      `SELECT md5(string_agg(t::text, E'\n' ORDER BY plan, ordinal)) FROM rehome.migration_moves t`,
		"exceptions": `SELECT string_agg(t::text, E'\n' ORDER BY plan_id, ordinal, undoing) FROM rehome.migration_exceptions t`,
		"progress":   `SELECT string_agg(concat_ws(' ', plan_id, last, total, epoch, wish, batch_size, rate), E'\n' ORDER BY plan_id) FROM rehome.migration_progress t`,
		"aliases":    `SELECT string_agg(concat_ws(' ', original_path, current_path, plan_id, jsonb_array_length(version_history)), E'\n' ORDER BY original_path) FROM rehome.version_aliases t`,
		"files":      `SELECT string_agg(concat_ws(' ', path, size, gone_at IS NULL), E'\n' ORDER BY path) FROM rehome.files t`,
		"events":     `SELECT string_agg(concat_ws(' ', plan_id, event), E'\n' ORDER BY event_id) FROM rehome.migration_events t WHERE event <> 'throttled'`,
	} {
		var text string
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce((`+query+`), '')`).Scan(&text), name)
		state[name] = text
	}
	return state
}

// TestMigrationActivitiesAreIdempotent runs every activity of a migration, and
// of its undo, twice: the second run finds the work done and changes nothing.
func TestMigrationActivitiesAreIdempotent(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	data := store.New(pool)
	require.NoError(t, data.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	_, err := pool.Exec(t.Context(), `
		INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
		SELECT 'docs', 'guide/f' || i % 3 || '.md', i, 'text ' || i, ARRAY[i]::real[] FROM generate_series(1, 25) i`)
	require.NoError(t, err)
	a := &activities.Database{Store: data}
	env := new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()
	activities.Register(env, a)

	named := activities.PlanInput{Migration: "m-1", Author: "ana", Reason: "a test"}
	slice := activities.SliceInput{Migration: "m-1", Epoch: 1, Slice: activities.Slice{Time: activities.Duration(time.Minute)}}
	twice := func(activity any, in any) {
		t.Helper()
		_, err := env.ExecuteActivity(activity, in)
		require.NoError(t, err)
		once := snapshot(t, pool)
		_, err = env.ExecuteActivity(activity, in)
		require.NoError(t, err)
		require.Equal(t, once, snapshot(t, pool))
	}
	plan := activities.PlanMigrationInput{
		Owner: activities.Owner{WorkflowID: "w", RunID: "r"}, Memory: "docs", Migration: "m-1", Strategy: resilience.Batch,
		Renames: []resilience.RenameRule{{Old: "guide", New: "manual"}}, Policy: resilience.Policy{BatchSize: 4}, Rollback: []string{"undo"},
	}
	start := snapshot(t, pool)["chunks"]
	twice(a.PlanMigration, plan)
	twice(a.RequestApproval, named)
	value, err := env.ExecuteActivity(a.ReadMigration, named)
	require.NoError(t, err)
	var planned resilience.Plan
	require.NoError(t, value.Get(&planned))
	twice(a.ApproveMigration, activities.ApproveInput{PlanInput: named, Hash: planned.Hash})
	twice(a.QueueMigration, activities.QueueInput{PlanInput: named, Approve: true})
	twice(a.TakeSlot, named)
	twice(a.BeginMigration, activities.BeginInput{PlanInput: named, Recheck: true})
	twice(a.PauseMigration, named)
	twice(a.ChangeStrategy, activities.ChangeInput{PlanInput: named, Strategy: resilience.Gradual, Approve: true})
	twice(a.ResumeMigration, named)
	twice(a.ReadWatermark, named)
	twice(a.ThrottleMigration, activities.ThrottleInput{Migration: "m-1", Pace: resilience.Pace{BatchSize: new(6)}})
	twice(a.MoveSlice, slice)
	twice(a.SweepMigration, named)
	twice(a.SwitchAliases, named)
	twice(a.ReadMigration, named)

	twice(a.BeginUndo, named)
	twice(a.UndoSwitchAliases, named)
	twice(a.NoteMigration, activities.NoteInput{PlanInput: named, What: activities.Stuck})
	twice(a.FailUndo, named)
	twice(a.BeginUndo, named)
	slice.Epoch = 2
	twice(a.RevertSlice, slice)
	twice(a.VerifyUndo, activities.VerifyInput{Migration: "m-1"})
	twice(a.EndUndo, named)
	require.Equal(t, start, snapshot(t, pool)["chunks"])

	plan.Migration, named.Migration, slice.Migration, slice.Epoch = "m-2", "m-2", "m-2", 1
	twice(a.PlanMigration, plan)
	twice(a.CancelMigration, named)
	plan.Migration, named.Migration, slice.Migration = "m-3", "m-3", "m-3"
	for _, step := range []struct {
		activity, in any
	}{{a.PlanMigration, plan}, {a.QueueMigration, activities.QueueInput{PlanInput: named}}, {a.BeginMigration, activities.BeginInput{PlanInput: named}}, {a.MoveSlice, slice}, {a.SwitchAliases, named}} {
		_, err := env.ExecuteActivity(step.activity, step.in)
		require.NoError(t, err)
	}
	twice(a.CompleteMigration, named)
}

// TestAPlanThatIsNotFreshIsComparedWithTheTable before it begins, though it waited for
// nobody: the worker may have been away. One that began is not asked again.
func TestAPlanThatIsNotFreshIsComparedWithTheTable(t *testing.T) {
	t.Parallel()
	for name, minutes := range map[string]int{"fresh": 0, "made a while ago": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := devtest.Pool(t)
			data := store.New(pool)
			require.NoError(t, data.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
			exec := func(statement string, args ...any) {
				t.Helper()
				_, err := pool.Exec(t.Context(), statement, args...)
				require.NoError(t, err)
			}
			exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', 'a.md', i, 'text ' || i FROM generate_series(1, 50) i`)
			env := new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()
			a := &activities.Database{Store: data}
			activities.Register(env, a)
			_, err := env.ExecuteActivity(a.PlanMigration, activities.PlanMigrationInput{
				Owner: activities.Owner{WorkflowID: "w", RunID: "r"}, Memory: "docs", Migration: "m-1", Strategy: resilience.Batch,
				Renames: []resilience.RenameRule{{Old: "a.md", New: "b.md"}}, Policy: resilience.Policy{BatchSize: 10}, Rollback: []string{"undo"},
			})
			require.NoError(t, err)
			named := activities.PlanInput{Migration: "m-1"}
			_, err = env.ExecuteActivity(a.QueueMigration, activities.QueueInput{PlanInput: named})
			require.NoError(t, err)
			exec(`UPDATE rehome.migration_plans SET journalled_at = journalled_at - $1 * interval '1 minute'`, minutes)
			exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'b.md', 1, 'of somebody else')`)
			begin := func() (b activities.Beginning) {
				value, err := env.ExecuteActivity(a.BeginMigration, activities.BeginInput{PlanInput: named})
				require.NoError(t, err)
				require.NoError(t, value.Get(&b))
				return b
			}
			b := begin()
			require.Equal(t, minutes == 0, b.Begun)
			if minutes > 0 {
				require.Contains(t, b.Why, "b.md came to be where it would move others")
				return
			}
			exec(`UPDATE rehome.migration_plans SET journalled_at = journalled_at - interval '2 minutes'`)
			require.True(t, begin().Begun)
		})
	}
}

// TestASliceGoesOnWhereTheDatabaseIs: an attempt that lost its heartbeats and
// its memory starts from the watermark, not from the beginning.
func TestASliceGoesOnWhereTheDatabaseIs(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	data := store.New(pool)
	require.NoError(t, data.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	_, err := pool.Exec(t.Context(), `
		INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', 'a.md', i, 'text ' || i FROM generate_series(1, 50) i`)
	require.NoError(t, err)
	a := &activities.Database{Store: data}
	env := new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()
	activities.Register(env, a)
	_, err = env.ExecuteActivity(a.PlanMigration, activities.PlanMigrationInput{
		Owner: activities.Owner{WorkflowID: "w", RunID: "r"}, Memory: "docs", Migration: "m-1", Strategy: resilience.Batch,
		Renames: []resilience.RenameRule{{Old: "a.md", New: "b.md"}}, Policy: resilience.Policy{BatchSize: 10}, Rollback: []string{"undo"},
	})
	require.NoError(t, err)
	_, err = env.ExecuteActivity(a.QueueMigration, activities.QueueInput{PlanInput: activities.PlanInput{Migration: "m-1"}})
	require.NoError(t, err)
	_, err = env.ExecuteActivity(a.BeginMigration, activities.BeginInput{PlanInput: activities.PlanInput{Migration: "m-1"}})
	require.NoError(t, err)
	for want := int64(10); want <= 50; want += 10 {
		value, err := env.ExecuteActivity(a.MoveSlice, activities.SliceInput{Migration: "m-1", Epoch: 1, Slice: activities.Slice{Time: 1}})
		require.NoError(t, err)
		var at resilience.Watermark
		require.NoError(t, value.Get(&at))
		require.Equal(t, want, at.Last, "a slice of no time moves one batch")
	}
}

// TestAGroupGoesBackNoFurtherWhereItsPlanGoesOn: a resume was on its way when the group
// was to go back.
func TestAGroupGoesBackNoFurtherWhereItsPlanGoesOn(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	slice := activities.SliceInput{Migration: "m-1", Epoch: 1, Slice: activities.Slice{Time: 1}}
	_, err := w.env.ExecuteActivity(w.a.MoveSlice, slice)
	require.NoError(t, err)
	slice.Partial, slice.Slice = true, activities.Slice{Time: activities.Duration(time.Hour)}
	for range 2 {
		value, err := w.env.ExecuteActivity(w.a.RevertSlice, slice)
		require.NoError(t, err)
		var at resilience.Watermark
		require.NoError(t, value.Get(&at))
		require.EqualValues(t, 4, at.Last)
		require.Equal(t, resilience.WishRun, at.Wish)
	}
}

// TestWhatAnUndoListedIsNotForgotten: an attempt to put a group back, that nobody waits for
// any more, finds its rows back where an undo by another run has put them.
func TestWhatAnUndoListedIsNotForgotten(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	group := activities.SliceInput{Migration: "m-1", Epoch: 1, Slice: activities.Slice{Time: activities.Duration(time.Hour)}}
	_, err := w.env.ExecuteActivity(w.a.MoveSlice, group)
	require.NoError(t, err)
	w.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE ordinal = 3`)
	named := activities.PlanInput{Migration: "m-1", Author: "ana"}
	_, err = w.env.ExecuteActivity(w.a.BeginUndo, named)
	require.NoError(t, err)
	undo := group
	undo.Epoch = 2
	_, err = w.env.ExecuteActivity(w.a.RevertSlice, undo)
	require.NoError(t, err)
	group.Partial = true
	for range 2 {
		_, err = w.env.ExecuteActivity(w.a.RevertSlice, group)
		require.NoError(t, err)
		left, err := w.a.Store.Exceptions(t.Context(), "m-1", 10)
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.True(t, left[0].Undoing)
	}
}
