package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// speak says something of chunks, as whoever knows them by their place in this memory.
func (m *migrations) speak(memory string, ids []string) {
	m.Helper()
	for _, id := range ids {
		m.exec(`SELECT rehome.refer($1, $2, 'answer'), rehome.refer($1, $2, 'late'), rehome.touch($1, ARRAY[$2, $2])`, memory, id)
		require.NoError(m, m.store.Hold(m.Context(), memory, id, "late"))
	}
}

// said is what is said of chunks of a memory: of how many, and how much in all.
type said struct{ Chunks, References, Uses, Holds int }

func (m *migrations) said(memory string, ids ...string) (all said) {
	m.Helper()
	require.NoError(m, m.pool.QueryRow(m.Context(), `
		WITH said AS (
			SELECT chunk_id, reference_count AS refers, 0 AS uses, 0 AS holds FROM rehome.chunk_references WHERE memory = $1
			UNION ALL SELECT chunk_id, 0, access_count, 0 FROM rehome.chunk_access WHERE memory = $1
			UNION ALL SELECT chunk_id, 0, 0, 1 FROM rehome.holds WHERE memory = $1)
		SELECT count(DISTINCT chunk_id), coalesce(sum(refers), 0), coalesce(sum(uses), 0), coalesce(sum(holds), 0) FROM said WHERE chunk_id = ANY ($2) OR $2 IS NULL`,
		memory, ids).Scan(&all.Chunks, &all.References, &all.Uses, &all.Holds))
	return all
}

// twins are the copies of chunks.
func (m *migrations) twins(ids []string) []string {
	m.Helper()
	return column[string](m.T, m.pool, `
		SELECT c.target_id FROM rehome.migration_moves m JOIN rehome.migration_copies c USING (plan, ordinal) WHERE m.chunk_id = ANY ($1)`, ids)
}

// switched copies the guide and lets references lead to the copies.
func (m *migrations) switched(from, to string) (id string) {
	m.Helper()
	id, err := m.transfer(from, "", resilience.TransferOrder{To: to, Prefix: "guide"})
	require.NoError(m, err)
	m.apply(id, -1)
	require.NoError(m, m.store.SwitchReferences(m.Context(), id))
	return id
}

func TestWhatIsSaidLateFollowsTheChunk(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		id := m.switched(from, to)
		m.retire(id, 1, false)
		late := m.ids(from)
		require.Len(m, late, 6)
		copies := m.twins(late)
		before := m.said(to, copies...)
		m.speak(from, late)
		require.Equal(m, said{6, 12, 12, 6}, m.said(from))

		m.retire(id, 1, false)
		still := m.ids(from)
		require.Len(m, still, 2)
		require.Equal(m, said{2, 4, 4, 2}, m.said(from, still...), "what is still there is spoken of there")
		require.Equal(m, said{2, 4, 4, 2}, m.said(from))
		m.retire(id, -1, false)
		require.Zero(m, m.said(from))
		require.Equal(m, said{6, before.References + 12, before.Uses + 12, 6}, m.said(to, copies...), "it is added up")
		whole := m.said(to)
		for range 2 {
			require.NoError(m, m.store.Complete(m.Context(), id))
			require.Equal(m, whole, m.said(to))
		}

		// And home again.
		undo, err := m.transfer(from, id, resilience.TransferOrder{})
		require.NoError(m, err)
		require.NoError(m, m.store.Queue(m.Context(), undo))
		require.NoError(m, m.store.Begin(m.Context(), undo))
		m.speak(to, m.ids(to)[:1]) // the switch takes that
		m.retire(undo, -1, false)
		require.NoError(m, m.store.SwitchReferences(m.Context(), undo))
		m.apply(undo, 1)
		late = m.ids(to)
		require.Len(m, late, 6)
		m.speak(to, late)
		m.apply(undo, 1)
		require.Equal(m, said{2, 4, 4, 2}, m.said(to, m.ids(to)...))
		m.apply(undo, -1)
		require.Zero(m, m.said(to))
		require.NoError(m, m.store.Complete(m.Context(), undo))
		home := m.said(from)
		require.Equal(m, said{home.Chunks, whole.References + 2 + 12, whole.Uses + 2 + 12, home.Holds}, home)
		require.Equal(m, home, m.said(from, m.ids(from)...), "nothing is said of what is not there")
	})
}

// TestWhatIsSaidLateOfATransferThatGoesBackFollows: of one that fails, and of an undo
// that is turned round.
func TestWhatIsSaidLateOfATransferThatGoesBackFollows(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		start := m.said(from)
		id := m.switched(from, to)
		m.retire(id, 2, false)
		at, err := m.store.BeginUndo(m.Context(), id, "a test", "")
		require.NoError(m, err)
		m.retire(id, -1, true)
		require.NoError(m, m.store.UndoSwitchReferences(m.Context(), id))
		require.Equal(m, start, m.said(from))
		mover, err := m.store.Mover(m.Context(), id)
		require.NoError(m, err)
		m.speak(to, m.ids(to))
		at, err = mover.Revert(m.Context(), at, store.Bounds{})
		require.NoError(m, err)
		require.Len(m, m.ids(to), int(at.Last))
		require.Equal(m, len(m.ids(to)), m.said(to).Chunks)
		for at.Last > 0 {
			at, err = mover.Revert(m.Context(), at, store.Bounds{})
			require.NoError(m, err)
		}
		require.Zero(m, m.said(to))
		require.NoError(m, m.store.EndUndo(m.Context(), id))
		require.Equal(m, said{10, start.References + 20, start.Uses + 20, 10}, m.said(from, m.ids(from)...))

		again := m.switched(from, to)
		m.retire(again, -1, false)
		require.NoError(m, m.store.Complete(m.Context(), again))
		whole := m.said(to)
		undo := m.turning(from, again)
		m.apply(undo, 1)
		m.putBack(undo)
		require.NoError(m, m.store.UndoSwitchReferences(m.Context(), undo))
		m.speak(from, m.ids(from))
		m.retire(undo, -1, true)
		require.Zero(m, m.said(from))
		require.NoError(m, m.store.EndUndo(m.Context(), undo))
		require.Equal(m, said{10, whole.References + 20, whole.Uses + 20, 10}, m.said(to, m.ids(to)...))
	})
}

// TestWhatIsSaidOfAChunkThatStaysStays: the switch led what was said by then to the copy,
// which stays too.
func TestWhatIsSaidOfAChunkThatStaysStays(t *testing.T) {
	t.Parallel()
	m, id := toNotes(t, 5)
	ids := m.ids("docs")
	m.speak("docs", ids[1:3])
	m.apply(id, -1)
	require.NoError(t, m.store.SwitchReferences(t.Context(), id))
	m.exec(`UPDATE rehome.chunks SET content = 'written in the source' WHERE id = ANY ($1)`, ids[1:2])
	m.exec(`UPDATE public.notes SET body = 'written in the target' WHERE id::text = ANY ($1)`, m.twins(ids[1:2])) // both changed
	m.exec(`UPDATE public.notes SET body = 'written in the target' WHERE id::text = ANY ($1)`, m.twins(ids[2:3]))
	m.exec(`DELETE FROM rehome.chunks WHERE id = ANY ($1)`, ids[4:])
	m.speak("docs", ids[:4])
	m.exec(`SELECT rehome.refer('docs', $1, 'gone')`, ids[4])
	m.retire(id, -1, false)
	require.NoError(t, m.store.Complete(t.Context(), id))
	stayed := m.ids("docs")
	require.Contains(t, stayed, ids[1])
	for _, one := range stayed {
		require.Equal(t, said{1, 2, 2, 1}, m.said("docs", one), "said late")
	}
	require.Equal(t, said{1, 2, 2, 1}, m.said("notes", m.twins(ids[1:2])...), "said before the switch")
	require.Equal(t, said{1, 1, 0, 0}, m.said("docs", ids[4]), "it is in neither place")
	require.Equal(t, said{len(stayed) + 1, 2*len(stayed) + 1, 2 * len(stayed), len(stayed)}, m.said("docs"))
}

// TestWhatIsSaidWhileABatchRunsFollowsAtTheEnd: it is committed when the chunk is gone,
// and a batch does not wait for whoever is just saying something.
func TestWhatIsSaidWhileABatchRunsFollowsAtTheEnd(t *testing.T) {
	t.Parallel()
	m, id := toNotes(t, 3)
	ids := m.ids("docs")
	m.apply(id, -1)
	require.NoError(t, m.store.SwitchReferences(t.Context(), id))
	m.speak("docs", ids[:1])
	speaker := m.session()
	_, err := speaker.Exec(t.Context(), `SELECT rehome.touch('docs', $1), rehome.refer('docs', $2, 'agent')`, ids, ids[2])
	require.NoError(t, err)
	m.retire(id, -1, false)
	require.Empty(t, m.ids("docs"))
	require.Equal(t, said{1, 2, 2, 1}, m.said("docs"), "all or nothing")
	require.NoError(t, speaker.Commit(t.Context()))
	require.NoError(t, m.store.Complete(t.Context(), id))
	require.Zero(t, m.said("docs"))
	require.Equal(t, said{3, 3, 5, 1}, m.said("notes", m.twins(ids)...))
}

// TestABatchThatFailsLeavesWhatIsSaidWhereItIs, as its chunks.
func TestABatchThatFailsLeavesWhatIsSaidWhereItIs(t *testing.T) {
	t.Parallel()
	m, id := toNotes(t, 3)
	m.apply(id, -1)
	require.NoError(t, m.store.SwitchReferences(t.Context(), id))
	m.speak("docs", m.ids("docs"))
	m.exec(`CREATE FUNCTION public.fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no space' USING ERRCODE = '53100'; END $$`)
	m.exec(`CREATE TRIGGER fails AFTER DELETE ON rehome.chunks FOR EACH STATEMENT EXECUTE FUNCTION public.fails()`)
	before := m.tables()
	r, err := m.store.Retirer(t.Context(), id)
	require.NoError(t, err)
	at, err := m.store.Retired(t.Context(), id)
	require.NoError(t, err)
	_, err = r.Apply(t.Context(), at, store.Bounds{})
	require.ErrorContains(t, err, "no space")
	require.Equal(t, before, m.tables())

	m.exec(`DROP TRIGGER fails ON rehome.chunks`)
	after, err := r.Apply(t.Context(), at, store.Bounds{})
	require.NoError(t, err)
	moved := m.tables()
	require.Zero(t, m.said("docs"))
	twice, err := r.Apply(t.Context(), at, store.Bounds{})
	require.NoError(t, err)
	require.Equal(t, after.Last, twice.Last, "it was done")
	require.Equal(t, moved, m.tables())
}
