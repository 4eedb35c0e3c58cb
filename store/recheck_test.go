package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

func (m *migrations) recheck(id string) string {
	m.Helper()
	why, err := m.store.Recheck(m.Context(), id)
	require.NoError(m, err)
	return why
}

// accept asks a person about a plan, says yes, and puts it into the queue.
func (m *migrations) accept(id, why string) {
	m.Helper()
	require.NoError(m, m.store.RequestApproval(m.Context(), id, why))
	require.NoError(m, m.store.Approve(m.Context(), id, m.read(id).Hash, "ana"))
	require.NoError(m, m.store.Queue(m.Context(), id))
}

func TestRecheckCountsDrift(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	id := m.asking().ID
	require.Empty(t, m.recheck(id))
	m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE ordinal = 1`)
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal = 2`)
	require.Empty(t, m.recheck(id), "2 of 200 are 1 %, and no more")
	m.exec(`UPDATE rehome.chunks SET content = 'new text' WHERE ordinal = 3`)
	require.Empty(t, m.recheck(id), "a row whose text changed has not drifted")
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal = 4`)
	require.Equal(t, "3 of its 200 chunks are no longer where they were planned", m.recheck(id))
}

// TestRecheckCountsWhatCame: the sweep would take it along, however much it is.
func TestRecheckCountsWhatCame(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	id := m.asking().ID
	var path string
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT min(path) FROM rehome.chunks`).Scan(&path))
	more := func(rows int) {
		m.exec(fmt.Sprintf(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', '%s', 1000 + i, 'late' FROM generate_series(1, %d) i`, path, rows))
	}
	more(2)
	require.Empty(t, m.recheck(id), "2 of 200 are 1 %, and no more")
	more(1)
	const why = "3 more chunks than its 200 came to be at its sources"
	require.Equal(t, why, m.recheck(id))
	m.accept(id, why)
	require.Empty(t, m.recheck(id))
	more(2)
	require.Empty(t, m.recheck(id), "2 more are 1 %")
}

// TestRecheckCountsWhatCameToATransfer, also in files that nobody knew of.
func TestRecheckCountsWhatCameToATransfer(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "text", ""))
	m.fill(50, "guide/a.md", "zoo.md")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
	require.NoError(t, err)
	require.Empty(t, m.recheck(id))
	m.fill(3, "guide/b.md", "elsewhere.md")
	require.Equal(t, "3 more chunks than its 50 came to be at its sources", m.recheck(id))
}

// TestWhatAPersonAcceptedIsNotAskedAgain: or a plan that has drifted could never begin.
func TestWhatAPersonAcceptedIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	id := m.asking().ID
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal <= 10`)
	m.fill(1, "b.md")
	const why = "10 of its 200 chunks are no longer where they were planned; chunks of b.md came to be where it would move others"
	require.Equal(t, why, m.recheck(id))
	m.accept(id, why)
	require.Empty(t, m.recheck(id))

	m.exec(`DELETE FROM rehome.chunks WHERE ordinal <= 12`)
	require.Empty(t, m.recheck(id), "2 more are 1 %")
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal <= 13`)
	require.Contains(t, m.recheck(id), "13 of its 200 chunks")
	require.NotEmpty(t, m.recheck(id), "looking is not accepting")
}

func TestRecheckFindsATamperedJournal(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]string{
		"Target":  `UPDATE rehome.migration_paths SET new_path = 'evil.md'`,
		"Chunk":   `UPDATE rehome.migration_runs SET chunk_ids[7] = '999999' WHERE first = 1`,
		"Missing": `DELETE FROM rehome.migration_runs WHERE first = 1`,
		"Swapped": `UPDATE rehome.migration_runs SET chunk_ids[1] = chunk_ids[2], chunk_ids[2] = chunk_ids[1] WHERE first = 1`,
		"Policy":  `UPDATE rehome.migration_plans SET policy = policy || '{"rate": 1e6}'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			id := m.asking().ID
			m.exec(tamper)
			_, err := m.store.Recheck(t.Context(), id)
			require.ErrorIs(t, err, store.ErrVerify)
			require.ErrorContains(t, err, "is not what was planned")
		})
	}
}

func TestAnApprovalExpires(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	id := m.asking().ID
	m.accept(id, "its risk is high")
	m.exec(`UPDATE rehome.migration_plans SET approved_at = now() - interval '23 hours 59 minutes'`)
	require.Empty(t, m.recheck(id))
	m.exec(`UPDATE rehome.migration_plans SET approved_at = now() - interval '24 hours 1 minute'`)
	require.Equal(t, "its approval is older than 24h0m0s", m.recheck(id))
	m.accept(id, "its approval is older than 24h0m0s")
	require.Empty(t, m.recheck(id))
}

func TestRecheckFindsANewClash(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"Same": "b.md", "Below": "b.md/x.md"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			id := m.asking().ID
			m.fill(1, path)
			require.Equal(t, "chunks of "+path+" came to be where it would move others", m.recheck(id))
			m.exec(`DELETE FROM rehome.chunks WHERE path = $1`, path)
			require.Empty(t, m.recheck(id))
		})
	}
}

// TestRecheckFindsTwoFilesOfThePlanThatWouldBecomeOne, since one of them came after it.
func TestRecheckFindsTwoFilesOfThePlanThatWouldBecomeOne(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(200, "d/a.md", "c.md")
	id, err := m.plan("", rule("d", "e"), rule("c.md", "e/x.md"))
	require.NoError(t, err)
	require.Empty(t, m.recheck(id))
	m.fill(1, "d/x.md")
	const why = "chunks of c.md came to be where it would move others"
	require.Equal(t, why, m.recheck(id))
	m.accept(id, why)
	require.Empty(t, m.recheck(id), "a person said yes to that")
}

// TestRecheckOfAnUndo: what came to be at the old place since does not keep the
// others from coming home.
func TestRecheckOfAnUndo(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md")
	done := m.migrate("", rule("a.md", "b.md"))
	m.fill(1, "a.md")
	undo, err := m.plan(done.ID)
	require.NoError(t, err)
	require.Empty(t, m.recheck(undo))
}
