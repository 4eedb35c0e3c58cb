package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// joined does a step of so many batches.
func joined(t *testing.T, batches int, mover *store.Mover, at resilience.Watermark, step func(*store.Mover, context.Context, resilience.Watermark, store.Bounds) (resilience.Watermark, error), b store.Bounds) (resilience.Watermark, error) {
	b.Together = true
	mover.Join(batches)
	return step(mover, t.Context(), at, b)
}

func TestShortBatchesGoTogether(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 60)
	m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE ordinal IN (5, 59)`)
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal = 20`)
	start := m.rows("rehome.chunks")
	mover, at := m.mover(id)
	steps := []struct {
		batches, did int
		bounds       store.Bounds
		last         int64
	}{
		{batches: 1, did: 1, last: 3},
		{batches: 5, did: 5, last: 18},
		{batches: 5, did: 2, bounds: store.Bounds{Until: 23}, last: 23},
		{batches: 5, did: 1, bounds: store.Bounds{Rate: 2}, last: 25},
		{batches: 5, did: 5, bounds: store.Bounds{Batch: 2}, last: 35},
		{batches: 100, did: 9, last: 60}, // all there are
	}
	for _, s := range steps {
		next, err := joined(t, s.batches, mover, at, (*store.Mover).Apply, s.bounds)
		require.NoError(t, err)
		require.Equal(t, s.last, next.Last)
		require.Equal(t, s.did, mover.Batches(), "to row %d", s.last)
		next.Rate = 0
		at = next
		now, err := m.store.Watermark(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, now, at)
	}
	require.EqualValues(t, 2, at.Drifted)
	require.EqualValues(t, 1, at.Vanished)
	require.Equal(t, map[string]int{"b.md": 57, "elsewhere.md": 2}, m.at())
	at.Rate = 1
	next, err := joined(t, 5, mover, at, (*store.Mover).Apply, store.Bounds{})
	require.NoError(t, err)
	require.Equal(t, at.Last, next.Last, "nothing was left")

	at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	for _, s := range []struct{ floor, last int64 }{{0, 45}, {0, 30}, {16, 16}, {0, 1}, {0, 0}} {
		at, err = joined(t, 5, mover, at, (*store.Mover).Revert, store.Bounds{Floor: s.floor})
		require.NoError(t, err)
		require.Equal(t, s.last, at.Last)
	}
	require.NoError(t, m.store.EndUndo(t.Context(), id))
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestABatchThatGoesAloneIsFollowedByNone: whoever measures each batch, or keeps a rate, does not let them go together.
func TestABatchThatGoesAloneIsFollowedByNone(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 12)
	mover, at := m.mover(id)
	mover.Join(4)
	at, err := mover.Apply(t.Context(), at, store.Bounds{})
	require.NoError(t, err)
	require.EqualValues(t, 3, at.Last)
	at.Rate = 1000 // as the batch before it was told
	at, err = joined(t, 4, mover, at, (*store.Mover).Apply, store.Bounds{})
	require.NoError(t, err)
	require.EqualValues(t, 6, at.Last)
}

// TestNoBatchFollowsOneThatTookLong: the second of eight takes longer than all may.
func TestNoBatchFollowsOneThatTookLong(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 30)
	m.exec(`CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$`)
	m.exec(`CREATE TRIGGER linger BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = 5) EXECUTE FUNCTION public.linger()`)
	mover, at := m.mover(id)
	mover.JoinWithin(50*time.Millisecond, 8)
	at, err := mover.Apply(t.Context(), at, store.Bounds{Together: true})
	require.NoError(t, err)
	require.LessOrEqual(t, at.Last, int64(6))
	require.EqualValues(t, 3*mover.Batches(), at.Last)
}

// TestNothingFollowsABatchThatFails: the batches before it are committed, none after it
// is done, and the next step, which it is the first of, says what is wrong with it.
func TestNothingFollowsABatchThatFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string
		says string // of the batch; else the plan goes on, and
		left int    // rows stay behind
	}{
		"AChangedText": {`NEW.content = upper(NEW.content); RETURN NEW;`, "rows 7 to 9: 1 chunks are not what they were", 0},
		"ARowKept":     {`RETURN NULL;`, "rows 7 to 9: 3 chunks should have moved and 2 did", 0},
		"APoisonedRow": {`RAISE 'this one is cursed';`, "", 1},
		"ASecondTry":   {`IF nextval('public.tries') = 1 THEN RAISE 'try again' USING ERRCODE = '40001'; END IF; RETURN NEW;`, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := renaming(t, 30)
			start := m.rows("rehome.chunks")
			m.exec(`CREATE SEQUENCE public.tries`)
			m.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + c.body + ` END $$`)
			m.exec(`CREATE TRIGGER meddle BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = 8 AND NEW.path = 'b.md') EXECUTE FUNCTION public.meddle()`)
			mover, at := m.mover(id)
			at, err := joined(t, 8, mover, at, (*store.Mover).Apply, store.Bounds{})
			require.NoError(t, err)
			require.EqualValues(t, 6, at.Last)
			require.Equal(t, 2, mover.Batches())
			require.Equal(t, map[string]int{"a.md": 24, "b.md": 6}, m.at())
			next, err := joined(t, 8, mover, at, (*store.Mover).Apply, store.Bounds{})
			if c.says != "" {
				require.ErrorIs(t, err, store.ErrVerify)
				require.ErrorContains(t, err, c.says)
				require.ErrorContains(t, err, "let it spare updates of the path")
				require.Equal(t, map[string]int{"a.md": 24, "b.md": 6}, m.at())
			} else {
				require.NoError(t, err)
				for next.Last < next.Total {
					next, err = joined(t, 8, mover, next, (*store.Mover).Apply, store.Bounds{})
					require.NoError(t, err)
				}
				require.Equal(t, 30-c.left, m.at()["b.md"])
				require.EqualValues(t, 30-c.left, m.accounted(id).Moved)
			}
			m.exec(`DROP TRIGGER IF EXISTS meddle ON rehome.chunks`)
			m.revert(id)
			require.Equal(t, start, m.rows("rehome.chunks"))
		})
	}
}

// TestOrdersAreInForceBetweenBatchesThatGoTogether: they are given while the second of
// eight batches runs.
func TestOrdersAreInForceBetweenBatchesThatGoTogether(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		order string
		did   int
		last  int64
		next  int64 // where the step after it ends
	}{
		"APause":        {`wish = 'pause'`, 2, 6, 6},
		"AnotherEpoch":  {`epoch = epoch + 1`, 2, 6, 6},
		"ARate":         {`throttle_until = now() + interval '1 hour', throttle_rate = 2`, 2, 6, 8},
		"ASmallerBatch": {`throttle_batch_until = now() + interval '1 hour', throttle_batch = 1`, 8, 12, 16},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := renaming(t, 30)
			m.exec(`CREATE FUNCTION public.person() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE rehome.migration_progress SET ` + c.order + `; RETURN NEW; END $$`)
			m.exec(`CREATE TRIGGER person BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = 5) EXECUTE FUNCTION public.person()`)
			mover, at := m.mover(id)
			at, err := joined(t, 8, mover, at, (*store.Mover).Apply, store.Bounds{})
			require.NoError(t, err)
			require.Equal(t, c.last, at.Last)
			require.Equal(t, c.did, mover.Batches())
			before := at
			at, err = joined(t, 4, mover, at, (*store.Mover).Apply, store.Bounds{})
			require.NoError(t, err)
			require.Equal(t, c.next, at.Last)
			now, err := m.store.Watermark(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, now, at)
			if c.next == c.last { // nothing of what was known before stands
				require.NotEqual(t, fmt.Sprint(before.Wish, before.Epoch), fmt.Sprint(at.Wish, at.Epoch))
			}
		})
	}
}

// TestFault12WhatWasCommittedBeforeABackendWasEndedIsKnown ends the backend while the
// third of the batches that go together waits for a lock.
func TestFault12WhatWasCommittedBeforeABackendWasEndedIsKnown(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 30)
	start := m.rows("rehome.chunks")
	mover, at := m.mover(id)
	holder := m.session()
	_, err := holder.Exec(t.Context(), `SELECT FROM rehome.chunks WHERE ordinal = 8 FOR UPDATE`)
	require.NoError(t, err)
	answer := later(func() (resilience.Watermark, error) {
		return joined(t, 8, mover, at, (*store.Mover).Apply, store.Bounds{})
	})
	m.exec(`SELECT pg_terminate_backend($1)`, m.waiting())
	at, err = answer()
	require.NoError(t, err)
	require.EqualValues(t, 6, at.Last)
	require.NoError(t, holder.Rollback(t.Context()))
	at, err = joined(t, 8, mover, at, (*store.Mover).Apply, store.Bounds{})
	require.NoError(t, err)
	require.EqualValues(t, 30, at.Last)
	require.EqualValues(t, 30, m.accounted(id).Moved)
	m.revert(id)
	require.Equal(t, start, m.rows("rehome.chunks"))
}
