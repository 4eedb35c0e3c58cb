package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// TestLateRowsAreNeverMergedIntoOthers: what came to be at their target since the
// plan was made is somebody else's, so they stay, and are conflicts.
func TestLateRowsAreNeverMergedIntoOthers(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(2, "d/a.md", "d/known.md")
	id, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	m.apply(id, -1)
	m.fill(3, "d/a.md", "d/known.md", "d/new.md", "d/above.md/x", "d/below.md", "d/case.md", "d/free.md")
	m.fill(1, "e/known.md", "e/new.md", "e/above.md", "e/below.md/y", "e/CASE.md")
	for range 2 { // an attempt whose answer was lost
		left, err := m.store.Sweep(t.Context(), id)
		require.NoError(t, err)
		require.EqualValues(t, 6, left)
	}
	m.apply(id, -1)
	left, err := m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.Zero(t, left)
	plan := m.complete(id)
	require.EqualValues(t, 10, plan.Moved)
	require.EqualValues(t, 5, plan.Conflicts)
	require.Equal(t, map[string]int{
		"e/a.md": 5, "e/free.md": 3, "e/known.md": 3,
		"d/known.md": 3, "d/new.md": 3, "d/above.md/x": 3, "d/below.md": 3, "d/case.md": 3,
		"e/new.md": 1, "e/above.md": 1, "e/below.md/y": 1, "e/CASE.md": 1,
	}, m.at())

	conflicts, err := m.store.Conflicts(t.Context(), id, 10)
	require.NoError(t, err)
	kinds := map[string]resilience.ConflictKind{}
	for _, c := range conflicts {
		kinds[c.Source] = c.Kind
	}
	require.Equal(t, map[string]resilience.ConflictKind{
		"d/known.md": resilience.TargetTaken, "d/new.md": resilience.TargetTaken, "d/above.md/x": resilience.TargetTaken,
		"d/below.md": resilience.TargetTaken, "d/case.md": resilience.Lookalike,
	}, kinds)
	require.Equal(t, 1, m.count(`SELECT count(*) FROM rehome.migration_events WHERE plan_id = $1 AND event = 'left' AND detail LIKE '15 chunks%there already are chunks of %'`, id))

	undo := m.migrate(id)
	require.EqualValues(t, 10, undo.Moved)
	require.Equal(t, 5, m.at()["d/known.md"])
}

// TestLateRowsAreNotMergedIntoFilesOfTheirOwnPlan, which nobody planned to: not into one that
// has moved, and of two that came since, only one goes.
func TestLateRowsAreNotMergedIntoFilesOfTheirOwnPlan(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(2, "d/a.md", "c.md", "f/a.md")
	rules := []resilience.RenameRule{rule("d", "e"), rule("c.md", "e/x.md"), rule("f", "e/F")}
	id, err := m.plan("", rules...)
	require.NoError(t, err)
	m.apply(id, -1)
	m.fill(3, "c.md", "d/x.md", "d/X.md", "d/F/b.md", "f/b.md")
	for range 2 { // an attempt whose answer was lost
		m.sweeps(id, 6) // c.md, and d/F/b.md as it comes first
	}
	m.apply(id, -1)
	plan := m.complete(id)
	require.EqualValues(t, 12, plan.Moved)
	require.EqualValues(t, 3, plan.Conflicts)
	require.Equal(t, map[string]int{"e/a.md": 2, "e/x.md": 5, "e/F/a.md": 2, "e/F/b.md": 3, "d/x.md": 3, "d/X.md": 3, "f/b.md": 3}, m.at())
	kinds := map[string]resilience.ConflictKind{}
	for _, c := range m.conflicts(id) {
		kinds[c.Source] = c.Kind
	}
	require.Equal(t, map[string]resilience.ConflictKind{"d/x.md": resilience.DuplicateTarget, "d/X.md": resilience.Lookalike, "f/b.md": resilience.DuplicateTarget}, kinds)
	undo := m.migrate(id)
	require.EqualValues(t, 12, undo.Moved)
}

// TestALateRowGoesWhenItsTargetIsFreeAgain: each sweep looks anew.
func TestALateRowGoesWhenItsTargetIsFreeAgain(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(2, "d/a.md")
	id, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	m.apply(id, -1)
	m.fill(1, "d/b.md", "e/b.md")
	left, err := m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.Zero(t, left)
	m.exec(`DELETE FROM rehome.chunks WHERE path = 'e/b.md'`)
	left, err = m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 1, left)
	m.apply(id, -1)
	plan := m.complete(id)
	require.Zero(t, plan.Conflicts)
	require.Equal(t, map[string]int{"e/a.md": 2, "e/b.md": 1}, m.at())
}

// TestALateChunkIsNotCopiedIntoAnother: the same for a transfer.
func TestALateChunkIsNotCopiedIntoAnother(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "bigint", "GENERATED ALWAYS AS IDENTITY"))
	m.fill(3, "a.md")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
	require.NoError(t, err)
	m.apply(id, -1)
	m.fill(2, "a.md", "b.md", "c.md")
	m.exec(`INSERT INTO public.notes (body, meta, team) VALUES ('theirs', '{"loc": {"source": "/srv/b.md"}}', 'blue'), ('not ours', '{"loc": {"source": "/srv/c.md"}}', 'red')`)
	left, err := m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 4, left)
	m.apply(id, -1)
	plan := m.finish(id)
	require.EqualValues(t, 7, plan.Moved)
	require.EqualValues(t, 1, plan.Conflicts)
	require.Equal(t, map[string]int{"b.md": 2}, m.at())
	for path, n := range map[string]int{"a.md": 5, "b.md": 1, "c.md": 2} {
		require.Equal(t, n, m.count(`SELECT count(*) FROM public.notes WHERE team = 'blue' AND meta #>> '{loc,source}' = $1`, fmt.Sprint("/srv/", path)), path)
	}
}

// sweeps takes late rows along, after which so many are left to move.
func (m *migrations) sweeps(id string, left int64) {
	m.Helper()
	found, err := m.store.Sweep(m.Context(), id)
	require.NoError(m, err)
	require.Equal(m, left, found)
}

// TestRowsThatComeBackAreTakenAlongOnceMore: put back, or deleted and made anew by the same
// id, as indexers do that know a chunk by its path and number; before or after its batch.
func TestRowsThatComeBackAreTakenAlongOnceMore(t *testing.T) {
	t.Parallel()
	const anew = `INSERT INTO rehome.chunks (id, memory, path, ordinal, content) OVERRIDING SYSTEM VALUE VALUES (2, 'docs', 'a.md', 2, 'anew')`
	for name, c := range map[string]struct{ before, after string }{
		"PutBack":        {"", `UPDATE rehome.chunks SET path = 'a.md' WHERE id = 2`},
		"MadeAnew":       {"", `DELETE FROM rehome.chunks WHERE id = 2; ` + anew},
		"GoneAndAnew":    {`DELETE FROM rehome.chunks WHERE id = 2`, anew},
		"ElsewhereFirst": {`UPDATE rehome.chunks SET path = 'c.md' WHERE id = 2`, `UPDATE rehome.chunks SET path = 'a.md' WHERE id = 2`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(6, "a.md")
			id, err := m.plan("", rule("a.md", "b.md"))
			require.NoError(t, err)
			if c.before != "" {
				m.exec(c.before)
			}
			m.apply(id, -1)
			m.exec(c.after)
			for range 2 { // an attempt whose answer was lost
				m.sweeps(id, 1)
			}
			m.apply(id, -1)
			if name == "PutBack" { // again
				m.exec(c.after)
				m.sweeps(id, 1)
				m.apply(id, -1)
			}
			m.sweeps(id, 0)
			_, err = m.store.Verify(t.Context(), id, resilience.Verified{}, 100)
			require.NoError(t, err)
			plan := m.complete(id)
			require.EqualValues(t, 6, plan.Moved)
			require.Equal(t, plan.Moves, plan.Moved+plan.Drifted+plan.Vanished)
			require.Equal(t, map[string]int{"b.md": 6}, m.at())
			undo := m.migrate(id)
			require.EqualValues(t, 6, undo.Moved)
			require.Equal(t, map[string]int{"a.md": 6}, m.at())
		})
	}
}

// TestRowsThatComeBackGoHomeOnce, wherever their plan is turned round.
func TestRowsThatComeBackGoHomeOnce(t *testing.T) {
	t.Parallel()
	for late := range 3 { // of the two that came back, so many have gone again
		t.Run(fmt.Sprint(late), func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(6, "a.md")
			start := m.rows("rehome.chunks")
			id, err := m.plan("", rule("a.md", "b.md"))
			require.NoError(t, err)
			m.apply(id, -1)
			m.exec(`UPDATE rehome.chunks SET path = 'a.md' WHERE id IN (2, 5)`)
			m.sweeps(id, 2)
			if late > 0 {
				mover, at := m.mover(id)
				_, err = mover.Apply(t.Context(), at, store.Bounds{Batch: late})
				require.NoError(t, err)
			}
			m.revert(id)
			require.Equal(t, start, m.rows("rehome.chunks"))
		})
	}
}

// TestRowsThatComeBackToAPlaceThatIsTakenStay, and are conflicts: others are where they went.
func TestRowsThatComeBackToAPlaceThatIsTakenStay(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(2, "d/a.md", "d/b.md")
	id, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	m.apply(id, -1)
	m.exec(`UPDATE rehome.chunks SET path = 'd/a.md' WHERE path = 'e/a.md'`)
	m.fill(1, "e/a.md")
	m.sweeps(id, 0)
	_, err = m.store.Verify(t.Context(), id, resilience.Verified{}, 100)
	require.NoError(t, err)
	plan := m.complete(id)
	require.EqualValues(t, 2, plan.Moved)
	require.EqualValues(t, 2, plan.Conflicts-1, "two chunks, and a path")
	undo := m.migrate(id)
	require.EqualValues(t, 2, undo.Moved)
	require.Equal(t, map[string]int{"d/a.md": 2, "d/b.md": 2, "e/a.md": 1}, m.at())
}

// TestFilesThatChangePlacesAreNotTakenForSuchThatCameBack: what one file left, the other
// is at; and where they had to go together, those that came back end the migration.
func TestFilesThatChangePlacesAreNotTakenForSuchThatCameBack(t *testing.T) {
	t.Parallel()
	for name, unique := range map[string]bool{"Anywhere": false, "Together": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			if unique {
				m.exec(`CREATE UNIQUE INDEX ON rehome.chunks (path, ordinal)`)
			}
			for _, path := range []string{"a.md", "b.md", "c.md"} {
				m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', $1, n, $1 || n FROM generate_series(1, 3) n`, path)
			}
			id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"), rule("c.md", "d.md"))
			require.NoError(t, err)
			m.apply(id, -1)
			swapped := m.rows("rehome.chunks")
			m.sweeps(id, 0)
			require.Equal(t, swapped, m.rows("rehome.chunks"))
			m.exec(`UPDATE rehome.chunks SET path = 'x' || content WHERE path IN ('a.md', 'b.md') AND ordinal = 1`)
			m.exec(`UPDATE rehome.chunks SET path = left(content, 4) WHERE path LIKE 'x%'`) // where they came from
			m.sweeps(id, map[bool]int64{false: 2, true: 0}[unique])
			_, err = m.store.Verify(t.Context(), id, resilience.Verified{}, 100)
			require.ErrorIs(t, err, store.ErrVerify)
		})
	}
}

// TestAGroupThatMayBeTriedAgainTakesNothingBack, since it would forget that it did.
func TestAGroupThatMayBeTriedAgainTakesNothingBack(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(3, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	m.exec(`UPDATE rehome.migration_plans SET policy = policy || '{"on_failure": "undo_group"}'`)
	m.apply(id, -1)
	m.exec(`UPDATE rehome.chunks SET path = 'a.md' WHERE id = 2`)
	m.sweeps(id, 0)
}
