package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// patient is a planned migration of 20 chunks, on whose server tests put load.
type patient struct {
	*migrations
	id     string
	before resilience.Sample
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{migrations: newMigrations(t, resilience.BuiltinMapping("docs"))}
	p.fill(10, "a.md", "b.md")
	var err error
	p.id, err = p.plan("", rule("a.md", "c.md"), rule("b.md", "d.md"))
	require.NoError(t, err)
	p.before = p.look()
	return p
}

func (p *patient) look() resilience.Sample {
	p.Helper()
	sample, err := p.store.Sample(p.Context(), p.id)
	require.NoError(p, err)
	return sample.Since(p.before)
}

// state judges a gate by a look at the server, against the one before the load.
func (p *patient) state(name resilience.GateName, l resilience.Limits) resilience.GateState {
	p.Helper()
	base := resilience.Baseline{ProbeMS: p.before.ProbeMS, Waiters: p.before.Waiters}
	for _, g := range resilience.Judge(time.Now(), p.look(), base, l) {
		if g.Name == name {
			p.Log(g.State, g.Detail)
			return g.State
		}
	}
	require.Fail(p, "no gate", name)
	return ""
}

// shuts waits until a gate does.
func (p *patient) shuts(name resilience.GateName, l resilience.Limits) {
	p.Helper()
	require.Eventually(p, func() bool { return p.state(name, l) == resilience.GateShut }, 20*time.Second, 20*time.Millisecond)
}

// session is an application's connection.
func (p *patient) session() *pgx.Conn {
	p.Helper()
	conn, err := pgx.Connect(p.Context(), p.pool.Config().ConnString())
	require.NoError(p, err)
	p.Cleanup(func() { _ = conn.Close(context.WithoutCancel(p.Context())) })
	return conn
}

// holding is a session that holds what a statement locks until it is released.
func (p *patient) holding(statement string, args ...any) (release func()) {
	p.Helper()
	conn := p.session()
	tx, err := conn.Begin(p.Context())
	require.NoError(p, err)
	_, err = tx.Exec(p.Context(), statement, args...)
	require.NoError(p, err)
	return func() { require.NoError(p, tx.Rollback(p.Context())) }
}

// waits runs a statement that meets a lock; its error comes when it ends.
func (p *patient) waits(statement string, args ...any) <-chan error {
	conn, ended := p.session(), make(chan error, 1)
	go func() {
		_, err := conn.Exec(p.Context(), statement, args...)
		ended <- err
	}()
	return ended
}

// touch is what an application does with a chunk of a journal.
const touch = `
	UPDATE rehome.chunks SET content = content WHERE id = (
		SELECT chunk_id::bigint FROM rehome.migration_moves JOIN rehome.migration_plans ON number = plan
		WHERE plan_id = $1 AND migration_moves.ordinal = $2)`

// batchOnLock starts a batch that holds its first rows and waits for its last,
// which an application holds, and another session that waits for the first.
func (p *patient) batchOnLock() (batch, other <-chan error) {
	p.Helper()
	p.holding(touch, p.id, 10) // until the test ends
	require.NoError(p, p.store.Queue(p.Context(), p.id))
	require.NoError(p, p.store.Begin(p.Context(), p.id))
	mover, err := p.store.Mover(p.Context(), p.id)
	require.NoError(p, err)
	at, err := p.store.Watermark(p.Context(), p.id)
	require.NoError(p, err)
	ended := make(chan error, 1)
	go func() {
		_, err := mover.Apply(p.Context(), at, store.Bounds{Batch: 10, Patient: true})
		ended <- err
	}()
	require.Eventually(p, func() bool { return p.batchWaits() }, 10*time.Second, 5*time.Millisecond)
	return ended, p.waits(touch, p.id, 1)
}

func (p *patient) batchWaits() bool {
	var waits bool
	err := p.pool.QueryRow(p.Context(), `
		SELECT EXISTS (SELECT FROM pg_locks w JOIN pg_locks o USING (pid) JOIN pg_stat_activity a USING (pid)
			WHERE NOT w.granted AND o.locktype = 'advisory' AND o.classid = 7105 AND a.datname = current_database())`).Scan(&waits)
	require.NoError(p, err)
	return waits
}

func TestSessionsThatWaitForABatchShutAGate(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	require.Equal(t, resilience.GateOpen, p.state(resilience.BlockedGate, resilience.DefaultLimits()))
	batch, other := p.batchOnLock()
	p.shuts(resilience.BlockedGate, resilience.DefaultLimits())
	require.Equal(t, resilience.LockTimeout, store.TroubleOf(<-batch))
	require.NoError(t, <-other)
	require.Equal(t, resilience.GateOpen, p.state(resilience.BlockedGate, resilience.DefaultLimits()))
}

func TestABatchThatIsInTheWayIsCancelled(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	batch, other := p.batchOnLock()
	var sessions int
	var longest float64
	require.Eventually(t, func() bool {
		s, _, cancelled, err := p.store.Blocking(t.Context(), "another", 0)
		require.NoError(t, err)
		require.Equal(t, 0, s, "that is none of another plan's")
		require.False(t, cancelled)
		s, ms, cancelled, err := p.store.Blocking(t.Context(), p.id, 300)
		require.NoError(t, err)
		sessions, longest = max(sessions, s), max(longest, ms)
		return cancelled
	}, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, 1, sessions)
	require.Greater(t, longest, 300.0)
	require.Equal(t, resilience.StatementTimeout, store.TroubleOf(<-batch))
	require.NoError(t, <-other)
	at, err := p.store.Watermark(t.Context(), p.id)
	require.NoError(t, err)
	require.Zero(t, at.Last)
}

// TestAGentleBatchGivesUpAtALock within a quarter of a second, and is done when
// the lock is gone.
func TestAGentleBatchGivesUpAtALock(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	release := p.holding(touch, p.id, 10)
	require.NoError(t, p.store.Queue(t.Context(), p.id))
	require.NoError(t, p.store.Begin(t.Context(), p.id))
	mover, err := p.store.Mover(t.Context(), p.id)
	require.NoError(t, err)
	at, err := p.store.Watermark(t.Context(), p.id)
	require.NoError(t, err)
	_, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 20, Gentle: true})
	require.Equal(t, resilience.LockTimeout, store.TroubleOf(err))
	took := mover.Took()
	require.Greater(t, took.Time+took.Waited, 250*time.Millisecond)
	require.Less(t, took.Time+took.Waited, 2*time.Second)
	release()
	at, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 20, Gentle: true})
	require.NoError(t, err)
	require.EqualValues(t, 20, at.Last)
}

func TestLockWaitersShutAGate(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	release := p.holding(touch, p.id, 1)
	var ended []<-chan error
	for range 6 {
		ended = append(ended, p.waits(touch, p.id, 1))
	}
	p.shuts(resilience.WaitersGate, resilience.DefaultLimits())
	release()
	for _, e := range ended {
		require.NoError(t, <-e)
	}
	require.Equal(t, resilience.GateOpen, p.state(resilience.WaitersGate, resilience.DefaultLimits()))
}

func TestManyConnectionsShutAGate(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	limits := resilience.DefaultLimits()
	limits.Connected = p.before.Connections + 12.0/200
	for range 25 { // other tests may close some of theirs meanwhile
		p.session()
	}
	p.shuts(resilience.ConnectionsGate, limits)
}

func TestMuchWALShutsAGate(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	limits := resilience.DefaultLimits()
	limits.WALBudget = 2 << 20
	require.Equal(t, resilience.GateNotAvailable, func() resilience.GateState {
		p := *p
		p.before = resilience.Sample{}
		return p.state(resilience.WALGate, limits)
	}(), "one look says nothing")
	p.before = p.look()
	p.exec(`CREATE TABLE public.much AS SELECT md5(i::text) || md5((-i)::text) AS text FROM generate_series(1, 200000) i`)
	p.exec(`INSERT INTO public.much SELECT * FROM public.much`)
	require.Equal(t, resilience.GateShut, p.state(resilience.WALGate, limits))
}

func TestDeadTuplesShutAGateUntilVacuum(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.fill(3000, "large.md")
	conn := p.session()
	dead := func(want resilience.GateState) {
		require.Eventually(t, func() bool {
			_, err := conn.Exec(t.Context(), `SELECT 1`) // a session that does something tells its statistics
			require.NoError(t, err)
			return p.state(resilience.DeadGate, resilience.DefaultLimits()) == want
		}, 20*time.Second, 100*time.Millisecond)
	}
	_, err := conn.Exec(t.Context(), `UPDATE rehome.chunks SET content = content || '!'`)
	require.NoError(t, err)
	dead(resilience.GateShut)
	require.NoError(t, p.store.Vacuum(t.Context(), p.id))
	dead(resilience.GateOpen)
	require.NoError(t, p.store.Vacuum(t.Context(), p.id))
}

func TestSlowReadsShutAGate(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	require.Positive(t, p.before.ProbeMS)
	release := p.holding(`LOCK TABLE rehome.chunks IN ACCESS EXCLUSIVE MODE`)
	p.shuts(resilience.ProbeGate, resilience.DefaultLimits())
	release()
	require.Eventually(t, func() bool {
		return p.state(resilience.ProbeGate, resilience.DefaultLimits()) != resilience.GateShut
	}, 20*time.Second, 100*time.Millisecond)
}

func TestGatesAreKeptWithTheirStart(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	first := time.Now().Truncate(time.Second)
	gates := func(waiters, probe resilience.GateState, since time.Time) []resilience.Gate {
		return []resilience.Gate{
			{Name: resilience.SampleGate, State: resilience.GateOpen, Since: since},
			{Name: resilience.WaitersGate, State: waiters, Detail: "9 sessions wait", Since: since},
			{Name: resilience.ProbeGate, State: probe, Detail: "slow", Since: since},
			{Name: resilience.ReplicaGate, State: resilience.GateNotAvailable, Detail: "no replica is attached", Since: since},
		}
	}
	read := func() map[resilience.GateName]resilience.Gate {
		kept, err := p.store.Gates(t.Context(), p.id)
		require.NoError(t, err)
		byName := map[resilience.GateName]resilience.Gate{}
		for _, g := range kept {
			byName[g.Name] = g
		}
		return byName
	}
	later := first.Add(time.Minute)
	require.NoError(t, p.store.SaveGates(t.Context(), p.id, gates(resilience.GateShut, resilience.GateNear, first)))
	require.NoError(t, p.store.SaveGates(t.Context(), p.id, gates(resilience.GateShut, resilience.GateShut, later)))
	kept := read()
	require.Len(t, kept, 3)
	require.WithinDuration(t, first, kept[resilience.WaitersGate].Since, 0, "it is shut still")
	require.WithinDuration(t, later, kept[resilience.ProbeGate].Since, 0, "near is not shut")
	require.Equal(t, "no replica is attached", kept[resilience.ReplicaGate].Detail)
	require.NoError(t, p.store.SaveGates(t.Context(), p.id, gates(resilience.GateOpen, resilience.GateOpen, later)))
	require.Len(t, read(), 1)
	require.NoError(t, p.store.SaveGates(t.Context(), p.id, gates(resilience.GateShut, resilience.GateOpen, later)))
	require.NoError(t, p.store.CancelPlan(t.Context(), p.id, "ana", "a test"))
	require.Empty(t, read(), "it waits for nothing any more")
}
