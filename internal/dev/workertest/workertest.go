// Package workertest runs a worker inside a test, wired as the process is.
package workertest

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"rehome/internal/dev/devtest"
	"rehome/internal/queues"
	"rehome/store"
)

// Start serves both task queues of the installation in a database until the
// test ends. The interceptors come after the guard: a test may use them to
// count, delay or fail activities.
func Start(t testing.TB, database string, temporal client.Client, interceptors ...interceptor.WorkerInterceptor) {
	t.Helper()
	data := store.New(devtest.Connect(t, database))
	installation, err := data.Installation(t.Context())
	require.NoError(t, err)
	service := queues.Service{
		Installation: installation, Store: data, Temporal: temporal,
		Options: worker.Options{
			Interceptors: interceptors,
			// A workflow that is not deterministic fails at once, where in
			// production it waits for the fixed worker.
			WorkflowPanicPolicy: worker.FailWorkflow,
		},
	}
	for _, w := range []worker.Worker{service.Main(), service.Files()} {
		require.NoError(t, w.Start())
		t.Cleanup(w.Stop)
	}
}
