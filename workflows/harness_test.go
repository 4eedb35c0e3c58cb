package workflows_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/internal/dev/workertest"
	"rehome/resilience"
	"rehome/store"
	"rehome/workflows"
)

// TestMain lets more tests run at once than there are cores, since they wait most
// of the time: for servers, timers and locks. -parallel says otherwise.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	devtest.Main(m)
}

// installation is a database with one builtin memory, docs, and a worker that
// serves it.
type installation struct {
	*testing.T
	pool     *pgxpool.Pool
	store    *store.Store
	temporal client.Client
	id       string
	faults   *faults
	made     int
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	in := newIdleInstallation(t, devtest.Connect(t, devtest.Database(t)))
	workertest.Start(t, in.pool.Config().ConnString(), in.temporal, in.faults)
	return in
}

// newIdleInstallation has no worker yet.
func newIdleInstallation(t *testing.T, pool *pgxpool.Pool) *installation {
	t.Helper()
	in := &installation{T: t, pool: pool, store: store.New(pool), temporal: devtest.Temporal(t), faults: &faults{}}
	var err error
	in.id, err = in.store.Installation(t.Context())
	require.NoError(t, err)
	require.NoError(t, in.store.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	return in
}

// fill gives path n chunks with embeddings.
func (in *installation) fill(path string, n int) {
	in.Helper()
	_, err := in.pool.Exec(in.Context(), `
		INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
		SELECT 'docs', $1, i, 'text ' || i || ' of ' || $1, ARRAY[i, length($1)]::real[] FROM generate_series(1, $2::int) i`, path, n)
	require.NoError(in, err)
}

// checksum is of every row of the memory, byte for byte.
func (in *installation) checksum() string {
	in.Helper()
	var sum string
	require.NoError(in, in.pool.QueryRow(in.Context(), `SELECT coalesce(md5(string_agg(c::text, E'\n' ORDER BY id)), '') FROM rehome.chunks c`).Scan(&sum))
	return sum
}

func (in *installation) exec(query string, args ...any) {
	in.Helper()
	_, err := in.pool.Exec(in.Context(), query, args...)
	require.NoError(in, err)
}

func (in *installation) number(query string, args ...any) (n int) {
	in.Helper()
	require.NoError(in, in.pool.QueryRow(in.Context(), query, args...).Scan(&n))
	return n
}

// count says how many chunks lie at or under path.
func (in *installation) count(path string) int {
	in.Helper()
	var n int
	require.NoError(in, in.pool.QueryRow(in.Context(), `SELECT count(*) FROM rehome.chunks WHERE path = $1 OR starts_with(path, $1 || '/')`, path).Scan(&n))
	return n
}

// session is an application's own connection, in a transaction.
func (in *installation) session() pgx.Tx {
	in.Helper()
	conn, err := pgx.Connect(in.Context(), in.pool.Config().ConnString())
	require.NoError(in, err)
	in.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(in.Context())
	require.NoError(in, err)
	return tx
}

// stuckAt waits until a session waits for the lock of a table.
func (in *installation) stuckAt(table string) (pid int) {
	in.Helper()
	require.Eventually(in, func() bool {
		err := in.pool.QueryRow(in.Context(), `SELECT pid FROM pg_locks WHERE NOT granted AND relation = $1::regclass
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, table).Scan(&pid)
		return err == nil
	}, patience, tick)
	return pid
}

// quick are timings for tests: slices of a few batches, short heartbeats.
func quick() workflows.Tuning {
	return workflows.Tuning{Slice: activities.Slice{Time: activities.Duration(200 * time.Millisecond)}, Heartbeat: activities.Duration(2 * time.Second)}
}

// migrate starts a migration of docs with batches of 10 rows.
func (in *installation) migrate(policy resilience.Policy, renames ...resilience.RenameRule) (string, client.WorkflowRun) {
	in.Helper()
	return in.migrateBy(resilience.Batch, policy, renames...)
}

// migrateBy does it by another strategy.
func (in *installation) migrateBy(strategy resilience.Strategy, policy resilience.Policy, renames ...resilience.RenameRule) (string, client.WorkflowRun) {
	in.Helper()
	in.made++
	id := fmt.Sprintf("m-%d", in.made)
	if policy.BatchSize == 0 {
		policy.BatchSize = 10
	}
	run := in.start(workflows.MigrateID(in.id, "docs", id), workflows.MigrateName(strategy), workflows.MigrateInput{
		Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: id, Renames: renames, Policy: policy, Tuning: quick(),
	})
	return id, run
}

// rollback starts the undo of a migration and returns the id of the plan that would undo it.
func (in *installation) rollback(migration string) (string, client.WorkflowRun) {
	in.Helper()
	undo := "undo-" + migration
	return undo, in.start(workflows.RollbackID(in.id, "docs", migration), workflows.RollbackName, workflows.RollbackInput{
		Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: migration, Undo: undo, BatchSize: 10, Tuning: quick(),
	})
}

func (in *installation) start(id, workflow string, input any) client.WorkflowRun {
	in.Helper()
	run, err := in.temporal.ExecuteWorkflow(in.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue(in.id)}, workflow, input)
	require.NoError(in, err)
	return run
}

// update sends an order to a migration and waits for its answer.
func (in *installation) update(run client.WorkflowRun, name string, arg any) (workflows.Answer, error) {
	in.Helper()
	var answer workflows.Answer
	for {
		handle, err := in.temporal.UpdateWorkflow(in.Context(), updateOf(run.GetID(), name, arg))
		if err == nil {
			err = handle.Get(in.Context(), &answer)
		}
		if _, unready := errors.AsType[*serviceerror.WorkflowNotReady](err); !unready || in.Context().Err() != nil {
			return answer, err // else it has just gone on in a fresh history, say
		}
	}
}

func (in *installation) plan(id string) resilience.Plan {
	in.Helper()
	plan, err := in.store.Plan(in.Context(), id)
	require.NoError(in, err)
	return plan
}

// moving waits until some rows of a plan have moved and others have not.
func (in *installation) moving(id string) {
	in.Helper()
	require.Eventually(in, func() bool {
		at, err := in.store.Watermark(in.Context(), id)
		return err == nil && at.Last > 0 && at.Last < at.Total
	}, 20*time.Second, 5*time.Millisecond)
}

// ends waits for a run and returns the type of its error, empty when it has none. A run
// that minds the server's health waits for its neighbours, too.
func ends(t *testing.T, run client.WorkflowRun, result any) string {
	t.Helper()
	limit := 3 * time.Minute
	if !testing.Short() {
		limit = 10 * time.Minute
	}
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	err := run.Get(ctx, result)
	if err == nil {
		return ""
	}
	var app *temporal.ApplicationError
	if require.ErrorAs(t, err, &app); app != nil {
		return app.Type()
	}
	return ""
}

// faults fails activities by name, for good, before or after they took effect.
type faults struct {
	interceptor.WorkerInterceptorBase
	mu    sync.Mutex
	fails map[string]fault
}

type fault struct {
	after bool           // it had its effect
	times int            // how often; negative is always
	err   error          // nil is a refusal that no retry mends
	meets func(left int) // what it meets instead of an error, so many times more after this
}

func (f *faults) inject(activity string, how fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails == nil {
		f.fails = map[string]fault{}
	}
	f.fails[activity] = how
}

// next takes the fault for an activity, if it has one left.
func (f *faults) next(activity string) (fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how, ok := f.fails[activity]
	if !ok || how.times == 0 {
		return fault{}, false
	}
	how.times--
	f.fails[activity] = how
	if how.err == nil {
		how.err = temporal.NewNonRetryableApplicationError("injected into "+activity, "Injected", nil)
	}
	return how, true
}

func (f *faults) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	inbound := &faultInbound{faults: f}
	inbound.Next = next
	return inbound
}

type faultInbound struct {
	interceptor.ActivityInboundInterceptorBase
	faults *faults
}

func (f *faultInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	how, ok := f.faults.next(activity.GetInfo(ctx).ActivityType.Name)
	if ok && how.meets != nil && how.after {
		result, err := f.Next.ExecuteActivity(ctx, in)
		meeting(ctx, func() { how.meets(how.times) })
		return result, err
	}
	if ok && how.meets != nil {
		how.meets(how.times)
		return f.Next.ExecuteActivity(ctx, in)
	}
	if ok && !how.after {
		return nil, how.err
	}
	result, err := f.Next.ExecuteActivity(ctx, in)
	if ok && err == nil {
		return nil, how.err
	}
	return result, err
}

// meeting is what an activity meets that stays alive meanwhile.
func meeting(ctx context.Context, meets func()) {
	over := make(chan struct{})
	go func() { defer close(over); meets() }()
	beat := time.NewTicker(100 * time.Millisecond)
	defer beat.Stop()
	for {
		select {
		case <-over:
			return
		case <-beat.C:
			activity.RecordHeartbeat(ctx)
		}
	}
}

const (
	wait = 30 * time.Second
	tick = 10 * time.Millisecond
)

func updateOf(workflow, name string, arg any) client.UpdateWorkflowOptions {
	return client.UpdateWorkflowOptions{WorkflowID: workflow, UpdateName: name, Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted}
}
