package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// TestWhatTheTargetCannotHoldIsNotLostWhenItIsWrittenLate: into a row that was not copied
// yet, one that was, and one that nobody knew of. It stays where it is, and is named.
func TestWhatTheTargetCannotHoldIsNotLostWhenItIsWrittenLate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		target string // what it can hold
		lack   func(to *resilience.Mapping)
		write  string
		says   string
	}{
		"an embedding": {
			`ALTER TABLE public.notes DROP vec`, func(to *resilience.Mapping) { to.Embedding = "" }, `embedding = '{1,2}'`,
			`it has a value in "embedding", for which the target has neither a column nor metadata`,
		},
		"metadata": {
			`ALTER TABLE public.notes DROP meta, ADD path text, ADD created_at timestamptz, ADD ordinal int`,
			func(to *resilience.Mapping) {
				to.Metadata, to.Locators = "", []resilience.Locator{{Column: "path", Type: "text"}}
			}, `metadata = '{"lang": "en"}'`,
			`it has a value in "metadata", for which the target has neither a column nor metadata`,
		},
		"a text that would be cut": {
			`ALTER TABLE public.notes ALTER body TYPE varchar(12)`, func(*resilience.Mapping) {}, `content = '27                  '`,
			`it has a value in "content" that "body", which is character varying(12), would cut or round`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			to := notes(m, "text", "")
			c.lack(&to)
			m.exec(c.target)
			m.memory("notes", to)
			m.fill(12, "guide/a.md")
			m.exec(`UPDATE rehome.chunks SET content = ordinal::text, embedding = NULL`)
			id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
			require.NoError(t, err)
			m.apply(id, 2)
			late := func(ordinal int) {
				m.exec(fmt.Sprintf(`UPDATE rehome.chunks SET %s WHERE ordinal = %d`, c.write, ordinal))
			}
			late(2)
			late(11)
			m.apply(id, -1)
			m.fill(1, "guide/new.md")
			m.exec(`UPDATE rehome.chunks SET content = 'new', embedding = NULL WHERE path = 'guide/new.md'`)
			m.exec(fmt.Sprintf(`UPDATE rehome.chunks SET %s WHERE path = 'guide/new.md'`, c.write))
			m.sweeps(id, 1)
			m.apply(id, -1)
			plan := m.finish(id)
			require.EqualValues(t, 10, plan.Moved)
			left, err := m.store.Exceptions(t.Context(), id, 10)
			require.NoError(t, err)
			require.Len(t, left, 3)
			for _, l := range left {
				require.Equal(t, resilience.Clashed, l.Outcome)
				require.Equal(t, c.says, l.Detail)
			}
			require.Equal(t, 3, m.count(`SELECT count(*) FROM rehome.chunks`), "where it was written")
		})
	}
}

// TestMetadataIsNotOverwritten by what the target keeps at the same keys: it goes where what
// has no column there goes, also from memory to memory, and is no change when it comes home.
func TestMetadataIsNotOverwritten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ metadata, want string }{
		"another source":              {`{"loc": {"source": "https://example.org", "line": 3}, "lang": "en"}`, `{"loc": {"source": "/srv/guide/a.md", "line": 3}, "lang": "en", "rehome": {"metadata": {"loc": {"source": "https://example.org", "line": 3}}}}`},
		"what is no object":           {`{"loc": "here"}`, `{"loc": {"source": "/srv/guide/a.md"}, "rehome": {"metadata": {"loc": "here"}}}`},
		"what came with another":      {`{"rehome": {"seen": 7}}`, `{"loc": {"source": "/srv/guide/a.md"}, "rehome": {"metadata": {"rehome": {"seen": 7}}}}`},
		"nothing":                     {`{"lang": null}`, `{"loc": {"source": "/srv/guide/a.md"}, "lang": null, "rehome": {}}`},
		"an object of something else": {`{"loc": {"line": 3}}`, `{"loc": {"source": "/srv/guide/a.md", "line": 3}, "rehome": {}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.memory("notes", notes(m, "text", ""))
			m.fill(1, "guide/a.md")
			m.exec(`UPDATE rehome.chunks SET metadata = $1`, c.metadata)
			start := m.rows("rehome.chunks")
			id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
			require.NoError(t, err)
			m.apply(id, -1)
			require.EqualValues(t, 1, m.finish(id).Moved)
			var meta string
			require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT meta #- '{rehome,created_at}' #- '{rehome,ordinal}' FROM public.notes`).Scan(&meta))
			require.JSONEq(t, c.want, meta)
			m.exec(`UPDATE public.notes SET body = 'edited'`)
			require.EqualValues(t, 1, m.homeAgain("docs", id).Moved)
			require.Zero(t, m.count(`SELECT count(*) FROM public.notes`))
			m.exec(`UPDATE rehome.chunks SET content = 'text 1 of guide/a.md' WHERE content = 'edited'`)
			require.Equal(t, start, m.rows("rehome.chunks"))
		})
	}
}

// TestUsesAreNoReasonToAskAgain: where the target has no place for how often a chunk was
// used that is refused, but a chunk that is used while the plan waits goes all the same.
func TestUsesAreNoReasonToAskAgain(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.exec(`CREATE TABLE public.pages (id text PRIMARY KEY, path text, body text, hits bigint);
		CREATE TABLE public.plain (id text PRIMARY KEY, path text, body text)`)
	m.exec(`INSERT INTO public.pages SELECT i, 'guide/a.md', 'text', CASE i WHEN 1 THEN 7 END FROM generate_series(1, 8) i`)
	pages := resilience.Mapping{
		Schema: "public", Table: "pages", ID: "id", IDType: "text", Content: "body", AccessCount: "hits",
		Locators: []resilience.Locator{{Column: "path", Type: "text"}},
	}
	plain := pages
	plain.Table, plain.AccessCount = "plain", ""
	m.memory("pages", pages)
	m.memory("plain", plain)
	_, err := m.transfer("pages", "", resilience.TransferOrder{To: "plain"})
	require.ErrorContains(t, err, `1 chunks have a value in "hits", for which the target has neither a column nor metadata`)
	m.exec(`UPDATE public.pages SET hits = NULL`)
	id, err := m.transfer("pages", "", resilience.TransferOrder{To: "plain"})
	require.NoError(t, err)
	m.exec(`UPDATE public.pages SET hits = 1 WHERE id < '4'`)
	require.Empty(t, m.recheck(id))
	m.apply(id, 1)
	m.exec(`UPDATE public.pages SET hits = 2`)
	m.apply(id, -1)
	require.EqualValues(t, 8, m.finish(id).Moved)
}
