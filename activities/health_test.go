package activities_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// ward is a plan of 30 chunks that works, and the server it works on.
type ward struct {
	*testing.T
	pool *pgxpool.Pool
	a    *activities.Database
	env  *testsuite.TestActivityEnvironment
}

func newWard(t *testing.T) *ward {
	t.Helper()
	pool := devtest.Pool(t)
	w := &ward{T: t, pool: pool, a: &activities.Database{Store: store.New(pool)}, env: new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()}
	w.env.SetTestTimeout(30 * time.Second)
	activities.Register(w.env, w.a)
	require.NoError(t, w.a.Store.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	w.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', 'guide/f.md', i, 'text ' || i FROM generate_series(1, 30) i`)
	require.NoError(t, w.a.Store.CreatePlan(t.Context(), store.NewPlan{
		ID: "m-1", Memory: "docs", Strategy: resilience.Gradual, Renames: []resilience.RenameRule{{Old: "guide", New: "manual"}},
		Policy: resilience.Policy{BatchSize: 4}, WorkflowID: "w", RunID: "r", Rollback: []string{"undo"},
	}))
	require.NoError(t, w.a.Store.Journal(t.Context(), "m-1"))
	require.NoError(t, w.a.Store.Queue(t.Context(), "m-1"))
	require.NoError(t, w.a.Store.Begin(t.Context(), "m-1"))
	return w
}

func (w *ward) exec(query string) {
	w.Helper()
	_, err := w.pool.Exec(w.Context(), query)
	require.NoError(w, err)
}

// check looks at the server, which other tests write to as well.
func (w *ward) check(in activities.HealthInput) resilience.HealthCheck {
	w.Helper()
	in.Migration = "m-1"
	if in.Limits == (resilience.Limits{}) {
		in.Limits = shared()
	}
	value, err := w.env.ExecuteActivity(w.a.CheckHealth, in)
	require.NoError(w, err)
	var check resilience.HealthCheck
	require.NoError(w, value.Get(&check))
	return check
}

// slice moves for a while, in batches of 20 to begin with.
func (w *ward) slice(length time.Duration) resilience.Watermark {
	w.Helper()
	return w.order(activities.SliceInput{
		Slice: activities.Slice{Time: activities.Duration(length)},
		Servo: &resilience.Servo{TargetMS: 50, Least: 1, Most: 2000, Size: 20}, Calm: true,
	})
}

// order is a slice of the plan, as it is ordered.
func (w *ward) order(in activities.SliceInput) resilience.Watermark {
	w.Helper()
	in.Migration, in.Epoch = "m-1", 1
	return w.run(w.a.MoveSlice, in)
}

// run does a slice.
func (w *ward) run(slice any, in activities.SliceInput) resilience.Watermark {
	w.Helper()
	value, err := w.env.ExecuteActivity(slice, in)
	require.NoError(w, err)
	var at resilience.Watermark
	require.NoError(w, value.Get(&at))
	require.NotNil(w, at.Pulse)
	return at
}

// kept is what people are told of the gates.
func (w *ward) kept(state resilience.GateState) []resilience.GateName {
	w.Helper()
	gates, err := w.a.Store.Gates(w.Context(), "m-1")
	require.NoError(w, err)
	names := []resilience.GateName{}
	for _, g := range gates {
		if g.State == state {
			names = append(names, g.Name)
		}
	}
	return names
}

func TestCheckHealth(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	first := w.check(activities.HealthInput{})
	require.Empty(t, first.Shut)
	require.False(t, first.Health.Baseline.At.IsZero())
	require.Positive(t, first.Health.Baseline.ProbeMS)
	require.Contains(t, w.kept(resilience.GateNotAvailable), resilience.ReplicaGate, "what does not apply is shown")

	w.exec(`CREATE TABLE public.kept AS SELECT * FROM rehome.migration_gates`)
	again := w.check(activities.HealthInput{Before: first.Health})
	require.Equal(t, first.Health.Baseline, again.Health.Baseline, "a baseline stays")
	again = w.check(activities.HealthInput{Before: first.Health}) // a retry
	require.NotEmpty(t, again.Health.Gates)
	var differ int
	require.NoError(t, w.pool.QueryRow(t.Context(), `
		SELECT count(*) FROM public.kept k JOIN rehome.migration_gates g USING (gate) WHERE g.state = 'not_available' AND k.since <> g.since AND k.state = g.state`).Scan(&differ))
	require.Zero(t, differ, "what lasts keeps its start")
}

// doorkeeper lets new connections into the database, or not.
func (w *ward) doorkeeper() func(open bool) {
	w.Helper()
	config := w.pool.Config().ConnConfig.Copy()
	name := pgx.Identifier{config.Database}.Sanitize()
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(w.Context(), config)
	require.NoError(w, err)
	w.Cleanup(func() { _ = conn.Close(context.WithoutCancel(w.Context())) })
	return func(open bool) {
		_, err := conn.Exec(w.Context(), fmt.Sprintf(`ALTER DATABASE %s ALLOW_CONNECTIONS %t`, name, open))
		require.NoError(w, err)
	}
}

// TestAServerThatCannotBeSeenShuts: nobody gets a new connection, so the look
// fails; what was known before serves for 15 seconds.
func TestAServerThatCannotBeSeenShuts(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	before := w.check(activities.HealthInput{}).Health
	allow := w.doorkeeper()
	allow(false)
	require.Empty(t, w.check(activities.HealthInput{Before: before}).Shut)
	before.Sample.At = before.Sample.At.Add(-16 * time.Second)
	stale := w.check(activities.HealthInput{Before: before})
	require.Len(t, stale.Shut, 1)
	require.Equal(t, resilience.SampleGate, stale.Shut[0].Name)
	require.Contains(t, stale.Shut[0].Detail, "not currently accepting connections")
	require.Equal(t, []resilience.GateName{resilience.SampleGate}, w.kept(resilience.GateShut))
	require.Len(t, w.check(activities.HealthInput{}).Shut, 1, "nothing was ever known")

	allow(true)
	require.Empty(t, w.check(activities.HealthInput{Before: stale.Health}).Shut, "a fresh look is enough")
	require.Empty(t, w.kept(resilience.GateShut))
}

func TestHoursAreAGate(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	now := time.Now().UTC()
	hours := now.Add(2*time.Hour).Format("15:04") + "-" + now.Add(3*time.Hour).Format("15:04")
	check := w.check(activities.HealthInput{Hours: hours})
	require.Len(t, check.Shut, 1)
	require.Contains(t, check.Shut[0].Detail, "outside the hours of this plan, until "+check.Opens.UTC().Format("2006-01-02 15:04"))
	require.WithinDuration(t, now.Add(2*time.Hour), check.Opens, 2*time.Minute)
	require.Equal(t, []resilience.GateName{resilience.HoursGate}, w.kept(resilience.GateShut))
	check = w.check(activities.HealthInput{Before: check.Health, Hours: now.Add(-time.Hour).Format("15:04") + "-" + now.Add(time.Hour).Format("15:04")})
	require.Empty(t, check.Shut)
	require.Zero(t, check.Opens)
	in := activities.HealthInput{Hours: "always"}
	in.Migration = "m-1"
	_, err := w.env.ExecuteActivity(w.a.CheckHealth, in)
	require.ErrorContains(t, err, "\"always\" has no end")
}

// TestARowThatOthersHoldIsWaitedFor: the batches get smaller, none fails, and
// the latency of our own batches shuts its gate until some looks were good.
func TestARowThatOthersHoldIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	healthy := w.check(activities.HealthInput{}).Health
	application, err := pgx.Connect(t.Context(), w.pool.Config().ConnString())
	require.NoError(t, err)
	defer application.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the test is over
	tx, err := application.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE rehome.chunks SET content = content WHERE ordinal = 1`)
	require.NoError(t, err)
	at := w.slice(time.Second)
	require.Zero(t, at.Last)
	require.Equal(t, resilience.LockTimeout, at.Pulse.Trouble)
	require.Less(t, at.Pulse.Servo.Size, 20)
	require.Contains(t, at.Pulse.Adjusted.Why, "rows that others hold")
	require.Positive(t, at.Pulse.LockMS, "what they waited is told beside what they took")
	check := w.check(activities.HealthInput{Before: healthy, Pulse: at.Pulse})
	require.Len(t, check.Shut, 1)
	require.Equal(t, resilience.OwnGate, check.Shut[0].Name)

	require.NoError(t, tx.Rollback(t.Context()))
	for range 2 {
		check = w.check(activities.HealthInput{Before: check.Health})
		require.Len(t, check.Shut, 1)
	}
	require.Empty(t, w.check(activities.HealthInput{Before: check.Health}).Shut)
	at = w.slice(time.Minute)
	require.EqualValues(t, 30, at.Last)
	require.EqualValues(t, 30, at.Pulse.Rows)
	require.Equal(t, 2, at.Pulse.Batches)
	require.Positive(t, at.Pulse.ActiveMS)
	require.EqualValues(t, 30, w.slice(time.Minute).Last, "again, and nothing is left to do")
}

// TestABatchThatWritesTooMuchIsFollowedBySmallerOnes: each row writes 3 MiB to the
// server's log.
func TestABatchThatWritesTooMuchIsFollowedBySmallerOnes(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.exec(`CREATE FUNCTION public.chatter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_logical_emit_message(true, 'x', repeat('x', 3 << 20)); RETURN new; END $$`)
	w.exec(`CREATE TRIGGER chatter BEFORE UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.chatter()`)
	at := w.order(activities.SliceInput{
		Slice: activities.Slice{Time: 1}, Servo: &resilience.Servo{TargetMS: 60_000, Least: 1, Most: 2000, Size: 20},
	})
	require.EqualValues(t, 20, at.Last)
	require.LessOrEqual(t, at.Pulse.Servo.Size, 10) // others write to the log, too
	require.Contains(t, at.Pulse.Adjusted.Why, "MiB of WAL, and 32 are the most")
}

// writeOnceHeld writes to a chunk as soon as a batch holds it.
func writeOnceHeld(ctx context.Context, pool *pgxpool.Pool, ordinal int) error {
	ctx, done := context.WithTimeout(ctx, 30*time.Second)
	defer done()
	for held := 0; held == 0; {
		if err := pool.QueryRow(ctx, `SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND ordinal = $1 AND xmax <> 0`, ordinal).Scan(&held); err != nil {
			return err
		}
	}
	_, err := pool.Exec(ctx, `UPDATE rehome.chunks SET content = content WHERE memory = 'docs' AND ordinal = $1`, ordinal)
	return err
}

// lingering lets each move take a tenth of a second.
func (w *ward) lingering() {
	w.Helper()
	w.exec(`
		CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF new.path <> old.path THEN PERFORM pg_sleep(0.1); END IF; RETURN new; END $$`)
	w.exec(`CREATE TRIGGER linger BEFORE UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.linger()`)
}

// TestABatchGivesWayToOthers: an application waits for a row of a batch that
// takes long; the batch is cancelled, and the next is smaller.
func TestABatchGivesWayToOthers(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.lingering()
	ended := make(chan error, 1)
	go func() { ended <- writeOnceHeld(context.WithoutCancel(t.Context()), w.pool, 1) }()
	at := w.slice(1800 * time.Millisecond)
	require.NoError(t, <-ended)
	require.Equal(t, resilience.InTheWay, at.Pulse.Trouble)
	require.Greater(t, at.Pulse.BlockedMS, 1000.0)
	require.Equal(t, 1, at.Pulse.Blocked)
	require.Less(t, at.Pulse.Servo.Size, 20)
	require.NotEmpty(t, w.check(activities.HealthInput{Before: resilience.Health{Baseline: resilience.Baseline{At: time.Now(), ProbeMS: 1}}, Pulse: at.Pulse}).Shut)
	require.Contains(t, w.kept(resilience.GateShut), resilience.BlockedGate)
}

func TestVacuumTableTwice(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	for range 2 {
		_, err := w.env.ExecuteActivity(w.a.VacuumTable, activities.PlanInput{Migration: "m-1"})
		require.NoError(t, err)
	}
}
