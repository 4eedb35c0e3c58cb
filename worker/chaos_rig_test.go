package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/internal/dev"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
	"rehome/workflows"
)

// rig is a stack of its own whose parts can be killed, with a worker, and an
// application that reads and writes the chunks all the while.
type rig struct {
	*testing.T
	dir          string
	postgres     *dev.Postgres
	database     string // where the worker and the application find Postgres
	temporal     *dev.Temporal
	worker       *workerProcess
	pool         *pgxpool.Pool
	store        *store.Store
	client       client.Client
	installation string
	seed         uint64 // of all that is random
	rows         int

	reads, writes atomic.Int64
	wrong         atomic.Pointer[string] // what a reader saw that must not be
	source        atomic.Pointer[string] // the memory that an application looks into first
	mu            sync.Mutex
	edits         []int64 // by row: the number of its last edit that was acknowledged
	stop          context.CancelFunc
	done          sync.WaitGroup

	struck func() // done while what was struck is away; nil: nothing
}

func newRig(t *testing.T, rows int) *rig {
	t.Helper()
	return newRigAt(t, rows, func(database string) string { return database })
}

// newRigAt lets the worker and the application come to Postgres by another address.
func newRigAt(t *testing.T, rows int, address func(database string) string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "rehome-rig-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) // Postgres may run as somebody else
	r := &rig{T: t, dir: dir, seed: devtest.Seed(t), rows: rows, edits: make([]int64, rows+1)}
	ctx := context.Background()
	r.keepPorts()
	r.postgres, err = dev.StartPostgres(ctx, dev.Options{Dir: dir})
	require.NoError(t, err)
	r.temporal, err = dev.StartTemporal(ctx, dev.Options{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() {
		r.temporal.Stop()
		r.postgres.Stop()
		_ = os.RemoveAll(dir) // in a temporary directory
	})
	r.database = address(r.postgres.URL)
	r.pool, err = pgxpool.New(ctx, r.database)
	require.NoError(t, err)
	t.Cleanup(r.pool.Close)
	r.store = store.New(r.pool)
	require.NoError(t, r.store.Migrate(ctx))
	r.client, err = client.DialContext(ctx, client.Options{HostPort: r.temporal.Address, Logger: silent()})
	require.NoError(t, err)
	t.Cleanup(r.client.Close)
	r.installation, err = r.store.Installation(ctx)
	require.NoError(t, err)
	for _, memory := range []string{"archive", "docs"} {
		require.NoError(t, r.store.AddMemory(ctx, resilience.Memory{Name: memory, Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping(memory)}))
		r.source.Store(&memory)
	}
	_, err = r.pool.Exec(ctx, `
		INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
		SELECT 'docs', 'a' || `+file("i")+`, i, 'edit 0 of ' || i, ARRAY[i, i % 7]::real[] FROM generate_series(1, $1::int) i`, rows)
	require.NoError(t, err)
	r.startWorker()
	r.startApplication()
	return r
}

// keepPorts chooses ports that nobody else takes while a server is away: not those that
// all stacks prefer, nor such that the kernel gives to connections.
func (r *rig) keepPorts() {
	r.Helper()
	ports := map[string]int{}
	for _, of := range []string{"postgres_port", "temporal_port", "ui_port"} {
		require.Eventually(r, func() bool {
			ports[of] = 20_000 + rand.IntN(10_000)
			listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports[of]))
			if err == nil {
				err = listener.Close()
			}
			return err == nil
		}, patience, time.Millisecond)
	}
	kept, err := json.Marshal(ports)
	require.NoError(r, err)
	require.NoError(r, os.WriteFile(filepath.Join(r.dir, "kept.json"), kept, 0o600))
}

func (r *rig) startWorker() {
	r.worker = launch(r.T, r.TempDir(), []string{"DATABASE_URL=" + r.database, "TEMPORAL_ADDRESS=" + r.temporal.Address}, anyPort)
}

// killPostgres stops Postgres as a crash does, and starts it again.
func (r *rig) killPostgres() {
	r.Helper()
	r.kill(r.postgres.PID(), syscall.SIGQUIT)
	r.meanwhile()
	var err error
	r.postgres, err = dev.StartPostgres(context.Background(), dev.Options{Dir: r.dir})
	require.NoError(r, err)
}

// killBackend ends the session of a batch, as the kernel does when memory runs out, or the
// worker's last one where it is between two batches. The server then ends all others, and
// recovers by itself.
func (r *rig) killBackend() {
	r.Helper()
	other, err := pgx.Connect(context.Background(), r.postgres.URL)
	require.NoError(r, err)
	defer func() { _ = other.Close(context.Background()) }() // the server did
	var backend int
	require.Eventually(r, func() bool {
		return other.QueryRow(context.Background(), `
			SELECT pid FROM pg_stat_activity a WHERE application_name = 'rehome worker'
			ORDER BY EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory' AND classid = 7105) DESC, state_change DESC LIMIT 1`).Scan(&backend) == nil
	}, patience, time.Millisecond)
	r.kill(backend, syscall.SIGKILL)
	require.Eventually(r, func() bool { return other.Ping(context.Background()) != nil }, patience, time.Millisecond)
	r.meanwhile()
	r.insist("reach Postgres", r.pool.Ping)
}

// killTemporal kills Temporal, and starts it again on its database file.
func (r *rig) killTemporal() {
	r.Helper()
	r.kill(r.temporal.PID(), syscall.SIGKILL)
	r.meanwhile()
	var err error
	r.temporal, err = dev.StartTemporal(context.Background(), dev.Options{Dir: r.dir})
	require.NoError(r, err)
}

// killWorker kills the worker and starts another.
func (r *rig) killWorker() {
	r.Helper()
	require.NoError(r, r.worker.cmd.Process.Kill())
	<-r.worker.done
	r.meanwhile()
	r.startWorker()
}

// freezeWorker stops the worker for longer than a heartbeat may be late, while
// another goes on; then it wakes up with a batch in its hands.
func (r *rig) freezeWorker() {
	r.Helper()
	frozen := r.worker
	frozen.signal(syscall.SIGSTOP)
	r.meanwhile()
	r.startWorker()
	<-time.After(heartbeat * 3 / 2)
	frozen.signal(syscall.SIGCONT)
	<-time.After(heartbeat / 2) // what it does then is to be seen
	require.NoError(r, frozen.cmd.Process.Kill())
	<-frozen.done
}

func (r *rig) meanwhile() {
	if r.struck != nil {
		r.struck()
	}
}

// kill sends a signal and waits until the process has gone.
func (r *rig) kill(pid int, signal syscall.Signal) {
	r.Helper()
	require.NoError(r, syscall.Kill(pid, signal))
	require.Eventually(r, func() bool { return syscall.Kill(pid, 0) != nil }, patience, 10*time.Millisecond)
}

const heartbeat = 2 * time.Second

// migrate starts a plan from one directory to another.
func (r *rig) migrate(id string, strategy resilience.Strategy, from, to string, rate float64) {
	r.Helper()
	in := r.ordered(id, rate)
	in.Renames = []resilience.RenameRule{{Old: from, New: to}}
	in.Memory, _ = r.home()
	r.start(id, strategy, in)
}

// ordered is what all plans are like.
func (r *rig) ordered(id string, rate float64) workflows.MigrateInput {
	batch := 25
	if rate == 0 { // nothing is to happen in the middle of it
		batch = 1000
	}
	return workflows.MigrateInput{
		Origin: activities.Origin{Installation: r.installation}, Migration: id, Approve: true,
		Policy: resilience.Policy{BatchSize: batch, Rate: rate},
		Tuning: workflows.Tuning{
			Slice: activities.Slice{Time: activities.Duration(time.Second)}, Heartbeat: activities.Duration(heartbeat), Look: activities.Duration(100 * time.Millisecond),
		},
	}
}

func (r *rig) start(id string, strategy resilience.Strategy, in workflows.MigrateInput) {
	r.Helper()
	r.tell(used) // a chunk that left its memory has another id
	r.insist("start "+id, func(ctx context.Context) error {
		_, err := r.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: r.workflow(id), TaskQueue: workflows.TaskQueue(r.installation)},
			workflows.MigrateName(strategy), in)
		return err
	})
}

func (r *rig) workflow(id string) string { return workflows.MigrateID(r.installation, "docs", id) }

// home is the memory and the directory where the chunks are while none move. It is where
// an application looks for them first, until they are moved from another.
func (r *rig) home() (memory, dir string) {
	r.Helper()
	r.insist("look where the chunks are", func(ctx context.Context) error {
		return r.pool.QueryRow(ctx, `SELECT memory, split_part(path, '/', 1) FROM rehome.chunks LIMIT 1`).Scan(&memory, &dir)
	})
	r.source.Store(&memory)
	return memory, dir
}

// insist does something until it succeeds: servers may be away.
func (r *rig) insist(what string, do func(context.Context) error) {
	r.Helper()
	var err error
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err = do(ctx)
		cancel()
		if err == nil {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
	require.NoError(r, err, what)
}

// abort gives the order; a run that has ended meanwhile takes none.
func (r *rig) abort(id string) {
	r.insist("find "+id, func(ctx context.Context) error { // of what is aborted before it is there nothing remains to look at
		_, err := r.store.Plan(ctx, id)
		return err
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = r.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: r.workflow(id), UpdateName: workflows.AbortUpdate,
		Args: []any{workflows.Order{Author: "chaos"}}, WaitForStage: client.WorkflowUpdateStageAccepted,
	})
}

// inside waits until a plan has moved some rows and not all.
func (r *rig) inside(id string) {
	r.Helper()
	require.Eventually(r, func() bool {
		at, err := r.store.Watermark(context.Background(), id)
		return err == nil && at.Last > 0 && at.Last < at.Total
	}, patience, 5*time.Millisecond)
}

// leaving waits until some source rows of a transfer have left, and not all.
func (r *rig) leaving(id string) {
	r.Helper()
	require.Eventually(r, func() bool {
		at, err := r.store.Retired(context.Background(), id)
		return err == nil && at.Last > 0 && at.Last < at.Total
	}, patience, 5*time.Millisecond)
}

// ends waits for the end of a plan.
func (r *rig) ends(id string) resilience.Plan {
	r.Helper()
	var plan resilience.Plan
	deadline := time.Now().Add(6 * time.Minute) // gradual waits for a server that is unwell
	for time.Now().Before(deadline) {
		var err error
		if plan, err = r.store.Plan(context.Background(), id); err == nil && plan.Status.Ended() {
			return plan
		}
		<-time.After(20 * time.Millisecond)
	}
	require.Fail(r, "the migration does not end", "%+v", plan)
	return plan
}

// settles does what a person does after a transfer that was turned round: copies that
// the application wrote to once their source rows had left stay, and are listed. What
// they say goes to the chunks that came home.
func (r *rig) settles(id string) {
	r.Helper()
	r.insist("settle "+id, func(ctx context.Context) error {
		var kept, listed int
		err := r.pool.QueryRow(ctx, `
			WITH kept AS (
				DELETE FROM rehome.chunks c USING rehome.migration_plans p JOIN rehome.migration_transfers x USING (plan_id), rehome.chunks home
				WHERE plan_id = $1 AND c.memory = x.target AND home.memory = p.memory AND c.ordinal = home.ordinal
				RETURNING p.memory, c.ordinal, c.content),
			said AS (
				UPDATE rehome.chunks home SET content = k.content FROM kept k
				WHERE home.memory = k.memory AND home.ordinal = k.ordinal AND split_part(home.content, ' ', 2)::bigint < split_part(k.content, ' ', 2)::bigint)
			SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM rehome.migration_exceptions WHERE plan_id = $1 AND undoing AND outcome = 'conflict')`, id).Scan(&kept, &listed)
		if err != nil {
			return err
		}
		require.LessOrEqual(r, kept, listed, "%s: a copy that is not listed stayed", id)
		return nil
	})
}

// conserved checks that every chunk is once in its file below dir, with its embedding and the
// last edit that the application was told of, or a later one.
func (r *rig) conserved(dir string) {
	r.Helper()
	if saw := r.wrong.Load(); saw != nil {
		require.Fail(r, *saw)
	}
	r.mu.Lock()
	edited := slices.Clone(r.edits) // edits only grow
	r.mu.Unlock()
	r.insist("look at the chunks", func(ctx context.Context) error {
		var all, here, whole, lost int
		err := r.pool.QueryRow(ctx, `
			SELECT count(*), count(*) FILTER (WHERE path = $1 || `+file("ordinal")+`),
				count(*) FILTER (WHERE embedding = ARRAY[ordinal, ordinal % 7]::real[] AND content LIKE 'edit % of ' || ordinal),
				count(*) FILTER (WHERE split_part(content, ' ', 2)::bigint < ($2::bigint[])[ordinal + 1])
			FROM rehome.chunks`, dir, edited).Scan(&all, &here, &whole, &lost)
		if err != nil {
			return err
		}
		require.Equal(r, []int{r.rows, r.rows, r.rows, 0}, []int{all, here, whole, lost}, "all, at %s, whole, edits lost", dir)
		return nil
	})
}
