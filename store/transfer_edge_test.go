package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// TestWhatDoesNotFitIsRefusedByName: nothing moves, and the message names what is wrong.
func TestWhatDoesNotFitIsRefusedByName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change string // of the target, or of the source
		kind   error
		says   []string
	}{
		"a column that must have a value":          {`ALTER TABLE public.notes ADD author text NOT NULL, ADD rank int NOT NULL`, store.ErrUnfit, []string{`"author"`, `"rank"`}},
		"an embedding of another type":             {`ALTER TABLE public.notes ALTER vec TYPE text`, store.ErrUnfit, []string{`"vec"`, "text", "real[]"}},
		"an embedding of a narrower type":          {`CREATE DOMAIN public.pair AS double precision[] CHECK (cardinality(VALUE) = 2); ALTER TABLE public.notes ALTER vec TYPE public.pair`, store.ErrUnfit, []string{`"vec"`, "pair", "real[]"}},
		"a text of a narrower type":                {`CREATE DOMAIN public.short AS text CHECK (length(VALUE) < 9); ALTER TABLE public.notes ALTER body TYPE public.short`, store.ErrUnfit, []string{`"body"`, "short"}},
		"a text that is to be a number":            {`ALTER TABLE public.notes ALTER body TYPE int USING 1`, store.ErrUnfit, []string{`"body"`, "integer"}},
		"an embedding that is missing":             {`ALTER TABLE public.notes ALTER vec SET NOT NULL; UPDATE rehome.chunks SET embedding = NULL WHERE ordinal = 2`, store.ErrUnfit, []string{"2 chunks", `"embedding"`, `"vec"`}},
		"an id that nothing makes":                 {`ALTER TABLE public.notes ALTER id DROP DEFAULT`, store.ErrUnfit, []string{`"id"`, "bigint"}},
		"a path that is taken":                     {`INSERT INTO public.notes (body, meta, team) VALUES ('x', '{"loc": {"source": "/srv/guide/a.md"}}', 'blue')`, store.ErrConflict, []string{"guide/a.md"}},
		"a path above one":                         {`INSERT INTO public.notes (body, meta, team) VALUES ('x', '{"loc": {"source": "/srv/guide"}}', 'blue')`, store.ErrConflict, []string{"guide"}},
		"a foreign key that would cascade":         {`CREATE TABLE public.likes (chunk bigint REFERENCES rehome.chunks ON DELETE CASCADE)`, store.ErrRefused, []string{"CASCADE"}},
		"a chunk that a row of an index points to": {`CREATE TABLE public.likes (chunk bigint REFERENCES rehome.chunks); CREATE INDEX ON public.likes (chunk); INSERT INTO public.likes SELECT id FROM rehome.chunks WHERE ordinal = 2`, store.ErrRefused, []string{"public.likes", "2 of them", "likes_chunk_fkey"}},
		"a chunk that another points to":           {`ALTER TABLE rehome.chunks ADD parent bigint REFERENCES rehome.chunks; UPDATE rehome.chunks SET parent = 1 WHERE id = 2`, store.ErrRefused, []string{"rehome.chunks", "1 of them"}},
		"a chunk that a row points to":             {`CREATE TABLE public.likes (chunk bigint REFERENCES rehome.chunks); INSERT INTO public.likes SELECT id FROM rehome.chunks WHERE ordinal = 2`, store.ErrRefused, []string{"public.likes", "2 of them", "likes_chunk_fkey"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.memory("notes", notes(m, "uuid", "DEFAULT gen_random_uuid()"))
			m.fill(5, "guide/a.md", "guide/b.md")
			m.exec(c.change)
			start := m.tables()
			_, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
			require.ErrorIs(t, err, c.kind)
			for _, words := range c.says {
				require.ErrorContains(t, err, words)
			}
			require.Equal(t, start, m.tables())
		})
	}
}

func TestIDsAreKeptWhereTheTargetTakesThem(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "text", ""))
	m.fill(6, "guide/a.md")
	ids := m.ids("docs")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
	require.NoError(t, err)
	m.apply(id, -1)
	m.finish(id)
	require.Equal(t, ids, m.ids("notes"))

	// Where one is taken and the table makes none, it is refused.
	m.fill(1, "guide/c.md")
	m.exec(`INSERT INTO public.notes SELECT max(id)::text, 'taken', NULL, '{"loc": {"source": "/srv/x.md"}}', 'red' FROM rehome.chunks`)
	_, err = m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "makes none by itself")
}

func TestWhatHasNoColumnGoesIntoTheMetadata(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "text", ""))
	m.exec(`ALTER TABLE public.notes ADD "odd 'name" int[], ADD more jsonb, ADD unset text`)
	m.exec(`INSERT INTO public.notes VALUES ('n1', 'text', '{1,2}', '{"lang": "en", "loc": {"source": "/srv/guide/a.md", "line": 3}}', 'blue', 7, '{4,5}', '{"a": null}', NULL)`)
	m.exec(`ALTER TABLE public.notes ALTER vec TYPE real[]`)
	id, err := m.transfer("notes", "", resilience.TransferOrder{To: "docs"})
	require.NoError(t, err)
	m.apply(id, -1)
	m.exec(`UPDATE public.notes SET seen = 8`) // to be read is no change that the other side could contradict
	m.exec(`UPDATE rehome.chunks SET content = 'edited'`)
	require.Equal(t, int64(1), m.finish(id).Moved)
	var metadata, path string
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT metadata::text, path FROM rehome.chunks`).Scan(&metadata, &path))
	require.JSONEq(t, `{"lang": "en", "loc": {"line": 3}, "rehome": {"odd 'name": [4, 5], "seen": 7, "more": {"a": null}}}`, metadata)
	require.Equal(t, "guide/a.md", path)
}

// TestMoreColumnsThanAFunctionTakesGoIntoTheMetadata: Postgres gives a function a hundred arguments.
func TestMoreColumnsThanAFunctionTakesGoIntoTheMetadata(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "text", ""))
	for i := range 120 {
		m.exec(fmt.Sprintf(`ALTER TABLE public.notes ADD c%d int DEFAULT %d`, i, i))
	}
	m.exec(`INSERT INTO public.notes (id, body, meta, team, c7) VALUES ('n1', 'text', '{"loc": {"source": "/srv/guide/a.md"}}', 'blue', NULL)`)
	m.exec(`ALTER TABLE public.notes ALTER vec TYPE real[]`)
	id, err := m.transfer("notes", "", resilience.TransferOrder{To: "docs"})
	require.NoError(t, err)
	m.apply(id, -1)
	require.Equal(t, 119, m.count(`SELECT count(*) FROM rehome.chunks, jsonb_each(metadata -> 'rehome') e WHERE e.key = 'c' || e.value::text`))
}

// TestMoreColumnsThanAFunctionTakesComeHome, when a transfer is undone.
func TestMoreColumnsThanAFunctionTakesComeHome(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "text", ""))
	for i := range 120 {
		m.exec(fmt.Sprintf(`ALTER TABLE public.notes ADD c%[1]d int DEFAULT %[1]d; ALTER TABLE rehome.chunks ADD c%[1]d int`, i))
	}
	m.exec(`INSERT INTO public.notes (id, body, meta, team) VALUES ('n1', 'text', '{"loc": {"source": "/srv/guide/a.md"}}', 'blue')`)
	m.exec(`ALTER TABLE public.notes ALTER vec TYPE real[]`)
	id, err := m.transfer("notes", "", resilience.TransferOrder{To: "docs"})
	require.NoError(t, err)
	m.apply(id, -1)
	m.finish(id)
	m.exec(`UPDATE rehome.chunks SET c119 = -1`)
	require.EqualValues(t, 1, m.homeAgain("notes", id).Moved)
	require.Equal(t, 1, m.count(`SELECT count(*) FROM public.notes WHERE c118 = 118 AND c119 = -1`))
}

// TestACopyThatIsStoredAsSomethingElseFails: copies are compared with what they
// were to be, all of them where something could change them.
func TestACopyThatIsStoredAsSomethingElseFails(t *testing.T) {
	t.Parallel()
	for name, meddle := range map[string]string{
		"Trigger": `CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := NEW.body || '!'; RETURN NEW; END $$;
			CREATE TRIGGER meddle BEFORE INSERT ON public.notes FOR EACH ROW WHEN (NEW.meta #>> '{loc,source}' = '/srv/guide/odd.md') EXECUTE FUNCTION public.meddle()`,
		"TriggerThatComesAfter": `CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE public.notes SET body = '!' WHERE id = NEW.id; RETURN NULL; END $$;
			CREATE TRIGGER meddle AFTER INSERT ON public.notes FOR EACH ROW WHEN (NEW.meta #>> '{loc,source}' = '/srv/guide/odd.md') EXECUTE FUNCTION public.meddle()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			mapping := notes(m, "text", "")
			m.exec(meddle)
			m.memory("notes", mapping)
			m.fill(30, "guide/a.md")
			m.exec(`UPDATE rehome.chunks SET content = ordinal::text, embedding = NULL`)
			m.exec(`UPDATE rehome.chunks SET path = 'guide/odd.md' WHERE ordinal = 27`)
			id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
			require.NoError(t, err)
			m.exec(`UPDATE rehome.chunks SET content = '27                  ' WHERE ordinal = 27`)
			require.NoError(t, m.store.Queue(t.Context(), id))
			require.NoError(t, m.store.Begin(t.Context(), id))
			mover, err := m.store.Mover(t.Context(), id)
			require.NoError(t, err)
			at, err := m.store.Watermark(t.Context(), id)
			for err == nil && at.Last < at.Total {
				at, err = mover.Apply(t.Context(), at, store.Bounds{})
			}
			require.ErrorIs(t, err, store.ErrVerify)
			require.EqualValues(t, at.Last, m.count(`SELECT count(*) FROM public.notes`), "the batch left nothing behind")
		})
	}
}

// TestACopyThatIsMendedIsLookedAtAgain: what was written to a chunk in the soak is copied
// again, and a trigger makes something else of that.
func TestACopyThatIsMendedIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ when, does, says string }{
		"After":    {"AFTER", `UPDATE public.notes SET vec = NULL WHERE id = NEW.id; RETURN NULL`, "rows 1 to 4: 1 chunks are not what they were to be once the triggers of the table were done (see chunk 2)"},
		"Before":   {"BEFORE", `NEW.vec = NULL; RETURN NEW`, "1 chunks changed since they were copied and 1 copies were brought up to date (see chunk 2); a trigger"},
		"Harmless": {"AFTER", `RETURN NULL`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.memory("notes", notes(m, "text", ""))
			m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + c.does + `; END $$`)
			m.exec(`CREATE TRIGGER meddle ` + c.when + ` UPDATE OF body ON public.notes FOR EACH ROW EXECUTE FUNCTION public.meddle()`)
			m.fill(8, "guide/a.md")
			id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
			require.NoError(t, err)
			m.apply(id, -1)
			require.NoError(t, m.store.SwitchReferences(t.Context(), id))
			m.exec(`UPDATE rehome.chunks SET content = 'edited' WHERE ordinal = 2`)
			m.exec(`UPDATE public.notes SET seen = 7, body = body WHERE meta #>> '{rehome,ordinal}' = '1'`)
			start := m.tables()
			retirer, err := m.store.Retirer(t.Context(), id)
			require.NoError(t, err)
			at, err := m.store.Retired(t.Context(), id)
			require.NoError(t, err)
			_, err = retirer.Apply(t.Context(), at, store.Bounds{})
			if c.says == "" {
				require.NoError(t, err)
				require.Equal(t, 1, m.count(`SELECT count(*) FROM public.notes WHERE body = 'edited' AND vec IS NOT NULL`))
				return
			}
			require.ErrorIs(t, err, store.ErrVerify)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, start, m.tables())
		})
	}
}

// TestValuesThatDoNotFitAreRefusedBeforeAnythingMoves, by the name of the column and how
// many there are.
func TestValuesThatDoNotFitAreRefusedBeforeAnythingMoves(t *testing.T) {
	t.Parallel()
	for bounded, c := range map[string]struct{ typ, fits, not string }{
		"character varying(12)": {"varchar", "'twelve chars'", "'thirteen char'"},
		"character(3)":          {"character(8)", "'abc'", "'abcd'"},
		"character(8)":          {"character(3)", "'abc'", ""},
		"numeric(10,1)":         {"numeric", "12", "12.55"},
		"numeric(12,4)":         {"numeric(10,2)", "12.25", ""},
		"numeric(9,2)":          {"numeric", "'NaN'", "'Infinity'"},
		"numeric(4,1)":          {"numeric", "-999.9", "1000"},
		"numeric(3,-2)":         {"numeric", "12300", "12345"},
		"timestamp(0)":          {"timestamp", "'2026-01-01 12:00:01'", "'2026-01-01 12:00:01.5'"},
		"bit varying(4)":        {"bit varying", "B'1010'", "B'10101'"},
	} {
		t.Run(bounded, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.exec(`ALTER TABLE rehome.chunks ADD COLUMN extra ` + c.typ)
			mapping := notes(m, "text", "")
			m.exec(`ALTER TABLE public.notes ADD COLUMN extra ` + bounded)
			m.memory("notes", mapping)
			m.fill(30, "guide/a.md")
			m.exec(`UPDATE rehome.chunks SET embedding = NULL, extra = ` + c.fits + ` WHERE ordinal > 2`)
			if c.not != "" {
				m.exec(`UPDATE rehome.chunks SET extra = ` + c.not + ` WHERE ordinal <= 2`)
				_, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
				require.ErrorIs(t, err, store.ErrUnfit)
				require.ErrorContains(t, err, `2 chunks have a value in "extra" that "extra", which is `+strings.Split(bounded, "(")[0])
			}
			m.exec(`UPDATE rehome.chunks SET embedding = NULL, extra = NULL WHERE ordinal <= 2`)
			start := m.rows("rehome.chunks")
			id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
			require.NoError(t, err)
			m.apply(id, -1)
			m.finish(id)
			require.Equal(t, 28, m.count(`SELECT count(*) FROM public.notes WHERE extra = `+c.fits))
			require.EqualValues(t, 30, m.homeAgain("docs", id).Moved)
			require.Equal(t, start, m.rows("rehome.chunks"))
		})
	}
}

// TestAChunkThatPointsToItselfCanLeave for a table in which its copy does not.
func TestAChunkThatPointsToItselfCanLeave(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "uuid", "DEFAULT gen_random_uuid()"))
	m.memory("other", resilience.BuiltinMapping("other"))
	m.fill(5, "guide/a.md")
	m.exec(`ALTER TABLE rehome.chunks ADD root bigint REFERENCES rehome.chunks`)
	m.exec(`UPDATE rehome.chunks SET root = id`)
	_, err := m.transfer("docs", "", resilience.TransferOrder{To: "other"})
	require.ErrorIs(t, err, store.ErrRefused)
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
	require.NoError(t, err)
	m.apply(id, -1)
	require.EqualValues(t, 5, m.finish(id).Moved)
	require.Empty(t, m.ids("docs"))
}

// copied is a transfer of so many chunks, of whose batches so many are done; -1 is all.
func copied(t *testing.T, chunks, batches int) (m *migrations, id string) {
	t.Helper()
	m = newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("other", resilience.BuiltinMapping("other"))
	m.fill(chunks, "guide/a.md")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "other"})
	require.NoError(t, err)
	m.apply(id, batches)
	return m, id
}

// TestAnEditThatIsHardToSeeIsSeen: a key of the metadata comes out of an object, say. What
// is edited in the source is copied again, what is edited in a copy
// stays when the transfer is turned round.
func TestAnEditThatIsHardToSeeIsSeen(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string][2]string{
		"an object":     {`{"loc": {"source": "a", "revision": 7}}`, `{"loc": {"source": "a"}, "revision": 7}`},
		"an array":      {`[[1], 2]`, `[[1, 2]]`},
		"nothing in it": {`{}`, `[]`},
		"a scale":       {`{"score": 1.0}`, `{"score": 1.00}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := copied(t, 5, 0)
			m.exec(`UPDATE rehome.chunks SET metadata = $1`, edit[0])
			m.apply(id, -1)
			m.exec(`UPDATE rehome.chunks SET metadata = $1 WHERE memory = 'docs' AND ordinal = 2`, edit[1])
			require.EqualValues(t, 5, m.finish(id).Moved)
			require.Equal(t, 1, m.count(`SELECT count(*) FROM rehome.chunks WHERE memory = 'other' AND metadata::text = $1::jsonb::text`, edit[1]))

			m, id = copied(t, 5, 0)
			m.exec(`UPDATE rehome.chunks SET metadata = $1`, edit[0])
			m.apply(id, -1)
			m.exec(`UPDATE rehome.chunks SET metadata = $1 WHERE memory = 'other' AND ordinal = 2`, edit[1])
			m.revert(id)
			require.Equal(t, 1, m.count(`SELECT count(*) FROM rehome.chunks WHERE metadata::text = $1::jsonb::text`, edit[1]))
		})
	}
}

// TestBothSidesChanged: the copy and its source say different new things, so
// both stay, and the row is listed.
func TestBothSidesChanged(t *testing.T) {
	t.Parallel()
	m, id := copied(t, 5, -1)
	m.exec(`UPDATE rehome.chunks SET content = memory WHERE ordinal = 2`)
	m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE memory = 'docs' AND ordinal = 3`)
	plan := m.finish(id)
	require.Equal(t, int64(3), plan.Moved)
	require.Equal(t, int64(1), plan.Conflicts)
	require.Equal(t, int64(1), plan.Drifted)
	require.Equal(t, 2, m.count(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs'`))
	require.Equal(t, 5, m.count(`SELECT count(*) FROM rehome.chunks WHERE memory = 'other'`))
}

// TestATransferKeepsItsPrint: one that was planned when copies had digests, or a hash of the
// row, goes on with them, to the undo of it.
func TestATransferKeepsItsPrint(t *testing.T) {
	t.Parallel()
	const columns = `record_send(ROW(t.id, t.content, hash_array_extended(t.embedding, %d), t.path, t.memory, t.metadata, t.ordinal, t.created_at))`
	for name, is := range map[string]struct {
		print string
		edits int // seen, of two
	}{
		"sha256": {fmt.Sprintf(`sha256(`+columns+`)`, 0), 1}, // takes a number that is missing for 0
		"row":    {fmt.Sprintf(`int8send(hash_array_extended(ARRAY[`+columns+`], 0))`, 1), 2},
		"columns": {`int8send(hashtextextended(t.id::text, 1) # hashtextextended(t.content, 2) # hash_array_extended(t.embedding, 3) # hashtextextended(t.path, 4) #
			hashtextextended(t.memory, 5) # coalesce(hashtextextended(t.metadata::text, 6), 0) # hashint4extended(t.ordinal, 7) # hash_array_extended(ARRAY[record_send(ROW(t.created_at))], 0))`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := copied(t, 5, 0)
			m.exec(`UPDATE rehome.migration_transfers SET prints = nullif($1, 'row'), hash64 = CASE $1 WHEN 'row' THEN true END`, name)
			m.exec(`UPDATE rehome.chunks SET embedding = '{0,1}'`)
			m.apply(id, -1)
			m.exec(`UPDATE rehome.chunks SET content = 'later' WHERE memory = 'docs' AND ordinal = 2`)
			require.EqualValues(t, 5, m.finish(id).Moved)
			require.Equal(t, 5, m.count(`SELECT count(*) FROM rehome.migration_copies c JOIN rehome.chunks t ON t.id::text = c.target_id WHERE c.made = `+is.print))
			m.exec(`UPDATE rehome.chunks SET content = 'edited' WHERE memory = 'other' AND ordinal = 3`)
			m.exec(`UPDATE rehome.chunks SET embedding = '{NULL,1}' WHERE memory = 'other' AND ordinal = 4`)

			plan := m.homeAgain("docs", id)
			count, why := m.listed(plan.ID)
			require.Equal(t, map[resilience.Outcome]int{resilience.Edited: is.edits}, count, why)
			require.Empty(t, m.ids("other"))
			require.Len(t, m.ids("docs"), 5)
			require.Equal(t, 2, m.count(`SELECT count(*) FROM rehome.chunks WHERE content IN ('later', 'edited')`))
		})
	}
}

// TestAStaleBatchOfATransferDoesNothing: an attempt that was given up for dead
// has an old watermark, or an old epoch.
func TestAStaleBatchOfATransferDoesNothing(t *testing.T) {
	t.Parallel()
	m, id := copied(t, 10, 1)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	at, err := mover.Apply(t.Context(), resilience.Watermark{Epoch: 1, Total: 10}, store.Bounds{})
	require.NoError(t, err)
	require.Equal(t, int64(4), at.Last)
	require.Len(t, m.rows("(SELECT FROM rehome.chunks WHERE memory = 'other')"), 4)

	m.apply(id, -1)
	retirer, err := m.store.Retirer(t.Context(), id)
	require.NoError(t, err)
	for range 2 {
		at, err = retirer.Apply(t.Context(), resilience.Watermark{Epoch: 1, Total: 10}, store.Bounds{})
		require.NoError(t, err)
		require.Equal(t, int64(4), at.Last)
	}
	_, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	at, err = retirer.Apply(t.Context(), at, store.Bounds{})
	require.NoError(t, err)
	require.Equal(t, int64(4), at.Last, "nothing retires after the epoch was raised")
	require.ErrorIs(t, m.store.SwitchReferences(t.Context(), id), store.ErrFenced)
}
