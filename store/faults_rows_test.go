package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

func TestFault18WhatTheApplicationWritesMeanwhileIsKept(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 60)
	ctx, stop := context.WithCancel(t.Context())
	writes := make(chan int)
	writer := later(func() (last int, err error) {
		for n := 1; ; n++ {
			_, err := m.pool.Exec(context.WithoutCancel(ctx), `UPDATE rehome.chunks SET content = 'edit ' || $1::int WHERE ordinal = 1 + $1 % 60`, n)
			if err != nil {
				return 0, err
			}
			select {
			case writes <- n:
			case <-ctx.Done():
				return n, nil
			}
		}
	})
	reader := later(func() (looks int, err error) {
		for ; ctx.Err() == nil; looks++ {
			var chunks, different int
			err := m.pool.QueryRow(context.WithoutCancel(ctx), `SELECT count(*), count(DISTINCT ordinal) FROM rehome.chunks WHERE path IN ('a.md', 'b.md')`).Scan(&chunks, &different)
			if err != nil || chunks != 60 || different != 60 {
				return looks, fmt.Errorf("a reader saw %d chunks, %d different: %w", chunks, different, err)
			}
		}
		return looks, nil
	})
	mover, at := m.mover(id)
	for at.Last < at.Total {
		<-writes
		mover.Join(2)
		next, err := mover.Apply(t.Context(), at, store.Bounds{Together: true})
		require.NoError(t, err)
		at = next
	}
	stop()
	last, err := writer()
	require.NoError(t, err)
	_, err = reader()
	require.NoError(t, err)
	m.complete(id)
	require.EqualValues(t, 60, m.accounted(id).Moved)
	for n := max(1, last-59); n <= last; n++ {
		var kept bool
		require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT path = 'b.md' AND content = 'edit ' || $1::int FROM rehome.chunks WHERE ordinal = 1 + $1 % 60`, n).Scan(&kept))
		require.True(t, kept, "the edit %d of %d", n, last)
	}
}

// TestFault23And26RowsThatTheTableRefuses: one target is taken since, one row
// breaks a trigger; each is listed alone, and the rest of its batch moves.
func TestFault23And26RowsThatTheTableRefuses(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]int{"Batches": 3, "AtOnce": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := renaming(t, 20)
			m.exec(`CREATE UNIQUE INDEX ON rehome.chunks (path, ordinal)`)
			m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'b.md', 5, 'it came first')`)
			m.exec(`CREATE FUNCTION public.poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'this one is cursed'; END $$`)
			m.exec(`CREATE TRIGGER poison BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = 11 AND NEW.path = 'b.md') EXECUTE FUNCTION public.poison()`)
			start := m.rows("rehome.chunks")
			mover, at := m.mover(id)
			for at.Last < at.Total {
				next, err := mover.Apply(t.Context(), at, store.Bounds{Batch: batch})
				require.NoError(t, err)
				at = next
			}
			require.Equal(t, map[string]int{"a.md": 2, "b.md": 19}, m.at())
			plan := m.accounted(id)
			require.EqualValues(t, 18, plan.Moved)
			left, err := m.store.Exceptions(t.Context(), id, 10)
			require.NoError(t, err)
			require.Len(t, left, 2)
			require.Contains(t, left[0].Detail, "duplicate key")
			require.Contains(t, left[1].Detail, "this one is cursed")
			for _, e := range left {
				require.Equal(t, resilience.Clashed, e.Outcome)
			}
			m.revert(id)
			require.Equal(t, start, m.rows("rehome.chunks"))
		})
	}
}

func TestFault26APlanThatIsAllPoisonFails(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string][]string{
		"no_b": {`ALTER TABLE rehome.chunks ADD CONSTRAINT no_b CHECK (path <> 'b.md')`},
		"all of them are cursed": {
			`CREATE FUNCTION public.poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'all of them are cursed'; END $$`,
			`CREATE TRIGGER poison BEFORE UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.poison()`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := renaming(t, 40)
			for _, statement := range poison {
				m.exec(statement)
			}
			start := m.rows("rehome.chunks")
			mover, at := m.mover(id)
			_, err := mover.Apply(t.Context(), at, store.Bounds{Batch: 40})
			require.ErrorIs(t, err, store.ErrConflict)
			require.ErrorContains(t, err, name)
			require.Equal(t, start, m.rows("rehome.chunks"))
			left, err := m.store.Exceptions(t.Context(), id, 10)
			require.NoError(t, err)
			require.Empty(t, left, "the batch was rolled back, with what it listed")
		})
	}
}

// TestFault30WhatComesAfterIsSeen: a trigger that acts when the rows were written, at
// once or at the end, changes nothing that is not found, there and back; one that changes
// nothing is let be.
func TestFault30WhatComesAfterIsSeen(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"NoEmbedding":   `UPDATE rehome.chunks SET embedding = NULL WHERE id = NEW.id;`,
		"AByteOfText":   `UPDATE rehome.chunks SET content = content || '!' WHERE id = NEW.id;`,
		"AKey":          `UPDATE rehome.chunks SET metadata = '{"seen": true}' WHERE id = NEW.id;`,
		"AnotherTarget": `UPDATE rehome.chunks SET path = 'c.md' WHERE id = NEW.id;`,
		"ARowLess":      `DELETE FROM rehome.chunks WHERE id = NEW.id;`,
		"Nothing":       `PERFORM 1;`,
	} {
		for when, create := range map[string]string{
			"AtOnce":   `CREATE TRIGGER meddle AFTER UPDATE OF path ON rehome.chunks`,
			"AtTheEnd": `CREATE CONSTRAINT TRIGGER meddle AFTER UPDATE OF path ON rehome.chunks DEFERRABLE INITIALLY DEFERRED`,
		} {
			t.Run(name+when, func(t *testing.T) {
				t.Parallel()
				m, id := renaming(t, 6)
				m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF pg_trigger_depth() = 1 THEN ` + change + ` END IF; RETURN NULL; END $$`)
				start := m.rows("rehome.chunks")
				mover, at := m.mover(id)
				at, err := mover.Apply(t.Context(), at, store.Bounds{})
				require.NoError(t, err)
				m.exec(create + ` FOR EACH ROW WHEN (OLD.ordinal IN (2, 5)) EXECUTE FUNCTION public.meddle()`)
				half := m.rows("rehome.chunks")
				if mover, err = m.store.Mover(t.Context(), id); err == nil {
					at, err = mover.Apply(t.Context(), at, store.Bounds{})
				}
				if name == "Nothing" {
					require.NoError(t, err)
					require.EqualValues(t, 6, at.Last)
					m.revert(id)
					require.Equal(t, start, m.rows("rehome.chunks"))
					return
				}
				require.ErrorIs(t, err, store.ErrVerify)
				require.ErrorContains(t, err, "rows 4 to 6: 1 chunks are not what they were to be once the triggers of the table were done (see chunk 5);")
				require.Equal(t, half, m.rows("rehome.chunks"))
				at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
				require.NoError(t, err)
				_, err = mover.Revert(t.Context(), at, store.Bounds{})
				require.ErrorIs(t, err, store.ErrVerify)
				require.ErrorContains(t, err, "(see chunk 2)")
				require.Equal(t, half, m.rows("rehome.chunks"))
				at, err = mover.Revert(t.Context(), at, store.Bounds{Leave: &store.Leave{At: at.Last, Reason: "it may stay"}})
				require.NoError(t, err)
				require.Zero(t, at.Last)
				left, err := m.store.Exceptions(t.Context(), id, 10)
				require.NoError(t, err)
				require.Len(t, left, 1)
				require.Equal(t, "2", left[0].Chunk)
				require.Contains(t, left[0].Detail, "it may stay")
				require.Equal(t, map[string]int{"a.md": 5, "b.md": 1}, m.at())
			})
		}
	}
}

// TestFault30TheCheckIsChecked: whatever a trigger changes besides the path is found, and
// in which chunk.
func TestFault30TheCheckIsChecked(t *testing.T) {
	t.Parallel()
	const changed = "chunks are not what they were, their path apart"
	for name, c := range map[string]struct{ body, met, says string }{
		"AByteOfText":   {`NEW.content = overlay(NEW.content PLACING 'T' FROM 1); RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"AFloat":        {`NEW.embedding[1] = NEW.embedding[1] + 1; RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"NoEmbedding":   {`NEW.embedding = NULL; RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"AKey":          {`NEW.metadata = '{"seen": true}'; RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"AnID":          {`NEW.id = NEW.id + 1000000; RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"AnotherTarget": {`NEW.path = 'c.md'; RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"ARowKept":      {`RETURN NULL;`, `= 2`, "5 chunks should have moved and 4 did (see chunk 2)"},
		"TwoIDsSwapped": {`NEW.id = 5 - OLD.id; RETURN NEW;`, `IN (2, 3)`, "2 " + changed + " (see chunks 2, 3)"},
		"AllOfThem":     {`NEW.metadata = '{"seen": true}'; RETURN NEW;`, `> 0`, "5 " + changed + " (see chunks 1, 2, 3 and 2 more)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := renaming(t, 5)
			m.exec(`ALTER TABLE rehome.chunks ALTER id DROP IDENTITY, DROP CONSTRAINT chunks_pkey, ADD PRIMARY KEY (id) DEFERRABLE`)
			m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + c.body + ` END $$`)
			m.exec(`CREATE TRIGGER meddle BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (OLD.ordinal ` + c.met + `) EXECUTE FUNCTION public.meddle()`)
			start := m.rows("rehome.chunks")
			mover, at := m.mover(id)
			_, err := mover.Apply(t.Context(), at, store.Bounds{Batch: 5})
			require.ErrorIs(t, err, store.ErrVerify)
			require.ErrorContains(t, err, "rows 1 to 5: "+c.says+";")
			require.Equal(t, start, m.rows("rehome.chunks"))
		})
	}
}

// TestFault30TheCheckOfCopiesIsChecked: likewise what a trigger makes of a copy, or that
// it makes none.
func TestFault30TheCheckOfCopiesIsChecked(t *testing.T) {
	t.Parallel()
	const changed = "chunks are not what they were, their path apart"
	for name, c := range map[string]struct{ body, met, says string }{
		"AByteOfText": {`NEW.content = overlay(NEW.content PLACING 'T' FROM 1); RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"AFloat":      {`NEW.embedding[1] = NEW.embedding[1] + 1; RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"NoEmbedding": {`NEW.embedding = NULL; RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"AKey":        {`NEW.metadata = '{"seen": true}'; RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"AnID":        {`NEW.id = NEW.id + 1000000; RETURN NEW;`, `= 2`, "1 " + changed + " (see chunk 2)"},
		"NoCopy":      {`RETURN NULL;`, `= 2`, "5 chunks should have moved and 4 did (see chunk 2)"},
		"AllOfThem":   {`NEW.embedding = NULL; RETURN NEW;`, `> 0`, "5 " + changed + " (see chunks 1, 2, 3 and 2 more)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := copied(t, 5, 0)
			m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + c.body + ` END $$`)
			m.exec(`CREATE TRIGGER meddle BEFORE INSERT ON rehome.chunks FOR EACH ROW WHEN (NEW.memory = 'other' AND NEW.ordinal ` + c.met + `) EXECUTE FUNCTION public.meddle()`)
			start := m.tables()
			mover, at := m.mover(id)
			_, err := mover.Apply(t.Context(), at, store.Bounds{Batch: 5})
			require.ErrorIs(t, err, store.ErrVerify)
			require.ErrorContains(t, err, "rows 1 to 5: "+c.says+";")
			require.Equal(t, start, m.tables())
		})
	}
}

// TestFault30ACopyThatDoesNotGoIsNamed by the chunk that it was made of, be it as it was
// or written to, from whichever end the journal is read.
func TestFault30ACopyThatDoesNotGoIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		back bool // by a plan of its own
		says string
	}{
		"ByItsUndo":     {false, "4 chunks should have moved and 3 did (see chunk 2);"}, // the one that was written to stays
		"ByAnotherPlan": {true, "5 chunks should have moved and 3 did (see chunks 4, 2);"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := copied(t, 5, -1)
			if c.back {
				m.finish(id)
				id = m.turning("docs", id)
			}
			m.exec(`UPDATE rehome.chunks SET content = 'edited' WHERE memory = 'other' AND ordinal = 4`)
			m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`)
			m.exec(`CREATE TRIGGER meddle BEFORE DELETE ON rehome.chunks FOR EACH ROW WHEN (OLD.memory = 'other' AND OLD.ordinal IN (2, 4)) EXECUTE FUNCTION public.meddle()`)
			start := m.tables()
			mover, err := m.store.Mover(t.Context(), id)
			require.NoError(t, err)
			step, stand := mover.Apply, m.store.Watermark
			if !c.back {
				step = mover.Revert
				stand = func(ctx context.Context, id string) (resilience.Watermark, error) {
					return m.store.BeginUndo(ctx, id, "a test", "")
				}
			}
			at, err := stand(t.Context(), id)
			require.NoError(t, err)
			_, err = step(t.Context(), at, store.Bounds{Batch: 5})
			require.ErrorIs(t, err, store.ErrVerify)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, start, m.tables())
		})
	}
}

func TestFault35AnUndoGoesOnWhereItWasCut(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 12)
	start := m.rows("rehome.chunks")
	m.apply(id, -1)
	require.NoError(t, m.store.Switch(t.Context(), id))
	at, err := m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	require.NoError(t, m.store.UndoSwitch(t.Context(), id))
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	at, err = mover.Revert(t.Context(), at, store.Bounds{})
	require.NoError(t, err)
	require.NoError(t, m.store.FailUndo(t.Context(), id, "a test"))
	// Whoever takes over does it all again: what is done is not done twice.
	again, err := m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	require.Equal(t, at.Last, again.Last)
	require.NoError(t, m.store.UndoSwitch(t.Context(), id))
	require.ErrorIs(t, m.store.Switch(t.Context(), id), store.ErrConflict, "a switch that was given up comes too late")
	m.revert(id)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

func TestFault36AnUndoKeepsWhatTheApplicationDidSince(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(10, "a.md")
	m.exec(`CREATE UNIQUE INDEX ON rehome.chunks (path, ordinal)`)
	plan := m.migrate("", rule("a.md", "b.md"))
	m.exec(`UPDATE rehome.chunks SET content = 'edited' WHERE ordinal = 1`)
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal = 2`)
	m.exec(`UPDATE rehome.chunks SET path = 'c.md' WHERE ordinal = 3`)
	m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'b.md', 77, 'new at the new place'), ('docs', 'a.md', 4, 'took the old place')`)
	undo := m.migrate(plan.ID)
	require.Equal(t, map[string]int{"a.md": 8, "b.md": 2, "c.md": 1}, m.at())
	left, err := m.store.Exceptions(t.Context(), undo.ID, 10)
	require.NoError(t, err)
	outcomes := map[resilience.Outcome]int{}
	for _, e := range left {
		outcomes[e.Outcome]++
	}
	require.Equal(t, map[resilience.Outcome]int{resilience.Vanished: 1, resilience.Drifted: 1, resilience.Clashed: 1}, outcomes)
	m.accounted(undo.ID)
}

func TestFault37AJournalThatWasTamperedWithIsFound(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 5)
	m.exec(`UPDATE rehome.migration_paths SET new_path = 'evil.md'`)
	_, err := m.store.Recheck(t.Context(), id)
	require.ErrorIs(t, err, store.ErrVerify)
	require.NoError(t, m.store.Queue(t.Context(), id))
	require.ErrorIs(t, m.store.CheckHash(t.Context(), id), store.ErrVerify, "nor does one begin that waited for nobody")
	m.exec(`UPDATE rehome.migration_paths SET new_path = 'b.md'`)
	require.NoError(t, m.store.CheckHash(t.Context(), id))
}

// TestDDLInTheMiddle takes away the column of the paths, one that the check reads,
// and the table itself.
func TestDDLInTheMiddle(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.Mapping{
		Schema: "public", Table: "docs", ID: "id", IDType: "bigint", Content: "body",
		Locators: []resilience.Locator{{Column: "source", Type: "text"}},
	})
	m.exec(`CREATE TABLE public.docs (id bigserial PRIMARY KEY, body text, source text, note text)`)
	m.exec(`INSERT INTO public.docs (body, source, note) SELECT 'text ' || i, 'a.md', 'n' FROM generate_series(1, 9) i`)
	start := m.rows("public.docs")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	at := m.apply(id, 1)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	for _, ddl := range [][2]string{
		{`ALTER TABLE public.docs RENAME source TO origin`, `ALTER TABLE public.docs RENAME origin TO source`},
		{`ALTER TABLE public.docs RENAME body TO words`, `ALTER TABLE public.docs RENAME words TO body`},
		{`ALTER TABLE public.docs RENAME TO papers`, `ALTER TABLE public.papers RENAME TO docs`},
		{`CREATE SCHEMA library; ALTER TABLE public.docs SET SCHEMA library`, `ALTER TABLE library.docs SET SCHEMA public`},
		{`ALTER TABLE public.docs ALTER source TYPE bytea USING source::bytea`, `ALTER TABLE public.docs ALTER source TYPE text USING encode(source, 'escape')`},
	} {
		m.exec(ddl[0])
		_, err = mover.Apply(t.Context(), at, store.Bounds{})
		require.ErrorIs(t, err, store.ErrChanged)
		m.exec(ddl[1])
	}
	m.exec(`CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.gone SELECT 1; RETURN NEW; END $$`)
	m.exec(`CREATE TRIGGER audit BEFORE UPDATE ON public.docs FOR EACH ROW EXECUTE FUNCTION public.audit()`)
	_, err = mover.Apply(t.Context(), at, store.Bounds{})
	require.ErrorContains(t, err, "does not exist")
	require.NotErrorIs(t, err, store.ErrChanged, "what a trigger misses is not the table's")
	m.exec(`DROP TRIGGER audit ON public.docs`)
	m.exec(`ALTER TABLE public.docs ADD extra int`) // that is nobody's business
	at, err = mover.Apply(t.Context(), at, store.Bounds{})
	require.NoError(t, err)
	require.EqualValues(t, 6, at.Last)
	m.exec(`ALTER TABLE public.docs DROP extra`)
	m.revert(id)
	require.Equal(t, start, m.rows("public.docs"))
}

// TestADocumentOfAnotherTypeInTheMiddle: the table is not what it was, whichever function
// finds that.
func TestADocumentOfAnotherTypeInTheMiddle(t *testing.T) {
	t.Parallel()
	m := jsonTable(t)
	start := m.rows("public.data_docs")
	id, err := m.plan("", rule("guide", "manual"))
	require.NoError(t, err)
	mover, at := m.mover(id)
	m.exec(`ALTER TABLE public.data_docs ALTER metadata_ TYPE jsonb`)
	_, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 3})
	require.ErrorIs(t, err, store.ErrChanged)
	require.NotErrorIs(t, err, store.ErrSchema)
	m.exec(`ALTER TABLE public.data_docs ALTER metadata_ TYPE json`)
	_, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 3})
	require.NoError(t, err)
	require.Len(t, m.rows("public.data_docs"), len(start))
}

// TestFault18OneBatchIsDoneBesideWriters: a batch of all rows meets a write of
// one of them each time it tries, and is done all the same.
func TestFault18OneBatchIsDoneBesideWriters(t *testing.T) {
	t.Parallel()
	const rows = 3000
	m, id := renaming(t, rows)
	ctx, stop := context.WithCancel(t.Context())
	started := make(chan bool, 3)
	var writers []func() (int, error)
	for w := range 3 {
		writers = append(writers, later(func() (n int, err error) {
			for ; ctx.Err() == nil && err == nil; n++ {
				_, err = m.pool.Exec(context.WithoutCancel(ctx), `UPDATE rehome.chunks SET content = 'edit ' || $1::int WHERE ordinal = 1 + $1::int % $2::int`, n*3+w, rows)
				if n == 10 || err != nil {
					started <- err == nil
				}
			}
			return n, err
		}))
	}
	for _, w := range writers {
		if !<-started {
			_, err := w()
			require.NoError(t, err)
		}
	}
	mover, at := m.mover(id)
	for at.Last < at.Total {
		next, err := mover.Apply(t.Context(), at, store.Bounds{Batch: rows})
		require.NoError(t, err)
		at = next
	}
	stop()
	for _, w := range writers {
		_, err := w()
		require.NoError(t, err)
	}
	require.Equal(t, map[string]int{"b.md": rows}, m.at())
	require.EqualValues(t, rows, m.accounted(id).Moved)
}

func TestFault37AnUndoFollowsNoForgedJournal(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]string{
		"PathChanged": `UPDATE rehome.migration_paths SET old_path = 'evil.md'`,
		"RowsGone":    `UPDATE rehome.migration_runs SET last = 2, chunk_ids = chunk_ids[1:2]`,
		"RowAdded":    `INSERT INTO rehome.migration_runs SELECT plan, path_id, 99, 99, 1, '{99}' FROM rehome.migration_runs`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := renaming(t, 5)
			m.apply(id, -1)
			m.complete(id)
			before := m.rows("rehome.chunks")
			m.exec(forge)
			_, err := m.plan(id)
			require.ErrorIs(t, err, store.ErrVerify)
			require.Equal(t, before, m.rows("rehome.chunks"))
		})
	}
}
