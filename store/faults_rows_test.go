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
