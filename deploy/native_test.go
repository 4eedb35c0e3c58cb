//go:build linux

package deploy_test

import (
	"errors"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// TestServicesRunNatively goes through docker-compose.yml in its start order
// and runs each job twice, since every `docker compose up` does. The quick form
// ends with the databases: Temporal's server takes minutes to build.
func TestServicesRunNatively(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("psql is not on this machine; install postgresql-client")
	}
	m := newMachine(t)
	m.runTwice("databases")
	requireApart(m)
	if testing.Short() {
		return
	}
	m.tool("temporal-sql-tool", "tools/server/go.mod", "go.temporal.io/server/cmd/tools/sql")
	m.tool("temporal-server", "tools/server/go.mod", "go.temporal.io/server/cmd/server")
	m.tool("temporal", "tools/go.mod", "temporal")
	m.runTwice("temporal-schema")
	stopTemporal := m.start("temporal", serverPorts(m))
	m.runTwice("temporal-namespace")
	requireRetention(m, 30*24*time.Hour)

	buildImage(m)
	stopWorkers := []func(){startWorker(m), startWorker(m)}
	m.run("starter", "memory", "add", "docs", "--root", "/sources")
	m.run("starter", "ingest", "--memory", "docs")
	requireChunks(m)
	for _, stop := range stopWorkers {
		stop()
	}
	stopTemporal()
}

// connect connects to a database as the workers do.
func connect(m *machine, database string) (*pgx.Conn, error) {
	env := m.project.Services["worker"].Environment
	return pgx.Connect(m.t.Context(), "host=127.0.0.1 port="+m.postgres+
		" user="+*env["PGUSER"]+" password="+*env["PGPASSWORD"]+" dbname="+database)
}

// requireApart holds rehome to its own database.
func requireApart(m *machine) {
	m.t.Helper()
	conn, err := connect(m, "rehome")
	require.NoError(m.t, err)
	defer func() { _ = conn.Close(m.t.Context()) }()
	for _, statement := range []string{`CREATE SCHEMA rehome`, `DROP SCHEMA rehome`} {
		_, err = conn.Exec(m.t.Context(), statement)
		require.NoError(m.t, err)
	}
	_, err = connect(m, "temporal")
	denied, ok := errors.AsType[*pgconn.PgError](err)
	require.True(m.t, ok, "%v", err)
	require.Equal(m.t, "42501", denied.Code, "insufficient_privilege")
}

// requireChunks finds in the database what the command line has done.
func requireChunks(m *machine) {
	m.t.Helper()
	conn, err := connect(m, "rehome")
	require.NoError(m.t, err)
	defer func() { _ = conn.Close(m.t.Context()) }()
	var paths []string
	require.NoError(m.t, conn.QueryRow(m.t.Context(), `SELECT array_agg(DISTINCT path) FROM rehome.chunks`).Scan(&paths))
	require.Contains(m.t, paths, "rename.go", "the sources are this project's resilience")
}

// serverPorts sidesteps the ports of another Temporal on this machine.
func serverPorts(m *machine) map[string]string {
	m.t.Helper()
	ports := map[string]string{"FRONTEND_GRPC_PORT": m.temporal}
	for _, name := range []string{
		"FRONTEND_HTTP_PORT", "FRONTEND_MEMBERSHIP_PORT", "MATCHING_GRPC_PORT", "MATCHING_MEMBERSHIP_PORT",
		"HISTORY_GRPC_PORT", "HISTORY_MEMBERSHIP_PORT", "WORKER_GRPC_PORT", "WORKER_MEMBERSHIP_PORT",
	} {
		ports[name] = freePort(m.t)
	}
	return ports
}

func requireRetention(m *machine, want time.Duration) {
	m.t.Helper()
	c, err := client.DialContext(m.t.Context(), client.Options{HostPort: "127.0.0.1:" + m.temporal})
	require.NoError(m.t, err)
	defer c.Close()
	namespace := *m.project.Services["worker"].Environment["TEMPORAL_NAMESPACE"]
	found, err := c.WorkflowService().DescribeNamespace(m.t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	require.NoError(m.t, err)
	require.Equal(m.t, want, found.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
}

// buildImage builds both programs by the command of the Dockerfile.
func buildImage(m *machine) {
	m.t.Helper()
	line := regexp.MustCompile(`(?m)^ +(CGO_ENABLED=0 go build .*)$`).FindStringSubmatch(read(m.t, "Dockerfile"))
	require.NotNil(m.t, line)
	cmd := exec.CommandContext(m.t.Context(), "/bin/sh", "-euc", strings.ReplaceAll(line[1], "/out/", m.bin+"/"))
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	require.NoError(m.t, err, "%s: %s", cmd, out)
	for _, program := range []string{"worker", "starter"} {
		require.True(m.t, exists(filepath.Join(m.bin, program)), program)
	}
}

// startWorker starts a worker on a port of its own and waits until its health
// check is content.
func startWorker(m *machine) func() {
	m.t.Helper()
	service := m.project.Services["worker"]
	require.Equal(m.t, []string{"-listen=:9464"}, []string(service.Command))
	port := freePort(m.t)
	check := service.HealthCheck.Test
	address := strings.Replace(check[len(check)-1], ":9464", ":"+port, 1)
	// The last -listen is the one that counts.
	stop := m.start("worker", nil, "-listen=127.0.0.1:"+port)
	require.Eventually(m.t, func() bool {
		answer, err := http.Get(address)
		if err != nil {
			return false
		}
		defer func() { _ = answer.Body.Close() }()
		return answer.StatusCode == http.StatusOK
	}, time.Minute, 200*time.Millisecond, "the worker is not ready at %s", address)
	return stop
}
