package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"rehome/internal/dev"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
	"rehome/workflows"
)

// servers is the environment that names a database and the tests' Temporal.
func servers(t *testing.T, database string) []string {
	t.Helper()
	return []string{"DATABASE_URL=" + database, "TEMPORAL_ADDRESS=" + devtest.TemporalAddress(t)}
}

const anyPort = "-listen=127.0.0.1:0"

func TestWorkerInstallsTheSchemaAndServes(t *testing.T) {
	t.Parallel()
	database := devtest.EmptyDatabase(t)
	w := launch(t, t.TempDir(), servers(t, database), anyPort)
	body := w.awaitReady(200)
	require.JSONEq(t, `{"ready":true,"servers":{"postgres":"ok","temporal":"ok"}}`, body)
	status, body := w.get("/healthz")
	require.Equal(t, 200, status)
	require.Equal(t, "ok\n", body)
	_, body = w.get("/metrics")
	require.Contains(t, body, `rehome_postgres_connections{state="max"} 16`)
	require.Contains(t, body, "# TYPE temporal_request_total counter", "a gauge cannot be used with rate()")

	data := store.New(devtest.Connect(t, database))
	require.NoError(t, data.CheckSchema(t.Context()))
	installation, err := data.Installation(t.Context())
	require.NoError(t, err)
	c := devtest.Temporal(t)
	for _, queue := range []string{workflows.TaskQueue(installation), workflows.FilesQueue(installation)} {
		described, err := c.DescribeTaskQueue(t.Context(), queue, enumspb.TASK_QUEUE_TYPE_ACTIVITY)
		require.NoError(t, err)
		require.NotEmpty(t, described.Pollers, queue)
	}
	w.signal(syscall.SIGTERM)
	require.Zero(t, w.code())
	for _, line := range w.logs {
		require.NotContains(t, line, "plain", "a log line that is not JSON")
		require.Contains(t, line, "level")
	}
}

func TestWorkerServesTheQueuesItIsGiven(t *testing.T) {
	t.Parallel()
	database := devtest.Database(t)
	w := launch(t, t.TempDir(), servers(t, database), anyPort, "-queues=files")
	w.awaitReady(200)
	installation, err := store.New(devtest.Connect(t, database)).Installation(t.Context())
	require.NoError(t, err)
	c := devtest.Temporal(t)
	for queue, want := range map[string]int{workflows.TaskQueue(installation): 0, workflows.FilesQueue(installation): 1} {
		described, err := c.DescribeTaskQueue(t.Context(), queue, enumspb.TASK_QUEUE_TYPE_ACTIVITY)
		require.NoError(t, err)
		require.Len(t, described.Pollers, want, queue)
		for _, poller := range described.Pollers {
			require.Contains(t, poller.Identity, fmt.Sprintf(":%d files", w.cmd.Process.Pid))
		}
	}
}

func TestWorkerWaitsForItsServersAndNoticesWhenTheyGo(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(devtest.Database(t))
	require.NoError(t, err)
	postgres, temporal := newProxy(t, u.Host), newProxy(t, devtest.TemporalAddress(t))
	u.Host = postgres.address
	w := launch(t, t.TempDir(), []string{"DATABASE_URL=" + u.String(), "TEMPORAL_ADDRESS=" + temporal.address}, anyPort)

	line := w.awaitLog("not reachable yet; trying again")
	require.Equal(t, "Postgres", line["server"])
	require.Equal(t, postgres.address+u.Path, line["address"])
	require.Contains(t, line["reason"], "connection refused")
	require.NotContains(t, line["reason"], "password=", "no secrets in logs")
	status, body := w.get("/readyz")
	require.Equal(t, 503, status)
	require.Contains(t, body, "waiting for Postgres and Temporal")
	status, _ = w.get("/healthz")
	require.Equal(t, 200, status, "a worker that waits is not to be restarted")

	postgres.up()
	require.Equal(t, "Postgres", w.awaitLog("connected")["server"])
	temporal.up()
	w.awaitReady(200)

	postgres.down()
	var answer report
	require.NoError(t, json.Unmarshal([]byte(w.awaitReady(503)), &answer))
	require.Equal(t, "ok", answer.Servers["temporal"])
	require.NotEqual(t, "ok", answer.Servers["postgres"])
	postgres.up()
	w.awaitReady(200)
	temporal.down()
	require.NoError(t, json.Unmarshal([]byte(w.awaitReady(503)), &answer))
	require.Equal(t, "ok", answer.Servers["postgres"])
	temporal.up()
	w.awaitReady(200)
	w.signal(syscall.SIGTERM)
	require.Zero(t, w.code())
}

func TestWorkerToldToEndWhileItWaits(t *testing.T) {
	t.Parallel()
	away := newProxy(t, "")
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		w := launch(t, t.TempDir(), []string{"DATABASE_URL=postgres://u:p@" + away.address + "/d"}, anyPort)
		w.awaitLog("not reachable yet; trying again")
		w.signal(signal)
		require.Zero(t, w.code())
	}
}

// blocked starts a workflow whose first activity waits for a lock of the
// test's, and returns what releases it.
func blocked(t *testing.T, database string) (release func(), workflow string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })
	_, err = conn.Exec(ctx, `BEGIN; LOCK TABLE rehome.memories, rehome.claims, rehome.migration_plans`)
	require.NoError(t, err)
	pool := devtest.Connect(t, database)
	installation, err := store.New(pool).Installation(ctx)
	require.NoError(t, err)
	workflow = startMigration(t, installation)
	require.Eventually(t, func() bool {
		var waiting bool
		err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE application_name = 'rehome worker' AND wait_event_type = 'Lock' AND datname = current_database())`).Scan(&waiting)
		return err == nil && waiting
	}, patience, 20*time.Millisecond)
	return func() { _, err := conn.Exec(ctx, `ROLLBACK`); require.NoError(t, err) }, workflow
}

func startMigration(t *testing.T, installation string) string {
	t.Helper()
	in := workflows.MigrateInput{Memory: "none", Migration: "m1"}
	in.Installation = installation
	run, err := devtest.Temporal(t).ExecuteWorkflow(t.Context(), startOptions(installation), workflows.MigrateName(resilience.Batch), in)
	require.NoError(t, err)
	return run.GetID()
}

func TestWorkerFinishesWhatItHasBegun(t *testing.T) {
	t.Parallel()
	database := devtest.Database(t)
	w := launch(t, t.TempDir(), servers(t, database), anyPort)
	w.awaitReady(200)
	release, workflow := blocked(t, database)
	w.signal(syscall.SIGTERM)
	require.Contains(t, w.awaitReady(503), "draining")
	release()
	require.Zero(t, w.code())
	require.NotNil(t, w.logged("drained"))

	events := devtest.Temporal(t).GetWorkflowHistory(context.Background(), workflow, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	answered := 0
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(t, err)
		if event.EventType == enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED || event.EventType == enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED {
			answered++
		}
	}
	require.Equal(t, 1, answered, "the activity that was running has told its result")
}

func TestWorkerSignalledTwiceEndsAtOnce(t *testing.T) {
	t.Parallel()
	database := devtest.Database(t)
	w := launch(t, t.TempDir(), servers(t, database), anyPort)
	w.awaitReady(200)
	release, _ := blocked(t, database)
	defer release()
	w.signal(syscall.SIGTERM)
	require.Contains(t, w.awaitReady(503), "draining")
	w.signal(syscall.SIGTERM)
	require.Equal(t, exitInterrupted, w.code())
	require.Nil(t, w.logged("drained"))
}

func TestWorkerRefuses(t *testing.T) {
	t.Parallel()
	t.Run("NewerSchema", func(t *testing.T) {
		t.Parallel()
		database := devtest.Database(t)
		_, err := devtest.Connect(t, database).Exec(t.Context(), `UPDATE rehome.schema_version SET version = 999`)
		require.NoError(t, err)
		w := ended(t, servers(t, database), anyPort)
		require.Equal(t, exitRefused, w.cmd.ProcessState.ExitCode())
		require.Contains(t, w.reason(), "schema rehome is at version 999, newer than")
	})
	t.Run("MissingRights", func(t *testing.T) {
		t.Parallel()
		database := devtest.EmptyDatabase(t)
		u, err := url.Parse(database)
		require.NoError(t, err)
		name := "weak_" + strings.TrimPrefix(u.Path, "/")
		pool := devtest.Connect(t, database)
		_, err = pool.Exec(t.Context(), `CREATE ROLE `+name+` LOGIN PASSWORD 'weak'`)
		require.NoError(t, err)
		t.Cleanup(func() { _, err := pool.Exec(context.Background(), `DROP ROLE `+name); require.NoError(t, err) })
		u.User = url.UserPassword(name, "weak")
		w := ended(t, servers(t, u.String()), anyPort)
		require.Equal(t, exitRefused, w.cmd.ProcessState.ExitCode())
		require.Contains(t, w.reason(), "permission denied for database")
		require.Contains(t, w.reason(), "grant it to the role")
	})
	t.Run("NoServers", func(t *testing.T) {
		t.Parallel()
		w := ended(t, nil, anyPort)
		require.Equal(t, exitFailed, w.cmd.ProcessState.ExitCode())
		require.Contains(t, w.reason(), "neither DATABASE_URL nor PG* names a Postgres, and no stack is running for this checkout")
	})
	t.Run("AddressInUse", func(t *testing.T) {
		t.Parallel()
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = taken.Close() }()
		w := ended(t, servers(t, devtest.EmptyDatabase(t)), "-listen="+taken.Addr().String())
		require.Equal(t, exitFailed, w.cmd.ProcessState.ExitCode())
		require.Contains(t, w.reason(), "address already in use; choose another address by -listen")
	})
	t.Run("DatabaseURLThatIsNone", func(t *testing.T) {
		t.Parallel()
		w := ended(t, servers(t, "nonsense://"), anyPort)
		require.Equal(t, exitFailed, w.cmd.ProcessState.ExitCode())
		require.Contains(t, w.reason(), "correct DATABASE_URL or PG*")
	})
}

func TestWorkerFlags(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-queues=some": "-queues some: it is all, main or files",
		"-dev -stop":   "-dev starts and -stop ends; give one of them",
		"extra":        "worker takes no arguments",
		"-nonsense":    "flag provided but not defined: -nonsense",
	} {
		var said strings.Builder
		require.Equal(t, exitUsage, run(strings.Fields(args), &said, &said), args)
		require.Contains(t, said.String(), want)
	}
	var said strings.Builder
	require.Zero(t, run([]string{"-help"}, &said, &said))
}

func TestSearchAttributesAreTheOnesOfTheStack(t *testing.T) {
	t.Parallel()
	var names []string
	for _, key := range attributes {
		names = append(names, key.GetName())
	}
	require.ElementsMatch(t, dev.SearchAttributes, names)
}
