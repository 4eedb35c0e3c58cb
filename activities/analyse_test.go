package activities_test

import (
	"context"
	"strings"
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

// studied is a plan of n chunks by the strategy intelligent, and what runs its activities.
func studied(t *testing.T, n int) (*pgxpool.Pool, *activities.Database, *testsuite.TestActivityEnvironment) {
	t.Helper()
	return studiedIn(t, n, 1)
}

// studiedIn is such a plan whose chunks lie in so many directories.
func studiedIn(t *testing.T, n, directories int) (*pgxpool.Pool, *activities.Database, *testsuite.TestActivityEnvironment) {
	t.Helper()
	pool := devtest.Pool(t)
	data := store.New(pool)
	require.NoError(t, data.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	_, err := pool.Exec(t.Context(), `
		INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', format('a/%sf%s.md', CASE WHEN $2::int > 1 THEN 'd' || i % $2::int || '/' END, i % 7), i, 'text ' || i FROM generate_series(1, $1::int) i`, n, directories)
	require.NoError(t, err)
	a := &activities.Database{Store: data}
	env := new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()
	activities.Register(env, a)
	_, err = env.ExecuteActivity(a.PlanMigration, activities.PlanMigrationInput{
		Owner: activities.Owner{WorkflowID: "w", RunID: "r"}, Memory: "docs", Migration: "m-1", Strategy: resilience.Intelligent,
		Renames: []resilience.RenameRule{{Old: "a", New: "b"}}, Policy: resilience.Policy{BatchSize: 50}, Rollback: []string{"undo"},
	})
	require.NoError(t, err)
	return pool, a, env
}

func analysed(t *testing.T, a *activities.Database, env *testsuite.TestActivityEnvironment) activities.Analysis {
	t.Helper()
	value, err := env.ExecuteActivity(a.AnalyseMigration, activities.AnalyseInput{PlanInput: activities.PlanInput{Migration: "m-1"}, Rebuilding: []string{"build", "undo"}})
	require.NoError(t, err)
	var found activities.Analysis
	require.NoError(t, value.Get(&found))
	return found
}

// begun lets the plan begin.
func begun(t *testing.T, a *activities.Database, env *testsuite.TestActivityEnvironment) {
	t.Helper()
	named := activities.PlanInput{Migration: "m-1"}
	for _, step := range []struct{ activity, in any }{
		{a.QueueMigration, activities.QueueInput{PlanInput: named}}, {a.BeginMigration, activities.BeginInput{PlanInput: named}},
	} {
		_, err := env.ExecuteActivity(step.activity, step.in)
		require.NoError(t, err)
	}
}

// TestDecisionsAreLearned: the same table, and two different pasts. Where updates
// were quick, rows are updated; where each took long, the index is built again.
func TestDecisionsAreLearned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rowMS float64
		way   resilience.Way
		says  string
		steps []string
	}{
		"quick updates": {0.05, resilience.Update, "which is bearable", []string{"undo"}},
		"slow updates":  {40, resilience.Rebuild, "without the index and with building it once", []string{"build", "undo"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, a, env := studied(t, 2000)
			// No vectors in the tests' server: the plan says that there are.
			_, err := pool.Exec(t.Context(), `
				UPDATE rehome.migration_plans SET physics = physics || '{"hot": false, "hot_share": 0, "vector_indexes": ["hnsw"], "may_rebuild": true}'`)
			require.NoError(t, err)
			for range 3 {
				_, err = pool.Exec(t.Context(), `
					INSERT INTO rehome.performance_samples (memory, plan_id, kind, strategy, way, index_class, batch_size, rows, row_bytes, apply_ms, duration_ms, estimated_ms)
					VALUES ('docs', 'm-0', 'rename', 'batch', 'update', 'vector', 1000, 10000, 1000, 10000 * $1::float8 + 15, 10000 * $1::float8 + 15, 0)`, c.rowMS)
				require.NoError(t, err)
			}
			found := analysed(t, a, env)
			require.Equal(t, c.way, found.Groups[0].Way)
			require.Equal(t, c.way, found.Plan.Way)
			require.Contains(t, found.Groups[0].Reason, c.says)
			require.Equal(t, c.steps, found.Plan.Steps)
			kept, err := a.Store.Groups(t.Context(), "m-1")
			require.NoError(t, err)
			require.InDelta(t, c.rowMS, kept[0].Inputs.MSPerRow, 0.01)
			require.Contains(t, kept[0].Inputs.Basis, "3 runs")
			require.NotEmpty(t, kept[0].Alternatives)
			require.Equal(t, kept[0].Inputs, found.Groups[0].Inputs, "the run can show what it decided by")
			require.Equal(t, kept[0].Alternatives, found.Groups[0].Alternatives)
			for _, w := range found.Plan.Estimate.Ways {
				require.Equal(t, w.Way == c.way, w.Taken, w.Way)
			}
		})
	}
}

// TestAPlanThatGivesWayLearnsFromSuch: with chunks in use it is expected to take what runs
// took that gave way to others; how slow the server is for others, the other runs say.
func TestAPlanThatGivesWayLearnsFromSuch(t *testing.T) {
	t.Parallel()
	pool, a, env := studied(t, 2000)
	past := func(id string, times float64, strategy resilience.Strategy) {
		_, err := pool.Exec(t.Context(), `
			INSERT INTO rehome.performance_samples (memory, plan_id, kind, strategy, way, index_class, batch_size, rows, row_bytes, apply_ms, duration_ms, estimated_ms, by_rule_ms)
			SELECT memory, $1, kind, strategy, 'update', $3, 50, 2000, 100, 1, 1000 * $2::float8, 0, 1000 FROM rehome.migration_plans, generate_series(1, 3) WHERE plan_id = 'm-1'`,
			id, times, classOf(t, a))
		require.NoError(t, err)
		_, err = pool.Exec(t.Context(), `
			INSERT INTO rehome.migration_plans OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(p, jsonb_build_object('plan_id', $1::text, 'status', 'completed', 'number', (SELECT max(number) + 1 FROM rehome.migration_plans)))).* FROM rehome.migration_plans p WHERE plan_id = 'm-1'`, id)
		require.NoError(t, err)
		_, err = pool.Exec(t.Context(), `
			INSERT INTO rehome.migration_groups (plan_id, position, name, until, rows, way, decision) VALUES ($1, 1, 'a', 2000, 2000, 'update', jsonb_build_object('strategy', $2::text))`, id, strategy)
		require.NoError(t, err)
	}
	past("m-back-to-back", 2, resilience.Batch)
	past("m-gave-way", 30, resilience.Gradual)
	_, err := pool.Exec(t.Context(), `SELECT rehome.touch('docs', ARRAY(SELECT id::text FROM rehome.chunks))`)
	require.NoError(t, err)
	found := analysed(t, a, env)
	require.Equal(t, resilience.Gradual, found.Groups[0].Strategy)
	require.True(t, found.Plan.Estimate.Careful)
	byRule := float64(found.Plan.ByRuleMS())
	require.InEpsilon(t, 30*byRule, found.Plan.Estimate.P50MS, 0.01, found.Plan.Estimate.Basis)
	require.InEpsilon(t, 2*byRule, found.Plan.Estimate.Ways[0].MS, 0.01, "of the way alone")
}

// classOf is the index class of plan m-1.
func classOf(t *testing.T, a *activities.Database) resilience.IndexClass {
	t.Helper()
	plan, err := a.Store.Plan(t.Context(), "m-1")
	require.NoError(t, err)
	return plan.Physics.Class()
}

func TestAnalysisIsIdempotent(t *testing.T) {
	t.Parallel()
	pool, a, env := studied(t, 2000)
	once := analysed(t, a, env)
	state := snapshot(t, pool)
	again := analysed(t, a, env)
	require.Equal(t, once.Groups, again.Groups)
	require.Equal(t, once.Plan.Hash, again.Plan.Hash)
	require.Equal(t, state, snapshot(t, pool))
}

// TestARunIsToldOfManyGroupsWhatItNeeds: the first have their inputs and their
// alternatives, the others how they move; Postgres has all.
func TestARunIsToldOfManyGroupsWhatItNeeds(t *testing.T) {
	t.Parallel()
	_, a, env := studiedIn(t, 22*510, 22)
	groups := analysed(t, a, env).Groups
	require.Len(t, groups, 22)
	kept, err := a.Store.Groups(t.Context(), "m-1")
	require.NoError(t, err)
	for i, g := range groups {
		require.NotEmpty(t, kept[i].Inputs.Basis)
		require.Equal(t, i < activities.GroupsTold, g.Inputs.Basis != "", i)
		require.Equal(t, i < activities.GroupsTold, len(g.Alternatives) > 0, i)
		g.Inputs, g.Alternatives = kept[i].Inputs, kept[i].Alternatives
		require.Equal(t, kept[i], g)
	}
}

// TestAForecastThatIsOffIsSaid: the plan expects of each row ten thousand times
// what it takes, sees that it is wrong, goes on at its own size for a while, and
// then by what it measured.
func TestAForecastThatIsOffIsSaid(t *testing.T) {
	t.Parallel()
	pool, a, env := studied(t, 4000)
	_, err := pool.Exec(t.Context(), `UPDATE rehome.migration_plans SET physics = physics || '{"hot": false}'`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `
		INSERT INTO rehome.performance_samples (memory, plan_id, kind, strategy, way, index_class, batch_size, rows, row_bytes, apply_ms, duration_ms, estimated_ms)
		VALUES ('docs', 'm-0', 'rename', 'batch', 'update', 'plain', 50, 10000, 1000, 3000000, 3000000, 0)`)
	require.NoError(t, err)
	groups := analysed(t, a, env).Groups
	require.Equal(t, 20, groups[0].BatchSize, "it expects 300 ms of each row")
	begun(t, a, env)
	slice := activities.SliceInput{
		Migration: "m-1", Epoch: 1, Adapt: true, Slice: activities.Slice{Time: activities.Duration(time.Minute)},
		Bounds: store.Bounds{Until: groups[0].Until, Batch: groups[0].BatchSize},
	}
	value, err := env.ExecuteActivity(a.MoveSlice, slice)
	require.NoError(t, err)
	var at resilience.Watermark
	require.NoError(t, value.Get(&at))
	require.EqualValues(t, 4000, at.Last)
	require.Contains(t, at.Pace, "rows a batch")
	events, err := a.Store.Events(t.Context(), "m-1")
	require.NoError(t, err)
	var said []string
	for _, e := range events {
		if e.What == "batch size" {
			said = append(said, e.Detail)
		}
	}
	all := strings.Join(said, "\n")
	require.Contains(t, all, "the forecast of 300 ms a row was off")
	require.Contains(t, all, "go by the plan's own size of 50 rows")
	require.Contains(t, all, "measured")
}

// TestBatchesStaySmallWhileOthersWait: one session waits for a second for the
// first batch, and those after it could be larger, but are not.
func TestBatchesStaySmallWhileOthersWait(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]bool{"nobody waits": false, "somebody waits": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, a, env := studied(t, 1000)
			analysed(t, a, env)
			begun(t, a, env)
			require.NoError(t, a.Store.Steer(t.Context(), "m-1", 0, resilience.Course{
				Servo: resilience.Servo{TargetMS: 100, Least: 20, Most: 10_000, Size: 20}, Forecast: resilience.Forecast{BatchMS: 1.5, RowMS: 0.02}, Default: 20,
			}, nil))
			ended := make(chan error, 1)
			if waits {
				_, err := pool.Exec(t.Context(), `
					CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN new; END $$;
					CREATE TRIGGER linger BEFORE UPDATE OF path ON rehome.chunks FOR EACH ROW WHEN (new.ordinal = 15) EXECUTE FUNCTION public.linger()`)
				require.NoError(t, err)
				go func() { ended <- writeOnceHeld(context.WithoutCancel(t.Context()), pool, 1) }()
			} else {
				ended <- nil
			}
			var at resilience.Watermark
			for at.Last < 1000 { // what a slice saw the next one knows
				value, err := env.ExecuteActivity(a.MoveSlice, activities.SliceInput{
					Migration: "m-1", Epoch: 1, Adapt: true, Slice: activities.Slice{Time: activities.Duration(50 * time.Millisecond)},
				})
				require.NoError(t, err)
				require.NoError(t, value.Get(&at))
			}
			require.NoError(t, <-ended)
			var size int
			require.NoError(t, pool.QueryRow(t.Context(), `SELECT (course->'servo'->'size')::integer FROM rehome.migration_groups`).Scan(&size))
			require.Equal(t, !waits, size > 20, "%d rows", size)
		})
	}
}

// TestASliceRunsThroughGroupsThatGoAlike: each at a pace of its own, and never
// with rows of two in one batch.
func TestASliceRunsThroughGroupsThatGoAlike(t *testing.T) {
	t.Parallel()
	pool, a, env := studiedIn(t, 1800, 3)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO rehome.performance_samples (memory, plan_id, kind, strategy, way, index_class, batch_size, rows, row_bytes, apply_ms, duration_ms, estimated_ms)
		VALUES ('docs', 'm-0', 'rename', 'batch', 'update', 'plain', 50, 10000, 1000, 3000000, 3000000, 0)`)
	require.NoError(t, err)
	groups := analysed(t, a, env).Groups
	require.Len(t, groups, 3)
	begun(t, a, env)
	// A trigger counts the batches in which rows of each directory move.
	_, err = pool.Exec(t.Context(), `
		CREATE TABLE public.batches (directories bigint);
		CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.batches SELECT count(DISTINCT split_part(path, '/', 2)) FROM went; RETURN NULL; END $$;
		CREATE TRIGGER note AFTER UPDATE ON rehome.chunks REFERENCING NEW TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION public.note()`)
	require.NoError(t, err)
	slice := activities.SliceInput{
		Migration: "m-1", Epoch: 1, Adapt: true, Slice: activities.Slice{Time: activities.Duration(time.Minute)},
		Bounds: store.Bounds{Until: groups[2].Until, Batch: groups[0].BatchSize},
	}
	for range 2 { // the second finds all done
		value, err := env.ExecuteActivity(a.MoveSlice, slice)
		require.NoError(t, err)
		var at resilience.Watermark
		require.NoError(t, value.Get(&at))
		require.EqualValues(t, 1800, at.Last)
	}
	var batches, most int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*), max(directories) FROM public.batches`).Scan(&batches, &most))
	require.Greater(t, batches, 6)
	require.Equal(t, 1, most)
	adapted, err := a.Store.Groups(t.Context(), "m-1")
	require.NoError(t, err)
	for _, g := range adapted {
		require.NotNil(t, g.Course, g.Name)
		require.Positive(t, g.Course.Size(), g.Name)
		require.NotEmpty(t, g.Course.Measured, g.Name)
	}
}

func TestRebuildActivitiesAreIdempotent(t *testing.T) {
	t.Parallel()
	pool, a, env := studied(t, 100)
	_, err := pool.Exec(t.Context(), `CREATE INDEX words ON rehome.chunks USING gin (to_tsvector('simple', content))`)
	require.NoError(t, err)
	named := activities.PlanInput{Migration: "m-1"}
	begun(t, a, env)
	indexes := func() (n int) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = 'words' AND i.indisvalid`).Scan(&n))
		return n
	}
	for range 2 {
		_, err = env.ExecuteActivity(a.TakeIndexes, activities.IndexInput{PlanInput: named, Epoch: 1})
		require.NoError(t, err)
		require.Equal(t, 1, indexes(), "it is no vector index")
	}
	for range 2 {
		_, err = env.ExecuteActivity(a.TakeIndexes, activities.IndexInput{PlanInput: named, Epoch: 1, Methods: []string{"gin"}})
		require.NoError(t, err)
		require.Zero(t, indexes())
	}
	for range 2 {
		_, err = env.ExecuteActivity(a.BuildIndexes, named)
		require.NoError(t, err)
		require.Equal(t, 1, indexes())
	}
}
