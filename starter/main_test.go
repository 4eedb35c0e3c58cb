package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"rehome/activities"
	"rehome/internal/dev"
	"rehome/resilience"
	"rehome/store"
	"rehome/workflows"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	step := func(typ string) error {
		return fmt.Errorf("workflow: %w", temporal.NewNonRetryableApplicationError("as it says", typ, io.EOF))
	}
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, exitDone},
		{errors.New("anything else"), exitFailed},
		{fail(exitConflict, "ours: %w", store.ErrNotFound), exitConflict},
		{fmt.Errorf("read: %w", &store.Problem{Kind: store.ErrNotFound}), exitNotFound},
		{store.ErrInvalid, exitUsage},
		{store.ErrUnfit, exitUsage},
		{store.ErrRefused, exitRefused},
		{store.ErrRights, exitRefused},
		{store.ErrSchema, exitRefused},
		{store.ErrConflict, exitConflict},
		{store.ErrVerify, exitFailed},
		{store.ErrReturned, exitFailed},
		{store.ErrUnreachable, exitUnreachable},
		{step(activities.NotFound), exitNotFound},
		{step(activities.Invalid), exitUsage},
		{step(activities.Refused), exitRefused},
		{step(activities.Rights), exitRefused},
		{step(activities.Schema), exitRefused},
		{step(activities.Conflict), exitConflict},
		{step(activities.Unfit), exitFailed},
		{step(activities.Changed), exitFailed},
		{step(activities.Verify), exitFailed},
		{step(activities.Returned), exitFailed},
		{step(workflows.RollbackFailed), exitFailed},
		{step(workflows.Aborted), exitFailed},
		// A server that goes away in the middle.
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), exitUnreachable},
		{fmt.Errorf("ask: %w", &net.DNSError{Err: "no such host", Name: "db.example", IsNotFound: true}), exitUnreachable},
		{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, exitUnreachable},
		{fmt.Errorf("ask: %w", context.DeadlineExceeded), exitUnreachable},
		{serviceerror.NewUnavailable("away"), exitUnreachable},
		{serviceerror.NewDeadlineExceeded("late"), exitUnreachable},
		// A file is no server.
		{fmt.Errorf("read the list: %w", &fs.PathError{Op: "open", Path: "renames.tsv", Err: syscall.ENOENT}), exitFailed},
		{fmt.Errorf("read the list: %w", &fs.PathError{Op: "read", Path: "renames.tsv", Err: syscall.EIO}), exitFailed},
	} {
		require.Equal(t, c.code, exitCode(c.err), "%v", c.err)
	}
	for _, interrupt := range []error{fmt.Errorf("ask: %w", context.Canceled), serviceerror.NewCanceled("by us")} {
		err := (&session{}).engineError(interrupt)
		require.Equal(t, exitInterrupted, exitCode(err))
		require.NotContains(t, err.Error(), "cannot reach")
	}
	require.Equal(t, "as it says", message(step(activities.Refused)))
	require.Equal(t, "one line only", message(errors.New("one\n\tline only\n")))
}

func TestTook(t *testing.T) {
	t.Parallel()
	for ms, text := range map[int64]string{0: "0 ms", 999: "999 ms", 3094: "3.1 s", 127_400: "2m7s"} {
		require.Equal(t, text, resilience.Spell(ms))
	}
}

func TestStatusWithoutTemporal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.memory("default")
	b.env["TEMPORAL_ADDRESS"] = "127.0.0.1:9"
	a := b.run("status")
	require.Equal(t, exitUnreachable, a.code)
	require.Regexp(t, `(?m)^memory default +never scanned$`, a.out)
	require.Regexp(t, `(?m)^healthy +false$`, a.out)
	require.Contains(t, a.err, "cannot reach Temporal at 127.0.0.1:9")
}

// TestTemporalOfTheStack is about where Temporal is when nothing or little
// names it and the stack of this checkout runs.
func TestTemporalOfTheStack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  environment
		want site
	}{
		{environment{}, site{address: "127.0.0.1:1", namespace: "default", ui: "http://127.0.0.1:2"}},
		{environment{"DATABASE_URL": "postgres://elsewhere/db"}, site{address: "127.0.0.1:1", namespace: "default", ui: "http://127.0.0.1:2"}},
		{environment{"TEMPORAL_UI_URL": "http://ui", "TEMPORAL_NAMESPACE": "own"}, site{address: "127.0.0.1:1", namespace: "own", ui: "http://ui"}},
		{environment{"TEMPORAL_ADDRESS": "elsewhere:7233"}, site{address: "elsewhere:7233", namespace: "default"}},
	} {
		s := &session{process: process{env: c.env}, stack: &dev.Running{TemporalAddress: "127.0.0.1:1", Namespace: "default", UIAddress: "http://127.0.0.1:2"}}
		_, err := s.temporalOptions()
		require.NoError(t, err)
		require.Equal(t, c.want, s.site)
	}
}

// TestAnOrderIsSentAgainWhileTheRunIsNotReady, as one that goes on in a fresh history, and
// not for longer than somebody waits.
func TestAnOrderIsSentAgainWhileTheRunIsNotReady(t *testing.T) {
	t.Parallel()
	unready := serviceerror.NewWorkflowNotReady("a workflow task failed")
	sent := 0
	require.NoError(t, insist(t.Context(), func() error {
		if sent++; sent < 3 {
			return unready
		}
		return nil
	}))
	require.Equal(t, 3, sent)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, insist(ended, func() error { return unready }), unready)
	require.ErrorIs(t, insist(t.Context(), func() error { return io.EOF }), io.EOF)
}
