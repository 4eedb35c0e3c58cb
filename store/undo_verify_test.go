package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// look goes once through all rows of a plan that has gone back, or was undone, three
// at a time.
func (m *migrations) look(id string, undoing bool) (at resilience.Verified, err error) {
	m.Helper()
	look := m.store.Verify
	if undoing {
		look = m.store.VerifyUndo
	}
	for {
		at, err = look(m.Context(), id, at, 3)
		if err != nil || at.Last == at.Total {
			return at, err
		}
	}
}

// looked is look, twice: the second time finds nothing that is new.
func (m *migrations) looked(id string, undoing bool) resilience.Verified {
	m.Helper()
	found, err := m.look(id, undoing)
	require.NoError(m, err)
	listed, copies := m.rows("rehome.migration_exceptions"), m.rows("rehome.migration_copies")
	again, err := m.look(id, undoing)
	require.NoError(m, err)
	require.Zero(m, again.Since)
	require.Equal(m, listed, m.rows("rehome.migration_exceptions"))
	require.Equal(m, copies, m.rows("rehome.migration_copies"))
	return found
}

// returns are the moments at which a transfer of six chunks is undone, each with
// what undoes it. The copy of chunk 3 was moved on, so that it stays.
var returns = []struct {
	name    string
	undoing bool // by its own saga
	copied  int
	back    func(m *migrations, id string) string
}{
	{"InTheCopies", true, 4, func(m *migrations, id string) string {
		m.apply(id, 1)
		m.keptCopy()
		m.goBack(id)
		return id
	}},
	{"InTheSoak", true, 6, func(m *migrations, id string) string {
		m.apply(id, -1)
		require.NoError(m, m.store.SwitchReferences(m.Context(), id))
		m.keptCopy()
		m.goBack(id)
		return id
	}},
	{"Retired", true, 6, func(m *migrations, id string) string {
		m.apply(id, -1)
		require.NoError(m, m.store.SwitchReferences(m.Context(), id))
		m.retire(id, -1, false)
		m.keptCopy()
		m.goBack(id)
		return id
	}},
	{"Completed", false, 6, func(m *migrations, id string) string {
		m.apply(id, -1)
		m.finish(id)
		m.keptCopy()
		back := m.turning("docs", id)
		m.apply(back, -1)
		return back
	}},
}

// keptCopy lets the application move a copy on, and keeps what the copies were.
func (m *migrations) keptCopy() {
	m.Helper()
	m.exec(`CREATE TABLE public.copies AS SELECT * FROM rehome.chunks WHERE memory = 'other'`)
	m.exec(`UPDATE rehome.chunks SET path = 'theirs.md' WHERE memory = 'other' AND ordinal = 3`)
}

// TestEveryRowOfAnUndoneTransferIsLookedAt: at home, or listed with what became of it.
func TestEveryRowOfAnUndoneTransferIsLookedAt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write string // what somebody does after the last row went back
		since int64
		lists map[resilience.Outcome]int
		says  string // why it fails; empty: it does not
	}{
		"AsItShouldBe":    {``, 0, map[resilience.Outcome]int{resilience.Clashed: 1}, ""},
		"Edited":          {`UPDATE rehome.chunks SET content = 'new' WHERE memory = 'docs'`, 0, map[resilience.Outcome]int{resilience.Clashed: 1}, ""},
		"MovedOn":         {`UPDATE rehome.chunks SET path = 'c.md' WHERE memory = 'docs' AND ordinal = 2`, 1, map[resilience.Outcome]int{resilience.Clashed: 1, resilience.Drifted: 1}, ""},
		"Deleted":         {`DELETE FROM rehome.chunks WHERE memory = 'docs' AND ordinal < 3`, 2, map[resilience.Outcome]int{resilience.Clashed: 1, resilience.Vanished: 2}, ""},
		"KeptCopyIsGone":  {`DELETE FROM rehome.chunks WHERE memory = 'other'`, 0, map[resilience.Outcome]int{resilience.Clashed: 1}, ""},
		"CopiesPutBack":   {`INSERT INTO rehome.chunks OVERRIDING SYSTEM VALUE SELECT * FROM public.copies WHERE ordinal < 3`, 2, map[resilience.Outcome]int{resilience.Clashed: 3}, ""},
		"OthersOfTheirID": {`INSERT INTO rehome.chunks OVERRIDING SYSTEM VALUE SELECT id, memory, path, ordinal, 'x' FROM public.copies WHERE ordinal < 3`, 0, map[resilience.Outcome]int{resilience.Clashed: 1}, ""},
		"CopyForNoReason": {`DELETE FROM rehome.migration_exceptions`, 0, nil, "1 chunks did not come home"},
		"CopyNoted":       {`UPDATE rehome.migration_copies SET here = true`, 0, nil, "left their copies"},
		"NoJournal":       {`UPDATE rehome.migration_runs SET first = 5, chunk_ids = chunk_ids[5:]`, 0, nil, "the journal has"},
		"NotAtTheEnd":     {`UPDATE rehome.migration_progress SET last = 3`, 0, nil, "rows"},
	} {
		ways := returns
		if testing.Short() {
			ways = returns[:2]
		}
		for _, way := range ways {
			t.Run(name+way.name, func(t *testing.T) {
				t.Parallel()
				m, id := copied(t, 6, 0)
				id = way.back(m, id)
				if c.write != "" {
					m.exec(c.write)
				}
				if c.says != "" {
					_, err := m.look(id, way.undoing)
					require.ErrorIs(t, err, store.ErrVerify)
					require.ErrorContains(t, err, c.says)
					return
				}
				require.Equal(t, resilience.Verified{Last: 6, Total: 6, Since: c.since}, m.looked(id, way.undoing))
				count, why := m.listed(id)
				require.Equal(t, c.lists, count, why)
				if !way.undoing {
					require.NoError(t, m.store.Complete(t.Context(), id))
					plan, err := m.store.Plan(t.Context(), id)
					require.NoError(t, err)
					require.Equal(t, 5-c.since, plan.Moved)
				}
			})
		}
	}
}

// TestAChunkThatStayedInQuarantineIsFound, although nobody says why it is there.
func TestAChunkThatStayedInQuarantineIsFound(t *testing.T) {
	t.Parallel()
	for _, way := range returns[2:] {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			m, id := copied(t, 6, 0)
			id = way.back(m, id)
			m.exec(`UPDATE rehome.quarantine SET restored_at = NULL WHERE chunk_id = '2'`)
			_, err := m.look(id, way.undoing)
			require.ErrorIs(t, err, store.ErrVerify)
			require.ErrorContains(t, err, "1 chunks did not come home, or left their copies, and no outcome says why (see chunk 2);")
		})
	}
}

// TestATransferThatMadeNoCopyNeedsNoTarget to be closed when it is given up.
func TestATransferThatMadeNoCopyNeedsNoTarget(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(6, "a.md")
	m.memory("wiki", notes(m, "bigint", "GENERATED BY DEFAULT AS IDENTITY"))
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "wiki"})
	require.NoError(t, err)
	m.apply(id, 0)
	m.goBack(id)
	m.exec(`DROP TABLE public.notes`)
	at, err := m.look(id, true)
	require.NoError(t, err)
	require.Equal(t, resilience.Verified{Last: 6, Total: 6}, at)
}

// TestWhatWasNeverCopiedIsNotLookedFor: an abort says nothing of rows it did not reach.
func TestWhatWasNeverCopiedIsNotLookedFor(t *testing.T) {
	t.Parallel()
	m, id := copied(t, 6, 1)
	m.exec(`UPDATE rehome.chunks SET path = 'c.md' WHERE memory = 'docs' AND ordinal = 6`)
	m.goBack(id)
	require.Zero(t, m.looked(id, true).Since)
	count, why := m.listed(id)
	require.Empty(t, count, why)
}

// TestAnUndoThatWasEditedSinceSaysBoth: what came home from a copy, and that the chunk
// is not there any more.
func TestAnUndoThatWasEditedSinceSaysBoth(t *testing.T) {
	t.Parallel()
	m, id := copied(t, 6, -1)
	m.finish(id)
	m.exec(`UPDATE rehome.chunks SET content = 'edited' WHERE memory = 'other' AND ordinal < 3`)
	back := m.turning("docs", id)
	m.apply(back, -1)
	m.exec(`DELETE FROM rehome.chunks WHERE memory = 'docs' AND ordinal = 2`)
	require.EqualValues(t, 1, m.looked(back, false).Since)
	count, why := m.listed(back)
	require.Equal(t, map[resilience.Outcome]int{resilience.Edited: 1, resilience.Vanished: 1}, count)
	require.Contains(t, why, "vanished 2: what was written to content came home")
}

// TestChunksOfOthersAtHomeAreReported when a transfer has gone back, once.
func TestChunksOfOthersAtHomeAreReported(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		first, _, _ := m.gone(from, to)
		if from == "notes" {
			m.exec(`INSERT INTO public.notes (id, body, meta, team) VALUES ('theirs', 'x', '{"loc": {"source": "/srv/guide/a.md"}}', 'blue')`)
		} else {
			m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ($1, 'guide/a.md', 9, 'x')`, from)
		}
		back := m.turning(from, first)
		m.apply(back, -1)
		require.Zero(m, m.looked(back, false).Since)
		for range 2 {
			foreign, err := m.store.VerifyTargets(m.Context(), back)
			require.NoError(m, err)
			require.EqualValues(m, 1, foreign)
		}
		require.Equal(m, 1, m.count(`SELECT count(*) FROM rehome.migration_events WHERE plan_id = $1 AND event = 'foreign'`, back))
	})
}

// halfRenamed is a rename that came to three of six chunks: the second was elsewhere
// when its turn came.
func halfRenamed(t *testing.T) (*migrations, string) {
	t.Helper()
	m, id := renaming(t, 6)
	m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE ordinal = 2`)
	m.apply(id, 1)
	return m, id
}

// TestEveryRowOfAnUndoneRenameIsLookedAt: where it came from, or listed with what became
// of it. What had not moved is nobody's business.
func TestEveryRowOfAnUndoneRenameIsLookedAt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write string // what somebody does after the last row went back
		since int64
		lists string // what was not there to move apart
		says  string // why it fails; empty: it does not
	}{
		"AsItShouldBe":   {``, 0, "", ""},
		"Edited":         {`UPDATE rehome.chunks SET content = 'new'`, 0, "", ""},
		"MovedOn":        {`UPDATE rehome.chunks SET path = 'c.md' WHERE ordinal = 3`, 1, "drifted 3: ", ""},
		"Deleted":        {`DELETE FROM rehome.chunks WHERE ordinal IN (1, 3)`, 2, "vanished 1: ; vanished 3: ", ""},
		"MovedAgain":     {`UPDATE rehome.chunks SET path = 'b.md' WHERE ordinal = 3`, 1, "drifted 3: it is at its new path", ""},
		"NeverMoved":     {`UPDATE rehome.chunks SET path = 'b.md' WHERE ordinal IN (2, 4)`, 0, "", ""},
		"NoJournal":      {`UPDATE rehome.migration_runs SET first = 3, chunk_ids = chunk_ids[3:]`, 0, "", "the journal has 1 of 3"},
		"NotAtTheEnd":    {`UPDATE rehome.migration_progress SET last = 2`, 0, "", "have not gone back"},
		"TurnedByBefore": {`UPDATE rehome.migration_progress SET turned = NULL; DELETE FROM rehome.chunks`, 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := halfRenamed(t)
			m.putBack(id)
			if c.write != "" {
				m.exec(c.write)
			}
			if c.says != "" {
				_, err := m.look(id, true)
				require.ErrorIs(t, err, store.ErrVerify)
				require.ErrorContains(t, err, c.says)
				return
			}
			require.Equal(t, c.since, m.looked(id, true).Since)
			left, err := m.store.Exceptions(t.Context(), id, 10)
			require.NoError(t, err)
			require.Equal(t, store.Exception{Ordinal: 2, Chunk: "2", Outcome: resilience.Drifted}, left[0])
			lists := []string{}
			for _, e := range left[1:] {
				require.True(t, e.Undoing)
				lists = append(lists, fmt.Sprintf("%s %d: %s", e.Outcome, e.Ordinal, e.Detail))
			}
			require.Equal(t, c.lists, strings.Join(lists, "; "))
		})
	}
}

// TestAnUndoThatIsBegunAgainKnowsHowFarThePlanHadCome, although rows have gone back since.
func TestAnUndoThatIsBegunAgainKnowsHowFarThePlanHadCome(t *testing.T) {
	t.Parallel()
	m, id := halfRenamed(t)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	at, err := m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	_, err = mover.Revert(t.Context(), at, store.Bounds{Batch: 2})
	require.NoError(t, err)
	require.NoError(t, m.store.FailUndo(t.Context(), id, "a test"))
	m.putBack(id)
	require.Equal(t, resilience.Verified{Last: 3, Total: 3}, m.looked(id, true))
}

// TestRowsThatStayedAreNotLookedFor: only their path resolved to another.
func TestRowsThatStayedAreNotLookedFor(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 6)
	m.exec(`UPDATE rehome.migration_plans SET way = 'alias_only' WHERE plan_id = $1`, id)
	m.apply(id, -1)
	m.putBack(id)
	m.exec(`UPDATE rehome.chunks SET path = 'c.md' WHERE ordinal = 1`)
	require.Equal(t, resilience.Verified{Last: 6, Total: 6}, m.looked(id, true))
}

// TestARenameThatHadNotBegunNeedsNoTable to be closed when it is given up.
func TestARenameThatHadNotBegunNeedsNoTable(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 3)
	m.apply(id, 0)
	m.putBack(id)
	m.exec(`ALTER TABLE rehome.chunks RENAME TO gone`)
	at, err := m.look(id, true)
	require.NoError(t, err)
	require.Equal(t, resilience.Verified{}, at)
}

// TestTwoLooksAtOneRowListItOnce: an attempt that was given up may be at it still.
func TestTwoLooksAtOneRowListItOnce(t *testing.T) {
	t.Parallel()
	for name, undoing := range map[string]bool{"There": false, "Back": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := renaming(t, 3)
			m.apply(id, -1)
			if undoing {
				m.putBack(id)
			}
			m.exec(`UPDATE rehome.chunks SET path = 'c.md' WHERE ordinal = 2`)
			other := m.session()
			_, err := other.Exec(t.Context(), `INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing) VALUES ($1, 2, 'drifted', $2)`, id, undoing)
			require.NoError(t, err)
			look := later(func() (resilience.Verified, error) { return m.look(id, undoing) })
			m.waiting()
			require.NoError(t, other.Commit(t.Context()))
			_, err = look()
			require.NoError(t, err)
			require.Len(t, m.rows("rehome.migration_exceptions"), 1)
		})
	}
}

// TestALookThatComesLateListsNothing: others have moved the rows since.
func TestALookThatComesLateListsNothing(t *testing.T) {
	t.Parallel()
	for name, undoing := range map[string]bool{"There": false, "Back": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := renaming(t, 3)
			m.apply(id, -1)
			if undoing {
				m.revert(id)
			} else {
				m.complete(id)
			}
			m.exec(`UPDATE rehome.chunks SET path = 'c.md'`)
			_, err := m.look(id, undoing)
			require.ErrorIs(t, err, store.ErrConflict)
			require.Empty(t, m.rows("rehome.migration_exceptions"))
		})
	}
}
