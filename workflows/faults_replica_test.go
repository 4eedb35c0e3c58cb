package workflows_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev"
	"rehome/internal/dev/devtest"
	"rehome/internal/dev/workertest"
	"rehome/resilience"
	"rehome/store"
	"rehome/workflows"
)

// replica receives the server's log as a standby does, and says that it has
// replayed it when lag has passed.
type replica struct {
	conn   *pgconn.PgConn
	lag    atomic.Int64 // nanoseconds
	detach func()
}

func attach(t *testing.T, database string) *replica {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), database+"&replication=true")
	require.NoError(t, err)
	system, err := conn.Exec(t.Context(), "IDENTIFY_SYSTEM").ReadAll()
	require.NoError(t, err)
	conn.Frontend().SendQuery(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION PHYSICAL %s", system[0].Rows[0][2])})
	require.NoError(t, conn.Frontend().Flush())
	r := &replica{conn: conn}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	failed := make(chan error, 1)
	go func() { failed <- r.follow(ctx) }()
	r.detach = sync.OnceFunc(func() {
		stop()
		require.NoError(t, <-failed)
		_ = conn.Close(context.WithoutCancel(t.Context()))
	})
	t.Cleanup(r.detach)
	return r
}

// follow receives, and reports every now and then.
func (r *replica) follow(ctx context.Context) error {
	type arrival struct {
		at  time.Time
		lsn uint64
	}
	var unplayed []arrival
	var played, received uint64
	for ctx.Err() == nil {
		moment, done := context.WithTimeout(ctx, 100*time.Millisecond)
		message, err := r.conn.ReceiveMessage(moment)
		done()
		if err != nil && !pgconn.Timeout(err) && ctx.Err() == nil {
			return err
		}
		if data, ok := message.(*pgproto3.CopyData); ok && data.Data[0] == 'w' { // start, end, time, log
			received = binary.BigEndian.Uint64(data.Data[1:]) + uint64(len(data.Data)-25)
			unplayed = append(unplayed, arrival{time.Now(), received})
		}
		for len(unplayed) > 0 && time.Since(unplayed[0].at) >= time.Duration(r.lag.Load()) {
			played, unplayed = unplayed[0].lsn, unplayed[1:]
		}
		if received == 0 || ctx.Err() != nil {
			continue
		}
		report := []byte{'r'} // written, flushed, replayed, time, no answer wanted
		for _, lsn := range []uint64{received, received, played, 0} {
			report = binary.BigEndian.AppendUint64(report, lsn)
		}
		r.conn.Frontend().Send(&pgproto3.CopyData{Data: append(report, 0)})
		if err := r.conn.Frontend().Flush(); err != nil {
			return err
		}
	}
	return nil
}

// followed is a gentle journey on a server with a replica, which is not the one
// that tests share: replicas are of a whole server. The migration's role is the
// server's own or, where hidden is asked for, one that may not see replicas.
func followed(t *testing.T, w way, hidden bool) (j *journey, r *replica, server *pgxpool.Pool) {
	t.Helper()
	postgres, err := dev.StartPostgres(t.Context(), dev.Options{Dir: t.TempDir(), Ephemeral: true})
	require.NoError(t, err)
	t.Cleanup(postgres.Stop)
	server = devtest.Connect(t, postgres.URL)
	database := postgres.URL
	if hidden {
		_, err := server.Exec(t.Context(), `
			CREATE ROLE modest LOGIN PASSWORD 'modest';
			DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO modest', current_database()); END $$`)
		require.NoError(t, err)
		u, err := url.Parse(database)
		require.NoError(t, err)
		u.User = url.UserPassword("modest", "modest")
		database = u.String()
	}
	pool := devtest.Connect(t, database)
	require.NoError(t, store.New(pool).Migrate(t.Context()))
	r = attach(t, postgres.URL)
	j = newJourneyIn(t, w, pool)
	workertest.Start(t, database, j.temporal, j.faults)
	return j, r, server
}

// free is how many rows may have moved before a replica is looked for.
func (w way) free() int64 {
	if w.inUse {
		return unused
	}
	return 0
}

// kept waits until the gate of the replicas keeps the journey back, and returns why.
func (j *journey) kept() (why string) {
	j.Helper()
	require.Eventually(j, func() bool {
		gates, err := j.store.Gates(j.Context(), j.id)
		require.NoError(j, err)
		at := slices.IndexFunc(gates, func(g resilience.Gate) bool {
			return g.Name == resilience.ReplicaGate && g.State == resilience.GateShut
		})
		if at >= 0 {
			why = gates[at].Detail
		}
		return at >= 0
	}, patience, 10*tick)
	require.Equal(j, resilience.Executing, j.plan(j.id).Status, "it waits; nobody paused it")
	return why
}

// eachGentleWay runs a test on the ways that wait for replicas, each with a server of its
// own; in the quick form on so many of them.
func eachGentleWay(t *testing.T, quickly int, do func(t *testing.T, w way)) {
	t.Helper()
	ways := gentleWays()
	if testing.Short() {
		if ways = ways[:quickly]; quickly == 0 {
			t.Skip("a server of its own; in the quick form a replica stops in another")
		}
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			do(t, w)
		})
	}
}

// late is a journey on a server whose replica is far behind.
func late(t *testing.T, w way) (j *journey, r *replica, server *pgxpool.Pool) {
	t.Helper()
	j, r, server = followed(t, w, false)
	r.lag.Store(int64(8 * time.Second))
	require.Eventually(t, func() bool {
		var behind bool
		err := server.QueryRow(t.Context(), `SELECT coalesce(bool_or(replay_lag > '6 s'), false) FROM pg_stat_replication`).Scan(&behind)
		return err == nil && behind
	}, patience, 10*tick)
	return j, r, server
}

// TestFault25ASlowReplicaIsWaitedFor: a gentle migration keeps back while a
// replica is far behind, says so, and goes on by itself.
func TestFault25ASlowReplicaIsWaitedFor(t *testing.T) {
	t.Parallel()
	eachGentleWay(t, 0, func(t *testing.T, w way) {
		j, r, _ := late(t, w)
		j.depart()
		require.Contains(t, j.kept(), "the slowest of 1 replicas is")
		require.LessOrEqual(j, j.watermark(), w.free())
		r.lag.Store(0)
		j.thereAndBack()
	})
}

// TestFault25AReplicaThatStopsIsWaitedFor: nothing shows how far one is behind that is
// not attached any more.
func TestFault25AReplicaThatStopsIsWaitedFor(t *testing.T) {
	t.Parallel()
	eachGentleWay(t, 1, func(t *testing.T, w way) {
		j, r, server := late(t, w)
		j.depart()
		j.kept()
		require.LessOrEqual(j, j.watermark(), w.free())
		r.detach()
		require.Eventually(t, func() bool { return strings.Contains(j.kept(), "1 of 1 replicas are not attached any more") }, patience, 10*tick)
		attach(t, server.Config().ConnString())
		j.thereAndBack()
	})
}

// TestFault25AReplicaThatStopsInTheMiddleIsWaitedFor, from the next look on.
func TestFault25AReplicaThatStopsInTheMiddleIsWaitedFor(t *testing.T) {
	t.Parallel()
	eachGentleWay(t, 0, func(t *testing.T, w way) {
		j, r, server := followed(t, w, false)
		g := j.shut(away)
		j.depart()
		g.waiting()
		j.told(j.run, workflows.ThrottleUpdate, resilience.Pace{Rate: new(5.0), Author: "ana"})
		var now time.Time
		require.NoError(t, j.pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&now))
		require.Eventually(t, func() bool { // a try that knows of it
			var tries int
			err := j.pool.QueryRow(t.Context(), fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE xact_start > $1 AND pid IN (`+waiter+`)`, g.lock), now).Scan(&tries)
			return err == nil && tries > 0
		}, patience, tick)
		r.detach()
		g.open()
		require.Eventually(t, func() bool { return strings.Contains(j.kept(), "1 of 1 replicas are not attached any more") }, patience, tick)
		at := j.watermark()
		require.Greater(t, at, w.free())
		require.Less(t, at, int64(travellers))
		attach(t, server.Config().ConnString())
		j.thereAndBack()
	})
}

// TestFault25AReplicaThatCannotBeSeenIsNotTakenForAGoodOne: to a role without
// pg_monitor a replica that has replayed everything looks like one that is late. A
// gentle migration keeps back, says what to grant, and goes on when it is granted.
func TestFault25AReplicaThatCannotBeSeenIsNotTakenForAGoodOne(t *testing.T) {
	t.Parallel()
	eachGentleWay(t, 0, func(t *testing.T, w way) {
		j, _, server := followed(t, w, true)
		require.Equal(t, 1, j.number(`SELECT count(*) FROM pg_stat_replication WHERE replay_lag IS NULL AND replay_lsn IS NULL`), "it is there, and that is all")
		j.depart()
		require.Contains(t, j.kept(), "1 replicas are attached whose lag cannot be seen; grant pg_monitor")
		_, err := server.Exec(t.Context(), `GRANT pg_monitor TO modest`)
		require.NoError(t, err)
		j.thereAndBack()
	})
}
