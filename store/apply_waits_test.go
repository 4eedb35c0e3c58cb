package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// TestAWaitForALockIsNoWork: an application holds a row of a batch for more than half a
// second. That is what the batch waited, and not what it took.
func TestAWaitForALockIsNoWork(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	release := p.holding(touch, p.id, 10)
	mover, at := p.mover(p.id)
	batch := later(func() (resilience.Watermark, error) {
		return mover.Apply(t.Context(), at, store.Bounds{Batch: 20, Patient: true})
	})
	var held time.Duration
	require.Eventually(t, func() bool {
		var ms float64
		require.NoError(t, p.pool.QueryRow(t.Context(), `
			SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float8 * 1000 FROM pg_locks JOIN pg_stat_activity a USING (pid)
			WHERE NOT granted AND a.datname = current_database()`).Scan(&ms))
		held = time.Duration(ms * float64(time.Millisecond))
		return held > 600*time.Millisecond
	}, 20*time.Second, 5*time.Millisecond)
	release()
	at, err := batch()
	require.NoError(t, err)
	require.EqualValues(t, 20, at.Last)
	took := mover.Took()
	require.NoError(t, took.Unseen)
	require.Greater(t, took.Waited, held/2) // whoever looks for it may be kept from it
	require.Greater(t, took.Time+took.Waited, held)
	require.Less(t, took.Time, took.Waited)
	require.Positive(t, took.Time)
}

// TestWhatABatchWritesIsMeasured: at least what it did, and at most what all sessions did
// around it.
func TestWhatABatchWritesIsMeasured(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 30)
	m.exec(`CREATE FUNCTION public.chatter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_logical_emit_message(true, 'x', repeat('x', 65536)); RETURN NEW; END $$`)
	_, at := m.mover(id)
	for _, when := range []string{"BEFORE", "AFTER"} { // at once, and statement by statement
		m.exec(`CREATE OR REPLACE TRIGGER chatter ` + when + ` UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.chatter()`)
		mover, err := m.store.Mover(t.Context(), id)
		require.NoError(t, err)
		var before, after int64
		log := func(end *int64) {
			require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(end))
		}
		log(&before)
		next, err := mover.Apply(t.Context(), at, store.Bounds{Batch: 10})
		require.NoError(t, err)
		log(&after)
		require.Equal(t, at.Last+10, next.Last)
		require.Greater(t, mover.Took().WAL, int64(10*65536))
		require.LessOrEqual(t, mover.Took().WAL, after-before)
		at = next
	}
	m.exec(`DROP TRIGGER chatter ON rehome.chunks`)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	mover.Join(2)
	_, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 5, Together: true})
	require.NoError(t, err)
	require.Equal(t, 2, mover.Batches())
	require.Zero(t, mover.Took().WAL, "nobody asks for that of batches that go together")
}

// TestWhatRetiringTakesIsMeasured, where its batches are sized by that.
func TestWhatRetiringTakesIsMeasured(t *testing.T) {
	t.Parallel()
	m, id := toNotes(t, 10)
	m.apply(id, -1)
	require.NoError(t, m.store.SwitchReferences(t.Context(), id))
	retirer, err := m.store.Retirer(t.Context(), id)
	require.NoError(t, err)
	at, err := m.store.Retired(t.Context(), id)
	require.NoError(t, err)
	at, err = retirer.Apply(t.Context(), at, store.Bounds{Gentle: true})
	require.NoError(t, err)
	require.Positive(t, at.Last)
	require.Positive(t, retirer.Took().Time)
	require.Positive(t, retirer.Took().WAL)
}

// TestWhoeverLooksForWaitsIsNotNeeded: a batch that lasts is done without, where no
// connection is left, and where none is to be had, which is told.
func TestWhoeverLooksForWaitsIsNotNeeded(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 30)
	m.exec(`CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$`)
	m.exec(`CREATE TRIGGER dawdle BEFORE UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.dawdle()`)
	_, at := m.mover(id)
	server, err := pgx.ParseConfig(m.pool.Config().ConnString())
	require.NoError(t, err)
	name := pgx.Identifier{server.Database}.Sanitize()
	server.Database = "postgres"
	operator, err := pgx.ConnectConfig(t.Context(), server)
	require.NoError(t, err)
	t.Cleanup(func() { _ = operator.Close(context.WithoutCancel(t.Context())) })
	for connections := range int32(2) {
		config := m.pool.Config()
		config.MaxConns = 1 + connections
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		mover, err := store.New(pool).Mover(t.Context(), id)
		require.NoError(t, err)
		_, err = operator.Exec(t.Context(), `ALTER DATABASE `+name+` ALLOW_CONNECTIONS false`)
		require.NoError(t, err)
		at, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 3})
		require.NoError(t, err)
		_, err = operator.Exec(t.Context(), `ALTER DATABASE `+name+` ALLOW_CONNECTIONS true`)
		require.NoError(t, err)
		took := mover.Took()
		require.Greater(t, took.Time, 150*time.Millisecond)
		require.Zero(t, took.Waited)
		if connections == 0 {
			require.NoError(t, took.Unseen)
		} else {
			require.ErrorContains(t, took.Unseen, "not currently accepting connections")
		}
		require.Zero(t, pool.Stat().AcquiredConns())
	}
	require.EqualValues(t, 6, at.Last)
}
