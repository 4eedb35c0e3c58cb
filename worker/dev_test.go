package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/internal/dev"
	"rehome/internal/dev/devtest"
	"rehome/workflows"
)

func startOptions(installation string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:        workflows.MigrateID(installation, "none", "m1"),
		TaskQueue: workflows.TaskQueue(installation),
	}
}

// checkout makes a directory that looks like a checkout of rehome, which others
// may pass: Postgres may run as somebody else.
func checkout(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rehome-worker-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.CopyFS(filepath.Join(dir, "tools"), os.DirFS("../tools")))
	return dir
}

func TestDevBringsItsStack(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	first := launch(t, dir, nil, "-dev")
	first.awaitReady(200)
	running, err := dev.Find(dir)
	require.NoError(t, err)
	require.Equal(t, first.cmd.Process.Pid, running.PID)

	t.Run("SecondIsTold", func(t *testing.T) {
		second := launch(t, dir, nil, "-dev")
		require.Equal(t, exitFailed, second.code())
		require.Contains(t, second.reason(), "is run by process")
		require.Contains(t, second.reason(), "make stop")
	})
	t.Run("OtherWorkersFindIt", func(t *testing.T) {
		inner := filepath.Join(dir, "tools")
		other := launch(t, inner, nil, anyPort)
		other.awaitReady(200)
		other.signal(syscall.SIGTERM)
		require.Zero(t, other.code())
	})
	t.Run("OtherWorkersTakeOnlyWhatIsNotNamed", func(t *testing.T) {
		other := launch(t, dir, []string{"DATABASE_URL=" + devtest.Database(t)}, anyPort)
		other.awaitReady(200)
		require.NotNil(t, other.logged("using the Temporal of the stack of this checkout"))
		require.Nil(t, other.logged("using the Postgres of the stack of this checkout"))
	})
	t.Run("KilledItStartsAgain", func(t *testing.T) {
		first.signal(syscall.SIGKILL)
		first.code()
		again := launch(t, dir, nil, "-dev")
		again.awaitReady(200)
		found, err := dev.Find(dir)
		require.NoError(t, err)
		require.Equal(t, again.cmd.Process.Pid, found.PID)

		stop := launch(t, dir, nil, "-stop")
		require.Zero(t, stop.code())
		require.Equal(t, "Stopped\n", stop.out.String())
		require.Zero(t, again.code())
		require.NotNil(t, again.logged("drained"))
		require.Contains(t, again.out.String(), "Temporal web UI  "+found.UIAddress)
		_, err = dev.Find(dir)
		require.ErrorIs(t, err, dev.ErrNotRunning)
	})
	t.Run("NothingToStop", func(t *testing.T) {
		stop := launch(t, dir, nil, "-stop")
		require.Zero(t, stop.code())
		require.Equal(t, "Nothing runs for this checkout\n", stop.out.String())
	})
}
