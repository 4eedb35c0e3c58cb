package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// Files change places where a unique index takes no two chunks at one.

// tied are the rows of a plan after which no batch may end, and those that step aside.
func (m *migrations) tied(id string) (knots, aside string) {
	m.Helper()
	require.NoError(m, m.pool.QueryRow(m.Context(), `SELECT knots::text, aside::text FROM rehome.migration_plans WHERE plan_id = $1`, id).Scan(&knots, &aside))
	return knots, aside
}

// TestFilesThatChangePlaces: of a chain the files go from its end, and a circle has none.
// One of its files steps aside, where chunks would meet in a unique index. Directories
// that change places are as many circles, and chains, as they have files.
func TestFilesThatChangePlaces(t *testing.T) {
	t.Parallel()
	const circles, first = "{[81,140),[161,200)}", "{[81,140)}" // of three files, and of two; after those that follow nobody
	for name, c := range map[string]struct {
		index string
		knots string
	}{
		"Columns":       {`(path, ordinal)`, circles},
		"Expression":    {`(lower(path), ordinal)`, circles},
		"Generated":     {`(slug, ordinal)`, circles},
		"MadeOfThat":    {`(lower(slug), ordinal)`, circles},
		"BesideAKey":    {`(lower(slug), (metadata ->> 'part'))`, circles},
		"OfText":        {`(digest)`, "{}"},
		"Exclusion":     {`EXCLUDE USING btree (path WITH =, ordinal WITH =)`, circles},
		"Apart":         {`(path, content)`, "{}"}, // the files have no text in common
		"Included":      {`(ordinal, id) INCLUDE (path)`, "{}"},
		"Partial":       {`(path, ordinal) WHERE path LIKE '5%'`, "{}"},
		"PartialToo":    {`(path) WHERE ordinal = 3`, circles},
		"OfTheirOwnID":  {`(path, id)`, "{}"},
		"PartialByPath": {`(path) WHERE ordinal = 1 AND path < 'a'`, first},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(20, "a/x.md", "b/x.md", "b/y.md", "p/f.md", "q/y.md", "r/f.md", "1.md", "2.md", "3.md", "4.md", "5.md")
			m.exec(`UPDATE rehome.chunks SET metadata = jsonb_build_object('part', ordinal)`)
			m.exec(`ALTER TABLE rehome.chunks ADD slug text GENERATED ALWAYS AS (upper(path)) STORED, ADD digest text GENERATED ALWAYS AS (md5(content)) STORED`)
			if strings.HasPrefix(c.index, "EXCLUDE") {
				m.exec(`ALTER TABLE rehome.chunks ADD CONSTRAINT one_place ` + c.index)
			} else {
				m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks ` + c.index)
			}
			start := m.rows("rehome.chunks")
			id, err := m.plan("",
				rule("a", "b"), rule("b", "a"),
				rule("1.md", "2.md"), rule("2.md", "3.md"), rule("3.md", "1.md"),
				rule("p", "q"), rule("q", "r"), rule("r", "p"), // in which one file only follows another
				rule("4.md", "5.md"), rule("5.md", "6.md"))
			require.NoError(t, err)
			knots, _ := m.tied(id)
			require.Equal(t, c.knots, knots)
			m.apply(id, -1)
			require.EqualValues(t, 220, m.complete(id).Moved)
			require.Equal(t, map[string]int{"a/x.md": 20, "a/y.md": 20, "b/x.md": 20, "p/f.md": 20, "q/f.md": 20, "r/y.md": 20, "1.md": 20, "2.md": 20, "3.md": 20, "5.md": 20, "6.md": 20}, m.at())
			m.migrate(id)
			require.Equal(t, start, m.rows("rehome.chunks"))
		})
	}
}

// TestFilesThatCannotStepAsideAreRefused when it is planned, and go by a free name.
func TestFilesThatCannotStepAsideAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, index, says string
		chunks              int
		strategy            resilience.Strategy
	}{
		"Narrow": {`ALTER TABLE rehome.chunks ALTER path TYPE varchar(10)`, `(path, ordinal)`, "value too long for type character varying(10)", 20, resilience.Batch},
		"Check":  {`ALTER TABLE rehome.chunks ADD CONSTRAINT pages CHECK (path LIKE '%.md')`, `(path, ordinal)`, `violates check constraint "pages"`, 20, resilience.Batch},
		"Trigger": {
			`CREATE FUNCTION public.known() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.path LIKE ''%~%'' THEN RAISE ''no such file''; END IF; RETURN NEW; END';
			CREATE TRIGGER known BEFORE UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.known()`, `(path, ordinal)`, "no such file", 20, resilience.Batch,
		},
		"ForeignKey": {
			`CREATE TABLE public.files (path text PRIMARY KEY); INSERT INTO public.files VALUES ('a.md'), ('b.md'), ('free.md');
			ALTER TABLE rehome.chunks ADD FOREIGN KEY (path) REFERENCES public.files`, `(path, ordinal)`, "violates foreign key constraint", 20, resilience.Batch,
		},
		"Many":      {``, `(path, ordinal)`, "10002 chunks would have to go in one transaction, more than 10000 (immediate takes more)", 5001, resilience.Gradual},
		"Immediate": {``, `(path, ordinal)`, "", 5001, resilience.Immediate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(c.chunks, "a.md", "b.md")
			m.exec(c.before)
			m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks ` + c.index)
			start := m.rows("rehome.chunks")
			id := "m-" + name
			require.NoError(t, m.store.CreatePlan(t.Context(), store.NewPlan{
				ID: id, Memory: "docs", Strategy: c.strategy, Renames: []resilience.RenameRule{rule("a.md", "b.md"), rule("b.md", "a.md")},
				Policy: resilience.Policy{BatchSize: 1000}, WorkflowID: "w/" + id, RunID: "r-" + id, Rollback: []string{"undo"},
			}))
			err := m.store.Journal(t.Context(), id)
			if c.says == "" {
				require.NoError(t, err)
				require.EqualValues(t, 2*c.chunks, m.apply(id, 1).Last, "all of them at once")
				require.EqualValues(t, 2*c.chunks, m.complete(id).Moved)
				return
			}
			require.ErrorIs(t, err, store.ErrConflict)
			again := m.store.Journal(t.Context(), id)
			require.EqualError(t, again, err.Error(), "nor when it is tried again")
			require.Empty(t, m.rows("rehome.migration_runs"))
			conflicts := m.conflicts(id)
			require.Len(t, conflicts, 1)
			require.Equal(t, resilience.Circle, conflicts[0].Kind)
			require.Contains(t, conflicts[0].Detail, c.says)
			require.Equal(t, start, m.rows("rehome.chunks"))
			for _, step := range []resilience.RenameRule{rule("a.md", "free.md"), rule("b.md", "a.md"), rule("free.md", "b.md")} {
				m.migrate("", step)
			}
			require.Equal(t, map[string]int{"a.md": c.chunks, "b.md": c.chunks}, m.at())
		})
	}
}

// TestFilesOfDocumentsChangePlaces, by an index of their path or not: what else stands in
// a document has nothing to do with it. Text that is kept as it is comes back as it was.
func TestFilesOfDocumentsChangePlaces(t *testing.T) {
	t.Parallel()
	for index, meet := range map[string]bool{
		`(meta #>> '{loc,source}'), seen`:           true,
		`(meta -> 'loc' ->> 'source'), team`:        true,
		`meta`:                                      true,
		`lower(meta::text)`:                         true,
		`(meta ->> 'external')`:                     false,
		`(md5(meta ->> 'external')), (lower(body))`: false,
	} {
		for _, column := range []string{"jsonb", "json"} {
			if column == "json" && index == `meta` { // there is no such index
				continue
			}
			t.Run(index+column, func(t *testing.T) {
				t.Parallel()
				m := newMigrations(t, resilience.Mapping{
					Schema: "public", Table: "notes", ID: "id", IDType: "text", Content: "body", Metadata: "meta",
					Locators: []resilience.Locator{{Column: "meta", Keys: []string{"loc", "source"}, Type: column}},
				})
				notes(m, "text", "")
				m.exec(`ALTER TABLE public.notes ALTER meta TYPE ` + column + ` USING meta::` + column)
				m.exec(`INSERT INTO public.notes (id, body, meta, team) SELECT n, 'text ' || n, format('{"external":"%1$s",  "loc": {"source" :"%1$s.md"}}', n)::` + column + `, 'blue' FROM unnest(ARRAY['a', 'b']) n`)
				m.exec(`CREATE UNIQUE INDEX ON public.notes (` + index + `)`)
				start := m.rows("public.notes")
				id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"))
				require.NoError(t, err)
				require.Equal(t, meet, m.read(id).Tied > 0)
				m.apply(id, -1)
				m.revert(id)
				require.Equal(t, start, m.rows("public.notes"))
				plan := m.migrate("", rule("a.md", "b.md"), rule("b.md", "a.md"))
				require.EqualValues(t, 2, plan.Moved)
				require.NotEqual(t, start, m.rows("public.notes"))
				m.migrate(plan.ID)
				require.Equal(t, start, m.rows("public.notes"))
			})
		}
	}
}

// TestAnIndexThatTakesBothForOnePlaceStopsACircle: nobody can step aside from it. The
// circle has not moved then, and its files go by a free name.
func TestAnIndexThatTakesBothForOnePlaceStopsACircle(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (split_part(path, '.', 1), ordinal)`)
	start := m.rows("rehome.chunks")
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"))
	require.NoError(t, err)
	at := m.apply(id, 0)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	_, err = mover.Apply(t.Context(), at, store.Bounds{})
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, `"one_place" (Key (split_part`)
	require.Equal(t, start, m.rows("rehome.chunks"))
	m.revert(id)
	for _, step := range []resilience.RenameRule{rule("a.md", "free.md"), rule("b.md", "a.md"), rule("free.md", "b.md")} {
		m.migrate("", step)
	}
	require.Equal(t, map[string]int{"a.md": 5, "b.md": 5}, m.at())
}

// TestFilesThatOnlyResolveToEachOtherStepNotAside: their chunks stay where they are.
func TestFilesThatOnlyResolveToEachOtherStepNotAside(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"))
	require.NoError(t, err)
	m.exec(`UPDATE rehome.migration_plans SET way = 'alias_only'`)
	m.apply(id, -1)
	plan := m.complete(id)
	require.EqualValues(t, 10, plan.Stayed)
	require.Zero(t, plan.Drifted)
}

// TestManyThatChangePlacesStayImmediate: no other strategy takes so many in a transaction.
func TestManyThatChangePlacesStayImmediate(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5001, "a.md", "b.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	require.NoError(t, m.store.CreatePlan(t.Context(), store.NewPlan{
		ID: "m-1", Memory: "docs", Strategy: resilience.Immediate, Renames: []resilience.RenameRule{rule("a.md", "b.md"), rule("b.md", "a.md")},
		Policy: resilience.Policy{BatchSize: 1000}, WorkflowID: "w/m-1", RunID: "r-1", Rollback: []string{"undo"},
	}))
	require.NoError(t, m.store.Journal(t.Context(), "m-1"))
	require.NoError(t, m.store.Queue(t.Context(), "m-1"))
	_, err := m.store.ChangeStrategy(t.Context(), "m-1", store.StrategyChange{Strategy: resilience.Gradual, Author: "ana"})
	require.ErrorIs(t, err, store.ErrRefused)
	require.ErrorContains(t, err, "10002 chunks of migration m-1 go in one transaction")
}

// TestDirectoriesThatChangePlacesDoSoFileByFile, by any strategy, however many chunks
// they have: only those of a circle of files are for one transaction.
func TestDirectoriesThatChangePlacesDoSoFileByFile(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	for n := range 4 {
		m.fill(1500, fmt.Sprintf("a/%d.md", n), fmt.Sprintf("b/%d.md", n))
	}
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	start := m.rows("rehome.chunks")
	swap := func() string {
		id, err := m.plan("", rule("a", "b"), rule("b", "a"))
		require.NoError(t, err)
		knots, aside := m.tied(id)
		require.Equal(t, "{[1,3000),[3001,6000),[6001,9000),[9001,12000)}", knots)
		require.Equal(t, "{[1501,3001),[4501,6001),[7501,9001),[10501,12001)}", aside)
		return id
	}
	id := swap()
	require.EqualValues(t, 6000, m.apply(id, 2).Last)
	m.revert(id)
	require.Equal(t, start, m.rows("rehome.chunks"))

	id = swap()
	m.apply(id, -1)
	m.complete(id)
	require.NotEqual(t, start, m.rows("rehome.chunks"))
	back, err := m.plan(id)
	require.NoError(t, err)
	require.EqualValues(t, 3000, m.apply(back, 1).Last, "the undo of it goes file by file, too")
	m.apply(back, -1)
	m.complete(back)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestTextsOfDocumentsComeBackFromASide: a document in a column of type json is spelled as
// it was after each undo, by the plan itself or by one of its own, and one that the
// application wrote meanwhile keeps what that says.
func TestTextsOfDocumentsComeBackFromASide(t *testing.T) {
	t.Parallel()
	m := jsonTable(t)
	m.exec(`DELETE FROM public.data_docs WHERE text = 'locators disagree'`)
	m.exec(`CREATE UNIQUE INDEX ON public.data_docs (src, text)`)
	m.exec(`CREATE UNIQUE INDEX ON public.data_docs ((metadata_ ->> 'file_path'), text)`)
	m.exec(`UPDATE public.data_docs SET text = 'in common' WHERE id IN (1, 2, 3)`) // of three files
	swap := []resilience.RenameRule{rule("guide/f0.md", "guide/f1.md"), rule("guide/f1.md", "guide/f2.md"), rule("guide/f2.md", "guide/f0.md")}
	start := m.rows("public.data_docs")
	there := func(edited int) []string {
		rows := m.rows("public.data_docs")
		require.NotEqual(t, start, rows)
		var right int
		require.NoError(t, m.pool.QueryRow(t.Context(), `
			SELECT count(*) FROM public.data_docs WHERE kind = 'doc' AND src LIKE '/srv/docs/guide/%'
				AND src = '/srv/docs/guide/f' || (id % 3 + 1) % 3 || '.md' AND metadata_ ->> 'file_path' = src AND metadata_ #>> '{doc,source}' = src`).Scan(&right))
		require.Equal(t, 10, right)
		require.Equal(t, edited, strings.Count(strings.Join(rows, "\n"), "added"))
		return rows
	}

	id, err := m.plan("", swap...)
	require.NoError(t, err)
	require.EqualValues(t, 10, m.read(id).Tied)
	m.apply(id, -1)
	there(0)
	m.revert(id)
	require.Equal(t, start, m.rows("public.data_docs"), "by the plan itself")

	id, err = m.plan("", swap...)
	require.NoError(t, err)
	m.exec(`UPDATE public.data_docs SET metadata_ = ('{"added":  1, "doc":{"source":"' || src || '"},  "file_path":"' || src || '"}')::json WHERE id = 4`) // since it was planned
	start = m.rows("public.data_docs")
	m.apply(id, -1)
	m.complete(id)
	gone := there(1)
	back, err := m.plan(id)
	require.NoError(t, err)
	m.apply(back, -1)
	m.revert(back)
	require.Equal(t, gone, m.rows("public.data_docs"), "an undo that is turned round")
	undone := m.migrate(id)
	now := m.rows("public.data_docs")
	require.Len(t, now, len(start))
	for _, row := range start {
		if !strings.Contains(row, "added") {
			require.Contains(t, now, row, "by a plan of its own")
		}
	}
	m.migrate(undone.ID)
	require.Equal(t, gone, there(1), "and there again")
}
