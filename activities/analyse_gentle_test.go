package activities_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
)

// inUse is a plan of a hundred chunks whose only group takes care of others, at
// twenty rows a batch.
func inUse(t *testing.T) *ward {
	t.Helper()
	pool, a, env := studied(t, 100)
	analysed(t, a, env)
	begun(t, a, env)
	w := &ward{T: t, pool: pool, a: a, env: env}
	require.NoError(t, a.Store.Steer(t.Context(), "m-1", 0, resilience.Course{
		Servo: resilience.Servo{TargetMS: 25, Least: 5, Most: 20, Size: 20}, Forecast: resilience.Forecast{BatchMS: 1.5, RowMS: 0.02}, Default: 20,
	}, nil))
	return w
}

// gently is a slice of the group.
func (w *ward) gently(length time.Duration, more func(*activities.SliceInput)) resilience.Watermark {
	w.Helper()
	in := activities.SliceInput{Adapt: true, Bounds: store.Bounds{Gentle: true}, Slice: activities.Slice{Time: activities.Duration(length)}}
	if more != nil {
		more(&in)
	}
	return w.order(in)
}

// sized is the size in force, and what was said when it changed.
func (w *ward) sized() (size int, said string) {
	w.Helper()
	groups, err := w.a.Store.Groups(w.Context(), "m-1")
	require.NoError(w, err)
	events, err := w.a.Store.Events(w.Context(), "m-1")
	require.NoError(w, err)
	var all []string
	for _, e := range events {
		if e.What == "batch size" {
			all = append(all, e.Detail)
		}
	}
	return groups[0].Course.Size(), strings.Join(all, "\n")
}

// held is an application's transaction that holds all rows.
func (w *ward) held() pgx.Tx {
	w.Helper()
	application, err := pgx.Connect(w.Context(), w.pool.Config().ConnString())
	require.NoError(w, err)
	w.Cleanup(func() { require.NoError(w, application.Close(context.WithoutCancel(w.Context()))) })
	tx, err := application.Begin(w.Context())
	require.NoError(w, err)
	_, err = tx.Exec(w.Context(), `UPDATE rehome.chunks SET content = content`)
	require.NoError(w, err)
	return tx
}

// TestAGroupThatTakesCareWaitsForRowsThatOthersHold, as gradual does: its batches get
// smaller, none fails, and the look after them knows what they took.
func TestAGroupThatTakesCareWaitsForRowsThatOthersHold(t *testing.T) {
	t.Parallel()
	w := inUse(t)
	health := w.healthy()
	tx := w.held()
	at := w.gently(time.Second, nil)
	require.Zero(t, at.Last)
	require.Equal(t, resilience.LockTimeout, at.Pulse.Trouble)
	size, said := w.sized()
	require.Less(t, size, 20)
	require.Contains(t, said, "a batch waited too long for rows that others hold")

	require.NoError(t, tx.Rollback(t.Context()))
	at = w.gently(1, func(in *activities.SliceInput) {
		in.Health = &activities.HealthInput{PlanInput: activities.PlanInput{Migration: "m-1"}, Before: health, Limits: patient()}
	})
	require.Positive(t, at.Last)
	require.Equal(t, 1, at.Pulse.Batches)
	require.InDelta(t, at.Pulse.P95MS, at.Check.Health.Sample.OwnMS, 0)
	require.EqualValues(t, 100, w.gently(time.Minute, nil).Last)
}

// TestABatchOfAGroupThatTakesCareGivesWay to a session that waits for it.
func TestABatchOfAGroupThatTakesCareGivesWay(t *testing.T) {
	t.Parallel()
	w := inUse(t)
	w.lingering()
	ended := make(chan error, 1)
	go func() { ended <- writeOnceHeld(context.WithoutCancel(t.Context()), w.pool, 1) }()
	at := w.gently(1800*time.Millisecond, nil)
	require.NoError(t, <-ended)
	require.Equal(t, resilience.InTheWay, at.Pulse.Trouble)
	size, said := w.sized()
	require.Less(t, size, 20)
	require.Contains(t, said, "a batch kept other sessions waiting")
	groups, err := w.a.Store.Groups(t.Context(), "m-1")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), groups[0].Course.Waits.Last, 10*time.Second, "the next slice knows that somebody waited")
}

// TestAWaitForALockMakesNoBatchSmaller: an application holds a row for longer than three
// times what a batch is to take. The course goes on as it was, and what was measured does
// not have the wait.
func TestAWaitForALockMakesNoBatchSmaller(t *testing.T) {
	t.Parallel()
	w := inUse(t)
	require.NoError(t, w.a.Store.Steer(t.Context(), "m-1", 0, resilience.Course{
		Servo: resilience.Servo{TargetMS: 200, Least: 5, Most: 20, Size: 20}, Forecast: resilience.Forecast{BatchMS: 1.5, RowMS: 0.02}, Default: 20,
	}, nil))
	tx := w.held()
	ended := make(chan error, 1)
	go func() {
		_, err := w.env.ExecuteActivity(w.a.MoveSlice, activities.SliceInput{
			Migration: "m-1", Epoch: 1, Adapt: true, Bounds: store.Bounds{Patient: true}, Slice: activities.Slice{Time: 1},
		})
		ended <- err
	}()
	require.Eventually(t, func() bool {
		var long bool
		require.NoError(t, w.pool.QueryRow(t.Context(), `
			SELECT coalesce(max(clock_timestamp() - waitstart) > '600ms', false) FROM pg_locks JOIN pg_stat_activity a USING (pid)
			WHERE NOT granted AND a.datname = current_database()`).Scan(&long))
		return long
	}, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, <-ended)
	groups, err := w.a.Store.Groups(t.Context(), "m-1")
	require.NoError(t, err)
	measured := groups[0].Course.Measured
	require.Len(t, measured, 1)
	require.Greater(t, measured[0].LockMS, 300.0)
	require.Less(t, measured[0].MS, measured[0].LockMS)
	size, said := w.sized()
	require.Equal(t, 20, size)
	require.Empty(t, said)
}
