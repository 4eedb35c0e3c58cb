package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// notes is a table as LangChain keeps it: the path is inside the metadata.
func notes(m *migrations, idType, idDefault string) resilience.Mapping {
	m.Helper()
	m.exec(fmt.Sprintf(`CREATE TABLE public.notes (id %s PRIMARY KEY %s, body text NOT NULL, vec double precision[], meta jsonb NOT NULL, team text NOT NULL, seen bigint NOT NULL DEFAULT 0)`, idType, idDefault))
	return resilience.Mapping{
		Schema: "public", Table: "notes", ID: "id", IDType: idType, Content: "body", Embedding: "vec", Metadata: "meta", AccessCount: "seen",
		Locators: []resilience.Locator{{Column: "meta", Keys: []string{"loc", "source"}, Type: "jsonb"}},
		Scope:    []resilience.Scope{{Column: "team", Value: "blue"}}, StripPrefix: "/srv/",
	}
}

// toNotes is a transfer of so many chunks to a table of notes, planned.
func toNotes(t *testing.T, chunks int) (m *migrations, id string) {
	t.Helper()
	m = newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "uuid", "DEFAULT gen_random_uuid()"))
	m.fill(chunks, "guide/a.md")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
	require.NoError(t, err)
	return m, id
}

func (m *migrations) memory(name string, mapping resilience.Mapping) {
	m.Helper()
	require.NoError(m, m.store.AddMemory(m.Context(), resilience.Memory{Name: name, Root: m.TempDir(), Builtin: mapping.Schema == "rehome", Mapping: mapping}))
}

// transfer plans a transfer in batches of 4, or the undo of one, and returns its id.
func (m *migrations) transfer(from, undoes string, order resilience.TransferOrder) (string, error) {
	m.Helper()
	id, err := m.ask(from, undoes, order)
	if err != nil {
		return id, err
	}
	return id, m.store.Journal(m.Context(), id)
}

// ask makes the plan of a transfer, without its journal.
func (m *migrations) ask(from, undoes string, order resilience.TransferOrder) (string, error) {
	m.Helper()
	m.made++
	id := fmt.Sprintf("t-%d", m.made)
	return id, m.store.CreatePlan(m.Context(), store.NewPlan{
		ID: id, Memory: from, Strategy: resilience.Batch, Undoes: undoes, Transfer: order,
		Policy: resilience.Policy{BatchSize: 4}, WorkflowID: "w/" + id, RunID: "r-" + id, Rollback: []string{"undo"},
	})
}

// retire does n batches of the last step, all when n is negative; back takes them back.
func (m *migrations) retire(id string, n int, back bool) {
	m.Helper()
	r, err := m.store.Retirer(m.Context(), id)
	require.NoError(m, err)
	at, err := m.store.Retired(m.Context(), id)
	require.NoError(m, err)
	for ; n != 0 && (back && at.Last > 0 || !back && at.Last < at.Total); n-- {
		if back {
			at, err = r.Revert(m.Context(), at, store.Bounds{})
		} else {
			at, err = r.Apply(m.Context(), at, store.Bounds{})
		}
		require.NoError(m, err)
	}
}

// finish does all steps of a transfer after its copies.
func (m *migrations) finish(id string) resilience.Plan {
	m.Helper()
	require.NoError(m, m.store.SwitchReferences(m.Context(), id))
	m.retire(id, -1, false)
	require.NoError(m, m.store.Complete(m.Context(), id))
	plan, err := m.store.Plan(m.Context(), id)
	require.NoError(m, err)
	return plan
}

// undone does all steps of a plan that goes back.
func (m *migrations) undone(id string) resilience.Plan {
	m.Helper()
	require.NoError(m, m.store.Queue(m.Context(), id))
	require.NoError(m, m.store.Begin(m.Context(), id))
	m.retire(id, -1, false)
	require.NoError(m, m.store.SwitchReferences(m.Context(), id))
	m.apply(id, -1)
	m.looked(id, false)
	require.NoError(m, m.store.Complete(m.Context(), id))
	plan, err := m.store.Plan(m.Context(), id)
	require.NoError(m, err)
	return plan
}

// rollBack does what a saga does of a plan that failed.
func (m *migrations) rollBack(id string) {
	m.Helper()
	m.goBack(id)
	m.looked(id, true)
	require.NoError(m, m.store.EndUndo(m.Context(), id))
}

// goBack is rollBack until all rows are home.
func (m *migrations) goBack(id string) {
	m.Helper()
	_, err := m.store.BeginUndo(m.Context(), id, "a test", "")
	require.NoError(m, err)
	m.retire(id, -1, true)
	require.NoError(m, m.store.UndoSwitchReferences(m.Context(), id))
	m.putBack(id)
}

// tables is every row of both memories and of what is said about them.
func (m *migrations) tables() map[string][]string {
	m.Helper()
	all := map[string][]string{}
	for _, table := range []string{"rehome.chunks", "rehome.chunk_references", "rehome.chunk_access", "rehome.version_aliases", "rehome.holds"} {
		all[table] = m.rows(table)
	}
	var mapped bool
	require.NoError(m, m.pool.QueryRow(m.Context(), `SELECT to_regclass('public.notes') IS NOT NULL`).Scan(&mapped))
	if mapped {
		all["public.notes"] = m.rows("public.notes")
	}
	return all
}

func (m *migrations) count(query string, args ...any) (n int) {
	m.Helper()
	require.NoError(m, m.pool.QueryRow(m.Context(), query, args...).Scan(&n))
	return n
}

// undated is the table of a memory without when its rows were made.
func (m *migrations) undated(memory string) string {
	if memory == "notes" {
		return "public.notes"
	}
	return "(SELECT to_jsonb(c) - 'created_at' FROM rehome.chunks c)"
}

// directions of a transfer: each makes the memories and fills the source.
var directions = []struct {
	name, from, to string
	set            func(m *migrations)
}{
	{"builtin to builtin", "docs", "other", func(m *migrations) {
		m.memory("other", resilience.BuiltinMapping("other"))
		m.fill(5, "guide/a.md", "guide/b.md", "zoo.md")
	}},
	{"builtin to a mapped table", "docs", "notes", func(m *migrations) {
		m.memory("notes", notes(m, "uuid", "DEFAULT gen_random_uuid()"))
		m.fill(5, "guide/a.md", "guide/b.md", "zoo.md")
	}},
	{"a mapped table to builtin", "notes", "docs", func(m *migrations) {
		m.memory("notes", notes(m, "text", ""))
		m.exec(`INSERT INTO public.notes SELECT path || i, 'text ' || i || path, ARRAY[i, 2], jsonb_build_object('lang', 'en', 'loc', jsonb_build_object('source', '/srv/' || path)), team
			FROM generate_series(1, 5) i, unnest(ARRAY['guide/a.md', 'guide/b.md', 'zoo.md']) path, unnest(ARRAY['blue']) team`)
		m.exec(`INSERT INTO public.notes SELECT 'red' || i, 'text', NULL, '{"loc": {"source": "/srv/guide/a.md"}}', 'red' FROM generate_series(1, 3) i`)
		m.exec(`ALTER TABLE public.notes ALTER vec TYPE real[]`)
	}},
}

// each runs a test for every direction.
func each(t *testing.T, do func(m *migrations, from, to string)) {
	t.Helper()
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			d.set(m)
			for i, id := range m.ids(d.from) {
				if i < 3 {
					m.exec(`SELECT rehome.refer($1, $2, 'answer'), rehome.touch($1, ARRAY[$2])`, d.from, id)
				}
			}
			_, err := m.store.AddAlias(t.Context(), d.from, "old", "guide", nil)
			require.NoError(t, err)
			m.hold(d.from)
			do(m, d.from, d.to)
		})
	}
}

// hold keeps two chunks of the guide: one for good, one as long as it is where it
// was restored.
func (m *migrations) hold(memory string) {
	m.Helper()
	ids := m.ids(memory)
	require.NoError(m, m.store.Hold(m.Context(), memory, ids[0], "mine"))
	m.exec(`
		INSERT INTO rehome.holds (memory, chunk_id, reason, locator, content_hash, held_at)
		VALUES ($1, $2, 'restored', $3, sha256('text'), now() - interval '1 day')`, memory, ids[2], guide(memory))
}

// guide is the path of the first file of the guide, as a memory spells it.
func guide(memory string) string {
	if memory == "notes" {
		return "/srv/guide/a.md"
	}
	return "guide/a.md"
}

// ids of the chunks of a memory in the guide, in order.
func (m *migrations) ids(memory string) []string {
	m.Helper()
	query := `SELECT id::text FROM rehome.chunks WHERE memory = '` + memory + `' AND path LIKE 'guide/%' ORDER BY id`
	if memory == "notes" {
		query = `SELECT id::text FROM public.notes WHERE team = 'blue' AND meta #>> '{loc,source}' LIKE '/srv/guide/%' ORDER BY id`
	}
	rows, err := m.pool.Query(m.Context(), query)
	require.NoError(m, err)
	var ids []string
	for rows.Next() {
		var id string
		require.NoError(m, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(m, rows.Err())
	return ids
}

func TestATransferCopiesSwitchesAndRetires(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		id, err := m.transfer(from, "", resilience.TransferOrder{To: to, Prefix: "guide"})
		require.NoError(m, err)
		at := m.apply(id, -1)
		require.Equal(m, int64(10), at.Last)
		require.Len(m, m.ids(from), 10, "the source stays until the end")
		require.Len(m, m.ids(to), 10)
		plan := m.finish(id)
		require.Equal(m, resilience.Completed, plan.Status)
		require.Equal(m, resilience.Transfer, plan.Kind)
		require.Equal(m, int64(10), plan.Moved)
		require.Empty(m, m.ids(from))
		require.Equal(m, 10, m.count(`SELECT count(*) FROM rehome.quarantine WHERE memory = $1 AND reason = 'transferred' AND restored_at IS NULL`, from))
		require.Equal(m, 3, m.count(`SELECT count(*) FROM rehome.chunk_references WHERE memory = $1 AND chunk_id = ANY ($2)`, to, m.ids(to)))
		require.Equal(m, 3, m.count(`SELECT count(*) FROM rehome.chunk_access WHERE memory = $1 AND chunk_id = ANY ($2)`, to, m.ids(to)))
		require.Zero(m, m.count(`SELECT count(*) FROM rehome.chunk_references WHERE memory = $1`, from))
		require.Equal(m, 1, m.count(`SELECT count(*) FROM rehome.holds WHERE memory = $1 AND chunk_id = ANY ($2) AND reason = 'mine' AND locator IS NULL`, to, m.ids(to)))
		require.Equal(m, 1, m.count(`
			SELECT count(*) FROM rehome.holds WHERE memory = $1 AND chunk_id = ANY ($2) AND locator = $3 AND content_hash = sha256('text') AND held_at < now()`,
			to, m.ids(to), guide(to)))
		require.Zero(m, m.count(`SELECT count(*) FROM rehome.holds WHERE memory = $1`, from))
		var now string
		require.NoError(m, m.pool.QueryRow(m.Context(), `SELECT rehome.current_path($1, 'old/a.md')`, to).Scan(&now))
		require.Equal(m, "guide/a.md", now)
	})
}

func TestFault07ATransferThatFailsLeavesBothTablesAsTheyWere(t *testing.T) {
	t.Parallel()
	steps := map[string]func(m *migrations, id string){
		"at the first copy": func(m *migrations, id string) { m.apply(id, 0) },
		"in the copies":     func(m *migrations, id string) { m.apply(id, 2) },
		"at the switch":     func(m *migrations, id string) { m.apply(id, -1) },
		"at the first retiring": func(m *migrations, id string) {
			m.apply(id, -1)
			require.NoError(m, m.store.SwitchReferences(m.Context(), id))
		},
		"in the retiring": func(m *migrations, id string) {
			m.apply(id, -1)
			require.NoError(m, m.store.SwitchReferences(m.Context(), id))
			m.retire(id, 2, false)
		},
		"at its end": func(m *migrations, id string) {
			m.apply(id, -1)
			require.NoError(m, m.store.SwitchReferences(m.Context(), id))
			m.retire(id, -1, false)
		},
	}
	for name, until := range steps {
		if testing.Short() && !strings.HasPrefix(name, "in ") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(m *migrations, from, to string) {
				start := m.tables()
				id, err := m.transfer(from, "", resilience.TransferOrder{To: to})
				require.NoError(m, err)
				require.Equal(m, start, m.tables(), "planning changes nothing")
				until(m, id)
				m.rollBack(id)
				require.Equal(m, start, m.tables())
			})
		})
	}
}

func TestATransferIsUndoneAndDoneAgain(t *testing.T) {
	t.Parallel()
	each(t, func(m *migrations, from, to string) {
		start := m.tables()
		first, err := m.transfer(from, "", resilience.TransferOrder{To: to, Prefix: "guide"})
		require.NoError(m, err)
		m.apply(first, -1)
		m.finish(first)
		ids, done := m.ids(to), m.rows(m.undated(to))

		undo, err := m.transfer(from, first, resilience.TransferOrder{})
		require.NoError(m, err)
		plan := m.undone(undo)
		require.Equal(m, int64(10), plan.Moved)
		require.Equal(m, start, m.tables())

		again, err := m.transfer(from, undo, resilience.TransferOrder{})
		require.NoError(m, err)
		m.apply(again, -1)
		m.finish(again)
		require.Equal(m, ids, m.ids(to), "the copies have their ids again")
		require.Equal(m, done, m.rows(m.undated(to)))

		// An undo that is turned round itself does it all again.
		back := m.turning(from, again)
		m.apply(back, 2)
		_, err = m.store.BeginUndo(m.Context(), back, "a test", "")
		require.NoError(m, err)
		mover, err := m.store.Mover(m.Context(), back)
		require.NoError(m, err)
		at, err := m.store.Watermark(m.Context(), back)
		require.NoError(m, err)
		for at.Last > 0 {
			at, err = mover.Revert(m.Context(), at, store.Bounds{})
			require.NoError(m, err)
		}
		require.NoError(m, m.store.UndoSwitchReferences(m.Context(), back))
		m.retire(back, -1, true)
		require.NoError(m, m.store.EndUndo(m.Context(), back))
		require.Equal(m, done, m.rows(m.undated(to)))
		require.Equal(m, 3, m.count(`SELECT count(*) FROM rehome.chunk_references WHERE memory = $1 AND chunk_id = ANY ($2)`, to, ids))
	})
}
