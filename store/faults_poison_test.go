package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// poison is what makes the target of a transfer refuse one of ten rows.
type poison struct {
	table string // what the target is like
	row   string // what becomes of the row
	says  string
}

func poisons(m *migrations) map[string]poison {
	m.Helper()
	all := map[string]poison{
		"a text that is too long":           {`ALTER TABLE public.notes ALTER body TYPE varchar(30)`, `content = 'far longer than the thirty characters that fit'`, `which is character varying(30), would cut or round`},
		"an embedding that is not allowed":  {`ALTER TABLE public.notes ADD CONSTRAINT pairs CHECK (cardinality(vec) = 2)`, `embedding = '{1,2,3}'`, `"pairs"`},
		"metadata that cannot be generated": {`ALTER TABLE public.notes ADD year int GENERATED ALWAYS AS ((meta ->> 'year')::int) STORED`, `metadata = '{"year": "long ago"}'`, `invalid input syntax for type integer`},
		"a text that a commit would refuse": {
			`CREATE TABLE public.texts AS SELECT 'text ' || i || ' of guide/' || f AS body FROM generate_series(1, 5) i, unnest(ARRAY['a.md', 'b.md']) f;
			ALTER TABLE public.texts ADD PRIMARY KEY (body);
			ALTER TABLE public.notes ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts DEFERRABLE INITIALLY DEFERRED`,
			`content = 'unknown'`, `"known"`,
		},
	}
	if m.count(`SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'`) == 1 {
		all["an embedding that its type cannot hold"] = poison{
			`CREATE EXTENSION vector; ALTER TABLE public.notes ALTER vec TYPE vector(2)`, `embedding = '{1,2,3}'`, `expected 2 dimensions`,
		}
	}
	return all
}

// poisoned plans a transfer of ten rows to a table that refuses what one of them,
// the third, is to become.
func poisoned(t *testing.T, name string) (m *migrations, id string, spoil func(), says string) {
	t.Helper()
	m = newMigrations(t, resilience.BuiltinMapping("docs"))
	p := poisons(m)[name]
	mapping := notes(m, "uuid", "DEFAULT gen_random_uuid()")
	m.exec(p.table)
	m.memory("notes", mapping)
	m.fill(5, "guide/a.md", "guide/b.md")
	for _, id := range m.ids("docs") {
		m.exec(`SELECT rehome.refer('docs', $1, 'answer')`, id)
	}
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
	require.NoError(t, err)
	return m, id, func() { m.exec(`UPDATE rehome.chunks SET ` + p.row + ` WHERE id = 3`) }, p.says
}

// refused checks that one row alone is listed, with the reason.
func (m *migrations) refused(id, says string) {
	m.Helper()
	require.EqualValues(m, 9, m.accounted(id).Moved)
	left, err := m.store.Exceptions(m.Context(), id, 10)
	require.NoError(m, err)
	require.Len(m, left, 1)
	require.Equal(m, "3", left[0].Chunk)
	require.Equal(m, resilience.Clashed, left[0].Outcome)
	require.Contains(m, left[0].Detail, says)
	require.Equal(m, []string{"3"}, m.ids("docs"))
	require.Equal(m, 9, m.count(`SELECT count(*) FROM rehome.quarantine WHERE memory = 'docs' AND restored_at IS NULL`))
}

// waysBack are those of a transfer whose source rows have all been looked at.
var waysBack = map[string]func(m *migrations, id string){
	"undone": func(m *migrations, id string) {
		require.NoError(m, m.store.Complete(m.Context(), id))
		back, err := m.transfer("docs", id, resilience.TransferOrder{})
		require.NoError(m, err)
		m.undone(back)
	},
	"aborted": (*migrations).rollBack,
}

// TestFault26ARowThatTheTargetRefusesStaysBehindAlone, whether it was so before it
// was copied or is written so before its source is retired. An undo and an abort
// find everything where it was.
func TestFault26ARowThatTheTargetRefusesStaysBehindAlone(t *testing.T) {
	t.Parallel()
	for name := range poisons(newMigrations(t, resilience.BuiltinMapping("docs"))) {
		for when, copies := range map[string]int{"before it is copied": 9, "before it is retired": 10} {
			for end, undo := range waysBack {
				t.Run(name+", "+when+", "+end, func(t *testing.T) {
					t.Parallel()
					m, id, spoil, says := poisoned(t, name)
					if copies == 9 {
						spoil()
					}
					start := m.tables()
					m.apply(id, -1)
					require.Len(t, m.ids("notes"), copies)
					if copies == 10 {
						spoil()
						start["rehome.chunks"] = m.rows("rehome.chunks")
					}
					require.NoError(t, m.store.SwitchReferences(t.Context(), id))
					m.retire(id, -1, false)
					m.refused(id, says)
					require.Len(t, m.ids("notes"), copies)
					undo(m, id)
					require.Equal(t, start, m.tables())
				})
			}
		}
	}
}

// keeping is a trigger that decides of the row 3 of docs.
func keeping(decides string) string {
	return `
		CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF old.id = 3 THEN ` + decides + `; END IF; RETURN old; END $$;
		CREATE TRIGGER keep BEFORE DELETE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.keep()`
}

// TestFault26ARowThatMayNotLeaveStaysAlone, beside its copy, and is listed, where
// that came after the plan was made.
func TestFault26ARowThatMayNotLeaveStaysAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ change, says string }{
		"a row points to it": {`CREATE TABLE public.likes (chunk bigint REFERENCES rehome.chunks); INSERT INTO public.likes VALUES (3)`, "likes"},
		"a trigger refuses":  {keeping(`RAISE 'row 3 is ours'`), "row 3 is ours"},
	} {
		for end, undo := range waysBack {
			t.Run(name+", "+end, func(t *testing.T) {
				t.Parallel()
				m, id := copied(t, 10, 0)
				start := m.tables()
				m.apply(id, -1)
				m.exec(c.change)
				require.NoError(t, m.store.SwitchReferences(t.Context(), id))
				m.retire(id, -1, false)
				m.refused(id, c.says)
				require.Len(t, m.ids("other"), 10)
				undo(m, id)
				require.Equal(t, start, m.tables())
			})
		}
	}
}

// TestARowThatATriggerKeepsIsFound: it would be in both memories, and nobody told.
func TestARowThatATriggerKeepsIsFound(t *testing.T) {
	t.Parallel()
	m, id := copied(t, 10, -1)
	m.exec(keeping(`RETURN NULL`))
	require.NoError(t, m.store.SwitchReferences(t.Context(), id))
	retirer, err := m.store.Retirer(t.Context(), id)
	require.NoError(t, err)
	_, err = retirer.Apply(t.Context(), resilience.Watermark{Epoch: 1, Total: 10}, store.Bounds{})
	require.ErrorIs(t, err, store.ErrVerify)
	require.ErrorContains(t, err, "4 chunks should have left memory docs and 3 did")
	require.Len(t, m.ids("docs"), 10)
}

// TestAnAbortTakesCopiesFromRowsThatWereNotRetired: those whose chunks went
// elsewhere meanwhile would else be in both memories.
func TestAnAbortTakesCopiesFromRowsThatWereNotRetired(t *testing.T) {
	t.Parallel()
	m, id := copied(t, 5, -1)
	m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE id = 2`)
	m.exec(`UPDATE rehome.chunks SET content = memory WHERE ordinal = 4`) // and of this both say something new
	start := m.rows("(SELECT * FROM rehome.chunks WHERE memory = 'docs' OR ordinal = 4)")
	require.NoError(t, m.store.SwitchReferences(t.Context(), id))
	m.retire(id, -1, false)
	require.EqualValues(t, 3, m.accounted(id).Moved)
	m.rollBack(id)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestFault26APathThatIsTooLongIsFoundWhenItIsPlanned, and one that comes later
// stays behind alone.
func TestFault26APathThatIsTooLongIsFoundWhenItIsPlanned(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.Mapping{
		Schema: "public", Table: "docs", ID: "id", IDType: "bigint", Content: "body", StripPrefix: "/s/",
		Locators: []resilience.Locator{{Column: "source", Type: "character varying"}, {Column: "origin", Type: "text"}},
	})
	m.exec(`CREATE TABLE public.docs (id bigserial PRIMARY KEY, body text, source varchar(12), origin text)`)
	add := func(n int, path string) {
		m.exec(`INSERT INTO public.docs (body, source, origin) SELECT 'text', $1::text, $1 FROM generate_series(1, $2::int) i`, path, n)
	}
	add(9, "/s/a/f.md")
	add(20, "/s/a/long.md")
	start := m.rows("public.docs")
	id, err := m.plan("", rule("a", "üüü"))
	require.ErrorIs(t, err, store.ErrConflict)
	says := "a/long.md cannot go to üüü/long.md: that is too long for the column of paths, which is source character varying(12)"
	require.ErrorContains(t, err, says)
	require.Equal(t, []resilience.Conflict{{Kind: resilience.TooLong, Source: "a/long.md", Target: "üüü/long.md", Detail: says}}, m.conflicts(id))
	require.Equal(t, start, m.rows("public.docs"))
	m.planIntelligent("p-alias", resilience.Policy{Way: resilience.AliasOnly}, rule("a", "üüü")) // which writes no path
	require.NoError(t, m.store.CancelPlan(t.Context(), "p-alias", "", ""))

	m.exec(`DELETE FROM public.docs WHERE source = '/s/a/long.md'`)
	id, err = m.plan("", rule("a", "üüü"))
	require.NoError(t, err, "characters count, not bytes")
	m.apply(id, -1)
	add(1, "/s/a/late.md")
	_, err = m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	m.apply(id, -1)
	m.complete(id)
	require.EqualValues(t, 9, m.accounted(id).Moved)
	left, err := m.store.Exceptions(t.Context(), id, 10)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Contains(t, left[0].Detail, "too long")
	require.Equal(t, 1, m.count(`SELECT count(*) FROM public.docs WHERE source = '/s/a/late.md' AND origin = source`))
}

// TestFault26ADocumentThatCannotBeReadKeepsNoOtherFromItsFile: the type json takes a NUL, and
// half of a pair of surrogates, and Postgres takes no text from such a document.
func TestFault26ADocumentThatCannotBeReadKeepsNoOtherFromItsFile(t *testing.T) {
	t.Parallel()
	mapping := resilience.Mapping{
		Schema: "public", Table: "docs", ID: "id", IDType: "bigint", Content: "body",
		Locators: []resilience.Locator{{Column: "meta", Keys: []string{"source"}, Type: "json"}},
	}
	m := newMigrations(t, mapping)
	m.exec(`CREATE TABLE public.docs (id bigserial PRIMARY KEY, body text, meta json)`)
	add := func(notes ...string) {
		m.exec(`INSERT INTO public.docs (body, meta) SELECT 'text', format('{"source": "a/f.md", "note": "%s"}', note)::json FROM unnest($1::text[]) note`, notes)
	}
	poison := []string{`\u0000`, `x\\\u0000y`, `\ud83d`, `\uD83D.`, `\udE00`, `\ude00\ud83d`, `\\ud83d\ude00`}
	add(poison...)
	whole := []string{``, `\\u0000`, `\\\\u0000`, `\ud83d\ude00`, `\u00e4 \ud83d\ude00\ud83d\ude00`, `\\ud83d`}
	add(whole...)
	id, err := m.plan("", rule("a", "b"))
	require.NoError(t, err)
	m.apply(id, 1)
	add(poison...)
	m.apply(id, -1)
	m.sweeps(id, 0)
	require.EqualValues(t, len(whole), m.complete(id).Moved)
	const at = `SELECT count(*) FROM public.docs WHERE strpos(meta::text, $1) > 0`
	require.Equal(t, len(whole), m.count(at, `"b/f.md"`))
	require.Equal(t, 2*len(poison), m.count(at, `"a/f.md"`), "they are of no file")

	// In the target of a transfer they are in nobody's way.
	m.memory("pages", resilience.BuiltinMapping("pages"))
	m.put("pages", "b/g.md")
	id, err = m.transfer("pages", "", resilience.TransferOrder{To: "docs"})
	require.NoError(t, err)
	m.apply(id, -1)
	require.EqualValues(t, 1, m.finish(id).Moved)
}

// TestARowThatCannotLeaveAgainIsLeftWhenAPersonSaysSo: the undo of a transfer is turned round,
// and a row points to a chunk that is home by then.
func TestARowThatCannotLeaveAgainIsLeftWhenAPersonSaysSo(t *testing.T) {
	t.Parallel()
	m, id := copied(t, 10, -1)
	m.finish(id)
	undo, err := m.transfer("docs", id, resilience.TransferOrder{})
	require.NoError(t, err)
	require.NoError(t, m.store.Queue(t.Context(), undo))
	require.NoError(t, m.store.Begin(t.Context(), undo))
	m.retire(undo, -1, false)
	require.Len(t, m.ids("docs"), 10)
	_, err = m.store.BeginUndo(t.Context(), undo, "a test", "")
	require.NoError(t, err)
	m.exec(`CREATE TABLE public.likes (chunk bigint REFERENCES rehome.chunks); INSERT INTO public.likes VALUES (3)`)

	retirer, err := m.store.Retirer(t.Context(), undo)
	require.NoError(t, err)
	at, err := m.store.Retired(t.Context(), undo)
	require.NoError(t, err)
	for at.Last > 0 {
		next, err := retirer.Revert(t.Context(), at, store.Bounds{})
		if err != nil {
			require.ErrorContains(t, err, "likes")
			require.Len(t, m.rows("public.likes"), 1)
			next, err = retirer.Revert(t.Context(), at, store.Bounds{Leave: &store.Leave{At: at.Last, Reason: "it is known"}})
			require.NoError(t, err)
		}
		require.Less(t, next.Last, at.Last)
		at = next
	}
	require.Equal(t, []string{"3"}, m.ids("docs"))
	require.Len(t, m.ids("other"), 10)
	left, err := m.store.Exceptions(t.Context(), undo, 10)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, "3", left[0].Chunk)
	require.True(t, left[0].Undoing)
	require.Contains(t, left[0].Detail, "it is known (")
}
