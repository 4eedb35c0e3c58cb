package dev_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/internal/dev"
)

const marks = `SELECT n FROM mark`

func TestStackKeepsItsStateAndAddresses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), ".rehome")
	ownPorts(t, dir, 0)
	first := stack(t, dir, t.Output())
	leaveMark(t, first.DatabaseURL)
	workflow := startWorkflow(t, first.TemporalAddress)
	first.Stop()

	second := stack(t, dir, t.Output())
	require.Equal(t, first.Running, second.Running)
	require.Equal(t, 7, query[int](t, second.DatabaseURL, marks))
	c := temporal(t, second.TemporalAddress)
	described, err := c.DescribeWorkflowExecution(t.Context(), workflow, "")
	require.NoError(t, err)
	require.Equal(t, workflow, described.WorkflowExecutionInfo.Execution.WorkflowId)
	require.Equal(t, "on", query[string](t, second.DatabaseURL, `SHOW fsync`), "people kill it, and it must not lose what it has promised")
}

func TestStackKilledLeavesNothingInTheWay(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), ".rehome")
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		require.Equal(t, "running", child(t, cmd, "stack", dir))
		running, err := dev.Find(filepath.Dir(dir))
		require.NoError(t, err)
		require.Equal(t, cmd.Process.Pid, running.PID)
		if round == 0 {
			leaveMark(t, running.DatabaseURL)
		}
		require.Equal(t, 7, query[int](t, running.DatabaseURL, marks))
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		_, err = dev.Find(filepath.Dir(dir))
		require.ErrorIs(t, err, dev.ErrNotRunning)
	}
	require.Equal(t, 7, query[int](t, stack(t, dir, t.Output()).DatabaseURL, marks))
}

// Where the kernel sends no signal on a parent's death, and where the kill hit
// the postmaster alone, servers are still there at the next start.
func TestServersLeftOverAreEnded(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	ownPorts(t, dir, 1)
	left := postgres(t, dir, t.Output())
	leaveMark(t, left.URL)
	next := postgres(t, dir, t.Output())
	require.False(t, alive(left.PID()))
	require.Equal(t, left.URL, next.URL)
	require.Equal(t, 7, query[int](t, next.URL, marks))

	engine, err := dev.StartTemporal(t.Context(), dev.Options{Dir: dir, Log: t.Output()})
	require.NoError(t, err)
	again, err := dev.StartTemporal(t.Context(), dev.Options{Dir: dir, Log: t.Output()})
	require.NoError(t, err)
	t.Cleanup(again.Stop)
	require.False(t, alive(engine.PID()))
	require.Equal(t, engine.Address, again.Address)
}

func TestPidFileOfAnotherProgramIsNoServer(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	p := postgres(t, dir, t.Output())
	leaveMark(t, p.URL)
	p.Stop()
	// After a reboot the old number is somebody else's.
	file := filepath.Join(dir, "postgres", "data", "postmaster.pid")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "%d\n%s\n", os.Getppid(), filepath.Dir(file)), 0o644))
	require.Equal(t, 7, query[int](t, postgres(t, dir, t.Output()).URL, marks))
}

func TestBusyPortsAreSidestepped(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	first := stack(t, dir, t.Output())
	first.Stop()
	for !takePorts(t, first) { // a stack of another test was quicker
		first = stack(t, dir, t.Output())
		first.Stop()
	}
	database, err := url.Parse(first.DatabaseURL)
	require.NoError(t, err)
	var said strings.Builder
	second := stack(t, dir, &said)
	require.NotEqual(t, first.DatabaseURL, second.DatabaseURL)
	require.NotEqual(t, first.TemporalAddress, second.TemporalAddress)
	require.NotEqual(t, first.UIAddress, second.UIAddress)
	require.Contains(t, said.String(), "Port "+database.Port()+" for Postgres is busy; using ")
	require.Contains(t, said.String(), "for Temporal's web UI is busy; using ")
}

// takePorts listens where a stopped stack did until the test ends, and tells
// whether it got all of its ports.
func takePorts(t *testing.T, stopped *dev.Stack) bool {
	database, err := url.Parse(stopped.DatabaseURL)
	require.NoError(t, err)
	var taken []net.Listener
	for _, address := range []string{database.Host, stopped.TemporalAddress, strings.TrimPrefix(stopped.UIAddress, "http://")} {
		listener, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			for _, listener := range taken {
				require.NoError(t, listener.Close())
			}
			return false
		}
		require.NoError(t, err)
		taken = append(taken, listener)
	}
	t.Cleanup(func() {
		for _, listener := range taken {
			_ = listener.Close() // of the test
		}
	})
	return true
}

func TestCheckoutsAreApartAndOneHasOneStack(t *testing.T) {
	t.Parallel()
	one, other := filepath.Join(openDir(t), ".rehome"), filepath.Join(openDir(t), ".rehome")
	a, b := stack(t, one, t.Output()), stack(t, other, t.Output())
	leaveMark(t, a.DatabaseURL)
	require.False(t, query[bool](t, b.DatabaseURL, `SELECT to_regclass('mark') IS NOT NULL`))
	require.NotEqual(t, a.TemporalAddress, b.TemporalAddress)

	_, err := dev.Start(t.Context(), dev.Options{Dir: one})
	require.ErrorContains(t, err, fmt.Sprintf("is run by process %d already; end that first", os.Getpid()))
	inner := filepath.Join(filepath.Dir(one), "a", "b")
	require.NoError(t, os.MkdirAll(inner, 0o755))
	found, err := dev.Find(inner)
	require.NoError(t, err)
	require.Equal(t, a.Running, *found)
}

func TestNothingRuns(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	_, err := dev.Find(dir)
	require.ErrorIs(t, err, dev.ErrNotRunning)
	require.ErrorIs(t, dev.StopRunning(t.Context(), dir), dev.ErrNotRunning)
	require.ErrorContains(t, err, "make dev")
}

func TestStopRunningEndsTheOtherProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), ".rehome")
	cmd := exec.Command(os.Args[0])
	require.Equal(t, "running", child(t, cmd, "stack", dir))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, dev.StopRunning(ctx, filepath.Dir(dir)))
	_, err := dev.Find(filepath.Dir(dir))
	require.ErrorIs(t, err, dev.ErrNotRunning)
}

func TestDamagedStateIsNamed(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kept.json"), []byte("{"), 0o600))
	_, err := dev.Start(t.Context(), dev.Options{Dir: dir})
	require.ErrorContains(t, err, "kept.json: unexpected end of JSON input; remove it")
}

// ownPorts has a stack remember ports that other tests do not ask for.
func ownPorts(t *testing.T, dir string, test int) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	base := 20000 + os.Getpid()%1000*10 + test*3
	kept := fmt.Appendf(nil, `{"postgres_port": %d, "temporal_port": %d, "ui_port": %d}`, base, base+1, base+2)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kept.json"), kept, 0o600))
}

func temporal(t *testing.T, address string) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{HostPort: address})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// startWorkflow leaves a workflow behind that nobody runs.
func startWorkflow(t *testing.T, address string) string {
	t.Helper()
	run, err := temporal(t, address).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "kept", TaskQueue: "none"}, "nobody")
	require.NoError(t, err)
	return run.GetID()
}
