package devtest

import (
	"log/slog"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
)

// Temporal returns a client of this test binary's Temporal, closed when the
// test ends. rehome's search attributes are registered. Tests share the
// namespace: every name of ours begins with the installation's id.
func Temporal(t testing.TB) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: TemporalAddress(t),
		Logger:   log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// TemporalAddress returns where this test binary's Temporal is, for programs
// that a test starts.
func TemporalAddress(t testing.TB) string {
	t.Helper()
	server, err := temporal()
	require.NoError(t, err)
	return server.Address
}

// TemporalCommand returns the command line of Temporal, set to this test binary's
// server.
func TemporalCommand(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	server, err := temporal()
	require.NoError(t, err)
	return exec.CommandContext(t.Context(), server.Program, append(args, "--address", server.Address)...)
}
