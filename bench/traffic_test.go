package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

func TestWithinIsTheTimeOfAShare(t *testing.T) {
	t.Parallel()
	taken := make([]time.Duration, 100)
	for i := range taken {
		taken[i] = time.Duration(100-i) * time.Millisecond
	}
	require.InDelta(t, 95, within(taken, 0.95), 0.01)
	require.InDelta(t, 100, within(taken, 1), 0.01)
}

// A transaction that waits for its turn counts from when it was due.
func TestTrafficDoesNotWaitForThoseBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		flowing, stop := context.WithTimeout(t.Context(), 95*time.Millisecond)
		defer stop()
		slow := traffic{rate: 100, connections: 1, do: func(ctx context.Context, _ *pgxpool.Conn, n int) error {
			if n == 0 {
				until(ctx, time.Now().Add(50*time.Millisecond))
			}
			return nil
		}}
		taken, err := slow.flow(t.Context(), flowing, func(ctx context.Context, do func(*pgxpool.Conn) error) error { return do(nil) })
		require.NoError(t, err)
		require.Equal(t, []time.Duration{50, 40, 30, 20, 10, 0, 0, 0, 0, 0}, inMilliseconds(taken))
	})
}

func TestTrafficEndsWithTheFirstFailure(t *testing.T) {
	t.Parallel()
	broken := traffic{rate: 1000, connections: 2, do: func(context.Context, *pgxpool.Conn, int) error { return context.DeadlineExceeded }}
	_, err := broken.flow(t.Context(), t.Context(), func(ctx context.Context, do func(*pgxpool.Conn) error) error { return do(nil) })
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func inMilliseconds(taken []time.Duration) []time.Duration {
	for i := range taken {
		taken[i] /= time.Millisecond
	}
	return taken
}

func TestIntelligentIsComparedWithTheBest(t *testing.T) {
	t.Parallel()
	s := &shaped{shape: shape{name: "some", rows: 10, extension: "vector", dear: true}}
	rows := s.rowsOf("batch", []float64{1, 2, 4}, []float64{1, 2.4, 4}, []float64{10, 20, 20})
	require.Contains(t, rows[0].what, "beside batch")
	require.InDelta(t, 1.0, median(rows[0].outcomes), 0.001)
	require.False(t, rows[0].missed())
	require.InDelta(t, 0.12, median(rows[1].outcomes), 0.001)
	require.False(t, rows[1].missed())
	for _, row := range s.rowsOf("", nil, nil, nil) {
		require.Equal(t, "no pgvector", row.skipped)
	}
}
