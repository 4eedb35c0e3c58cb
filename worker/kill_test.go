package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
	way      travel
	pool     *pgxpool.Pool
	store    *store.Store
	temporal client.Client
	env      []string
	run      client.WorkflowRun
	rows     int64
}

const migration = "m-1"

// TestFault09AMigrationSurvivesTheDeathOfItsWorker kills the worker with SIGKILL at
// random points of a migration, each strictly inside it, and finds every chunk
// once, at its new place, with its text and its embedding.
func TestFault09AMigrationSurvivesTheDeathOfItsWorker(t *testing.T) {
	t.Parallel()
	plans := []struct {
		way   travel
		rows  int64
		kills int
	}{
		{travel{resilience.Batch, false}, 50_000, 20},
		{travel{resilience.Immediate, true}, 10_000, 3}, // the copies are made at once
		{travel{resilience.Intelligent, true}, 10_000, 4},
		{travel{resilience.Gradual, true}, 10_000, 4},
	}
	if testing.Short() {
		plans = plans[:1]
		plans[0].rows, plans[0].kills = 8_000, 3
	}
	for _, p := range plans {
		t.Run(p.way.String(), func(t *testing.T) {
			t.Parallel()
			k := filled(t, p.way, p.rows)
			chance := devtest.Random(t)
			k.migrate(resilience.Policy{})
			before := k.fingerprint("guide")
			for range p.kills {
				done, all := k.passed()
				point := done + 1 + chance.Int64N(all/int64(p.kills+2))
				w := launch(t, t.TempDir(), k.env, anyPort)
				// Where in a batch the kill falls is up to chance.
				require.Eventually(t, func() bool { done, _ = k.passed(); return done >= point }, patience, time.Millisecond)
				k.kill(w)
				done, all = k.passed()
				require.Less(t, done, all, "the kills were to fall inside the migration: make it slower")
			}
			k.finish()
			plan := k.arrived(before)
			t.Logf("%d kills inside the migration of %d chunks; apply phase %d ms", p.kills, p.rows, plan.ApplyMS)
		})
	}
}

// TestFault08AKillWhileTheJournalIsWritten: the worker dies when a half of it is
// written, and of that nothing is seen. The next one waits until the session of the
// dead one has ended, and writes every row, once. An application edits the chunks
// meanwhile, waits for nobody, and finds its edits where the chunks went.
func TestFault08AKillWhileTheJournalIsWritten(t *testing.T) {
	t.Parallel()
	ways := everyTravel()
	if testing.Short() {
		ways = ways[:1]
	}
	for _, way := range ways {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			k := filled(t, way, 4_000)
			writes := 1
			if way.strategy == resilience.Intelligent {
				writes = 2 // once more in the order of its groups
			}
			held := k.holdJournal(writes)
			edited, quiet := k.application()
			k.migrate(resilience.Policy{})
			w := launch(t, t.TempDir(), k.env, anyPort)
			var before string
			for n, letGo := range held {
				session := k.writing(n)
				k.kill(w)
				require.Equal(t, int64(n)*k.rows, k.journalled(), "nothing, or what was written before")
				edits := edited()
				w = launch(t, t.TempDir(), k.env, anyPort)
				k.waitedFor(session)
				require.Eventually(t, func() bool { return edited() > edits+1 }, patience, time.Millisecond, "it goes on while two sessions are at the journal")
				if n == len(held)-1 {
					quiet()
					before = k.fingerprint("guide")
				}
				letGo()
			}
			require.NoError(t, k.run.Get(t.Context(), nil))
			require.Equal(t, k.rows, k.journalled())
			k.arrived(before)
			var arrived int64
			require.NoError(t, k.pool.QueryRow(t.Context(), `SELECT sum(length(content) - length(rtrim(content, '!'))) FROM rehome.chunks`).Scan(&arrived))
			require.Equal(t, edited(), arrived, "every edit")
		})
	}
}

// application edits one chunk after the other, and tells how often it did, until it is to
// be quiet.
func (k *killed) application() (edited func() int64, quiet func()) {
	k.Helper()
	ctx, stop := context.WithCancel(k.Context())
	var edits atomic.Int64
	ended := make(chan error, 1)
	go func() {
		var err error
		for n := int64(1); ctx.Err() == nil && err == nil; n++ {
			var tag pgconn.CommandTag
			tag, err = k.pool.Exec(context.WithoutCancel(ctx), `UPDATE rehome.chunks SET content = content || '!' WHERE id = (SELECT min(id) + $1 FROM rehome.chunks WHERE memory = 'docs')`, n%k.rows)
			edits.Add(tag.RowsAffected())
		}
		ended <- err
	}()
	return edits.Load, func() {
		stop()
		require.NoError(k, <-ended)
	}
}

// holdJournal lets the journal be written to its half, so many times in turn, until
// each is let go.
func (k *killed) holdJournal(times int) (letGo []func()) {
	k.Helper()
	_, err := k.pool.Exec(k.Context(), `
		CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM pg_advisory_xact_lock_shared((SELECT count(*) FROM rehome.migration_progress)); RETURN NEW; END $$`)
	require.NoError(k, err)
	_, err = k.pool.Exec(k.Context(), fmt.Sprintf(`
		CREATE TRIGGER hold BEFORE INSERT ON rehome.migration_runs FOR EACH ROW WHEN (NEW.first > %d) EXECUTE FUNCTION public.hold()`, k.rows/2))
	require.NoError(k, err)
	for n := range times {
		conn, err := pgx.Connect(k.Context(), k.pool.Config().ConnString())
		require.NoError(k, err)
		release := func() { _ = conn.Close(context.Background()) }
		k.Cleanup(release)
		_, err = conn.Exec(k.Context(), `SELECT pg_advisory_lock($1)`, n)
		require.NoError(k, err)
		letGo = append(letGo, release)
	}
	return letGo
}

// writing waits until a session stands in the middle of writing the journal, which was
// written so many times before.
func (k *killed) writing(before int) (session int) {
	k.Helper()
	require.Eventually(k, func() bool {
		err := k.pool.QueryRow(k.Context(), `
			SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND objsubid = 1 AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, before).Scan(&session)
		return err == nil
	}, patience, 5*time.Millisecond)
	return session
}

// waitedFor waits until another session waits for this one.
func (k *killed) waitedFor(session int) {
	k.Helper()
	require.Eventually(k, func() bool {
		var waits bool
		err := k.pool.QueryRow(k.Context(), `
			SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND $1 = ANY (pg_blocking_pids(pid)))`, session).Scan(&waits)
		return err == nil && waits
	}, patience, 5*time.Millisecond)
}

// journalled counts the rows of the journal, and checks that none is in it twice.
func (k *killed) journalled() (rows int64) {
	k.Helper()
	var chunks, last int64
	require.NoError(k, k.pool.QueryRow(k.Context(), `
		SELECT count(*), count(DISTINCT chunk_id), coalesce(max(ordinal), 0) FROM rehome.migration_moves`).Scan(&rows, &chunks, &last))
	require.Equal(k, []int64{rows, rows}, []int64{chunks, last}, "chunks, and the last row")
	return rows
}

// kill ends a worker as a crash does.
func (k *killed) kill(w *workerProcess) {
	k.Helper()
	require.NoError(k, w.cmd.Process.Kill())
	<-w.done
}

// filled is a memory whose chunks all lie in the directory guide, those that are used in
// one below it, beside an empty memory.
func filled(t *testing.T, way travel, rows int64) *killed {
	t.Helper()
	database := devtest.Database(t)
	k := &killed{T: t, way: way, pool: devtest.Connect(t, database), temporal: devtest.Temporal(t), rows: rows}
	k.store = store.New(k.pool)
	k.env = servers(t, database)
	for _, memory := range []string{"docs", "archive"} {
		require.NoError(t, k.store.AddMemory(t.Context(), resilience.Memory{Name: memory, Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping(memory)}))
	}
	_, err := k.pool.Exec(t.Context(), `
		INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
		SELECT 'docs', 'guide' || `+file("i")+`, i % 20, 'text ' || i, ARRAY[i, i % 7]::real[] FROM generate_series(1, $1::bigint) i`, rows)
	require.NoError(t, err)
	_, err = k.pool.Exec(t.Context(), used)
	require.NoError(t, err)
	return k
}

// migrate starts the migration, slowly.
func (k *killed) migrate(policy resilience.Policy) {
	k.Helper()
	policy.BatchSize, policy.Rate = 50, 1500
	installation, err := k.store.Installation(k.Context())
	require.NoError(k, err)
	in := workflows.MigrateInput{
		Origin: activities.Origin{Installation: installation}, Memory: "docs", Migration: migration,
		Policy: policy, Approve: true,
		Tuning: workflows.Tuning{Heartbeat: activities.Duration(2 * time.Second)},
	}
	if k.way.transfer {
		soak := resilience.Seconds(0)
		in.TransferOrder = resilience.TransferOrder{To: "archive", Prefix: "guide", Soak: &soak}
	} else {
		in.Renames = []resilience.RenameRule{{Old: "guide", New: "manual"}}
	}
	k.run, err = k.temporal.ExecuteWorkflow(k.Context(),
		client.StartWorkflowOptions{ID: workflows.MigrateID(installation, "docs", migration), TaskQueue: workflows.TaskQueue(installation)},
		workflows.MigrateName(k.way.strategy), in)
	require.NoError(k, err)
}

// passed is how many rows have got to their new place, of so many. A row of a transfer
// then has to leave its memory, which counts once more.
func (k *killed) passed() (done, all int64) {
	at := k.watermark()
	if !k.way.transfer {
		return at.Last, at.Total
	}
	left, err := k.store.Retired(context.Background(), migration)
	if err != nil { // it has no journal yet
		return 0, 2 * k.rows
	}
	return at.Last + left.Last, 2 * at.Total
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
	if k.way.strategy != resilience.Immediate { // which takes no such order
		k.update(workflows.ThrottleUpdate, resilience.Pace{Rate: new(0.0), BatchSize: new(1000)})
	}
	require.NoError(k, k.run.Get(k.Context(), nil))
}

// arrived checks that every chunk is once, at its new place, as it was.
func (k *killed) arrived(before string) resilience.Plan {
	k.Helper()
	left, there := "path LIKE 'guide/%'", "manual"
	if k.way.transfer {
		left, there = "memory = 'docs'", "guide"
	}
	var behind int64
	require.NoError(k, k.pool.QueryRow(k.Context(), `SELECT count(*) FROM rehome.chunks WHERE `+left).Scan(&behind))
	require.Zero(k, behind)
	require.Equal(k, before, k.fingerprint(there))
	plan, err := k.store.Plan(k.Context(), migration)
	require.NoError(k, err)
	require.Equal(k, resilience.Completed, plan.Status)
	require.Equal(k, []int64{k.rows, k.rows}, []int64{plan.Moves, plan.Moved})
	inGroups(k.T, k.store, migration, k.way.strategy)
	return plan
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
			k := filled(t, travel{resilience.Intelligent, false}, 4_000)
			devtest.StandInForPgvector(t, k.pool)
			_, err := k.pool.Exec(t.Context(), `CREATE INDEX near ON rehome.chunks USING hnsw (id public.near_ops)`)
			require.NoError(t, err)
			was, before := k.index(), k.fingerprint("guide")
			require.NotEmpty(t, was)
			k.migrate(resilience.Policy{Way: resilience.Rebuild})
			w := launch(t, t.TempDir(), k.env, anyPort)
			require.Eventually(t, func() bool { return k.watermark().Last > 0 }, patience, time.Millisecond)
			k.kill(w)
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

// fingerprint is of every chunk under a directory, the directory's name apart. A copy
// has an id of its own.
func (k *killed) fingerprint(dir string) string {
	k.Helper()
	var rows int64
	var sum string
	require.NoError(k, k.pool.QueryRow(k.Context(), `
		SELECT count(*), coalesce(md5(string_agg(concat_ws('|', CASE WHEN NOT $2 THEN id END, substr(path, length($1) + 1), ordinal, content, embedding::text, CASE WHEN NOT $2 THEN created_at END),
			E'\n' ORDER BY path, ordinal)), '')
		FROM rehome.chunks WHERE starts_with(path, $1 || '/')`, dir, k.way.transfer).Scan(&rows, &sum))
	return fmt.Sprint(rows, " ", sum)
}
