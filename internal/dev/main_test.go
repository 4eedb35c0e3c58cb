package dev_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev"
)

// The test binary is also the process that runs a stack, so that it can be
// killed or run as somebody else: the environment says what it is to do.
const roleKey = "REHOME_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	dir := os.Getenv("REHOME_TEST_DIR")
	switch os.Getenv(roleKey) {
	case "stack":
		var s *dev.Stack
		s, err = dev.Start(context.Background(), dev.Options{Dir: dir, Log: os.Stderr})
		if err == nil {
			stopOnTerm(s) // as `worker -dev` does
		}
		report(err, "running")
		runtime.KeepAlive(s) // its lock is freed when it is collected
	case "postgres":
		var p *dev.Postgres
		if p, err = dev.StartPostgres(context.Background(), dev.Options{Dir: dir, Log: os.Stderr}); err == nil {
			defer p.Stop()
			report(err, p.URL)
			return
		}
		report(err, "")
	case "binaries":
		var bin string
		bin, err = dev.Binaries(context.Background(), []string{filepath.Join(dir, "place")}, filepath.Join(dir, "download"), os.Stderr)
		report(err, bin)
	default:
		os.Exit(m.Run())
	}
}

// stopOnTerm lets the stack end, and then this process, when it is told to.
func stopOnTerm(s *dev.Stack) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	go func() {
		<-told
		s.Stop()
		os.Exit(0)
	}()
}

// report says how it went in one line, and waits until it is killed or the
// test closes our standard input.
func report(err error, result string) {
	if err != nil {
		fmt.Println("error:", strings.ReplaceAll(err.Error(), "\n", " | "))
		return
	}
	fmt.Println(result)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// child runs this test binary in a role and returns its first line.
func child(t *testing.T, cmd *exec.Cmd, role, dir string) string {
	t.Helper()
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, roleKey+"="+role, "REHOME_TEST_DIR="+dir)
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // it may have been killed
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

// stack starts a stack that ends with the test.
func stack(t *testing.T, dir string, log io.Writer) *dev.Stack {
	t.Helper()
	s, err := dev.Start(t.Context(), dev.Options{Dir: dir, Log: log})
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return s
}

func postgres(t *testing.T, dir string, log io.Writer) *dev.Postgres {
	t.Helper()
	p, err := dev.StartPostgres(t.Context(), dev.Options{Dir: dir, Log: log})
	require.NoError(t, err)
	t.Cleanup(p.Stop)
	return p
}

// query runs one statement that returns one value.
func query[T any](t *testing.T, url, statement string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var value T
	require.NoError(t, conn.QueryRow(t.Context(), statement).Scan(&value))
	return value
}

// openDir returns a directory that others may pass. The one of testing belongs
// to us alone.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rehome-dev-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
