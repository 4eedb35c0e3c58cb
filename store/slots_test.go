package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// queues makes n plans that touch nothing of each other, in the queue in their order.
func (m *migrations) queues(n int) []string {
	m.Helper()
	ids := make([]string, n)
	for i := range ids {
		path := string(rune('a' + i))
		m.fill(3, path+".md")
		var err error
		ids[i], err = m.plan("", rule(path+".md", path+"/moved.md"))
		require.NoError(m, err)
		require.NoError(m, m.store.Queue(m.Context(), ids[i]))
	}
	return ids
}

// takes asks for a slot and returns the plans that stand before it, nil when it got one.
func (m *migrations) takes(id string, gone ...string) []string {
	m.Helper()
	granted, before, err := m.store.TakeSlot(m.Context(), id, gone)
	require.NoError(m, err)
	require.Equal(m, granted, len(before) == 0)
	return named(before)
}

func named(slots []store.Slot) []string {
	var ids []string
	for _, s := range slots {
		ids = append(ids, s.Plan)
	}
	return ids
}

func (m *migrations) slots() []string {
	m.Helper()
	var ids []string
	require.NoError(m, m.pool.QueryRow(m.Context(), `SELECT array_agg(plan_id ORDER BY plan_id) FROM rehome.migration_slots`).Scan(&ids))
	return ids
}

func (m *migrations) concurrent(n string) {
	m.Helper()
	m.exec(`INSERT INTO rehome.settings (key, value) VALUES ('max_concurrent_migrations', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, n)
}

func TestSlotsAreGivenFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	ids := m.queues(4)
	require.Equal(t, ids[:2], m.takes(ids[2]), "the first two come before it, although neither has asked")
	require.Empty(t, m.takes(ids[1]), "one place is for the first, one is left")
	require.Empty(t, m.takes(ids[1]), "it has it already")
	require.Equal(t, []string{ids[1], ids[0]}, m.takes(ids[2]), "holders first, then those that wait")
	require.Empty(t, m.takes(ids[0]))
	require.NoError(t, m.store.Begin(t.Context(), ids[0]))
	require.NoError(t, m.store.Begin(t.Context(), ids[1]))
	require.Empty(t, m.takes(ids[0]), "an answer that was lost is given again")
	require.Equal(t, []string{ids[0], ids[1], ids[2]}, m.takes(ids[3]))

	m.apply(ids[1], -1)
	m.complete(ids[1])
	require.Equal(t, []string{ids[0], ids[2]}, m.takes(ids[3]), "whoever asks first, the third is next")
	require.Empty(t, m.takes(ids[2]))
	require.Equal(t, []string{ids[0], ids[2]}, m.slots())
}

func TestStanding(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.concurrent("1")
	ids := m.queues(3)
	stands := func(id string) (resilience.Status, []string) {
		status, before, err := m.store.Standing(t.Context(), id)
		require.NoError(t, err)
		return status, named(before)
	}
	status, before := stands(ids[0])
	require.Equal(t, resilience.Queued, status)
	require.Empty(t, before, "there is a slot for it")
	m.takes(ids[0])
	_, before = stands(ids[2])
	require.Equal(t, ids[:2], before)
	_, before = stands(ids[0])
	require.Empty(t, before)
	require.NoError(t, m.store.Begin(t.Context(), ids[0]))
	require.NoError(t, m.store.Pause(t.Context(), ids[0], "ana", ""))
	status, before = stands(ids[0])
	require.Equal(t, resilience.Paused, status)
	require.Empty(t, before, "it is not to go on")
	m.takes(ids[1])
	_, _, err := m.store.Resume(t.Context(), ids[0], "ana", "", nil)
	require.NoError(t, err)
	status, before = stands(ids[0])
	require.Equal(t, resilience.Paused, status)
	require.Equal(t, ids[1:], before)
	_, _, err = m.store.Standing(t.Context(), "m-none")
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestMaxConcurrentMigrationsIsReadEachTime(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.concurrent("1")
	ids := m.queues(3)
	require.Empty(t, m.takes(ids[0]))
	require.Equal(t, ids[:1], m.takes(ids[1]))
	m.concurrent("3")
	require.Empty(t, m.takes(ids[1]))
	require.Empty(t, m.takes(ids[2]))
}

func TestAHolderWhoseRunIsClosedLosesItsSlot(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.concurrent("1")
	ids := m.queues(3)
	require.Empty(t, m.takes(ids[0]))
	require.NoError(t, m.store.Begin(t.Context(), ids[0]))
	_, before, err := m.store.TakeSlot(t.Context(), ids[2], nil)
	require.NoError(t, err)
	require.Equal(t, []store.Slot{
		{Plan: ids[0], WorkflowID: "w/" + ids[0], RunID: "r-" + ids[0], Taken: true},
		{Plan: ids[1], WorkflowID: "w/" + ids[1], RunID: "r-" + ids[1]},
	}, before)
	require.Empty(t, m.takes(ids[2], ids[0], ids[1]), "neither the holder nor who waited is there any more")
	require.Equal(t, []string{ids[2]}, m.slots())
}

func TestAPausedPlanGivesItsSlotBackAndQueuesAgain(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.concurrent("1")
	ids := m.queues(3)
	require.Empty(t, m.takes(ids[0]))
	require.NoError(t, m.store.Begin(t.Context(), ids[0]))
	require.NoError(t, m.store.Pause(t.Context(), ids[0], "ana", "lunch"))
	require.Empty(t, m.slots())
	require.Empty(t, m.takes(ids[1]))

	for range 2 {
		resumed, before, err := m.store.Resume(t.Context(), ids[0], "ben", "", nil)
		require.NoError(t, err)
		require.False(t, resumed)
		require.Equal(t, []string{ids[1], ids[2]}, named(before), "it comes after those that came while it was paused")
	}
	require.NoError(t, m.store.CancelPlan(t.Context(), ids[1], "ana", "not now"))
	require.Equal(t, []string{ids[2]}, func() []string {
		_, before, err := m.store.Resume(t.Context(), ids[0], "ben", "", nil)
		require.NoError(t, err)
		return named(before)
	}())
	require.NoError(t, m.store.CancelPlan(t.Context(), ids[2], "ana", "not now"))
	resumed, _, err := m.store.Resume(t.Context(), ids[0], "ben", "", nil)
	require.NoError(t, err)
	require.True(t, resumed)
	require.Equal(t, []string{ids[0]}, m.slots())
	require.Equal(t, []string{"created ", "queued ", "started ", "paused ana", "resume asked ben", "resumed ben"}, m.who(ids[0]))
}

// TestAPauseLeavesTheQueue: who was told to resume, waits, and is told to pause
// again must not stand in the way of others.
func TestAPauseLeavesTheQueue(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.concurrent("1")
	ids := m.queues(3)
	m.takes(ids[0])
	require.NoError(t, m.store.Begin(t.Context(), ids[0]))
	require.NoError(t, m.store.Pause(t.Context(), ids[0], "ana", ""))
	m.takes(ids[1])
	_, _, err := m.store.Resume(t.Context(), ids[0], "ana", "", nil)
	require.NoError(t, err)
	m.exec(`UPDATE rehome.migration_plans SET queued_at = queued_at + interval '1 hour' WHERE plan_id = $1`, ids[2])
	require.Equal(t, []string{ids[1], ids[0]}, m.takes(ids[2]))
	require.NoError(t, m.store.Pause(t.Context(), ids[0], "ben", "wait"))
	require.NoError(t, m.store.Pause(t.Context(), ids[0], "ben", "wait"))
	require.Equal(t, []string{ids[1]}, m.takes(ids[2]))
	require.Equal(t, []string{"created ", "queued ", "started ", "paused ana", "resume asked ana", "paused ben"}, m.who(ids[0]))
}

func TestPlansThatEndLeaveNoSlot(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(m *migrations, id string){
		"Completed":  func(m *migrations, id string) { m.apply(id, -1); m.complete(id) },
		"RolledBack": func(m *migrations, id string) { m.apply(id, 1); m.revert(id) },
		"Cancelled": func(m *migrations, id string) {
			require.NoError(m, m.store.CancelPlan(m.Context(), id, "ana", "a test"))
		},
		"ApprovedAgain": func(m *migrations, id string) {
			require.NoError(m, m.store.RequestApproval(m.Context(), id, "it drifted"))
		},
		"Failed": func(m *migrations, id string) {
			m.apply(id, 1)
			_, err := m.store.BeginUndo(m.Context(), id, "a test", "")
			require.NoError(m, err)
			require.Empty(m, m.slots(), "the undo needs none")
			require.NoError(m, m.store.FailUndo(m.Context(), id, "a test"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.concurrent("1")
			ids := m.queues(2)
			require.Empty(t, m.takes(ids[0]))
			end(m, ids[0])
			require.Empty(t, m.slots())
			require.Empty(t, m.takes(ids[1]), "the next one's turn")
		})
	}
}

// TestAnUndoNeedsNoSlot: it goes before everything, after a pause too.
func TestAnUndoNeedsNoSlot(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.concurrent("1")
	m.fill(4, "z.md")
	done := m.migrate("", rule("z.md", "z/moved.md"))
	ids := m.queues(1)
	require.Empty(t, m.takes(ids[0]))
	undo, err := m.plan(done.ID)
	require.NoError(t, err)
	m.apply(undo, 1)
	require.NoError(t, m.store.Pause(t.Context(), undo, "ana", ""))
	resumed, before, err := m.store.Resume(t.Context(), undo, "ana", "", nil)
	require.NoError(t, err)
	require.True(t, resumed, before)
	require.Equal(t, ids, m.slots(), "nor does it take one")
}
