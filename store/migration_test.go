package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
	"rehome/store"
)

func TestRenameMovesFilesDirectoriesChainsAndSwaps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		rules []resilience.RenameRule
		want  map[string]int
	}{
		{"File", []resilience.RenameRule{rule("a.md", "z.md")}, map[string]int{"z.md": 4, "b.md": 4, "d/x.md": 4, "d2/x.md": 4}},
		{"DirectoryNotItsNamesake", []resilience.RenameRule{rule("d", "e")}, map[string]int{"a.md": 4, "b.md": 4, "e/x.md": 4, "d2/x.md": 4}},
		{"Chain", []resilience.RenameRule{rule("a.md", "b.md"), rule("b.md", "c.md")}, map[string]int{"b.md": 4, "c.md": 4, "d/x.md": 4, "d2/x.md": 4}},
		{"Swap", []resilience.RenameRule{rule("d", "d2"), rule("d2", "d")}, map[string]int{"a.md": 4, "b.md": 4, "d/x.md": 4, "d2/x.md": 4}},
		{"FileApartFromItsDirectory", []resilience.RenameRule{rule("d", "e"), rule("d/x.md", "f/y.md")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(4, "a.md", "b.md", "d/x.md", "d2/x.md")
			before := m.rows("rehome.chunks")
			if c.want == nil {
				_, err := m.plan("", c.rules...)
				require.ErrorIs(t, err, store.ErrNotFound, "the directory has nothing else")
				return
			}
			plan := m.migrate("", c.rules...)
			require.Equal(t, c.want, m.at())
			require.Equal(t, plan.Moves, plan.Moved)
			require.Equal(t, resilience.Completed, plan.Status)

			undo := m.migrate(plan.ID)
			require.Equal(t, before, m.rows("rehome.chunks"), "the undo puts every row back, embeddings and all")
			require.Equal(t, plan.ID, undo.Undoes)

			m.migrate(undo.ID)
			require.Equal(t, c.want, m.at(), "the undo of the undo moves them again")
		})
	}
}

func TestContentFollowsInASwap(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md")
	m.migrate("", rule("a.md", "b.md"), rule("b.md", "a.md"))
	var wrong int
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.chunks WHERE content LIKE '%' || path`).Scan(&wrong))
	require.Zero(t, wrong)
}

func TestJournalRefuses(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(2, "a.md", "b.md", "d/x.md", "d/y.md", "e/x.md")
	before := m.rows("rehome.chunks")
	for _, c := range []struct {
		name  string
		rules []resilience.RenameRule
		kind  error
		says  string
	}{
		{"Nothing", []resilience.RenameRule{rule("nope.md", "z.md")}, store.ErrNotFound, "nope.md"},
		{"TakenFile", []resilience.RenameRule{rule("a.md", "b.md")}, store.ErrConflict, "b.md"},
		{"TakenBelow", []resilience.RenameRule{rule("d", "e")}, store.ErrConflict, "e/x.md"},
		{"BelowAFile", []resilience.RenameRule{rule("d", "b.md")}, store.ErrConflict, "b.md"},
		{"OverADirectory", []resilience.RenameRule{rule("a.md", "e")}, store.ErrConflict, "e/x.md"},
		{"TwoOntoOne", []resilience.RenameRule{rule("d", "q"), rule("a.md", "q/x.md")}, store.ErrConflict, "q/x.md"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := m.plan("", c.rules...)
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.says)
		})
	}
	require.Equal(t, before, m.rows("rehome.chunks"))
	require.Empty(t, m.rows("rehome.migration_moves"), "a refused plan leaves no journal")
}

func TestOverlappingPlansAreRefusedNamingTheOwner(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(2, "a.md", "d/x.md", "d/y.md", "free.md")
	owner, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	for _, r := range []resilience.RenameRule{rule("d/x.md", "x.md"), rule("a.md", "e/a.md"), rule("a.md", "d")} {
		_, err := m.plan("", r)
		require.ErrorIs(t, err, store.ErrConflict, r)
		require.ErrorContains(t, err, owner)
	}
	_, err = m.plan("", rule("free.md", "f.md"))
	require.NoError(t, err, "a plan for other paths is welcome")
	require.NoError(t, m.store.CancelPlan(t.Context(), owner, "", "a test"))
	_, err = m.plan("", rule("d/x.md", "x.md"))
	require.NoError(t, err, "a cancelled plan owns nothing")
}

func TestJournalTwiceIsOnce(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	first := m.rows("rehome.migration_moves")
	require.NoError(t, m.store.Journal(t.Context(), id))
	require.Equal(t, first, m.rows("rehome.migration_moves"))
}

func TestPlanHashIsOfMovesAndPolicy(t *testing.T) {
	t.Parallel()
	hash := func(batch int, rules ...resilience.RenameRule) string {
		m := newMigrations(t, resilience.BuiltinMapping("docs"))
		m.fill(5, "a.md")
		require.NoError(t, m.store.CreatePlan(t.Context(), store.NewPlan{
			ID: "m", Memory: "docs", Strategy: resilience.Batch, Renames: rules,
			Policy: resilience.Policy{BatchSize: batch}, Rollback: []string{"undo"},
		}))
		require.NoError(t, m.store.Journal(t.Context(), "m"))
		plan, err := m.store.Plan(t.Context(), "m")
		require.NoError(t, err)
		return plan.Hash
	}
	once := hash(3, rule("a.md", "b.md"))
	require.Equal(t, once, hash(3, rule("a.md", "b.md")))
	require.NotEqual(t, once, hash(3, rule("a.md", "c.md")))
	require.NotEqual(t, once, hash(4, rule("a.md", "b.md")))
}

func TestWhatTheApplicationDidMeanwhileIsKept(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(9, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE ordinal = 2`) // drifts
	m.exec(`UPDATE rehome.chunks SET path = 'b.md' WHERE ordinal = 3`)         // drifts, to the very target
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal = 5`)                      // vanishes
	m.exec(`UPDATE rehome.chunks SET content = 'edited' WHERE ordinal = 7`)    // moves, edited
	start := m.rows("rehome.chunks")
	at := m.apply(id, -1)
	require.EqualValues(t, 2, at.Drifted)
	require.EqualValues(t, 1, at.Vanished)
	require.Equal(t, map[string]int{"b.md": 7, "elsewhere.md": 1}, m.at())

	m.revert(id)
	require.Equal(t, start, m.rows("rehome.chunks"), "what did not move does not move back")
	plan, err := m.store.Plan(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, resilience.RolledBack, plan.Status)
}

func TestSweepTakesRowsThatAppearedLate(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(4, "d/a.md")
	id, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	m.apply(id, -1)
	m.fill(2, "d/a.md", "d/new.md")
	found, err := m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 4, found)
	m.apply(id, -1)
	found, err = m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.Zero(t, found)
	plan := m.complete(id)
	require.EqualValues(t, 8, plan.Moved)
	require.Equal(t, map[string]int{"e/a.md": 6, "e/new.md": 2}, m.at())
}

// TestChunksThatComeTooLateAreToldOf: nobody sweeps any more, so they stay, of both kinds.
func TestChunksThatComeTooLateAreToldOf(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("other", resilience.BuiltinMapping("other"))
	m.fill(4, "d/a.md", "t/a.md")
	renamed, err := m.plan("", rule("d", "e"))
	require.NoError(t, err)
	transferred, err := m.transfer("docs", "", resilience.TransferOrder{To: "other", Prefix: "t"})
	require.NoError(t, err)
	m.fill(2, "d/a.md", "d/new.md", "t/new.md")
	for id, want := range map[string]int64{renamed: 4, transferred: 2} {
		m.apply(id, -1)
		listed := m.rows("rehome.migration_paths")
		for range 2 {
			late, err := m.store.Late(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, want, late)
		}
		require.Equal(t, listed, m.rows("rehome.migration_paths"), "they are not of the plan")
		require.Equal(t, 1, m.count(`SELECT count(*) FROM rehome.migration_events WHERE plan_id = $1 AND event = 'left' AND detail LIKE $2`, id, fmt.Sprintf("%d chunks came%%", want)))
		found, err := m.store.Sweep(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, found, "a person may look again")
		m.apply(id, -1)
		late, err := m.store.Late(t.Context(), id)
		require.NoError(t, err)
		require.Zero(t, late)
	}
}

func TestStaleWritersAreFenced(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(9, "a.md")
	start := m.rows("rehome.chunks")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	zombie := m.apply(id, 1)
	now := m.apply(id, 1)

	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	at, err := mover.Apply(t.Context(), resilience.Watermark{Last: zombie.Last - 3, Total: 9, Epoch: 1}, store.Bounds{})
	require.NoError(t, err)
	require.Equal(t, now, at, "an attempt behind the watermark moves nothing and learns where it is")

	m.revert(id)
	at, err = mover.Apply(t.Context(), resilience.Watermark{Last: 0, Total: 9, Epoch: 1}, store.Bounds{})
	require.NoError(t, err)
	require.Equal(t, resilience.WishUndo, at.Wish)
	require.Equal(t, start, m.rows("rehome.chunks"), "an attempt of an older epoch moves nothing")
}

func TestPausedPlansMoveNothing(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(9, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	at := m.apply(id, 1)
	require.NoError(t, m.store.Pause(t.Context(), id, "ana", "lunch"))
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	got, err := mover.Apply(t.Context(), at, store.Bounds{})
	require.NoError(t, err)
	require.Equal(t, resilience.WishPause, got.Wish)
	require.Equal(t, at.Last, got.Last)
	resumed, _, err := m.store.Resume(t.Context(), id, "ana", "", nil)
	require.NoError(t, err)
	require.True(t, resumed)
	require.EqualValues(t, 9, m.apply(id, -1).Last)
	events, err := m.store.Events(t.Context(), id)
	require.NoError(t, err)
	var told []string
	for _, e := range events {
		told = append(told, e.What)
	}
	require.Equal(t, []string{"created", "queued", "started", "paused", "resumed"}, told)
}

func TestATriggerThatChangesTextIsFound(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(3, "a.md")
	m.exec(`CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.content = upper(NEW.content); RETURN NEW; END $$`)
	m.exec(`CREATE TRIGGER shout BEFORE UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.shout()`)
	start := m.rows("rehome.chunks")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	require.NoError(t, m.store.Queue(t.Context(), id))
	require.NoError(t, m.store.Begin(t.Context(), id))
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	at, err := m.store.Watermark(t.Context(), id)
	require.NoError(t, err)
	_, err = mover.Apply(t.Context(), at, store.Bounds{})
	require.ErrorIs(t, err, store.ErrVerify)
	require.Equal(t, start, m.rows("rehome.chunks"), "the batch was rolled back")
}

// jsonTable is what LlamaIndex makes: a json column, whose spelling is kept.
func jsonTable(t *testing.T) *migrations {
	t.Helper()
	m := newMigrations(t, resilience.Mapping{
		Schema: "public", Table: "data_docs", ID: "id", IDType: "bigint", Content: "text", Metadata: "metadata_",
		Locators: []resilience.Locator{
			{Column: "metadata_", Keys: []string{"file_path"}, Type: "json"},
			{Column: "metadata_", Keys: []string{"doc", "source"}, Type: "json"},
			{Column: "src", Type: "text"},
		},
		Scope:       []resilience.Scope{{Column: "kind", Value: "doc"}},
		StripPrefix: "/srv/docs/",
	})
	m.exec(`CREATE TABLE public.data_docs (id bigserial PRIMARY KEY, kind text, text varchar NOT NULL, metadata_ json, src text)`)
	m.exec(`
		INSERT INTO public.data_docs (kind, text, metadata_, src)
		SELECT 'doc', 'text ' || i, ('{"b":  1.50, "file_path":"' || p || '", "doc": {"z":1,"source" : "' || p || '"}, "a":[1, 2]}')::json, p
		FROM (SELECT i, '/srv/docs/guide/f' || i % 3 || '.md' AS p FROM generate_series(1, 10) i) x`)
	m.exec(`INSERT INTO public.data_docs (kind, text, metadata_, src) VALUES
		('other', 'not in scope', '{"file_path":"/srv/docs/guide/f1.md","doc":{"source":"/srv/docs/guide/f1.md"}}', '/srv/docs/guide/f1.md'),
		('doc', 'locators disagree', '{"file_path":"/srv/docs/guide/f1.md","doc":{"source":"/srv/docs/other.md"}}', '/srv/docs/guide/f1.md'),
		('doc', 'a web page', '{"file_path":"https://example.org/guide/f1.md","doc":{"source":"https://example.org/guide/f1.md"}}', 'https://example.org/guide/f1.md')`)
	return m
}

func TestJSONLocatorsAreRewrittenTogetherAndPutBackVerbatim(t *testing.T) {
	t.Parallel()
	m := jsonTable(t)
	start := m.rows("public.data_docs")
	plan := m.migrate("", rule("guide", "manual"))
	require.EqualValues(t, 10, plan.Moved)
	require.EqualValues(t, 1, plan.Disagree, "the row whose locators disagree is left alone and counted")
	var moved int
	require.NoError(t, m.pool.QueryRow(t.Context(), `
		SELECT count(*) FROM public.data_docs WHERE src LIKE '/srv/docs/manual/%' AND metadata_->>'file_path' = src AND metadata_#>>'{doc,source}' = src`).Scan(&moved))
	require.Equal(t, 10, moved)

	m.exec(`UPDATE public.data_docs SET metadata_ = ('{"file_path":"' || src || '","doc":{"source":"' || src || '"},"added":true}')::json WHERE id = 4`)
	m.migrate(plan.ID)
	now := m.rows("public.data_docs")
	require.Len(t, now, len(start))
	differ := 0
	for _, row := range start {
		if !slices.Contains(now, row) {
			differ++
		}
	}
	require.Equal(t, 1, differ, "all but the row that the application changed are back byte for byte")
	require.NoError(t, m.pool.QueryRow(t.Context(), `
		SELECT count(*) FROM public.data_docs WHERE id = 4 AND src LIKE '/srv/docs/guide/%' AND metadata_->>'file_path' = src AND metadata_->>'added' = 'true'`).Scan(&moved))
	require.Equal(t, 1, moved, "its path is back, and its new content is kept")
}

// TestAnyPlanCanBeRevertedAnywhere stops random plans after any batch, with an
// application writing in between, and puts them back.
func TestAnyPlanCanBeRevertedAnywhere(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	names := []string{"a", "b", "c", "d", "a/x", "b/x", "c/y"}
	rapid.Check(t, func(r *rapid.T) {
		m.exec(`TRUNCATE rehome.chunks`)
		for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a/1", "a/x/1", "b/1", "b/x/2", "c/y/3", "d/4"}), 1, 6, rapid.ID[string]).Draw(r, "files") {
			m.fill(rapid.IntRange(1, 4).Draw(r, "chunks"), p)
		}
		var rules []resilience.RenameRule
		for _, old := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 3, rapid.ID[string]).Draw(r, "olds") {
			rules = append(rules, rule(old, rapid.SampledFrom(append(names, "e", "f/g")).Draw(r, "new")))
		}
		if resilience.CheckRenames(rules) != nil {
			return
		}
		start := m.rows("rehome.chunks")
		id, err := m.plan("", rules...)
		if err == nil {
			m.apply(id, rapid.IntRange(-1, 4).Draw(r, "batches"))
			m.revert(id)
		} else {
			require.NoError(r, m.store.CancelPlan(context.Background(), id, "", "refused"))
		}
		require.Equal(r, start, m.rows("rehome.chunks"))
	})
}
