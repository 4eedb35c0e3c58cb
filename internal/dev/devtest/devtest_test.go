package devtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/internal/dev/devtest"
)

func TestMain(m *testing.M) { devtest.Main(m) }

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	one, other := devtest.Store(t), devtest.Store(t)
	require.NoError(t, one.CheckSchema(t.Context()))
	first, err := one.Installation(t.Context())
	require.NoError(t, err)
	second, err := other.Installation(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, first, second)
}

func TestEmptyDatabaseHasNoSchema(t *testing.T) {
	t.Parallel()
	pool := devtest.Connect(t, devtest.EmptyDatabase(t))
	var exists bool
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT to_regnamespace('rehome') IS NOT NULL`).Scan(&exists))
	require.False(t, exists)
}

func TestTemporalServes(t *testing.T) {
	t.Parallel()
	_, err := devtest.Temporal(t).CheckHealth(t.Context(), &client.CheckHealthRequest{})
	require.NoError(t, err)
}
