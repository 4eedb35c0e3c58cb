package store_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// tardy is a connection whose answers arrive when the gate is open.
type tardy struct {
	net.Conn
	gate *sync.RWMutex
}

func (c tardy) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.RLock()
	defer c.gate.RUnlock()
	return n, err
}

// TestTookIsTheServersTime: an answer that is long under way makes no batch a slow one.
// What the table's own triggers take, after the rows were moved, is known.
func TestTookIsTheServersTime(t *testing.T) {
	t.Parallel()
	const late = 300 * time.Millisecond
	m, id := renaming(t, 30)
	_, at := m.mover(id)
	var gate sync.RWMutex
	config := m.pool.Config()
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return tardy{conn, &gate}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	mover, err := store.New(pool).Mover(t.Context(), id)
	require.NoError(t, err)
	at, err = mover.Apply(t.Context(), at, store.Bounds{}) // the statements are prepared
	require.NoError(t, err)

	gate.Lock()
	answer := later(func() (resilience.Watermark, error) { return mover.Apply(t.Context(), at, store.Bounds{}) })
	var since time.Time
	require.Eventually(t, func() bool {
		var now time.Time
		require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&now))
		if since.IsZero() && m.at()["b.md"] == 6 {
			since = now
		}
		return !since.IsZero() && now.Sub(since) > late
	}, 20*time.Second, 5*time.Millisecond)
	gate.Unlock()
	at, err = answer()
	require.NoError(t, err)
	require.EqualValues(t, 6, at.Last)
	require.Positive(t, mover.Took().Time)
	require.Less(t, mover.Took().Time, late)

	m.exec(`CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$`)
	m.exec(`CREATE TRIGGER dawdle AFTER UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.dawdle()`)
	for _, batches := range []int{1, 3} {
		at, err = joined(t, batches, mover, at, (*store.Mover).Apply, store.Bounds{Batch: 2})
		require.NoError(t, err)
		require.Greater(t, mover.Took().Time, time.Duration(mover.Batches())*40*time.Millisecond)
	}
}
