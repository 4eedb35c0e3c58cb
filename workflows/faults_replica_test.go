package workflows_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev"
	"rehome/internal/dev/workertest"
	"rehome/resilience"
	"rehome/store"
)

// replica receives the server's log as a standby does, and says that it has
// replayed it when lag has passed.
type replica struct {
	conn *pgconn.PgConn
	lag  atomic.Int64 // nanoseconds
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
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-failed)
		_ = conn.Close(context.WithoutCancel(t.Context()))
	})
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

// TestFault25ASlowReplicaIsWaitedFor: a gradual migration keeps back while a
// replica is far behind, says so, and goes on by itself.
func TestFault25ASlowReplicaIsWaitedFor(t *testing.T) {
	t.Parallel()
	// Replicas are of a whole server, so this is not the one that tests share.
	server, err := dev.StartPostgres(t.Context(), dev.Options{Dir: t.TempDir(), Ephemeral: true})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	pool, err := pgxpool.New(t.Context(), server.URL)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, store.New(pool).Migrate(t.Context()))
	r := attach(t, server.URL)
	r.lag.Store(int64(8 * time.Second))
	j := newJourneyIn(t, way{"gradual", resilience.Gradual, false}, pool)
	workertest.Start(t, server.URL, j.temporal, j.faults)
	require.Eventually(t, func() bool {
		return j.number(`SELECT count(*) FROM pg_stat_replication WHERE replay_lag > '6 s'`) == 1
	}, patience, 10*tick)
	j.depart()
	require.Eventually(t, func() bool {
		gates, err := j.store.Gates(t.Context(), j.id)
		require.NoError(t, err)
		return slices.ContainsFunc(gates, func(g resilience.Gate) bool {
			return g.Name == resilience.ReplicaGate && g.State == resilience.GateShut
		})
	}, patience, 10*tick)
	require.Equal(t, resilience.Executing, j.plan(j.id).Status, "it waits; nobody paused it")
	require.Zero(t, j.watermark())
	r.lag.Store(0)
	j.thereAndBack()
}
