package store_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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
// One of its files steps aside, where chunks would meet in a unique index.
func TestFilesThatChangePlaces(t *testing.T) {
	t.Parallel()
	const circles, first = "{[21,80),[81,140),[141,200)}", "{[21,80),[81,140)}" // each of three files
	for name, c := range map[string]struct {
		index string
		knots string
	}{
		"Columns":       {`(path, ordinal)`, circles},
		"Expression":    {`(lower(path), ordinal)`, circles},
		"Generated":     {`(slug, ordinal)`, circles},
		"MadeOfThat":    {`(lower(slug), ordinal)`, circles},
		"OfText":        {`(digest)`, "{}"},
		"Exclusion":     {`EXCLUDE USING btree (path WITH =, ordinal WITH =)`, circles},
		"Apart":         {`(path, content)`, "{}"}, // the files have no text in common
		"Included":      {`(ordinal, id) INCLUDE (path)`, "{}"},
		"Partial":       {`(path, ordinal) WHERE path LIKE '5%'`, "{}"},
		"PartialToo":    {`(path) WHERE ordinal = 3`, circles},
		"OfTheirOwnID":  {`(path, id)`, "{}"},
		"PartialByPath": {`(path) WHERE ordinal = 1 AND path < 'b'`, first},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(20, "a/x.md", "b/x.md", "b/y.md", "p/f.md", "q/y.md", "r/f.md", "1.md", "2.md", "3.md", "4.md", "5.md")
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

// TestAnyCircleGoesAnywhere lets files change places at random, a batch after another,
// and turns round somewhere, or back when all is done. After no batch is any aside.
func TestAnyCircleGoesAnywhere(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{
		"Plain":     ``,
		"Aftermath": `CREATE TRIGGER noted AFTER UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.noted()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
			m.exec(`CREATE FUNCTION public.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
			m.exec(more)
			tied, refused := 0, 0
			rapid.Check(t, func(r *rapid.T) {
				m.exec(`TRUNCATE rehome.chunks`)
				for _, p := range []string{"a/1", "a/x/1", "b/1", "b/x/1", "b/x/2", "c/1", "c/2", "d/1", "1", "2"} {
					m.fill(rapid.IntRange(1, 5).Draw(r, "chunks of "+p), p)
				}
				names := []string{"a", "b", "c", "d", "1", "2"}
				if rapid.Bool().Draw(r, "deeper") {
					names = []string{"a/x", "b/x", "c", "d/1", "2"}
				}
				olds := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 2, len(names), rapid.ID[string]).Draw(r, "olds")
				news := append(olds[1:len(olds):len(olds)], olds[0])
				if rapid.IntRange(0, 3).Draw(r, "some circles, or one") == 0 {
					news = rapid.Permutation(olds).Draw(r, "news")
				}
				if rapid.IntRange(0, 3).Draw(r, "a chain") == 0 {
					news[rapid.IntRange(0, len(news)-1).Draw(r, "of")] = "free"
				}
				var rules []resilience.RenameRule
				for i, old := range olds {
					if old != news[i] {
						rules = append(rules, rule(old, news[i]))
					}
				}
				if len(rules) == 0 {
					return
				}
				start := m.rows("rehome.chunks")
				want := map[string]int{}
				for path, n := range m.at() {
					want[renamed(path, rules)] += n
				}
				id, err := m.plan("", rules...)
				if err != nil { // for another reason, such as that a file cannot be where a directory is
					for _, c := range m.conflicts(id) {
						require.NotEqual(r, resilience.Circle, c.Kind)
					}
					require.NotEmpty(r, m.conflicts(id))
					require.NoError(r, m.store.CancelPlan(context.Background(), id, "", "refused"))
					refused++
					return
				}
				if m.read(id).Tied > 0 {
					tied++
				}
				apply := func(id string, batches int) (at resilience.Watermark) {
					for n := 0; n < batches && (n == 0 || at.Last < at.Total); n++ {
						at = m.apply(id, 1)
						for path := range m.at() {
							require.NotContains(r, path, "~")
						}
					}
					return at
				}
				const all = 40
				at := apply(id, rapid.OneOf(rapid.Just(all), rapid.IntRange(1, 6)).Draw(r, "batches"))
				if at.Last < at.Total || rapid.Bool().Draw(r, "turn round at the end") {
					m.revert(id)
				} else {
					m.complete(id)
					require.Equal(r, want, m.at())
					back, err := m.plan(id)
					require.NoError(r, err)
					at := apply(back, rapid.OneOf(rapid.Just(all), rapid.IntRange(1, 6)).Draw(r, "batches back"))
					if at.Last < at.Total {
						m.revert(back)
						require.Equal(r, want, m.at())
						return
					}
					m.complete(back)
					require.Equal(r, start, m.rows("rehome.chunks"))
					if rapid.Bool().Draw(r, "and there again") {
						m.migrate(back)
						require.Equal(r, want, m.at())
					}
					return
				}
				require.Equal(r, start, m.rows("rehome.chunks"))
			})
			t.Log(tied, "plans with circles,", refused, "refused")
			require.Greater(t, tied, refused)
		})
	}
}

// renamed is where a file is to go: the longest rule wins.
func renamed(path string, rules []resilience.RenameRule) string {
	to, length := path, 0
	for _, r := range rules {
		if rest, under := strings.CutPrefix(path+"/", r.Old+"/"); under && len(r.Old) > length {
			to, length = strings.TrimSuffix(r.New+"/"+rest, "/"), len(r.Old)
		}
	}
	return to
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
// a document has nothing to do with it. Text that is kept as it is steps not aside.
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
				m.exec(`INSERT INTO public.notes (id, body, meta, team) SELECT n, 'text ' || n, json_build_object('external', n, 'loc', json_build_object('source', n || '.md')), 'blue' FROM unnest(ARRAY['a', 'b']) n`)
				m.exec(`CREATE UNIQUE INDEX ON public.notes (` + index + `)`)
				start := m.rows("public.notes")
				id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"))
				if meet && column == "json" {
					require.ErrorIs(t, err, store.ErrConflict)
					require.Equal(t, resilience.Circle, m.conflicts(id)[0].Kind)
					require.Contains(t, m.conflicts(id)[0].Detail, "the path is kept in a column of type json")
					return
				}
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

// TestACircleGoesTogetherOrNotAtAll: a chunk that the table refuses keeps all of its
// circle where it is. One that others moved is no part of it.
func TestACircleGoesTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md", "c.md", "d.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	id, err := m.plan("", rule("c.md", "e.md"), rule("a.md", "b.md"), rule("b.md", "a.md"), rule("d.md", "f.md"))
	require.NoError(t, err)
	knots, aside := m.tied(id)
	require.Equal(t, "{[11,20)}", knots)
	require.Equal(t, "{[16,21)}", aside)

	at := m.apply(id, 4) // of which the last ends before the circle
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	m.exec(`CREATE FUNCTION public.stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''it stays''; END'`)
	for _, refusal := range []string{
		`CONSTRAINT stays CHECK (NOT (content = 'text 2 of a.md' AND path LIKE 'b%'))`,
		`TRIGGER stays BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.content = 'text 2 of a.md' AND NEW.path LIKE 'b%') EXECUTE FUNCTION public.stays()`,
	} {
		constraint := strings.HasPrefix(refusal, "CONSTRAINT")
		if constraint {
			m.exec(`ALTER TABLE rehome.chunks ADD ` + refusal)
		} else {
			m.exec(`CREATE ` + refusal)
		}
		_, err = mover.Apply(t.Context(), at, store.Bounds{})
		require.ErrorContains(t, err, "rows 11 to 20 of "+id+" go together")
		require.ErrorContains(t, err, "stays")
		require.NotContains(t, err.Error(), "text 2", "nor what is in the chunk")
		require.ErrorIs(t, err, store.ErrConflict, "which is what the failure policy is for")
		require.Equal(t, map[string]int{"a.md": 5, "b.md": 5, "e.md": 5, "f.md": 5}, m.at())
		if constraint {
			m.exec(`ALTER TABLE rehome.chunks DROP CONSTRAINT stays`)
		} else {
			m.exec(`DROP TRIGGER stays ON rehome.chunks`)
		}
	}

	m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE content = 'text 4 of b.md'`)
	at = m.apply(id, 1)
	require.EqualValues(t, 20, at.Last)
	require.EqualValues(t, 1, at.Drifted)
	require.Equal(t, map[string]int{"a.md": 4, "b.md": 5, "e.md": 5, "f.md": 5, "elsewhere.md": 1}, m.at())

	// On the way back likewise, until a person leaves all of it where it is.
	m.exec(`ALTER TABLE rehome.chunks ADD CONSTRAINT stays CHECK (content <> 'text 2 of a.md' OR path <> 'a.md') NOT VALID`)
	at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	_, err = mover.Revert(t.Context(), at, store.Bounds{})
	require.ErrorContains(t, err, "stays")
	at, err = mover.Revert(t.Context(), at, store.Bounds{Leave: &store.Leave{At: at.Last, Reason: "it may stay"}})
	require.NoError(t, err)
	require.EqualValues(t, 10, at.Last)
	for at.Last > 0 {
		at, err = mover.Revert(t.Context(), at, store.Bounds{})
		require.NoError(t, err)
	}
	require.Equal(t, map[string]int{"a.md": 4, "b.md": 5, "c.md": 5, "d.md": 5, "elsewhere.md": 1}, m.at())
	left, err := m.store.Exceptions(t.Context(), id, 100)
	require.NoError(t, err)
	outcomes := map[resilience.Outcome]int{}
	for _, e := range left {
		outcomes[e.Outcome]++
	}
	require.Equal(t, map[resilience.Outcome]int{resilience.Drifted: 1, resilience.Clashed: 9}, outcomes)
}

// TestBatchesEndBetweenCircles, wherever their bounds are, and take all of one.
func TestBatchesEndBetweenCircles(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md", "c.md", "d.md", "e.md", "f.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	start := m.rows("rehome.chunks")
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"), rule("c.md", "d.md"), rule("d.md", "c.md"), rule("e.md", "g.md"), rule("f.md", "h.md"))
	require.NoError(t, err)
	knots, _ := m.tied(id)
	require.Equal(t, "{[11,20),[21,30)}", knots)
	require.EqualValues(t, 20, m.read(id).Tied)
	at := m.apply(id, 0)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	for _, step := range []struct {
		bounds store.Bounds
		last   int64
	}{
		{store.Bounds{Batch: 4}, 4},
		{store.Bounds{Batch: 4}, 8},
		{store.Bounds{Batch: 4}, 10},
		{store.Bounds{Batch: 1, Gentle: true}, 20},
		{store.Bounds{Until: 22, Rate: 1}, 30},
	} {
		at, err = mover.Apply(t.Context(), at, step.bounds)
		require.NoError(t, err)
		require.Equal(t, step.last, at.Last)
	}
	at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	for _, step := range []struct {
		bounds store.Bounds
		last   int64
	}{
		{store.Bounds{Batch: 1}, 20},
		{store.Bounds{Floor: 15}, 10},
		{store.Bounds{Batch: 100}, 0},
	} {
		at, err = mover.Revert(t.Context(), at, step.bounds)
		require.NoError(t, err)
		require.Equal(t, step.last, at.Last)
	}
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestAllAtOnceIsOneTransaction, whatever circles are in it.
func TestAllAtOnceIsOneTransaction(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md", "c.md", "d.md", "e.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	start := m.rows("rehome.chunks")
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"), rule("c.md", "d.md"), rule("d.md", "c.md"), rule("e.md", "f.md"))
	require.NoError(t, err)
	at := m.apply(id, 0)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	at, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 25})
	require.NoError(t, err)
	require.EqualValues(t, 25, at.Last)
	at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	at, err = mover.Revert(t.Context(), at, store.Bounds{Batch: 25})
	require.NoError(t, err)
	require.Zero(t, at.Last)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestBatchesThatGoTogetherEndBeforeACircle: those far from it lose nothing to it.
func TestBatchesThatGoTogetherEndBeforeACircle(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md")
	m.fill(30_000, "e.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"), rule("e.md", "f.md"))
	require.NoError(t, err)
	knots, _ := m.tied(id)
	require.Equal(t, "{[30001,30010)}", knots)
	at := m.apply(id, 0)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	together := false
	for at.Last < at.Total {
		mover.Join(2)
		at, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 999, Together: true})
		require.NoError(t, err)
		together = together || mover.Batches() > 1
	}
	require.EqualValues(t, 30_010, m.complete(id).Moved)
	require.Equal(t, map[string]int{"a.md": 5, "b.md": 5, "f.md": 30_000}, m.at())
	require.True(t, together)
}

// TestACircleGoesBesideWriters: who writes to its chunks meanwhile keeps what they wrote.
func TestACircleGoesBesideWriters(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(300, "a.md", "b.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var edits atomic.Int64
	wrote := make(chan error, 1)
	go func() {
		for n := 1; ; n = n%600 + 1 {
			_, err := m.pool.Exec(context.WithoutCancel(ctx), `UPDATE rehome.chunks SET content = content || '!' WHERE id = $1`, n)
			if edits.Add(1); err != nil || ctx.Err() != nil {
				wrote <- err
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return edits.Load() > 10 }, time.Minute, time.Millisecond)
	require.EqualValues(t, 600, m.apply(id, 1).Last)
	stop()
	require.NoError(t, <-wrote)
	m.complete(id)
	var right, marks int64
	require.NoError(t, m.pool.QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE content LIKE '%of ' || translate(path, 'ab', 'ba') || '%'), sum(length(content) - length(replace(content, '!', ''))) FROM rehome.chunks`).Scan(&right, &marks))
	require.EqualValues(t, 600, right)
	require.Equal(t, edits.Load(), marks)
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
