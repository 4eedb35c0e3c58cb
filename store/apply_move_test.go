package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// readied is a plan of docs from a.md to b.md that may work.
func (m *migrations) readied() (*store.Mover, resilience.Watermark) {
	m.Helper()
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(m, err)
	require.NoError(m, m.store.Queue(m.Context(), id))
	require.NoError(m, m.store.Begin(m.Context(), id))
	mover, err := m.store.Mover(m.Context(), id)
	require.NoError(m, err)
	at, err := m.store.Watermark(m.Context(), id)
	require.NoError(m, err)
	return mover, at
}

// What a trigger changes is found in any row, also where the text is compressed,
// the change leaves its size, and the trigger came after the slice had begun.
func TestAMoveThatChangesARowIsFound(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"Text":      `NEW.content = replace(NEW.content, 'x', 'y')`,
		"Embedding": `NEW.embedding[1] = NEW.embedding[1] + 1`,
		"ID":        `NEW.id = OLD.id`,
		"Path":      `NEW.path = 'elsewhere.md'`,
		"Nothing":   `RETURN NULL`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(3, "a.md")
			m.exec(`UPDATE rehome.chunks SET content = repeat('x', 10000), embedding = (SELECT array_agg(random()::real) FROM generate_series(1, 1000))`)
			start := m.rows("rehome.chunks")
			mover, at := m.readied()
			m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.ordinal = 2 THEN ` + change + `; END IF; RETURN NEW; END $$`)
			m.exec(`CREATE TRIGGER meddle BEFORE UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.meddle()`)
			at, err := mover.Apply(t.Context(), at, store.Bounds{})
			if name == "ID" { // as it was
				require.NoError(t, err)
				require.EqualValues(t, 3, at.Last)
				return
			}
			require.ErrorIs(t, err, store.ErrVerify)
			require.Equal(t, start, m.rows("rehome.chunks"), "the batch was rolled back")
		})
	}
}

// Some rows of every batch are compared, also where nothing is known of that could
// change one: here since the trigger is disguised as one of Postgres's own.
func TestOfEveryBatchSomeRowsAreCompared(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		row, oneIn int
		change     string
	}{
		"the first":                 {6, 16, `content = 'lost'`},
		"one in 16 after it":        {22, 16, `content = 'lost'`},
		"every third":               {9, 3, `content = 'lost'`},
		"the embedding of the 48th": {54, 3, `embedding = NULL`},
		"any, where all are":        {20, 1, `content = 'lost'`},
		"its embedding, too":        {29, 1, `embedding[1] = -1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(60, "a.md")
			m.exec(`INSERT INTO rehome.settings (key, value) VALUES ('compare_one_in', $1::int::text)`, c.oneIn)
			m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.` + c.change + `; RETURN NEW; END $$`)
			m.exec(fmt.Sprintf(`CREATE TRIGGER meddle BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (OLD.ordinal = %d) EXECUTE FUNCTION public.meddle()`, c.row))
			m.exec(`UPDATE pg_trigger SET tgisinternal = true WHERE tgname = 'meddle'`)
			mover, at := m.readied()
			at, err := mover.Apply(t.Context(), at, store.Bounds{Batch: 5})
			require.NoError(t, err)
			_, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 55})
			require.ErrorIs(t, err, store.ErrVerify)
			require.Equal(t, map[string]int{"a.md": 55, "b.md": 5}, m.at())
		})
	}
}

// Nor is a copy, where all are compared.
func TestEveryCopyIsComparedWhereThatIsWanted(t *testing.T) {
	t.Parallel()
	for _, row := range []int{1, 2, 3} {
		m := newMigrations(t, resilience.BuiltinMapping("docs"))
		m.memory("archive", resilience.BuiltinMapping("archive"))
		m.fill(3, "a.md")
		m.exec(`INSERT INTO rehome.settings (key, value) VALUES ('compare_one_in', '1')`)
		m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.content = 'lost'; RETURN NEW; END $$`)
		m.exec(fmt.Sprintf(`CREATE TRIGGER meddle BEFORE INSERT ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = %d) EXECUTE FUNCTION public.meddle()`, row))
		m.exec(`UPDATE pg_trigger SET tgisinternal = true WHERE tgname = 'meddle'`)
		id, err := m.transfer("docs", "", resilience.TransferOrder{To: "archive"})
		require.NoError(t, err)
		at := m.apply(id, 0)
		mover, err := m.store.Mover(t.Context(), id)
		require.NoError(t, err)
		_, err = mover.Apply(t.Context(), at, store.Bounds{})
		require.ErrorIs(t, err, store.ErrVerify)
		require.Equal(t, map[string]int{"a.md": 3}, m.at())
	}
}

// What a table makes of a row by its definition is found in any row, too, and so is
// another id.
func TestAMoveThatMakesAnotherRowIsFound(t *testing.T) {
	t.Parallel()
	for name, columns := range map[string]string{
		"Text": `id text PRIMARY KEY, path text, content text GENERATED ALWAYS AS (CASE id WHEN '2' THEN path ELSE 'text' END) STORED`,
		"ID":   `n bigint, id text GENERATED ALWAYS AS (CASE n WHEN 2 THEN path ELSE n::text END) STORED PRIMARY KEY, path text, content text`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.Mapping{Schema: "public", Table: "made", ID: "id", IDType: "text", Content: "content", Locators: []resilience.Locator{{Column: "path", Type: "text"}}})
			m.exec(`CREATE TABLE public.made (` + columns + `)`)
			m.exec(`INSERT INTO public.made (` + strings.Fields(columns)[0] + `, path) SELECT i, 'a.md' FROM generate_series(1, 3) i`)
			start := m.rows("public.made")
			mover, at := m.readied()
			_, err := mover.Apply(t.Context(), at, store.Bounds{})
			require.ErrorIs(t, err, store.ErrVerify)
			require.Equal(t, start, m.rows("public.made"), "the batch was rolled back")
		})
	}
}

// Two rows under one id, as there may be once the index on it is gone, are not taken for one.
func TestARowThatIsThereTwiceIsRefused(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.Mapping{Schema: "public", Table: "loose", ID: "id", IDType: "bigint", Content: "content", Locators: []resilience.Locator{{Column: "path", Type: "text"}}})
	m.exec(`CREATE TABLE public.loose (id bigint PRIMARY KEY, path text, content text)`)
	m.exec(`INSERT INTO public.loose SELECT i, 'a.md', 'text ' || i FROM generate_series(1, 3) i`)
	mover, at := m.readied()
	m.exec(`ALTER TABLE public.loose DROP CONSTRAINT loose_pkey`)
	m.exec(`INSERT INTO public.loose VALUES (1, 'a.md', 'another text')`)
	start := m.rows("public.loose")
	_, err := mover.Apply(t.Context(), at, store.Bounds{})
	require.ErrorIs(t, err, store.ErrVerify)
	require.Equal(t, start, m.rows("public.loose"))
}

// TestAJournalThatLacksRowsIsRefused: a batch whose rows are not all accounted for is
// not committed, on its way there or back.
func TestAJournalThatLacksRowsIsRefused(t *testing.T) {
	t.Parallel()
	plans := map[string]func(m *migrations) (string, error){
		"rename": func(m *migrations) (string, error) { return m.plan("", rule("guide", "book")) },
		"transfer": func(m *migrations) (string, error) {
			return m.transfer("docs", "", resilience.TransferOrder{To: "other"})
		},
	}
	for what, lose := range map[string]string{
		"a run":  `DELETE FROM rehome.migration_runs WHERE first > 1`,
		"a path": `UPDATE rehome.migration_runs SET path_id = -1 WHERE first > 1`,
	} {
		for kind, plan := range plans {
			t.Run(kind+" without "+what, func(t *testing.T) {
				t.Parallel()
				m := newMigrations(t, resilience.BuiltinMapping("docs"))
				m.memory("other", resilience.BuiltinMapping("other"))
				m.fill(2, "guide/a.md", "guide/b.md")
				id, err := plan(m)
				require.NoError(t, err)
				at := m.apply(id, 0)
				mover, err := m.store.Mover(t.Context(), id)
				require.NoError(t, err)
				refused := func(move func(context.Context, resilience.Watermark, store.Bounds) (resilience.Watermark, error)) {
					before := m.rows("rehome.chunks")
					for _, together := range []bool{false, true} {
						_, err := move(t.Context(), at, store.Bounds{Together: together})
						require.ErrorIs(t, err, store.ErrVerify)
						require.ErrorContains(t, err, "the journal does not have them all")
					}
					require.Equal(t, before, m.rows("rehome.chunks"))
				}

				m.exec(`CREATE TABLE public.kept AS SELECT * FROM rehome.migration_runs`)
				m.exec(lose)
				refused(mover.Apply)
				m.exec(`DELETE FROM rehome.migration_runs`)
				m.exec(`INSERT INTO rehome.migration_runs SELECT * FROM public.kept`)
				at = m.apply(id, 1)
				require.Greater(t, at.Last, int64(2))
				m.exec(lose)
				at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
				require.NoError(t, err)
				refused(mover.Revert)
			})
		}
	}
}

// TestMetadataMadeOfThePathFollowsIt, also where the text is made of another column.
func TestMetadataMadeOfThePathFollowsIt(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.Mapping{Schema: "public", Table: "made", ID: "id", IDType: "bigint", Content: "content", Metadata: "about", Locators: []resilience.Locator{{Column: "path", Type: "text"}}})
	m.exec(`CREATE TABLE public.made (id bigint PRIMARY KEY, path text, said text, content text GENERATED ALWAYS AS (upper(said)) STORED, about text GENERATED ALWAYS AS ('at ' || path) STORED)`)
	m.exec(`INSERT INTO public.made (id, path, said) SELECT i, 'a.md', 'text ' || i FROM generate_series(1, 3) i`)
	mover, at := m.readied()
	_, err := mover.Apply(t.Context(), at, store.Bounds{})
	require.NoError(t, err)
	require.Equal(t, 3, m.count(`SELECT count(*) FROM public.made WHERE content = 'TEXT ' || id AND about = 'at b.md'`))
}

// A batch too large for one statement is one transaction still: what goes wrong in
// the last of its statements undoes the first.
func TestABatchOfManyStatementsIsOne(t *testing.T) {
	t.Parallel()
	const chunks = 20_010
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(chunks, "a.md")
	m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.content = upper(NEW.content); RETURN NEW; END $$`)
	m.exec(fmt.Sprintf(`CREATE TRIGGER meddle BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (OLD.ordinal = %d) EXECUTE FUNCTION public.meddle()`, chunks))
	mover, at := m.readied()
	all := store.Bounds{Batch: chunks}
	_, err := mover.Apply(t.Context(), at, all)
	require.ErrorIs(t, err, store.ErrVerify)
	require.Equal(t, map[string]int{"a.md": chunks}, m.at())
	m.exec(`DROP TRIGGER meddle ON rehome.chunks`)
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal IN (1, 20005)`)
	m.exec(`UPDATE rehome.chunks SET path = 'c.md' WHERE ordinal = 20001`)
	at, err = mover.Apply(t.Context(), at, all)
	require.NoError(t, err)
	require.EqualValues(t, chunks, at.Last)
	require.EqualValues(t, 2, at.Vanished)
	require.EqualValues(t, 1, at.Drifted)
	require.Equal(t, map[string]int{"b.md": chunks - 3, "c.md": 1}, m.at())
	require.Len(t, m.rows(`(SELECT DISTINCT xmin FROM rehome.chunks WHERE path = 'b.md')`), 1)

	m.exec(`UPDATE rehome.chunks SET path = 'c.md' WHERE ordinal = 3`)
	var id string
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT plan_id FROM rehome.migration_plans`).Scan(&id))
	at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	at, err = mover.Revert(t.Context(), at, all)
	require.NoError(t, err)
	require.Zero(t, at.Last)
	require.EqualValues(t, 1, at.Drifted, "on the way there")
	require.Equal(t, map[string]int{"a.md": chunks - 4, "c.md": 2}, m.at())
	require.Len(t, m.rows(`(SELECT DISTINCT xmin FROM rehome.chunks WHERE path = 'a.md')`), 1)
}

// TestAnEmbeddingIsNeverWrittenAnew: large ones lie apart from their rows, where
// nothing is added and nothing removed when their rows move, and move back.
func TestAnEmbeddingIsNeverWrittenAnew(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(20, "a.md")
	m.exec(`UPDATE rehome.chunks SET embedding = (SELECT array_agg(random() + i + ordinal) FROM generate_series(1, 3000) i)`)
	var apart string
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'rehome.chunks'::regclass`).Scan(&apart))
	lies := func() []string { return m.rows(`(SELECT ctid, chunk_id, chunk_seq FROM ` + apart + `)`) }
	before := lies()
	require.Greater(t, len(before), 20)
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	m.apply(id, -1)
	require.Equal(t, map[string]int{"b.md": 20}, m.at())
	require.Equal(t, before, lies())
	m.revert(id)
	require.Equal(t, map[string]int{"a.md": 20}, m.at())
	require.Equal(t, before, lies())
}

// TestAPartThatWentBackIsTriedAgain, with what was recorded of its rows forgotten.
func TestAPartThatWentBackIsTriedAgain(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(12, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	m.apply(id, 0)
	m.exec(`UPDATE rehome.chunks SET path = 'c.md' WHERE ordinal IN (2, 7)`)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	at, err := m.store.Watermark(t.Context(), id)
	require.NoError(t, err)
	at, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 9})
	require.NoError(t, err)
	require.EqualValues(t, 2, at.Drifted)

	part := store.Bounds{Batch: 4, Floor: 5, Partial: true}
	stays, err := mover.Revert(t.Context(), at, part)
	require.NoError(t, err)
	require.Equal(t, at.Last, stays.Last, "a plan that is at work does not go back")
	require.NoError(t, m.store.Pause(t.Context(), id, "a test", "a group failed"))
	for at.Last > part.Floor {
		at, err = mover.Revert(t.Context(), at, part)
		require.NoError(t, err)
	}
	require.EqualValues(t, 5, at.Last)
	require.Equal(t, map[string]int{"a.md": 6, "b.md": 4, "c.md": 2}, m.at())
	at, err = m.store.Watermark(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 1, at.Drifted, "of the part that stays")

	m.exec(`UPDATE rehome.chunks SET path = 'a.md' WHERE ordinal = 7`)
	resumed, _, err := m.store.Resume(t.Context(), id, "a test", "", nil)
	require.NoError(t, err)
	require.True(t, resumed)
	m.apply(id, -1)
	plan := m.complete(id)
	require.EqualValues(t, 11, plan.Moved)
	require.EqualValues(t, 1, plan.Drifted)
	require.Equal(t, map[string]int{"b.md": 11, "c.md": 1}, m.at())
}

// TestARowThatStopsManyStatementsIsLeftAlone, without making one of them.
func TestARowThatStopsManyStatementsIsLeftAlone(t *testing.T) {
	t.Parallel()
	const chunks = 20_010
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(chunks, "a.md")
	m.exec(`ALTER TABLE rehome.chunks ADD CHECK (path <> 'b.md' OR ordinal <> 20005)`)
	mover, at := m.readied()
	at, err := mover.Apply(t.Context(), at, store.Bounds{Batch: chunks})
	require.NoError(t, err)
	require.EqualValues(t, chunks, at.Last)
	require.Equal(t, map[string]int{"a.md": 1, "b.md": chunks - 1}, m.at())
	require.Equal(t, 1, m.count(`SELECT count(*) FROM rehome.migration_exceptions WHERE outcome = 'conflict' AND ordinal = 20005`))
}

// Rows of different partitions lie at the same place in theirs, and a new path
// may belong into another partition.
func TestRowsOfPartitionsAreToldApart(t *testing.T) {
	t.Parallel()
	const halves = ` PARTITION BY HASH (id);
		CREATE TABLE public.even PARTITION OF public.parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE public.odd PARTITION OF public.parted FOR VALUES WITH (MODULUS 2, REMAINDER 1)`
	text := resilience.Locator{Column: "path", Type: "text"}
	for name, parted := range map[string]struct {
		table    string
		at       resilience.Locator
		put, get string // a path, and the path again
	}{
		"by id":                {`(id bigint PRIMARY KEY, path text, content text)` + halves, text, "%s", "path"},
		"by id, in a document": {`(id bigint PRIMARY KEY, at jsonb, content text)` + halves, resilience.Locator{Column: "at", Type: "jsonb", Keys: []string{"source"}}, "jsonb_build_object('source', %s)", "at->>'source'"},
		"by path": {`(id bigint, path text, content text, PRIMARY KEY (id, path)) PARTITION BY RANGE (path);
			CREATE TABLE public.early PARTITION OF public.parted FOR VALUES FROM (MINVALUE) TO ('b');
			CREATE TABLE public.late PARTITION OF public.parted FOR VALUES FROM ('b') TO (MAXVALUE)`, text, "%s", "path"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.Mapping{Schema: "public", Table: "parted", ID: "id", IDType: "bigint", Content: "content", Locators: []resilience.Locator{parted.at}})
			m.exec(`CREATE TABLE public.parted ` + parted.table)
			m.exec(`INSERT INTO public.parted SELECT i, ` + fmt.Sprintf(parted.put, `CASE WHEN i % 3 = 0 THEN 'c.md' ELSE 'a.md' END`) + `, 'text ' || i FROM generate_series(1, 30) i`)
			start := m.rows("public.parted")
			id, err := m.plan("", rule("a.md", "b.md"))
			require.NoError(t, err)
			m.apply(id, -1)
			require.Equal(t, []string{"(b.md,20)", "(c.md,10)"}, m.rows(`(SELECT `+parted.get+`, count(*) FROM public.parted WHERE content = 'text ' || id GROUP BY 1)`))
			m.revert(id)
			require.Equal(t, start, m.rows("public.parted"))
		})
	}
}
