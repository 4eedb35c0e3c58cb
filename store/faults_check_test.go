package store_test

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

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

// notWhatTheyWere is what is said of so many chunks.
func notWhatTheyWere(n int, which string) string {
	return fmt.Sprintf("%d chunks are not what they were, their path apart (see %s)", n, which)
}

// meddling is what the body of a trigger does to rows with such ordinals, and what is said
// of it.
type meddling struct{ body, met, says string }

// meddlings are those that every check sees, whatever the row is written for; and more.
func meddlings(more map[string]meddling) map[string]meddling {
	all := map[string]meddling{}
	for name, body := range map[string]string{
		"AByteOfText": `NEW.content = overlay(NEW.content PLACING 'T' FROM 1); RETURN NEW;`,
		"AFloat":      `NEW.embedding[1] = NEW.embedding[1] + 1; RETURN NEW;`,
		"NoEmbedding": `NEW.embedding = NULL; RETURN NEW;`,
		"AKey":        `NEW.metadata = '{"seen": true}'; RETURN NEW;`,
		"AnID":        `NEW.id = NEW.id + 1000000; RETURN NEW;`,
	} {
		all[name] = meddling{body, `= 2`, notWhatTheyWere(1, "chunk 2")}
	}
	all["ARowKept"] = meddling{`RETURN NULL;`, `= 2`, "5 chunks should have moved and 4 did (see chunk 2)"}
	maps.Copy(all, more)
	return all
}

// TestFault30TheCheckIsChecked: whatever a trigger changes besides the path is found, and
// in which chunk.
func TestFault30TheCheckIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range meddlings(map[string]meddling{
		"AnotherTarget": {`NEW.path = 'c.md'; RETURN NEW;`, `= 2`, notWhatTheyWere(1, "chunk 2")},
		"TwoIDsSwapped": {`NEW.id = 5 - OLD.id; RETURN NEW;`, `IN (2, 3)`, notWhatTheyWere(2, "chunks 2, 3")},
		"AllOfThem":     {`NEW.metadata = '{"seen": true}'; RETURN NEW;`, `> 0`, notWhatTheyWere(5, "chunks 1, 2, 3 and 2 more")},
	}) {
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
	for name, c := range meddlings(map[string]meddling{
		"AllOfThem": {`NEW.embedding = NULL; RETURN NEW;`, `> 0`, notWhatTheyWere(5, "chunks 1, 2, 3 and 2 more")},
	}) {
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
