package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// who lists what happened to a plan and who did it.
func (m *migrations) who(id string) []string {
	m.Helper()
	events, err := m.store.Events(m.Context(), id)
	require.NoError(m, err)
	var all []string
	for _, e := range events {
		require.False(m, e.At.IsZero())
		all = append(all, e.What+" "+e.Author)
	}
	return all
}

// asking is a plan of 200 chunks that awaits approval.
func (m *migrations) asking() resilience.Plan {
	m.Helper()
	m.fill(200, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(m, err)
	require.NoError(m, m.store.RequestApproval(m.Context(), id, "its risk is high"))
	return m.read(id)
}

func (m *migrations) read(id string) resilience.Plan {
	m.Helper()
	plan, err := m.store.Plan(m.Context(), id)
	require.NoError(m, err)
	return plan
}

func TestApprove(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	plan := m.asking()
	require.Equal(t, resilience.AwaitingApproval, plan.Status)
	require.Equal(t, "its risk is high", plan.Reason)
	require.Nil(t, plan.Approval)

	err := m.store.Approve(t.Context(), plan.ID, "0000", "eve")
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "its plan hash is not 0000")
	require.ErrorIs(t, m.store.Approve(t.Context(), plan.ID, "", "eve"), store.ErrConflict)
	require.ErrorIs(t, m.store.Approve(t.Context(), "m-none", plan.Hash, "eve"), store.ErrNotFound)
	require.Nil(t, m.read(plan.ID).Approval)

	require.NoError(t, m.store.Approve(t.Context(), plan.ID, plan.Hash, "ana"))
	require.NoError(t, m.store.Approve(t.Context(), plan.ID, plan.Hash, "ben"), "an answer that was lost is given again")
	require.NoError(t, m.store.Queue(t.Context(), plan.ID))
	require.NoError(t, m.store.Approve(t.Context(), plan.ID, plan.Hash, "ana"), "and again after the plan went on")
	approved := m.read(plan.ID).Approval
	require.Equal(t, "ana", approved.By)
	require.Equal(t, plan.Hash, approved.Hash)
	require.Equal(t, []string{"created ", "awaiting approval ", "approved ana", "queued "}, m.who(plan.ID))
}

func TestAnApprovalAheadIsRecordedOnce(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	id := m.queues(1)[0]
	require.NoError(t, m.store.ApproveAhead(t.Context(), id, "ana"))
	require.Nil(t, m.read(id).Approval, "it is planned no more: nobody said yes before")

	m.fill(3, "x.md")
	id, err := m.plan("", rule("x.md", "y.md"))
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, m.store.ApproveAhead(t.Context(), id, "ana"))
	}
	plan := m.read(id)
	require.Equal(t, "ana", plan.Approval.By)
	require.Equal(t, plan.Hash, plan.Approval.Hash)
	events, err := m.store.Events(t.Context(), id)
	require.NoError(t, err)
	last := events[len(events)-1]
	require.Equal(t, "approved", last.What)
	require.Equal(t, "ana", last.Author)
	require.NotEqual(t, "approved", events[len(events)-2].What)
	// A plan that asks a person all the same is not approved by it.
	require.NoError(t, m.store.RequestApproval(t.Context(), id, "its risk is high"))
	require.NoError(t, m.store.ApproveAhead(t.Context(), id, "ana"))
	require.Nil(t, m.read(id).Approval)
}

func TestAnApprovalFromBeforeCountsNoMore(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	plan := m.asking()
	require.NoError(t, m.store.Approve(t.Context(), plan.ID, plan.Hash, "ana"))
	require.NoError(t, m.store.Queue(t.Context(), plan.ID))
	for range 2 {
		require.NoError(t, m.store.RequestApproval(t.Context(), plan.ID, "it drifted"))
	}
	require.Nil(t, m.read(plan.ID).Approval)
	require.Equal(t, "it drifted", m.read(plan.ID).Reason)
	require.NoError(t, m.store.Approve(t.Context(), plan.ID, plan.Hash, "ben"))
	require.Equal(t, "ben", m.read(plan.ID).Approval.By)
}

func TestAPlanThatMovesIsNotApproved(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(4, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	m.apply(id, 1)
	require.ErrorIs(t, m.store.Approve(t.Context(), id, m.read(id).Hash, "ana"), store.ErrConflict)
}

// The reason of a plan is that of the status it has, not of one it had.
func TestThePlanSaysWhyItIsWhereItIs(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	plan := m.asking()
	ctx, id := t.Context(), plan.ID
	for _, step := range []struct {
		do     func() error
		reason string
	}{
		{func() error { return m.store.Approve(ctx, id, plan.Hash, "ana") }, "its risk is high"},
		{func() error { return m.store.Queue(ctx, id) }, ""},
		{func() error { return m.store.Begin(ctx, id) }, ""},
		{func() error { return m.store.Pause(ctx, id, "cleo", "lunch") }, "lunch"},
		{func() error { _, _, err := m.store.Resume(ctx, id, "dan", "after lunch", nil); return err }, ""},
		{func() error { return m.store.Pause(ctx, id, "eva", "") }, "asked for by eva"},
		{func() error { _, err := m.store.BeginUndo(ctx, id, "", "fay"); return err }, "asked for by fay"},
		{func() error { return m.store.EndUndo(ctx, id) }, "asked for by fay"},
	} {
		require.NoError(t, step.do())
		now := m.read(id)
		require.Equal(t, step.reason, now.Reason, now.Status)
	}
}

// The time a plan has moved for ends when it is paused.
func TestAPausedPlanSaysHowLongItMoved(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(9, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	m.apply(id, 1)
	m.exec(`UPDATE rehome.migration_progress SET first_at = first_at - interval '1 minute'`)
	require.NoError(t, m.store.Pause(t.Context(), id, "ana", ""))
	m.exec(`UPDATE rehome.migration_events SET at = at - interval '10 seconds' WHERE event = 'paused'`)
	require.InDelta(t, 50_000, m.read(id).ApplyMS, 5000)
	m.exec(`INSERT INTO rehome.migration_events (plan_id, event) SELECT plan_id, 'paused' FROM rehome.migration_plans`)
	require.InDelta(t, 50_000, m.read(id).ApplyMS, 5000, "paused again while it waited to resume")
}

// TestEveryOrderSaysWhoAndWhen walks through all orders that a person can give.
func TestEveryOrderSaysWhoAndWhen(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	plan := m.asking()
	ctx, id := t.Context(), plan.ID
	require.NoError(t, m.store.Approve(ctx, id, plan.Hash, "ana"))
	require.NoError(t, m.store.Queue(ctx, id))
	_, err := m.store.ChangeStrategy(ctx, id, store.StrategyChange{Strategy: resilience.Gradual, Author: "ben"})
	require.NoError(t, err)
	require.NoError(t, m.store.Begin(ctx, id))
	_, err = m.store.ChangeStrategy(ctx, id, store.StrategyChange{Strategy: resilience.Batch, Author: "ben"})
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "is executing; its strategy can be changed while it is queued or paused")
	require.NoError(t, m.store.Pause(ctx, id, "cleo", "lunch"))
	_, _, err = m.store.Resume(ctx, id, "dan", "", nil)
	require.NoError(t, err)
	require.NoError(t, m.store.Throttle(ctx, id, resilience.Pace{Rate: new(5.0), Expires: 60, Author: "eva"}))
	_, err = m.store.BeginUndo(ctx, id, "wrong folder", "fay")
	require.NoError(t, err)
	require.NoError(t, m.store.EndUndo(ctx, id))
	require.Equal(t, []string{
		"created ", "awaiting approval ", "approved ana", "queued ", "strategy changed ben", "started ",
		"paused cleo", "resumed dan", "throttled eva", "rolling back fay", "rolled back ",
	}, m.who(id))

	m.fill(1, "c.md")
	other, err := m.plan("", rule("c.md", "d.md"))
	require.NoError(t, err)
	require.NoError(t, m.store.CancelPlan(ctx, other, "gus", "aborted by gus"))
	require.Equal(t, []string{"created ", "cancelled gus"}, m.who(other))
}

// TestAThrottleForLessThanASecondExpiresToo: only 0 is for good.
func TestAThrottleForLessThanASecondExpiresToo(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 3)
	for expires, soon := range map[resilience.Seconds]bool{0.5: true, 0: false} {
		require.NoError(t, m.store.Throttle(t.Context(), id, resilience.Pace{Rate: new(2.0), Expires: expires}))
		var within bool
		require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT throttle_until < now() + interval '1 second' FROM rehome.migration_progress`).Scan(&within))
		require.Equal(t, soon, within)
	}
}

func TestAThrottleExpires(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(9, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	require.NoError(t, m.store.Throttle(t.Context(), id, resilience.Pace{Rate: new(2.0), Expires: 3600}))
	at, err := m.store.Watermark(t.Context(), id)
	require.NoError(t, err)
	require.InDelta(t, 2, at.Rate, 0)
	throttle := m.read(id).Throttle
	require.Equal(t, resilience.Pace{Rate: new(2.0)}, throttle.Pace)
	require.WithinDuration(t, time.Now().Add(time.Hour), *throttle.Until, time.Minute)
	m.exec(`UPDATE rehome.migration_progress SET throttle_until = now() - interval '1 second'`)
	at, err = m.store.Watermark(t.Context(), id)
	require.NoError(t, err)
	require.Zero(t, at.Rate, "the plan's own pace is in force again")
	require.Nil(t, m.read(id).Throttle)
	require.NoError(t, m.store.Throttle(t.Context(), id, resilience.Pace{BatchSize: new(7)}))
	require.Equal(t, &resilience.Throttle{Pace: resilience.Pace{BatchSize: new(7)}}, m.read(id).Throttle, "for good")
}

// TestWhatGoesAtOnceHasNoPace: it would be several transactions, as it is on the way back.
func TestWhatGoesAtOnceHasNoPace(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	id := m.queues(1)[0]
	_, err := m.store.ChangeStrategy(t.Context(), id, store.StrategyChange{Strategy: resilience.Immediate})
	require.NoError(t, err)
	for _, pace := range []resilience.Pace{{Rate: new(5.0)}, {BatchSize: new(5)}} {
		err := m.store.Throttle(t.Context(), id, pace)
		require.ErrorIs(t, err, store.ErrRefused)
		require.ErrorContains(t, err, "`starter migration strategy "+id+" batch`")
		require.Nil(t, m.read(id).Throttle)
	}
	require.NoError(t, m.store.Throttle(t.Context(), id, resilience.Pace{Rate: new(0.0)}))
	require.ErrorIs(t, m.store.Throttle(t.Context(), "m-none", resilience.Pace{Rate: new(5.0)}), store.ErrConflict)

	m.apply(id, 1)
	_, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	pace := resilience.Pace{Rate: new(5.0), BatchSize: new(2)}
	require.NoError(t, m.store.Throttle(t.Context(), id, pace))
	require.Equal(t, &resilience.Throttle{Pace: pace}, m.read(id).Throttle)
}

// TestALateUndoOfASwitchIsRefused: the undo of a migration was itself undone, and
// another has undone the migration since. Only then does an attempt to put the
// aliases back, given up at the first undo, wake up.
func TestALateUndoOfASwitchIsRefused(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(3, "a.md")
	first := m.migrate("", rule("a.md", "b.md"))
	undo, err := m.plan(first.ID)
	require.NoError(t, err)
	m.apply(undo, -1)
	require.NoError(t, m.store.Switch(t.Context(), undo))
	_, err = m.store.BeginUndo(t.Context(), undo, "a test", "")
	require.NoError(t, err)
	require.NoError(t, m.store.UndoSwitch(t.Context(), undo))
	m.revert(undo)
	m.migrate(first.ID)
	aliases, files := m.rows("rehome.version_aliases"), m.rows("rehome.files")
	require.ErrorIs(t, m.store.UndoSwitch(t.Context(), undo), store.ErrConflict)
	require.Equal(t, aliases, m.rows("rehome.version_aliases"), "nobody is led to where nothing is")
	require.Equal(t, files, m.rows("rehome.files"))
}

// TestWhatCannotGoOnSaysWhatToDo: a batch that the table refuses, and plans that
// cannot be closed yet.
func TestWhatCannotGoOnSaysWhatToDo(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(20, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	m.exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$`)
	m.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	mover, at := m.mover(id)
	_, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 20})
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "refuses more than 10 rows of a batch of "+id+", the first of them with: not this one; change what refuses them")
	m.exec(`DROP TRIGGER refuse ON rehome.chunks`)

	m.apply(id, 2)
	err = m.store.Complete(t.Context(), id)
	require.ErrorIs(t, err, store.ErrVerify)
	require.ErrorContains(t, err, "`starter migration rollback "+id+"`), and plan it again")
	_, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	err = m.store.EndUndo(t.Context(), id)
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "let them go back: `starter migration rollback "+id+"`")
}
