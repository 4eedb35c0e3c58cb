package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// inGroups decides as the analysis does, for a table with so costly an update.
func inGroups(c resilience.Circumstances) store.Grouping {
	return func(found store.Journalled) []resilience.Group {
		c.Undoing, c.Late = found.Undoing, found.Late
		return resilience.Decide(resilience.Gather(found.Directories), c)
	}
}

func plainCosts() resilience.Circumstances {
	return resilience.Circumstances{Costs: resilience.NewCosts(resilience.Physics{Rows: 5000, PathIndexes: []string{"i"}}, 0, "")}
}

// ordered is the directories of the journal's rows in its order, without repeats.
func (m *migrations) ordered(id string) []string {
	m.Helper()
	rows, err := m.pool.Query(m.Context(), `
		SELECT regexp_replace(p.old_path, '/[^/]*$', '') FROM rehome.migration_moves mv JOIN rehome.migration_paths p USING (path_id)
		JOIN rehome.migration_plans l ON l.number = mv.plan WHERE l.plan_id = $1 ORDER BY mv.ordinal`, id)
	require.NoError(m, err)
	var all []string
	for rows.Next() {
		var dir string
		require.NoError(m, rows.Scan(&dir))
		if len(all) == 0 || all[len(all)-1] != dir {
			all = append(all, dir)
		}
	}
	require.NoError(m, rows.Err())
	return all
}

func (m *migrations) planIntelligent(id string, policy resilience.Policy, rules ...resilience.RenameRule) {
	m.Helper()
	policy.BatchSize = 50
	require.NoError(m, m.store.CreatePlan(m.Context(), store.NewPlan{
		ID: id, Memory: "docs", Strategy: resilience.Intelligent, Renames: rules, Policy: policy, WorkflowID: "w/" + id, RunID: "r", Rollback: []string{"undo"},
	}))
	require.NoError(m, m.store.Journal(m.Context(), id))
}

// TestGroupsAreRangesOfTheJournal: cold before hot, small before large, every
// row in one, and the plan's hash is that of the new order.
func TestGroupsAreRangesOfTheJournal(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(600, "d/hot/a.md", "d/large/a.md", "d/large/b.md")
	m.fill(510, "d/cold/x.md")
	m.fill(5, "d/top.md", "d/tiny/a.md")
	m.exec(`SELECT rehome.touch('docs', (SELECT array_agg(id::text) FROM rehome.chunks WHERE path LIKE 'd/hot/%'))`)
	m.planIntelligent("m-1", resilience.Policy{}, rule("d", "e"))
	before, err := m.store.Plan(t.Context(), "m-1")
	require.NoError(t, err)

	groups, err := m.store.Group(t.Context(), "m-1", nil, inGroups(plainCosts()))
	require.NoError(t, err)
	var names []string
	last := int64(0)
	for _, g := range groups {
		names = append(names, fmt.Sprintf("%s %s %d", g.Inputs.Heat, g.Name, g.Rows))
		require.Equal(t, last+g.Rows, g.Until)
		last = g.Until
	}
	require.Equal(t, []string{"cold d and 1 more 10", "cold d/cold 510", "cold d/large 1200", "hot d/hot 600"}, names)
	require.Equal(t, before.Moves, last)
	require.Equal(t, []string{"d", "d/tiny", "d/cold", "d/large", "d/hot"}, m.ordered("m-1"))
	require.EqualValues(t, 600, groups[3].Inputs.Uses)

	after, err := m.store.Plan(t.Context(), "m-1")
	require.NoError(t, err)
	require.NotEqual(t, before.Hash, after.Hash, "the order is part of what is approved")
	require.NoError(t, m.store.Queue(t.Context(), "m-1"))
	why, err := m.store.Recheck(t.Context(), "m-1")
	require.NoError(t, err)
	require.Empty(t, why, "the hash is that of the journal as it is")

	again, err := m.store.Group(t.Context(), "m-1", nil, func(store.Journalled) []resilience.Group { panic("decided twice") })
	require.NoError(t, err)
	require.Equal(t, groups, again)
}

// TestAQueuedPlanIsSplitLikeANewOne: it came to be intelligent in the queue. Nobody is
// asked any more; what was approved before is approved still.
func TestAQueuedPlanIsSplitLikeANewOne(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(600, "d/hot/a.md", "d/cold/a.md")
	m.exec(`SELECT rehome.touch('docs', (SELECT array_agg(id::text) FROM rehome.chunks WHERE path LIKE 'd/hot/%'))`)
	id, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	require.NoError(t, m.store.RequestApproval(t.Context(), id, "its risk is high"))
	require.NoError(t, m.store.Approve(t.Context(), id, m.read(id).Hash, "ana"))
	require.NoError(t, m.store.Queue(t.Context(), id))
	_, err = m.store.ChangeStrategy(t.Context(), id, store.StrategyChange{Strategy: resilience.Intelligent, Author: "ana"})
	require.NoError(t, err)
	var found store.Journalled
	groups, err := m.store.Group(t.Context(), id, nil, func(j store.Journalled) []resilience.Group {
		found = j
		return inGroups(plainCosts())(j)
	})
	require.NoError(t, err)
	require.False(t, found.Settled)
	require.True(t, found.Late)
	require.Len(t, groups, 2)
	require.Equal(t, []string{"d/cold", "d/hot"}, m.ordered(id))
	plan := m.read(id)
	require.Equal(t, plan.Hash, plan.Approval.Hash)
	why, err := m.store.Recheck(t.Context(), id)
	require.NoError(t, err)
	require.Empty(t, why)
	m.apply(id, -1)
	require.Equal(t, map[string]int{"e/hot/a.md": 600, "e/cold/a.md": 600}, m.at())
}

// TestRowsInTheOrderOfTheGroupsAreNotWrittenAgain: others are.
func TestRowsInTheOrderOfTheGroupsAreNotWrittenAgain(t *testing.T) {
	t.Parallel()
	for warm, written := range map[string]bool{"d/b/%": false, "d/a/%": true} {
		m := newMigrations(t, resilience.BuiltinMapping("docs"))
		m.fill(600, "d/a/f.md", "d/b/f.md")
		m.exec(`SELECT rehome.touch('docs', (SELECT array_agg(id::text) FROM rehome.chunks WHERE path LIKE $1))`, warm)
		m.planIntelligent("m-1", resilience.Policy{}, rule("d", "e"))
		where := func() (rows string) {
			require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT string_agg(ctid::text, ' ' ORDER BY last) FROM rehome.migration_runs`).Scan(&rows))
			return rows
		}
		before := where()
		groups, err := m.store.Group(t.Context(), "m-1", nil, inGroups(plainCosts()))
		require.NoError(t, err)
		require.Len(t, groups, 2)
		require.Equal(t, written, before != where(), "%s is in use", warm)
	}
}

// TestChainsKeepTheOrderOfTheRules: what leaves a place comes before what takes it.
func TestChainsKeepTheOrderOfTheRules(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(700, "a/f.md", "b/f.md", "c/f.md")
	m.planIntelligent("m-1", resilience.Policy{}, rule("a", "b"), rule("b", "c"), rule("c", "z"))
	require.Equal(t, []string{"c", "b", "a"}, m.ordered("m-1"))
	groups, err := m.store.Group(t.Context(), "m-1", nil, inGroups(plainCosts()))
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Equal(t, []string{"c", "b", "a"}, m.ordered("m-1"))
	m.apply("m-1", -1)
	plan := m.complete("m-1")
	require.EqualValues(t, 2100, plan.Moved)
	require.Equal(t, map[string]int{"b/f.md": 700, "c/f.md": 700, "z/f.md": 700}, m.at())
}

// TestAPlanThatWasBegunIsGroupedFromItsWatermark: it changed its strategy.
func TestAPlanThatWasBegunIsGroupedFromItsWatermark(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(10, "d/a.md")
	id, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	at := m.apply(id, 2)
	_, err = m.store.Group(t.Context(), id, nil, inGroups(plainCosts()))
	require.ErrorIs(t, err, store.ErrFenced, "it is no plan of groups")
	m.becomes(id, resilience.Intelligent)
	groups, err := m.store.Group(t.Context(), id, nil, func(found store.Journalled) []resilience.Group {
		require.True(t, found.Late)
		require.True(t, found.Settled)
		return resilience.Decide(resilience.Gather(found.Directories), plainCosts())
	})
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Equal(t, at.Total-at.Last, groups[0].Rows)
	require.Equal(t, at.Total, groups[0].Until)
}

// becomes lets a plan that moves go on by another strategy.
func (m *migrations) becomes(id string, next resilience.Strategy) {
	m.Helper()
	require.NoError(m, m.store.Pause(m.Context(), id, "ana", ""))
	_, err := m.store.ChangeStrategy(m.Context(), id, store.StrategyChange{Strategy: next, Way: resilience.Update, Author: "ana"})
	require.NoError(m, err)
	resumed, _, err := m.store.Resume(m.Context(), id, "ana", "", nil)
	require.NoError(m, err)
	require.True(m, resumed)
}

// TestWhatMovedBeforeTheRestStaysGoesBack: only what was left when that was decided
// keeps its place.
func TestWhatMovedBeforeTheRestStaysGoesBack(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(10, "d/a.md")
	start := m.rows("rehome.chunks")
	id, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	at := m.apply(id, 2)
	require.EqualValues(t, 6, at.Last)
	m.becomes(id, resilience.Intelligent)
	_, err = m.store.Group(t.Context(), id, nil, func(found store.Journalled) []resilience.Group {
		return []resilience.Group{{Position: 1, Name: "all chunks", Rows: found.Directories[0].Rows, Until: found.Directories[0].Rows, Strategy: resilience.Batch, Way: resilience.AliasOnly, BatchSize: 3}}
	})
	require.NoError(t, err)
	m.apply(id, -1)
	require.Equal(t, map[string]int{"e/a.md": 6, "d/a.md": 4}, m.at())
	plan := m.read(id)
	require.Equal(t, [2]int64{6, 4}, [2]int64{plan.Moved, plan.Stayed})
	m.revert(id)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestRowsThatStayAreCountedAndNothingElse: a group of the way alias_only.
func TestRowsThatStayAreCountedAndNothingElse(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("other", resilience.BuiltinMapping("other"))
	m.fill(600, "d/cold/x.md", "d/hot/a.md")
	m.exec(`SELECT rehome.touch('docs', (SELECT array_agg(id::text) FROM rehome.chunks WHERE path LIKE 'd/hot/%'))`)
	start := m.rows("rehome.chunks")
	dear := resilience.Circumstances{Physics: resilience.Physics{Rows: 1 << 20, VectorIndexes: []string{"v"}}}
	dear.Costs = resilience.NewCosts(dear.Physics, 20, "a test")
	m.planIntelligent("p-1", resilience.Policy{}, rule("d", "e"))
	groups, err := m.store.Group(t.Context(), "p-1", nil, inGroups(dear))
	require.NoError(t, err)
	require.Equal(t, resilience.AliasOnly, groups[0].Way)
	require.Equal(t, resilience.Trickle, groups[1].Way)
	m.exec(`DELETE FROM rehome.chunks WHERE path = 'd/cold/x.md' AND ordinal = 1`)
	m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE path = 'd/cold/x.md' AND ordinal = 2`)
	m.apply("p-1", -1)
	plan := m.complete("p-1")
	require.Equal(t, [4]int64{600, 598, 1, 1}, [4]int64{plan.Moved, plan.Stayed, plan.Drifted, plan.Vanished}, "what stays is not called moved")
	require.Equal(t, map[string]int{"d/cold/x.md": 598, "elsewhere.md": 1, "e/hot/a.md": 600}, m.at())
	var current string
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT rehome.current_path('docs', 'd/cold/x.md')`).Scan(&current))
	require.Equal(t, "e/cold/x.md", current)

	// Their old path is what they are moved on by, and whoever names the other is told.
	for _, order := range []func() (string, error){
		func() (string, error) { return m.plan("", rule("e/cold", "f")) },
		func() (string, error) {
			return m.transfer("docs", "", resilience.TransferOrder{To: "other", Prefix: "e/cold"})
		},
	} {
		id, err := order()
		require.Error(t, err)
		require.ErrorContains(t, err, "no chunk at or under e/cold: those of d/cold/x.md stayed there when it was renamed by alias only")
		require.Len(t, m.conflicts(id), 1)
	}

	// Undo has only the rows to move back that moved.
	undo := m.migrate("p-1")
	require.EqualValues(t, 600, undo.Moved)
	m.exec(`UPDATE rehome.chunks SET path = 'd/cold/x.md' WHERE path = 'elsewhere.md'`)
	require.Len(t, m.rows("rehome.chunks"), len(start)-1)
	require.Subset(t, start, m.rows("rehome.chunks"))
}

// TestRowsThatStayNeedNoRollback: an abort in the middle finds all in place.
func TestRowsThatStayNeedNoRollback(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(20, "d/a.md", "d/b.md")
	start := m.rows("rehome.chunks")
	m.planIntelligent("m-1", resilience.Policy{Way: resilience.AliasOnly}, rule("d", "e"))
	c := plainCosts()
	c.Policy.Way = resilience.AliasOnly
	_, err := m.store.Group(t.Context(), "m-1", nil, inGroups(c))
	require.NoError(t, err)
	plan, err := m.store.Plan(t.Context(), "m-1")
	require.NoError(t, err)
	require.Equal(t, resilience.AliasOnly, plan.Way)
	m.apply("m-1", 1)
	some := m.read("m-1")
	require.Equal(t, [2]int64{0, 40}, [2]int64{some.Moved, some.Stayed})
	require.Equal(t, start, m.rows("rehome.chunks"))
	m.revert("m-1")
	require.Zero(t, m.read("m-1").Stayed)
	require.Equal(t, start, m.rows("rehome.chunks"))
	var exceptions int
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.migration_exceptions`).Scan(&exceptions))
	require.Zero(t, exceptions)
}

// TestTransfersHaveGroups, by the directories of what they take along: cold before hot.
// Their copies are made and their rows leave in that order, and go back against it.
func TestTransfersHaveGroups(t *testing.T) {
	t.Parallel()
	for prefix, dirs := range map[string][]string{"": {"mirror", "cold", "https://cold.org", "https://hot.org", "d"}, "d": {"d/cold", "d/hot"}, "d/hot/a.md": {"d/hot"}} {
		t.Run(prefix, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.memory("archive", resilience.BuiltinMapping("archive"))
			m.fill(600, "d/hot/a.md", "d/cold/a.md", "cold/a.md")
			m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', 'https://' || w || '.org/a', i, 'text' FROM generate_series(1, 600) i, unnest(ARRAY['hot', 'cold']) w`)
			m.fill(5, "mirror/https://cold.org/a")
			m.exec(`SELECT rehome.touch('docs', (SELECT array_agg(id::text) FROM rehome.chunks WHERE path LIKE '%hot%'))`)
			start := m.rows("rehome.chunks")
			require.NoError(t, m.store.CreatePlan(t.Context(), store.NewPlan{
				ID: "t-1", Memory: "docs", Strategy: resilience.Intelligent, Transfer: resilience.TransferOrder{To: "archive", Prefix: prefix},
				Policy: resilience.Policy{BatchSize: 500}, WorkflowID: "w/t-1", RunID: "r", Rollback: []string{"undo"},
			}))
			require.NoError(t, m.store.Journal(t.Context(), "t-1"))
			costs := plainCosts()
			costs.Transfer = true
			groups, err := m.store.Group(t.Context(), "t-1", nil, inGroups(costs))
			require.NoError(t, err)
			var names []string
			for _, g := range groups {
				names = append(names, g.Name)
				require.Equal(t, resilience.Update, g.Way)
				require.Empty(t, g.Alternatives)
			}
			require.Equal(t, dirs, names)
			m.exec(`UPDATE rehome.migration_plans SET status = 'queued'`)
			why, err := m.store.Recheck(t.Context(), "t-1")
			require.NoError(t, err)
			require.Empty(t, why, "the hash is that of the new order")
			m.apply("t-1", -1)
			plan := m.finish("t-1")
			require.Equal(t, plan.Moves, plan.Transfer.Retired)
			m.made++
			back, err := m.transfer("docs", "t-1", resilience.TransferOrder{})
			require.NoError(t, err)
			m.undone(back)
			require.Equal(t, start, m.rows("rehome.chunks"))
		})
	}
}

// TestAJournalThatDoesNotFitItsGroupsIsRefused, and says that nothing has moved.
func TestAJournalThatDoesNotFitItsGroupsIsRefused(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(600, "d/a/x.md", "d/b/x.md")
	m.planIntelligent("m-1", resilience.Policy{}, rule("d", "e"))
	_, err := m.store.Group(t.Context(), "m-1", nil, func(found store.Journalled) []resilience.Group {
		groups := inGroups(plainCosts())(found)
		groups[len(groups)-1].Until--
		return groups
	})
	require.ErrorIs(t, err, store.ErrVerify)
	require.ErrorContains(t, err, "nothing has moved, so plan it again")
}

// TestACourseIsKeptBetweenSlices: where there is one.
func TestACourseIsKeptBetweenSlices(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(2000, "d/a.md")
	m.planIntelligent("m-1", resilience.Policy{}, rule("d", "e"))
	_, until, err := m.store.Course(t.Context(), "m-1", 0)
	require.NoError(t, err)
	require.Zero(t, until, "without groups nothing adapts")
	groups, err := m.store.Group(t.Context(), "m-1", nil, inGroups(plainCosts()))
	require.NoError(t, err)
	course, until, err := m.store.Course(t.Context(), "m-1", 0)
	require.NoError(t, err)
	require.Equal(t, groups[0].Until, until)
	require.Equal(t, groups[0].BatchSize, course.Size())
	require.Equal(t, 50, course.Default)
	course, said := course.After(resilience.Timing{Rows: int64(course.Size()), MS: 1000}, true)
	require.NotEmpty(t, said)
	require.NoError(t, m.store.Steer(t.Context(), "m-1", 0, course, []string{said}))
	kept, _, err := m.store.Course(t.Context(), "m-1", 10)
	require.NoError(t, err)
	require.Equal(t, course, kept)
	events, err := m.store.Events(t.Context(), "m-1")
	require.NoError(t, err)
	require.Equal(t, said, events[len(events)-1].Detail)
	_, until, err = m.store.Course(t.Context(), "m-1", 2000)
	require.NoError(t, err)
	require.Zero(t, until, "rows that were swept belong to no group")
}
