package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// onward are the answers of a batch that copies and of one that retires.
func (m *migrations) onward(id string) map[string]error {
	m.Helper()
	mover, err := m.store.Mover(m.Context(), id)
	require.NoError(m, err)
	at, err := m.store.Watermark(m.Context(), id)
	require.NoError(m, err)
	_, copies := mover.Apply(m.Context(), at, store.Bounds{})
	retirer, err := m.store.Retirer(m.Context(), id)
	require.NoError(m, err)
	at, err = m.store.Retired(m.Context(), id)
	require.NoError(m, err)
	_, retires := retirer.Apply(m.Context(), at, store.Bounds{})
	return map[string]error{"copy": copies, "retire": retires}
}

// TestATransferDoesNotGoOnWithOtherTables: it says what was done to them, and goes back.
func TestATransferDoesNotGoOnWithOtherTables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ change, back, says string }{
		"added to the source":             {`ALTER TABLE rehome.chunks ADD extra int NOT NULL DEFAULT 7`, `ALTER TABLE rehome.chunks DROP extra`, `column "extra" of table rehome.chunks was added`},
		"of another type there":           {`ALTER TABLE rehome.chunks ALTER ordinal TYPE bigint`, `ALTER TABLE rehome.chunks ALTER ordinal TYPE int`, `column "ordinal" of table rehome.chunks became bigint from integer`},
		"longer there":                    {`ALTER TABLE rehome.chunks ALTER note TYPE varchar(20)`, `ALTER TABLE rehome.chunks ALTER note TYPE varchar(9)`, `column "note" of table rehome.chunks became character varying(20) from character varying(9)`},
		"renamed there":                   {`ALTER TABLE rehome.chunks RENAME note TO remark`, `ALTER TABLE rehome.chunks RENAME remark TO note`, `column "note" of table rehome.chunks was dropped or renamed and column "remark" of table rehome.chunks was added`},
		"of another type that is filled":  {`ALTER TABLE public.notes ALTER team TYPE varchar(9)`, `ALTER TABLE public.notes ALTER team TYPE text`, `column "team" of table public.notes became character varying(9) from text`},
		"of another type that is watched": {`ALTER TABLE public.notes ALTER rank TYPE bigint`, `ALTER TABLE public.notes ALTER rank TYPE int`, `column "rank" of table public.notes became bigint from integer`},
		"added to the target":             {`ALTER TABLE public.notes ADD extra int NOT NULL DEFAULT 7`, `ALTER TABLE public.notes DROP extra`, ``},
		"a count of uses":                 {`ALTER TABLE public.notes ALTER seen TYPE int`, `ALTER TABLE public.notes ALTER seen TYPE bigint`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.memory("notes", notes(m, "uuid", "DEFAULT gen_random_uuid()"))
			m.exec(`ALTER TABLE public.notes ADD rank int; ALTER TABLE rehome.chunks ADD note varchar(9)`)
			m.fill(20, "guide/a.md")
			start := m.tables()
			id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
			require.NoError(t, err)

			m.exec(c.change)
			why, err := m.store.Recheck(t.Context(), id)
			require.Empty(t, why)
			if c.says != "" {
				require.ErrorIs(t, err, store.ErrChanged)
				require.ErrorContains(t, err, "migration "+id+" was planned before "+c.says+". Nothing was moved; plan it anew")
			} else {
				require.NoError(t, err)
			}
			m.exec(c.back)
			require.Empty(t, m.recheck(id))

			m.apply(id, 2)
			m.exec(c.change)
			for step, err := range m.onward(id) {
				if c.says == "" {
					require.NoError(t, err, step)
					continue
				}
				require.ErrorIs(t, err, store.ErrChanged, step)
				require.ErrorContains(t, err, "migration "+id+" was planned before "+c.says, step)
			}
			if c.says != "" {
				require.Len(t, m.ids("notes"), 8)
			}
			m.exec(c.back)
			for step, err := range m.onward(id) {
				require.NoError(t, err, step)
			}
			m.rollBack(id)
			require.Equal(t, start, m.tables())
		})
	}
}

// TestATransferOfAnEarlierVersionIsNotCompared: nobody noted what its tables were.
func TestATransferOfAnEarlierVersionIsNotCompared(t *testing.T) {
	t.Parallel()
	m, id := copied(t, 10, 1)
	m.exec(`UPDATE rehome.migration_transfers SET signature = NULL`)
	m.exec(`ALTER TABLE rehome.chunks ADD extra int NOT NULL DEFAULT 7`)
	m.apply(id, -1)
	require.EqualValues(t, 10, m.finish(id).Moved)
}

// TestAColumnThatWasAddedKeepsNothingFromComingHome, in the middle of a transfer and after
// its end; and nothing is copied again then.
func TestAColumnThatWasAddedKeepsNothingFromComingHome(t *testing.T) {
	t.Parallel()
	const adds = `ALTER TABLE rehome.chunks ADD extra int NOT NULL DEFAULT 7`
	for name, until := range map[string]func(m *migrations, id string){
		"in the copies": func(m *migrations, id string) { m.apply(id, 2) },
		"in the retiring": func(m *migrations, id string) {
			m.apply(id, -1)
			require.NoError(m, m.store.SwitchReferences(m.Context(), id))
			m.retire(id, 2, false)
		},
		"at the end": func(m *migrations, id string) { m.apply(id, -1); m.finish(id) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := toNotes(t, 20)
			until(m, id)
			m.exec(adds)
			if name != "at the end" {
				m.rollBack(id)
			} else {
				home := m.homeAgain("docs", id)
				require.EqualValues(t, 20, home.Moved)
				_, err := m.transfer("docs", home.ID, resilience.TransferOrder{})
				require.ErrorIs(t, err, store.ErrRefused)
				require.ErrorContains(t, err, "starter migrate --to-memory notes")
			}
			require.Empty(t, m.ids("notes"))
			require.Equal(t, 20, m.count(`SELECT count(*) FROM rehome.chunks WHERE extra = 7`))
		})
	}
}

// TestATransferThatCameHomeIsNotCopiedAgainWithoutAColumn: its undo is turned round, after
// an application had written to a column that the copies would not have. The undo of that
// is stuck with the reason, and goes on without the column.
func TestATransferThatCameHomeIsNotCopiedAgainWithoutAColumn(t *testing.T) {
	t.Parallel()
	m, id := toNotes(t, 20)
	m.apply(id, -1)
	m.finish(id)
	home := m.turning("docs", id)
	m.apply(home, -1)
	m.exec(`ALTER TABLE rehome.chunks ADD extra int`)
	_, err := m.store.BeginUndo(t.Context(), home, "ana", "a test")
	require.NoError(t, err)
	mover, err := m.store.Mover(t.Context(), home)
	require.NoError(t, err)
	at, err := m.store.Watermark(t.Context(), home)
	require.NoError(t, err)
	_, err = mover.Revert(t.Context(), at, store.Bounds{})
	require.ErrorIs(t, err, store.ErrChanged)
	require.ErrorContains(t, err, "migration "+id+` was planned before column "extra"`)
	require.Empty(t, m.ids("notes"))
	m.exec(`ALTER TABLE rehome.chunks DROP extra`)
	m.putBack(home)
	require.Len(t, m.ids("notes"), 20)
}
