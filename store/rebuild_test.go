package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// indexed is a memory whose table has two indexes of a method that a rebuild can
// be told to be about, and the definitions of all its indexes.
func indexed(t *testing.T) (*migrations, func() map[string]string) {
	t.Helper()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(10, "d/a.md")
	m.exec(`ALTER TABLE rehome.chunks ADD COLUMN public_tags int[] NOT NULL DEFAULT '{}'`)
	m.exec(`CREATE INDEX tags ON rehome.chunks USING gin (public_tags) WITH (fastupdate = off) WHERE ordinal >= 0`)
	m.exec(`CREATE INDEX "Odd ""name" ON rehome.chunks USING gin (public_tags)`)
	m.exec(`COMMENT ON INDEX rehome.tags IS 'it''s \ours'`)
	return m, func() map[string]string {
		t.Helper()
		found := map[string]string{}
		rows, err := m.pool.Query(t.Context(), `
			SELECT c.relname, concat_ws(' ', pg_get_indexdef(c.oid), i.indisvalid, obj_description(c.oid, 'pg_class'))
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 'rehome.chunks'::regclass`)
		require.NoError(t, err)
		for rows.Next() {
			var name, definition string
			require.NoError(t, rows.Scan(&name, &definition))
			found[name] = definition
		}
		return found
	}
}

// begun plans a rename of all and lets it run.
func (m *migrations) begun() string {
	m.Helper()
	id, err := m.plan("", rule("d", "e"))
	require.NoError(m, err)
	require.NoError(m, m.store.Queue(m.Context(), id))
	require.NoError(m, m.store.Begin(m.Context(), id))
	return id
}

func TestIndexesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	m, indexes := indexed(t)
	before := indexes()
	id := m.begun()
	built, err := m.store.BuildIndexes(t.Context(), id)
	require.NoError(t, err)
	require.Zero(t, built, "nothing was taken away")

	for range 2 {
		away, err := m.store.TakeIndexes(t.Context(), id, 1, []string{"gin"})
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"tags", `Odd "name`}, away)
		require.Len(t, indexes(), len(before)-2)
	}
	for _, want := range []int{2, 0} {
		built, err = m.store.BuildIndexes(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, built)
		require.Equal(t, before, indexes())
	}
	away, err := m.store.TakeIndexes(t.Context(), id, 1, []string{"gin"})
	require.NoError(t, err)
	require.Empty(t, away, "an attempt that comes late takes nothing")
	require.Equal(t, before, indexes())
}

// TestFault06AHalfBuiltIndexIsBuiltAnew: an attempt was cut off in the middle.
func TestFault06AHalfBuiltIndexIsBuiltAnew(t *testing.T) {
	t.Parallel()
	m, indexes := indexed(t)
	before := indexes()
	id := m.begun()
	_, err := m.store.TakeIndexes(t.Context(), id, 1, []string{"gin"})
	require.NoError(t, err)
	// What CREATE INDEX CONCURRENTLY leaves behind when it is cut off: here it
	// fails on a value it cannot hold.
	m.exec(`CREATE FUNCTION public.fail(int[]) RETURNS int[] IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'cut off'; END $$`)
	_, err = m.pool.Exec(t.Context(), `CREATE INDEX CONCURRENTLY tags ON rehome.chunks USING gin (public.fail(public_tags))`)
	require.ErrorContains(t, err, "cut off")
	require.Contains(t, indexes()["tags"], " f")
	_, err = m.store.BuildIndexes(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, before, indexes())
}

// TestABuildThatIsCancelledLeavesNoHalfIndex: an index that is not whole yet would cost
// whoever writes meanwhile what a whole one does.
func TestABuildThatIsCancelledLeavesNoHalfIndex(t *testing.T) {
	t.Parallel()
	m, indexes := indexed(t)
	before := indexes()
	id := m.without()
	without := indexes()
	ctx, cancel := context.WithCancel(t.Context())
	writer, ended := m.stuck(ctx, id, indexes)
	cancel()
	require.Eventually(t, func() bool {
		return m.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'`) == 0
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, writer.Rollback(t.Context()))
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Equal(t, without, indexes())

	_, err := m.store.BuildIndexes(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, before, indexes())
}

// TestAnIndexThatAnotherAttemptBuildsIsLeftToIt: an attempt that was given up for dead
// drops nothing of its successor's.
func TestAnIndexThatAnotherAttemptBuildsIsLeftToIt(t *testing.T) {
	t.Parallel()
	m, indexes := indexed(t)
	before := indexes()
	id := m.without()
	ctx, cancel := context.WithCancel(t.Context())
	writer, first := m.stuck(ctx, id, indexes)
	second := m.building(t.Context(), id)
	require.Eventually(t, func() bool {
		return m.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_try_advisory_lock%'`) == 1
	}, time.Minute, 10*time.Millisecond)
	cancel()
	require.NoError(t, writer.Rollback(t.Context()))
	require.NoError(t, <-second)
	if err := <-first; err != nil { // it may have been done before it heard of it
		require.ErrorIs(t, err, context.Canceled)
	}
	require.Equal(t, before, indexes())
}

// without is a plan that has taken the indexes away.
func (m *migrations) without() string {
	m.Helper()
	id := m.begun()
	_, err := m.store.TakeIndexes(m.Context(), id, 1, []string{"gin"})
	require.NoError(m, err)
	return id
}

// stuck is a build that has half an index and waits for a writer to the table.
func (m *migrations) stuck(ctx context.Context, id string, indexes func() map[string]string) (writer pgx.Tx, ended <-chan error) {
	m.Helper()
	writer, err := m.pool.Begin(m.Context())
	require.NoError(m, err)
	_, err = writer.Exec(m.Context(), `UPDATE rehome.chunks SET ordinal = ordinal`)
	require.NoError(m, err)
	before := len(indexes())
	ended = m.building(ctx, id)
	require.Eventually(m, func() bool { return len(indexes()) > before }, time.Minute, 10*time.Millisecond)
	return writer, ended
}

// building builds the indexes of a plan meanwhile.
func (m *migrations) building(ctx context.Context, id string) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := m.store.BuildIndexes(ctx, id)
		ended <- err
	}()
	return ended
}

func TestAPlanThatWasTurnedRoundTakesNoIndexes(t *testing.T) {
	t.Parallel()
	m, indexes := indexed(t)
	before := indexes()
	id := m.begun()
	_, err := m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	_, err = m.store.TakeIndexes(t.Context(), id, 1, []string{"gin"})
	require.ErrorIs(t, err, store.ErrFenced)
	_, err = m.store.TakeIndexes(t.Context(), id, 2, []string{"gin"})
	require.ErrorIs(t, err, store.ErrFenced)
	require.Equal(t, before, indexes())
}

// TestAnotherIndexOfTheNameIsNotTouched: somebody made one meanwhile.
func TestAnotherIndexOfTheNameIsNotTouched(t *testing.T) {
	t.Parallel()
	m, indexes := indexed(t)
	id := m.begun()
	_, err := m.store.TakeIndexes(t.Context(), id, 1, []string{"gin"})
	require.NoError(t, err)
	m.exec(`CREATE INDEX tags ON rehome.chunks (ordinal)`)
	_, err = m.store.BuildIndexes(t.Context(), id)
	require.ErrorIs(t, err, store.ErrVerify)
	require.ErrorContains(t, err, "Rename or drop it")
	require.Contains(t, indexes()["tags"], "btree (ordinal)")
	m.exec(`DROP INDEX rehome.tags`)
	_, err = m.store.BuildIndexes(t.Context(), id)
	require.NoError(t, err)
	require.Contains(t, indexes()["tags"], "gin")
}
