package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
	"rehome/workflows"
)

// killed is a throttled migration whose worker does not live long.
type killed struct {
	*testing.T
	pool     *pgxpool.Pool
	store    *store.Store
	temporal client.Client
	env      []string
	run      client.WorkflowRun
	rows     int64
}

const migration = "m-1"

// TestAMigrationSurvivesTheDeathOfItsWorker kills the worker with SIGKILL at
// random points of a migration, each strictly inside it, and finds every chunk
// once, at its new place, with its text and its embedding.
func TestAMigrationSurvivesTheDeathOfItsWorker(t *testing.T) {
	t.Parallel()
	rows, kills := int64(50_000), 20
	if testing.Short() {
		rows, kills = 8_000, 3
	}
	k := filled(t, rows)
	k.migrate(resilience.Batch, resilience.Policy{})
	before := k.fingerprint("guide")
	require.Equal(t, rows, k.count("guide"))
	for range kills {
		point := k.watermark().Last + 1 + rand.N(rows/int64(kills+2))
		w := launch(t, t.TempDir(), k.env, anyPort)
		// Where in a batch the kill falls is up to chance.
		require.Eventually(t, func() bool { return k.watermark().Last >= point }, patience, time.Millisecond)
		require.NoError(t, w.cmd.Process.Kill())
		<-w.done
		at := k.watermark()
		require.Less(t, at.Last, at.Total, "the kills were to fall inside the migration: make it slower")
	}
	k.finish()
	require.Zero(t, k.count("guide"))
	require.Equal(t, rows, k.count("manual"))
	require.Equal(t, before, k.fingerprint("manual"))
	plan, err := k.store.Plan(t.Context(), migration)
	require.NoError(t, err)
	require.Equal(t, resilience.Completed, plan.Status)
	require.Equal(t, rows, plan.Moved)
	t.Logf("%d kills inside the migration of %d chunks; apply phase %d ms", kills, rows, plan.ApplyMS)
}

// filled is a memory whose chunks all lie in the directory guide.
func filled(t *testing.T, rows int64) *killed {
	t.Helper()
	database := devtest.Database(t)
	k := &killed{T: t, pool: devtest.Connect(t, database), temporal: devtest.Temporal(t), rows: rows}
	k.store = store.New(k.pool)
	k.env = servers(t, database)
	require.NoError(t, k.store.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	_, err := k.pool.Exec(t.Context(), `
		INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
		SELECT 'docs', 'guide/f' || i / 20 || '.md', i % 20, 'text ' || i, ARRAY[i, i % 7]::real[] FROM generate_series(1, $1::bigint) i`, rows)
	require.NoError(t, err)
	return k
}

// migrate starts the migration, slowly.
func (k *killed) migrate(strategy resilience.Strategy, policy resilience.Policy) {
	k.Helper()
	policy.BatchSize, policy.Rate = 50, 1500
	installation, err := k.store.Installation(k.Context())
	require.NoError(k, err)
	k.run, err = k.temporal.ExecuteWorkflow(k.Context(),
		client.StartWorkflowOptions{ID: workflows.MigrateID(installation, "docs", migration), TaskQueue: workflows.TaskQueue(installation)},
		workflows.MigrateName(strategy), workflows.MigrateInput{
			Origin: activities.Origin{Installation: installation}, Memory: "docs", Migration: migration,
			Renames: []resilience.RenameRule{{Old: "guide", New: "manual"}},
			Policy:  policy, Approve: true,
			Tuning: workflows.Tuning{Heartbeat: activities.Duration(2 * time.Second)},
		})
	require.NoError(k, err)
}

// watermark is where the migration stands; at its start before it has a journal.
func (k *killed) watermark() resilience.Watermark {
	at, err := k.store.Watermark(context.Background(), migration)
	if err != nil {
		return resilience.Watermark{Total: k.rows}
	}
	return at
}

// finish lets the migration run at full speed to its end.
func (k *killed) finish() {
	k.Helper()
	launch(k.T, k.TempDir(), k.env, anyPort)
	k.update(workflows.ThrottleUpdate, resilience.Pace{BatchSize: 1000})
	require.NoError(k, k.run.Get(k.Context(), nil))
}

// update gives the migration an order.
func (k *killed) update(name string, order any) {
	k.Helper()
	handle, err := k.temporal.UpdateWorkflow(k.Context(), client.UpdateWorkflowOptions{
		WorkflowID: k.run.GetID(), UpdateName: name, Args: []any{order}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	require.NoError(k, err)
	require.NoError(k, handle.Get(k.Context(), nil))
}

// TestARebuildSurvivesTheDeathOfItsWorker, which is killed while the vector index is
// away: the next worker goes on, or puts the chunks back, and builds it as it was.
func TestARebuildSurvivesTheDeathOfItsWorker(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		abort bool
		at    string // where the chunks are in the end
	}{
		{"goes on", false, "manual"},
		{"is aborted", true, "guide"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := filled(t, 4_000)
			devtest.StandInForPgvector(t, k.pool)
			_, err := k.pool.Exec(t.Context(), `CREATE INDEX near ON rehome.chunks USING hnsw (id public.near_ops)`)
			require.NoError(t, err)
			was, before := k.index(), k.fingerprint("guide")
			require.NotEmpty(t, was)
			k.migrate(resilience.Intelligent, resilience.Policy{Way: resilience.Rebuild})
			w := launch(t, t.TempDir(), k.env, anyPort)
			require.Eventually(t, func() bool { return k.watermark().Last > 0 }, patience, time.Millisecond)
			require.NoError(t, w.cmd.Process.Kill())
			<-w.done
			at := k.watermark()
			require.Less(t, at.Last, at.Total)
			require.Empty(t, k.index())

			if c.abort {
				launch(t, t.TempDir(), k.env, anyPort)
				k.update(workflows.AbortUpdate, workflows.Order{Author: "ana"})
				require.ErrorContains(t, k.run.Get(t.Context(), nil), "aborted by ana")
			} else {
				k.finish()
			}
			require.Equal(t, was, k.index())
			require.Equal(t, before, k.fingerprint(c.at))
		})
	}
}

// index is the definition of the vector index; empty while it is away.
func (k *killed) index() (definition string) {
	k.Helper()
	require.NoError(k, k.pool.QueryRow(k.Context(), `
		SELECT coalesce(max(pg_get_indexdef(indexrelid)), '') FROM pg_index WHERE indexrelid = to_regclass('rehome.near') AND indisvalid`).Scan(&definition))
	return definition
}

func (k *killed) count(dir string) (n int64) {
	k.Helper()
	require.NoError(k, k.pool.QueryRow(k.Context(), `SELECT count(*) FROM rehome.chunks WHERE starts_with(path, $1 || '/')`, dir).Scan(&n))
	return n
}

// fingerprint is of every chunk under a directory, the directory's name apart.
func (k *killed) fingerprint(dir string) string {
	k.Helper()
	var rows int64
	var sum string
	require.NoError(k, k.pool.QueryRow(k.Context(), `
		SELECT count(*), coalesce(md5(string_agg(concat_ws('|', id, substr(path, length($1) + 1), ordinal, content, embedding::text, created_at), E'\n' ORDER BY id)), '')
		FROM rehome.chunks WHERE starts_with(path, $1 || '/')`, dir).Scan(&rows, &sum))
	return fmt.Sprint(rows, " ", sum)
}
