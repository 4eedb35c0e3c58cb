package activities_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/activities"
	"rehome/resilience"
)

// shared are limits that what other tests do to the server does not reach.
func shared() resilience.Limits {
	limits := resilience.DefaultLimits()
	limits.Waiters, limits.WALBudget, limits.Connected, limits.DeadShare = 1000, 1<<40, 2, 1
	return limits
}

// patient are limits that our own batches do not reach either.
func patient() resilience.Limits {
	limits := shared()
	limits.OwnMS = 1e6
	return limits
}

// minding is a slice of batches of 10 that minds the server's health.
func (w *ward) minding(length time.Duration, health activities.HealthInput) resilience.Watermark {
	w.Helper()
	health.Migration = "m-1"
	return w.order(activities.SliceInput{
		Slice: activities.Slice{Time: activities.Duration(length)},
		Servo: &resilience.Servo{TargetMS: 50, Least: 10, Most: 10, Size: 10}, Health: &health,
	})
}

// healthy is how the server was before, as reads go however slow.
func (w *ward) healthy() resilience.Health {
	w.Helper()
	health := w.check(activities.HealthInput{Limits: patient()}).Health
	health.Baseline.ProbeMS = 1000
	return health
}

// TestASliceEndsWhenTheServerDoesNotBearIt, before its next batch, and says why.
func TestASliceEndsWhenTheServerDoesNotBearIt(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	activities.LookEvery(w.a, 1) // before each batch
	healthy := w.healthy()
	limits := patient()
	limits.Connected = 0
	at := w.minding(time.Minute, activities.HealthInput{Before: healthy, Limits: limits})
	require.Zero(t, at.Last)
	require.Len(t, at.Check.Shut, 1)
	require.Equal(t, resilience.ConnectionsGate, at.Check.Shut[0].Name)
	require.Equal(t, []resilience.GateName{resilience.ConnectionsGate}, w.kept(resilience.GateShut))

	at = w.minding(time.Minute, activities.HealthInput{Before: healthy, Limits: patient()})
	require.EqualValues(t, 30, at.Last, "it bears all of it")
	require.Nil(t, at.Check, "nothing is left to look for")
	require.EqualValues(t, 30, at.Pulse.Rows, "in all stretches between the looks")
	require.Equal(t, 3, at.Pulse.Batches)
	require.Empty(t, w.kept(resilience.GateShut))
}

// TestASliceEndsWithALook that knows what the batches since the last one took.
func TestASliceEndsWithALook(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	healthy := w.healthy()
	at := w.minding(1, activities.HealthInput{Before: healthy, Limits: patient()})
	require.EqualValues(t, 10, at.Last)
	require.Empty(t, at.Check.Shut)
	require.InDelta(t, at.Pulse.P95MS, at.Check.Health.Sample.OwnMS, 0)
	require.True(t, at.Check.Health.Sample.At.After(healthy.Sample.At))
	require.Equal(t, healthy.Baseline.At, at.Check.Health.Baseline.At)
}

// TestASliceThatBeginsLateLooksFirst: the look before it was for another hour.
func TestASliceThatBeginsLateLooksFirst(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	now := time.Now().UTC()
	hours := now.Add(2*time.Hour).Format("15:04") + "-" + now.Add(3*time.Hour).Format("15:04")
	for name, apart := range map[string]time.Duration{"an hour ago": -time.Hour, "by a clock that was put back": time.Hour} {
		before := w.healthy()
		before.Sample.At = before.Sample.At.Add(apart)
		at := w.minding(time.Minute, activities.HealthInput{Before: before, Limits: patient(), Hours: hours})
		require.Zero(t, at.Last, name)
		require.Len(t, at.Check.Shut, 1, name)
		require.Equal(t, resilience.HoursGate, at.Check.Shut[0].Name, name)
	}
}

// TestASliceRestsLongerNearALimit: twice as long.
func TestASliceRestsLongerNearALimit(t *testing.T) {
	t.Parallel()
	const nice = 300
	w := newWard(t)
	before := w.healthy()
	before.Gates = []resilience.Gate{{Name: resilience.WALGate, State: resilience.GateNear}}
	health := activities.HealthInput{Before: before}
	health.Migration = "m-1"
	began := time.Now()
	at := w.order(activities.SliceInput{Slice: activities.Slice{Time: 1}, Servo: &resilience.Servo{TargetMS: 50, Least: 1, Most: 10, Size: 10}, Nice: nice, Health: &health})
	require.EqualValues(t, 10, at.Last)
	require.Greater(t, time.Since(began).Seconds(), at.Pulse.ActiveMS*(1+2*nice)/1000)
}

// leaving brings a transfer of 30 chunks, t-1, to its last step.
func (w *ward) leaving() {
	w.Helper()
	require.NoError(w, w.a.Store.AddMemory(w.Context(), resilience.Memory{Name: "other", Root: w.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("other")}))
	w.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', 'left/f.md', 100 + i, 'text ' || i FROM generate_series(1, 30) i`)
	for _, step := range []struct{ activity, in any }{
		{w.a.PlanMigration, activities.PlanMigrationInput{
			Owner: activities.Owner{WorkflowID: "w", RunID: "r"}, Memory: "docs", Migration: "t-1", Strategy: resilience.Gradual,
			Transfer: resilience.TransferOrder{To: "other", Prefix: "left"}, Rollback: []string{"undo"},
		}},
		{w.a.QueueMigration, activities.QueueInput{PlanInput: activities.PlanInput{Migration: "t-1"}}},
		{w.a.TakeSlot, activities.PlanInput{Migration: "t-1"}},
		{w.a.BeginMigration, activities.BeginInput{PlanInput: activities.PlanInput{Migration: "t-1"}}},
		{w.a.MoveSlice, activities.SliceInput{Migration: "t-1", Epoch: 1}},
		{w.a.SwitchReferences, activities.PlanInput{Migration: "t-1"}},
	} {
		_, err := w.env.ExecuteActivity(step.activity, step.in)
		require.NoError(w, err)
	}
}

// TestTheLastStepOfATransferMindsTheServer like any slice.
func TestTheLastStepOfATransferMindsTheServer(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.leaving()
	activities.LookEvery(w.a, 1)
	servo, limits := resilience.NewServo(resilience.GradualAim, 1000, false), patient()
	in := activities.SliceInput{Migration: "t-1", Epoch: 1, Servo: &servo, Health: &activities.HealthInput{Before: w.healthy()}}
	in.Health.Migration = "t-1"
	limits.Connected = 0
	in.Health.Limits = limits
	at := w.run(w.a.RetireSlice, in)
	require.Zero(t, at.Last)
	require.Equal(t, resilience.ConnectionsGate, at.Check.Shut[0].Name)
	in.Health.Limits = patient()
	require.EqualValues(t, 30, w.run(w.a.RetireSlice, in).Last)
}

// TestTheLastStepOfATransferGivesWay to who waits for a row of ours, and to who holds
// one. The batches get smaller, and none fails.
func TestTheLastStepOfATransferGivesWay(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.leaving()
	slice := func(length time.Duration) resilience.Watermark {
		return w.run(w.a.RetireSlice, activities.SliceInput{
			Migration: "t-1", Epoch: 1, Slice: activities.Slice{Time: activities.Duration(length)},
			Servo: &resilience.Servo{TargetMS: 50, Least: 1, Most: 2000, Size: 20}, Calm: true,
		})
	}
	w.exec(`CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN old; END $$`)
	w.exec(`CREATE TRIGGER linger BEFORE DELETE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.linger()`)
	ended := make(chan error, 1)
	go func() { ended <- writeOnceHeld(context.WithoutCancel(t.Context()), w.pool, 101) }()
	at := slice(1800 * time.Millisecond)
	require.NoError(t, <-ended)
	require.Equal(t, resilience.InTheWay, at.Pulse.Trouble)
	require.Greater(t, at.Pulse.BlockedMS, 1000.0)
	require.Less(t, at.Pulse.Servo.Size, 20)
	w.exec(`DROP TRIGGER linger ON rehome.chunks`)

	tx, err := w.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE rehome.chunks SET content = content WHERE memory = 'docs' AND ordinal = 130`)
	require.NoError(t, err)
	at = slice(2 * time.Second)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Less(t, at.Last, int64(30))
	require.Equal(t, resilience.LockTimeout, at.Pulse.Trouble)
	require.Less(t, at.Pulse.Servo.Size, 20)
	require.EqualValues(t, 30, slice(time.Minute).Last)
}
