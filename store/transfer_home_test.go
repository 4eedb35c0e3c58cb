package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// write changes a chunk of a memory by what is said of both kinds of tables.
func (m *migrations) write(memory, id, builtin, mapped string) {
	m.Helper()
	set := builtin
	if memory == "notes" {
		set = mapped
	}
	m.exec(`UPDATE `+tableOf(memory)+` SET `+set+` WHERE id::text = $1`, id)
}

func tableOf(memory string) string {
	if memory == "notes" {
		return "public.notes"
	}
	return "rehome.chunks"
}

// copyRow is a chunk as it is written.
func (m *migrations) copyRow(memory, id string) (row string) {
	m.Helper()
	require.NoError(m, m.pool.QueryRow(m.Context(), `SELECT t::text FROM `+tableOf(memory)+` t WHERE id::text = $1`, id).Scan(&row))
	return row
}

// says is the path, text, embedding and metadata of a chunk, alike for both kinds
// of tables: the paths in the metadata are no part of it, nor is what a copy has
// beside them.
func (m *migrations) says(memory, id string) (words string) {
	m.Helper()
	query := `SELECT concat_ws('|', path, content, embedding::float8[], coalesce(metadata, '{}') #- '{loc}' #- '{rehome}') FROM rehome.chunks WHERE id::text = $1`
	if memory == "notes" {
		query = `SELECT concat_ws('|', substr(meta #>> '{loc,source}', 6), body, vec::float8[], meta #- '{loc}' #- '{rehome}') FROM public.notes WHERE id::text = $1`
	}
	require.NoError(m, m.pool.QueryRow(m.Context(), query, id).Scan(&words))
	return words
}

// gone finishes a transfer of the guide, and returns the ids in the source and in
// the target, of the same chunks in the same order.
func (m *migrations) gone(from, to string) (id string, homes, copies []string) {
	m.Helper()
	id, err := m.transfer(from, "", resilience.TransferOrder{To: to, Prefix: "guide"})
	require.NoError(m, err)
	m.apply(id, -1)
	rows, err := m.pool.Query(m.Context(), `
		SELECT m.chunk_id, c.target_id FROM rehome.migration_copies c JOIN rehome.migration_moves m USING (plan, ordinal)
		JOIN rehome.migration_plans p ON p.number = m.plan WHERE p.plan_id = $1 ORDER BY ordinal`, id)
	require.NoError(m, err)
	for rows.Next() {
		var home, copied string
		require.NoError(m, rows.Scan(&home, &copied))
		homes, copies = append(homes, home), append(copies, copied)
	}
	require.NoError(m, rows.Err())
	m.finish(id)
	return id, homes, copies
}

// homeAgain undoes a transfer, each batch of its last step twice.
func (m *migrations) homeAgain(from, undoes string) resilience.Plan {
	m.Helper()
	id := m.turning(from, undoes)
	mover, err := m.store.Mover(m.Context(), id)
	require.NoError(m, err)
	at, err := m.store.Watermark(m.Context(), id)
	require.NoError(m, err)
	for at.Last < at.Total {
		next, err := mover.Apply(m.Context(), at, store.Bounds{})
		require.NoError(m, err)
		again, err := mover.Apply(m.Context(), at, store.Bounds{Until: next.Last})
		require.NoError(m, err)
		require.Equal(m, next.Last, again.Last)
		at = next
	}
	m.looked(id, false)
	require.NoError(m, m.store.Complete(m.Context(), id))
	plan, err := m.store.Plan(m.Context(), id)
	require.NoError(m, err)
	return plan
}

// turning brings the source rows of a transfer home; the copies are still there.
func (m *migrations) turning(from, undoes string) string {
	m.Helper()
	id, err := m.transfer(from, undoes, resilience.TransferOrder{})
	require.NoError(m, err)
	require.NoError(m, m.store.Queue(m.Context(), id))
	require.NoError(m, m.store.Begin(m.Context(), id))
	m.retire(id, -1, false)
	require.NoError(m, m.store.SwitchReferences(m.Context(), id))
	return id
}

// listed counts the exceptions of a plan by outcome, and says why.
func (m *migrations) listed(id string) (map[resilience.Outcome]int, string) {
	m.Helper()
	all, err := m.store.Exceptions(m.Context(), id, 100)
	require.NoError(m, err)
	count, why := map[resilience.Outcome]int{}, ""
	for _, e := range all {
		count[e.Outcome]++
		why += fmt.Sprintf("%s %s: %s\n", e.Outcome, e.Chunk, e.Detail)
	}
	return count, why
}

// edit writes to the text, the metadata and the embedding of chunks, and to all of one.
func (m *migrations) edit(memory string, ids []string) {
	m.Helper()
	m.write(memory, ids[0], `content = 'edited'`, `body = 'edited'`)
	m.write(memory, ids[1], `metadata = (coalesce(metadata, '{}') - 'lang') || '{"tag": 1.50, "deep": {"a": [1, null]}}'`, `meta = (meta - 'lang') || '{"tag": 1.50, "deep": {"a": [1, null]}}'`)
	m.write(memory, ids[2], `embedding = '{0.5, NULL, -7}'`, `vec = '{0.5, NULL, -7}'`)
	m.write(memory, ids[3], `content = 'all', embedding = NULL, metadata = coalesce(metadata, '{}') || '{"tag": "x"}'`, `body = 'all', vec = NULL, meta = meta || '{"tag": "x"}'`)
}

// TestAnUndoBringsHomeWhatWasWrittenToTheCopies, and takes the copies away; a
// chunk that was deleted in the target comes home as it was.
func TestAnUndoBringsHomeWhatWasWrittenToTheCopies(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		first, homes, copies := m.gone(from, to)
		m.edit(to, copies)
		m.exec(`DELETE FROM `+tableOf(to)+` WHERE id::text = $1`, copies[8])
		want := make([]string, len(homes))
		for i, id := range copies {
			if i != 8 {
				want[i] = m.says(to, id)
			}
		}
		there := m.rows(m.undated(to))

		same := func() {
			for i, id := range homes {
				if i != 8 {
					require.Equal(m, want[i], m.says(from, id))
				}
			}
			require.Len(m, m.ids(from), 10)
			require.Empty(m, m.ids(to))
		}
		plan := m.homeAgain(from, first)
		count, why := m.listed(plan.ID)
		require.Equal(m, map[resilience.Outcome]int{resilience.Edited: 4, resilience.Vanished: 1}, count, why)
		require.Equal(m, []int64{9, 0, 1}, []int64{plan.Moved, plan.Conflicts, plan.Vanished})
		require.Contains(m, why, "came home")
		same()

		again, err := m.transfer(from, plan.ID, resilience.TransferOrder{})
		require.NoError(m, err)
		m.apply(again, -1)
		require.EqualValues(m, 10, m.finish(again).Moved)
		require.Empty(m, m.ids(from))
		require.Subset(m, m.rows(m.undated(to)), there, "the copies are what the application made of them")
		there = m.rows(m.undated(to))

		// An undo that is turned round when half of it is done.
		back := m.turning(from, again)
		m.apply(back, 2)
		m.turned(back)
		require.Equal(m, there, m.rows(m.undated(to)))

		plan = m.homeAgain(from, again)
		require.EqualValues(m, 10, plan.Moved)
		same()
	})
}

// turned takes back what a plan that goes back did.
func (m *migrations) turned(id string) {
	m.Helper()
	at, err := m.store.BeginUndo(m.Context(), id, "a test", "")
	require.NoError(m, err)
	mover, err := m.store.Mover(m.Context(), id)
	require.NoError(m, err)
	for at.Last > 0 {
		at, err = mover.Revert(m.Context(), at, store.Bounds{})
		require.NoError(m, err)
	}
	require.NoError(m, m.store.UndoSwitchReferences(m.Context(), id))
	m.retire(id, -1, true)
	require.NoError(m, m.store.EndUndo(m.Context(), id))
}

// TestAnUndoOfEditsIsTurnedRound: copies that were edited, gone and made again are
// what they were.
func TestAnUndoOfEditsIsTurnedRound(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		first, _, copies := m.gone(from, to)
		m.edit(to, copies)
		there := m.rows(m.undated(to))
		back := m.turning(from, first)
		m.apply(back, -1)
		require.Empty(m, m.ids(to))
		m.turned(back)
		require.Equal(m, there, m.rows(m.undated(to)))
		require.Empty(m, m.ids(from))
		count, why := m.listed(back)
		require.Equal(m, map[resilience.Outcome]int{resilience.Edited: 4}, count, why)
	})
}

// TestWhatDoesNotTurnRoundStaysWithItsCopy: the source has its own again, the
// copy is what the application made of it, and why is listed.
func TestWhatDoesNotTurnRoundStaysWithItsCopy(t *testing.T) {
	t.Parallel()
	quick := []string{"numbers that are rounded", "another path", "a column in the metadata", "a trigger of the source", "a row that the source refuses"}
	for name, c := range map[string]struct {
		direction int
		before    string // what the tables are like
		edit      string
		why       string
	}{
		"numbers that are rounded": {1, ``, `UPDATE public.notes SET vec = '{0.1}' WHERE id::text = $1`, `written to vec does not fit`},
		"another path":             {1, ``, `UPDATE public.notes SET meta = jsonb_set(meta, '{loc,source}', '"/srv/x.md"') WHERE id::text = $1`, `its path was changed`},
		"another path and text":    {0, ``, `UPDATE rehome.chunks SET path = 'x.md', content = 'edited' WHERE id::text = $1`, `its path was changed`},
		"no document any more":     {1, ``, `UPDATE public.notes SET meta = '[]' WHERE id::text = $1`, ``},
		"a column in the metadata": {
			2, `ALTER TABLE public.notes ADD odd int DEFAULT 3`,
			`UPDATE rehome.chunks SET metadata = jsonb_set(metadata, '{rehome,odd}', '4') WHERE id::text = $1`, `written to metadata does not fit`,
		},
		"metadata that is another": {2, ``, `UPDATE rehome.chunks SET metadata = '{"lang": "de"}' WHERE id::text = $1`, `written to metadata does not fit`},
		"a narrow column": {
			2, `ALTER TABLE public.notes ALTER body TYPE varchar(20)`,
			`UPDATE rehome.chunks SET content = 'longer than twenty characters' WHERE id::text = $1`, `written to content does not fit`,
		},
		"metadata of type json": {2, `ALTER TABLE public.notes ALTER meta TYPE json`, `UPDATE rehome.chunks SET metadata = metadata || '{"lang": "de"}' WHERE id::text = $1`, `written to metadata`},
		"a trigger of the source": {
			2, `CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := upper(NEW.body); RETURN NEW; END $$;
			CREATE TRIGGER meddle BEFORE UPDATE ON public.notes FOR EACH ROW EXECUTE FUNCTION public.meddle()`,
			`UPDATE rehome.chunks SET content = 'edited' WHERE id::text = $1`, `a trigger`,
		},
		"a row that the source refuses": {2, `ALTER TABLE public.notes ADD CHECK (body <> 'edited')`, `UPDATE rehome.chunks SET content = 'edited' WHERE id::text = $1`, `check constraint`},
		"a text that is not allowed, as a commit would find": {
			2, `CREATE TABLE public.texts AS SELECT DISTINCT body FROM public.notes; ALTER TABLE public.texts ADD PRIMARY KEY (body);
			ALTER TABLE public.notes ADD FOREIGN KEY (body) REFERENCES public.texts DEFERRABLE INITIALLY DEFERRED`,
			`UPDATE rehome.chunks SET content = 'edited' WHERE id::text = $1`, `foreign key constraint`,
		},
	} {
		if testing.Short() && !slices.Contains(quick, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := directions[c.direction]
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			d.set(m)
			if c.before != "" {
				m.exec(c.before)
			}
			start := m.rows(m.undated(d.from))
			first, _, copies := m.gone(d.from, d.to)
			m.exec(c.edit, copies[5])
			kept := m.copyRow(d.to, copies[5])
			plan := m.homeAgain(d.from, first)
			count, why := m.listed(plan.ID)
			require.Equal(t, map[resilience.Outcome]int{resilience.Clashed: 1}, count, why)
			require.Contains(t, why, c.why)
			require.EqualValues(t, 9, plan.Moved)
			require.Equal(t, kept, m.copyRow(d.to, copies[5]))
			m.exec(`DELETE FROM `+tableOf(d.to)+` WHERE id::text = $1`, copies[5])
			require.Equal(t, start, m.rows(m.undated(d.from)))
		})
	}
}

// TestAnEditMeetsAnEdit: what is written to the chunk that came home, before its
// copy goes, is kept, and so is what was written to the copy.
func TestAnEditMeetsAnEdit(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		first, homes, copies := m.gone(from, to)
		m.write(to, copies[0], `content = 'there'`, `body = 'there'`)
		m.write(to, copies[1], `content = 'there'`, `body = 'there'`)
		back := m.turning(from, first)
		m.write(from, homes[0], `content = 'here'`, `body = 'here'`)
		m.write(from, homes[1], `path = 'guide/here.md'`, `meta = jsonb_set(meta, '{loc,source}', '"/srv/guide/here.md"')`)
		m.apply(back, -1)
		require.NoError(m, m.store.Complete(m.Context(), back))
		count, why := m.listed(back)
		require.Equal(m, map[resilience.Outcome]int{resilience.Clashed: 2}, count, why)
		require.Contains(m, why, "was changed too")
		require.Contains(m, m.says(from, homes[0]), "|here|")
		require.Contains(m, m.says(from, homes[1]), "guide/here.md|")
		for _, id := range copies[:2] {
			require.Contains(m, m.says(to, id), "|there|")
		}
	})
}

// TestAnEditThatIsCommittedLateComesHome: a batch waits for the row, and takes what
// was written to it along.
func TestAnEditThatIsCommittedLateComesHome(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	directions[0].set(m)
	first, homes, copies := m.gone("docs", "other")
	back := m.turning("docs", first)
	mover, at := m.mover(back)
	app := m.session()
	_, err := app.Exec(t.Context(), `UPDATE rehome.chunks SET content = 'late' WHERE id::text = $1`, copies[9])
	require.NoError(t, err)
	moved := make(chan error, 1)
	go func() {
		_, err := mover.Apply(context.WithoutCancel(t.Context()), at, store.Bounds{Patient: true})
		moved <- err
	}()
	m.waiting()
	require.NoError(t, app.Commit(t.Context()))
	require.NoError(t, <-moved)
	require.Contains(t, m.says("docs", homes[9]), "|late|")
	count, why := m.listed(back)
	require.Equal(t, map[resilience.Outcome]int{resilience.Edited: 1}, count, why)
	require.Len(t, m.ids("other"), 6)
}

// TestWhatWasWrittenBesideACopyIsKept: the transfer fills not all columns of the target,
// and what somebody writes to the others has no place in the source.
func TestWhatWasWrittenBesideACopyIsKept(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		if tableOf(from) == tableOf(to) {
			return // which has the same columns, and all are filled
		}
		m.exec(`CREATE TYPE public.graded AS ENUM ('none', 'good')`)
		m.exec(`ALTER TABLE ` + tableOf(to) + ` ADD rating numeric(6,2) NOT NULL DEFAULT 0, ADD tags text[] DEFAULT '{}', ADD reviewer varchar(20),
			ADD grade public.graded DEFAULT 'none', ADD put_at timestamptz DEFAULT clock_timestamp(), ADD owner text DEFAULT 'me@localhost'`)
		first, homes, copies := m.gone(from, to)
		writes := []string{`rating = 5`, `tags = '{seen, liked}'`, `reviewer = 'ana'`, `grade = NULL`}
		m.exec(`UPDATE ` + tableOf(to) + ` SET put_at = now() + interval '1 day'`) // as triggers do
		m.exec(`ALTER TABLE ` + tableOf(to) + ` DROP owner`)                       // which says nothing of the others
		m.exec(`CREATE FUNCTION public.told() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
		m.exec(`CREATE TRIGGER told AFTER INSERT OR UPDATE ON ` + tableOf(to) + ` FOR EACH ROW EXECUTE FUNCTION public.told()`) // nor does that
		for i, set := range writes {
			m.write(to, copies[i], set, set)
		}
		m.write(to, copies[0], `content = 'edited'`, `body = 'edited'`)
		left := map[string]string{}
		for _, id := range copies[:len(writes)] {
			left[id] = m.copyRow(to, id)
		}
		back := m.turning(from, first)
		m.apply(back, -1)
		m.turned(back)
		require.Empty(m, m.ids(from), "an undo that is turned round leaves nothing in both")
		require.Len(m, m.ids(to), len(copies))

		plan := m.homeAgain(from, first)
		count, why := m.listed(plan.ID)
		require.Equal(m, map[resilience.Outcome]int{resilience.Clashed: len(writes)}, count, why)
		for _, column := range []string{"rating", "tags", "reviewer", "grade"} {
			require.Contains(m, why, "what was written to "+column+" does not fit into memory "+from)
		}
		require.Len(m, m.ids(from), len(homes), "every chunk is at home")
		require.ElementsMatch(m, copies[:len(writes)], m.ids(to), "and of the others no copy stays")
		for id, row := range left {
			require.Equal(m, row, m.copyRow(to, id))
		}
	})
}

// TestWhatAnUndoLeftIsLookedAtWhenItIsTurnedRound: its copy was kept, and the chunk was
// edited at home since.
func TestWhatAnUndoLeftIsLookedAtWhenItIsTurnedRound(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		first, homes, copies := m.gone(from, to)
		m.edit(to, copies)
		m.write(to, copies[0], `path = 'elsewhere.md'`, `meta = jsonb_set(meta, '{loc,source}', '"/srv/elsewhere.md"')`) // it stays
		back := m.turning(from, first)
		m.apply(back, -1)
		m.write(from, homes[0], `content = 'edited at home'`, `body = 'edited at home'`)
		m.write(from, homes[5], `content = 'edited at home'`, `body = 'edited at home'`)
		m.turned(back)
		require.Equal(m, []string{homes[0]}, m.ids(from), "both sides of it were changed")
		count, why := m.listed(back)
		require.Equal(m, 2, count[resilience.Clashed], why)
		require.Equal(m, 1, m.count(`SELECT count(*) FROM `+tableOf(to)+` t WHERE t::text LIKE '%edited at home%' AND id::text <> '`+homes[0]+`'`), "what was edited in one place goes along")
	})
}
