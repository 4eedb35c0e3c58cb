package main

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev"
	"rehome/resilience"
	"rehome/store"
)

// TestAStandbyTakesOver promotes a synchronous standby while a plan moves chunks, and, in
// the long form, the next one while an aborted plan moves them back, and in an intelligent
// transfer. The worker and the
// application go on at the same address, nothing that they were told of is lost,
// and what a session of before still writes to the old server counts for nothing.
func TestAStandbyTakesOver(t *testing.T) {
	t.Parallel()
	rows := 20_000
	if testing.Short() {
		rows = 2_000
	}
	var address *proxy
	r := newRigAt(t, rows, func(database string) string {
		u, err := url.Parse(database)
		require.NoError(t, err)
		address = newProxy(t, u.Host)
		address.up()
		u.Host = address.address
		return u.String()
	})

	rate := float64(rows) / 6
	standby := r.standBy()
	r.migrate("m-forward", resilience.Batch, "a", "b", rate)
	r.inside("m-forward")
	r.failover(address, standby, "m-forward")
	plan := r.ends("m-forward")
	require.Equal(t, resilience.Completed, plan.Status, plan.Reason)
	require.EqualValues(t, rows, plan.Moved)
	r.conserved("b")
	if !testing.Short() {
		r.migrate("m-home", resilience.Immediate, "b", "a", 0)
		require.Equal(t, resilience.Completed, r.ends("m-home").Status)
		standby = r.standBy()
		r.migrate("m-back", resilience.Batch, "a", "b", rate)
		r.when("m-back", func(at resilience.Watermark) bool { return at.Last > at.Total/2 })
		r.abort("m-back")
		r.when("m-back", func(at resilience.Watermark) bool { return at.Epoch == 2 })
		r.failover(address, standby, "m-back")
		require.Equal(t, resilience.RolledBack, r.ends("m-back").Status)
		r.conserved("a")
		way := travel{resilience.Intelligent, true} // gradual waits for a standby that is gone, for a quarter of an hour
		standby = r.standBy()
		r.departs("m-transfer", way, r.slowly())
		r.inside("m-transfer")
		r.failover(address, standby, "m-transfer")
		r.arrives("m-transfer", way)
	}
	r.quiet()
	require.NotZero(t, r.reads.Load())
	require.NotZero(t, r.writes.Load())
}

// when waits until a plan is as far as that.
func (r *rig) when(plan string, far func(at resilience.Watermark) bool) {
	r.Helper()
	require.Eventually(r, func() bool {
		at, err := r.store.Watermark(context.Background(), plan)
		return err == nil && far(at)
	}, patience, 5*time.Millisecond)
}

// standBy gives the server a standby, made of a copy of its files, without which
// it acknowledges no commit.
func (r *rig) standBy() *dev.Postgres {
	r.Helper()
	dir, err := os.MkdirTemp("", "rehome-rig-")
	require.NoError(r, err)
	require.NoError(r, os.Chmod(dir, 0o755))
	r.Cleanup(func() { _ = os.RemoveAll(dir) })
	r.postgres.Stop()
	for _, part := range []string{"postgres", "kept.json"} {
		out, err := exec.Command("cp", "-a", filepath.Join(r.dir, part), dir).CombinedOutput()
		require.NoError(r, err, "%s", out)
	}
	signal := exec.Command("cp", "-a", filepath.Join(dir, "postgres", "data", "PG_VERSION"), filepath.Join(dir, "postgres", "data", "standby.signal")) // with its owner
	require.NoError(r, signal.Run())
	r.postgres, err = dev.StartPostgres(context.Background(), dev.Options{Dir: r.dir, Settings: []string{"synchronous_standby_names=heir"}})
	require.NoError(r, err)
	standby, err := dev.StartPostgres(context.Background(), dev.Options{Dir: dir, Settings: []string{"primary_conninfo=" + r.postgres.URL + "&application_name=heir"}})
	require.NoError(r, err)
	r.Cleanup(standby.Stop)
	primary := r.connect(r.postgres.URL)
	require.Eventually(r, func() bool {
		var state string
		err := primary.QueryRow(context.Background(), `SELECT sync_state FROM pg_stat_replication WHERE application_name = 'heir'`).Scan(&state)
		return err == nil && state == "sync"
	}, patience, 10*time.Millisecond)
	r.dir = dir
	return standby
}

// nowhere is an address that nobody can listen on.
const nowhere = "127.0.0.1:0"

func (r *rig) connect(database string) *pgxpool.Pool {
	r.Helper()
	pool, err := pgxpool.New(context.Background(), database)
	require.NoError(r, err)
	r.Cleanup(pool.Close)
	return pool
}

// failover lets the standby take over at the address of the server, which is cut
// off but still there for who knows it.
func (r *rig) failover(address *proxy, standby *dev.Postgres, plan string) {
	r.Helper()
	ctx := context.Background()
	old, heir := r.postgres, r.connect(standby.URL)
	zombie := store.New(r.connect(old.URL))
	mover, err := zombie.Mover(ctx, plan)
	require.NoError(r, err)
	address.leadTo(nowhere)
	require.Eventually(r, func() bool { // what it replays may cancel the order itself
		var follows bool
		_, _ = heir.Exec(ctx, `SELECT pg_promote()`)
		err := heir.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&follows)
		return err == nil && !follows
	}, patience, 10*time.Millisecond)
	before, err := store.New(heir).Watermark(ctx, plan)
	require.NoError(r, err)
	lost, err := zombie.Watermark(ctx, plan)
	require.NoError(r, err)
	require.Equal(r, lost.Epoch, before.Epoch)
	require.Equal(r, lost.Wish, before.Wish)

	step := mover.Apply
	if lost.Wish == resilience.WishUndo {
		step = mover.Revert
	}
	next, err := step(ctx, lost, store.Bounds{})
	require.NoError(r, err)
	require.NotEqual(r, lost.Last, next.Last, "whoever is cut off with the old server goes on there")
	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	require.Error(r, zombie.Settle(limited, plan), "but is told of no commit")

	there, err := url.Parse(standby.URL)
	require.NoError(r, err)
	address.leadTo(there.Host)
	after, err := store.New(heir).Watermark(ctx, plan)
	require.NoError(r, err)
	require.Equal(r, before.Epoch, after.Epoch)
	old.Stop()
	r.postgres = standby
}
