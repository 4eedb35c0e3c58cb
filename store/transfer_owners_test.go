package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// put gives each path of a builtin memory one chunk.
func (m *migrations) put(memory string, paths ...string) {
	m.Helper()
	m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT $1, path, 1, 'text of ' || path FROM unnest($2::text[]) path`, memory, paths)
}

// owned says that a plan was refused for what another owns.
func (m *migrations) owned(err error, owner string) {
	m.Helper()
	require.ErrorIs(m, err, store.ErrConflict)
	require.ErrorContains(m, err, "is being moved by migration "+owner)
}

func TestATransferOwnsItsPathsInBothMemories(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("other", resilience.BuiltinMapping("other"))
	m.fill(3, "guide/a.md", "zoo.md")
	m.put("other", "there.md")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "other", Prefix: "guide"})
	require.NoError(t, err)
	m.apply(id, 1)

	_, err = m.plan("", rule("guide/a.md", "b.md"))
	m.owned(err, id)
	_, err = m.plan("", rule("zoo.md", "animals.md"))
	require.NoError(t, err)
	_, err = m.transfer("other", "", resilience.TransferOrder{To: "docs", Prefix: "guide"})
	m.owned(err, id)
	require.ErrorIs(t, m.store.RemoveMemory(t.Context(), "other"), store.ErrRefused)
}

// TestATransferTakesNoPlaceOfALivePlan: what a rename leaves or takes in the target,
// and what another transfer puts there, is not for a second plan to write to.
func TestATransferTakesNoPlaceOfALivePlan(t *testing.T) {
	t.Parallel()
	guide := resilience.TransferOrder{To: "docs", Prefix: "guide"}
	for name, c := range map[string]struct {
		rename  resilience.RenameRule
		refused bool
	}{
		"the target of a rename": {rule("notes.md", "guide/notes.md"), true},
		"above a target":         {rule("notes", "guide"), true},
		"the source of a rename": {rule("guide/b.md", "elsewhere.md"), true},
		"another place of it":    {rule("notes.md", "guides/notes.md"), false},
		"another name of places": {rule("notes", "others"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.memory("other", resilience.BuiltinMapping("other"))
			m.put("docs", "notes.md", "notes/c.md", "guide/b.md")
			m.put("other", "guide/a.md")
			owner, err := m.plan("", c.rename)
			require.NoError(t, err)
			id, err := m.transfer("other", "", guide)
			if !c.refused {
				require.NoError(t, err)
				return
			}
			m.owned(err, owner)
			require.Equal(t, resilience.OtherPlan, m.conflicts(id)[0].Kind)

			// And the other way round.
			require.NoError(t, m.store.CancelPlan(t.Context(), owner, "", "a test"))
			require.NoError(t, m.store.Journal(t.Context(), id))
			_, err = m.plan("", c.rename)
			m.owned(err, id)
		})
	}
}

// TestATransferOfAWholeMemoryOwnsWhatComesToItsTop: nobody plans to move that elsewhere, and
// it may sweep it. What is at other places of its target is not its own.
func TestATransferOfAWholeMemoryOwnsWhatComesToItsTop(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("other", resilience.BuiltinMapping("other"))
	m.put("docs", "guide/a.md")
	m.put("other", "there.md")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "other"})
	require.NoError(t, err)
	m.put("docs", "new/x.md")
	_, err = m.plan("", rule("new", "newer"))
	m.owned(err, id)
	_, err = m.planIn("other", "", rule("there.md", "elsewhere.md"))
	require.NoError(t, err)
	m.apply(id, -1)
	m.sweeps(id, 1)
	m.apply(id, -1)
	require.EqualValues(t, 2, m.finish(id).Moved)

	// Nor does it take what another is to put there.
	m.memory("third", resilience.BuiltinMapping("third"))
	m.put("third", "yet/to/come.md")
	first, err := m.transfer("third", "", resilience.TransferOrder{To: "docs", Prefix: "yet"})
	require.NoError(t, err)
	m.put("docs", "here.md", "too.md")
	again, err := m.transfer("docs", "", resilience.TransferOrder{To: "other"})
	m.owned(err, first)
	require.Len(t, m.conflicts(again), 1, "and this is said once, not of each place")
	require.NoError(t, m.store.CancelPlan(t.Context(), first, "", "a test"))

	// While it is undone, what it never had is not its own any more.
	undo, err := m.transfer("docs", id, resilience.TransferOrder{})
	require.NoError(t, err)
	m.put("docs", "newest/x.md")
	_, err = m.plan("", rule("newest", "oldest"))
	require.NoError(t, err)
	_, err = m.plan("", rule("guide", "manual"))
	m.owned(err, undo)

	// Nor is it while that is undone.
	m.apply(undo, -1)
	m.finish(undo)
	redo, err := m.transfer("docs", undo, resilience.TransferOrder{})
	require.NoError(t, err, "though another moves what came since")
	_, err = m.plan("", rule("guide", "manual"))
	m.owned(err, redo)
}

// TestASweepLeavesThePlacesOfOthers: of the target a transfer of a whole memory owns the
// places that it knew, and then those to which it takes what came later.
func TestASweepLeavesThePlacesOfOthers(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("other", resilience.BuiltinMapping("other"))
	m.memory("third", resilience.BuiltinMapping("third"))
	m.put("docs", "guide/a.md")
	m.put("third", "new/x.md")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "other"})
	require.NoError(t, err)
	first, err := m.transfer("third", "", resilience.TransferOrder{To: "other", Prefix: "new"})
	require.NoError(t, err)
	m.apply(id, -1)
	m.put("docs", "new/x.md", "late/y.md")
	m.sweeps(id, 1)
	_, err = m.planIn("other", "", rule("late", "later"))
	m.owned(err, id)
	m.apply(id, -1)
	m.apply(first, -1)
	require.EqualValues(t, 2, m.finish(id).Moved)
	require.EqualValues(t, 1, m.finish(first).Moved)
	require.Equal(t, 1, m.count(`SELECT count(*) FROM rehome.chunks WHERE memory = 'other' AND path = 'new/x.md'`))
	require.Equal(t, 1, m.count(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND path = 'new/x.md'`))
}

func TestTwoTransfersShareATargetAtDifferentPlaces(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("one", resilience.BuiltinMapping("one"))
	m.memory("two", resilience.BuiltinMapping("two"))
	m.put("one", "guide/a.md")
	m.put("two", "guide/b.md", "zoo/a.md")
	owner, err := m.transfer("one", "", resilience.TransferOrder{To: "docs", Prefix: "guide"})
	require.NoError(t, err)
	_, err = m.transfer("two", "", resilience.TransferOrder{To: "docs", Prefix: "guide"})
	m.owned(err, owner)
	_, err = m.transfer("two", "", resilience.TransferOrder{To: "docs"})
	m.owned(err, owner)
	other, err := m.transfer("two", "", resilience.TransferOrder{To: "docs", Prefix: "zoo"})
	require.NoError(t, err)
	m.apply(owner, -1)
	m.apply(other, -1)
	require.EqualValues(t, 1, m.finish(owner).Moved)
	require.EqualValues(t, 1, m.finish(other).Moved)

	// An undo owns its places in both memories, too.
	undo, err := m.transfer("one", owner, resilience.TransferOrder{})
	require.NoError(t, err)
	_, err = m.plan("", rule("guide/a.md", "guide/c.md"))
	m.owned(err, undo)
}

// together journals plans at once: each waits for the lock of a memory that an
// application holds until all of them do, in the order in which they are named.
func (m *migrations) together(memory string, plans ...string) []error {
	m.Helper()
	holder := m.session()
	_, err := holder.Exec(m.Context(), `SELECT FROM rehome.memories WHERE name = $1 FOR UPDATE`, memory)
	require.NoError(m, err)
	answers := make([]error, len(plans))
	var all sync.WaitGroup
	for i, id := range plans {
		all.Go(func() { answers[i] = m.store.Journal(m.Context(), id) })
		require.Eventually(m, func() bool {
			return m.count(`
				SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%rehome.memories%'`) == i+1
		}, 20*time.Second, 2*time.Millisecond, id)
	}
	require.NoError(m, holder.Rollback(m.Context()))
	all.Wait()
	return answers
}

// TestOfTwoTransfersToOnePlaceOneWins: the later one sees what the other came to own
// while it waited.
func TestOfTwoTransfersToOnePlaceOneWins(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	var plans []string
	for _, from := range []string{"one", "two"} {
		m.memory(from, resilience.BuiltinMapping(from))
		m.put(from, "guide/a.md")
		id, err := m.ask(from, "", resilience.TransferOrder{To: "docs", Prefix: "guide"})
		require.NoError(t, err)
		plans = append(plans, id)
	}
	answers := m.together("docs", plans...)
	if answers[0] != nil {
		plans[0], plans[1], answers[0], answers[1] = plans[1], plans[0], answers[1], answers[0]
	}
	require.NoError(t, answers[0])
	m.owned(answers[1], plans[0])
}

// TestTransfersThatCrossDoNotWaitForEachOther: both lock both memories.
func TestTransfersThatCrossDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("other", resilience.BuiltinMapping("other"))
	m.put("docs", "guide/a.md")
	m.put("other", "zoo/a.md")
	there, err := m.ask("docs", "", resilience.TransferOrder{To: "other", Prefix: "guide"})
	require.NoError(t, err)
	back, err := m.ask("other", "", resilience.TransferOrder{To: "docs", Prefix: "zoo"})
	require.NoError(t, err)
	for _, err := range m.together("docs", there, back) {
		require.NoError(t, err)
	}
}

// TestMemoriesOverOneTableOwnItTogether, unless their scopes keep their rows apart.
func TestMemoriesOverOneTableOwnItTogether(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	blue := notes(m, "text", "")
	red, all := blue, blue
	red.Scope, all.Scope = []resilience.Scope{{Column: "team", Value: "red"}}, nil
	for name, mapping := range map[string]resilience.Mapping{"blue": blue, "red": red, "all": all} {
		m.memory(name, mapping)
	}
	m.exec(`ALTER TABLE public.notes ALTER team SET DEFAULT 'blue'`)
	for _, team := range []string{"blue", "red"} {
		m.theirs(team, "/srv/a.md", "/srv/b.md")
	}
	plan := func(memory string) (string, error) {
		m.made++
		id := fmt.Sprintf("m-%d", m.made)
		require.NoError(t, m.store.CreatePlan(t.Context(), store.NewPlan{
			ID: id, Memory: memory, Strategy: resilience.Batch, Renames: []resilience.RenameRule{rule("a.md", "c.md")},
			Policy: resilience.Policy{BatchSize: 3}, WorkflowID: "w/" + id, RunID: "r-" + id, Rollback: []string{"undo"},
		}))
		return id, m.store.Journal(t.Context(), id)
	}
	first, err := plan("blue")
	require.NoError(t, err)
	second, err := plan("red")
	require.NoError(t, err, "other rows")
	third, err := plan("all")
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "chunks of memory blue, which is over the same table, are being moved by migration "+first)
	require.ElementsMatch(t, []resilience.Conflict{found(resilience.SharedTable, "blue", ""), found(resilience.SharedTable, "red", "")}, m.kinds(third))
	for _, id := range []string{first, second, third} {
		require.NoError(t, m.store.CancelPlan(t.Context(), id, "", "a test"))
	}
	_, err = plan("all")
	require.NoError(t, err)
	_, err = plan("blue")
	require.ErrorIs(t, err, store.ErrConflict)

	_, err = m.transfer("red", "", resilience.TransferOrder{To: "all"})
	require.ErrorIs(t, err, store.ErrRefused)
	require.ErrorContains(t, err, "memories red and all are both over table")
	_, err = m.transfer("red", "", resilience.TransferOrder{To: "blue", Prefix: "a.md"})
	require.ErrorIs(t, err, store.ErrConflict, "that plan is all's, too; else nothing would be wrong with it")
}

// TestWhoOwnsAWholeMemoryIsFoundInItsTime: not by comparing each place with each.
func TestWhoOwnsAWholeMemoryIsFoundInItsTime(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("other", resilience.BuiltinMapping("other"))
	m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', i || '.md', 1, 'text' FROM generate_series(1, 5000) i`)
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "other"})
	require.NoError(t, err)
	m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', 'new/' || i || '.md', 1, 'text' FROM generate_series(1, 5000) i`)
	m.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''20s''', current_database()); END $$`)
	m.pool.Reset() // so that it holds
	var rules []resilience.RenameRule
	for i := range 5000 {
		rules = append(rules, rule(fmt.Sprintf("new/%d.md", i+1), fmt.Sprintf("newer/%d.md", i+1)))
	}
	_, err = m.plan("", rules...)
	m.owned(err, id)
	_, err = m.transfer("docs", "", resilience.TransferOrder{To: "other"})
	m.owned(err, id)
}
