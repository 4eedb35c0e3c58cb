package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// The faults are numbered as in the fault matrix: each test ends with
// every row accounted for once, and an undo that restores the table.

// renaming is a plan of n chunks of a.md to b.md, queued.
func renaming(t *testing.T, n int) (*migrations, string) {
	t.Helper()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(n, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	return m, id
}

// mover begins a plan and returns what moves it, and from where.
func (m *migrations) mover(id string) (*store.Mover, resilience.Watermark) {
	m.Helper()
	at := m.apply(id, 0)
	mover, err := m.store.Mover(m.Context(), id)
	require.NoError(m, err)
	return mover, at
}

// accounted checks that every planned row has one outcome.
func (m *migrations) accounted(id string) resilience.Plan {
	m.Helper()
	plan, err := m.store.Plan(m.Context(), id)
	require.NoError(m, err)
	left, err := m.store.Exceptions(m.Context(), id, 1000)
	require.NoError(m, err)
	left = slices.DeleteFunc(left, func(e store.Exception) bool { return e.Outcome == resilience.Edited }) // these moved
	require.Equal(m, plan.Moves, plan.Moved+plan.Stayed+int64(len(left)), "%+v %v", plan, left)
	return plan
}

// session is an application's own connection, in a transaction.
func (m *migrations) session() pgx.Tx {
	m.Helper()
	tx, err := m.pool.Begin(m.Context())
	require.NoError(m, err)
	m.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// waiting waits until a batch waits for a lock, and returns its backend.
func (m *migrations) waiting() (pid int) {
	m.Helper()
	require.Eventually(m, func() bool {
		err := m.pool.QueryRow(m.Context(), `
			SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%migration_runs%'`).Scan(&pid)
		return err == nil
	}, 20*time.Second, 2*time.Millisecond)
	return pid
}

// later runs a step beside the test.
func later[T any](do func() (T, error)) func() (T, error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		value, err := do()
		done <- answer{value, err}
	}()
	return func() (T, error) { a := <-done; return a.value, a.err }
}

func TestFault04RowsThatWentBeforeTheStartAskAgain(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 100)
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal <= 5`)
	why, err := m.store.Recheck(t.Context(), id)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(why), "5 of its 100 chunks")
}

func TestFault05AnApprovalThatIsForgedOrOldIsNone(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 5)
	require.NoError(t, m.store.RequestApproval(t.Context(), id, "a test"))
	require.ErrorIs(t, m.store.Approve(t.Context(), id, "forged", "eve"), store.ErrConflict)
	plan := m.accountedForNothing(id)
	require.NoError(t, m.store.Approve(t.Context(), id, plan.Hash, "ana"))
	m.exec(`UPDATE rehome.migration_plans SET approved_at = now() - interval '25 hours'`)
	why, err := m.store.Recheck(t.Context(), id)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(why), "older than")
}

// TestFault05WhoOrderedAPlanMayNotApproveIt, where the setting wants somebody else's yes;
// one that comes with the order is none either.
func TestFault05WhoOrderedAPlanMayNotApproveIt(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 5)
	m.exec(`UPDATE rehome.migration_plans SET policy = policy || '{"author": "ana", "by_another": true}'`)
	require.NoError(t, m.store.ApproveAhead(t.Context(), id, "ana"))
	require.Nil(t, m.accountedForNothing(id).Approval)
	require.NoError(t, m.store.RequestApproval(t.Context(), id, "a test"))
	hash := m.accountedForNothing(id).Hash
	err := m.store.Approve(t.Context(), id, hash, "ana")
	require.ErrorIs(t, err, store.ErrRefused)
	require.ErrorContains(t, err, "approve_by_another")
	require.Nil(t, m.accountedForNothing(id).Approval)
	require.NoError(t, m.store.Approve(t.Context(), id, hash, "ben"))
	require.Equal(t, "ben", m.accountedForNothing(id).Approval.By)
}

func (m *migrations) accountedForNothing(id string) resilience.Plan {
	m.Helper()
	plan, err := m.store.Plan(m.Context(), id)
	require.NoError(m, err)
	require.Zero(m, plan.Moved)
	return plan
}

func TestFault10AnAttemptThatDiedAfterItsCommitIsNotRepeated(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 9)
	start := m.rows("rehome.chunks")
	mover, at := m.mover(id)
	first, err := mover.Apply(t.Context(), at, store.Bounds{})
	require.NoError(t, err)
	written := m.rows("(SELECT xmin, ctid, * FROM rehome.chunks)")
	again, err := mover.Apply(t.Context(), at, store.Bounds{}) // nobody heard of the first
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, written, m.rows("(SELECT xmin, ctid, * FROM rehome.chunks)"), "no row was written twice")
	m.revert(id)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

func TestFault12ABatchWhoseBackendWasEndedIsTriedAgain(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 9)
	start := m.rows("rehome.chunks")
	mover, at := m.mover(id)
	for _, step := range []func(context.Context, resilience.Watermark, store.Bounds) (resilience.Watermark, error){mover.Apply, mover.Revert} {
		holder := m.session()
		_, err := holder.Exec(t.Context(), `SELECT FROM rehome.chunks WHERE ordinal = 2 FOR UPDATE`)
		require.NoError(t, err)
		answer := later(func() (resilience.Watermark, error) { return step(t.Context(), at, store.Bounds{Patient: true}) })
		m.exec(`SELECT pg_terminate_backend($1)`, m.waiting())
		_, err = answer()
		require.ErrorIs(t, err, store.ErrUnreachable)
		require.NoError(t, holder.Rollback(t.Context()))
		for at.Wish == resilience.WishRun && at.Last < at.Total {
			at, err = step(t.Context(), at, store.Bounds{})
			require.NoError(t, err)
		}
		if at.Wish == resilience.WishRun {
			require.Equal(t, map[string]int{"b.md": 9}, m.at())
			at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
			require.NoError(t, err)
			at, err = mover.Revert(t.Context(), at, store.Bounds{})
			require.NoError(t, err)
			at, err = mover.Revert(t.Context(), at, store.Bounds{})
			require.NoError(t, err)
			require.EqualValues(t, 3, at.Last) // the next batch has row 2
		}
	}
	m.revert(id)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestFault14ZombiesWriteNothing lets attempts that were given up go on beside
// the one that counts, and beyond the moment the plan is turned round.
func TestFault14ZombiesWriteNothing(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 60)
	start := m.rows("rehome.chunks")
	mover, at := m.mover(id)
	ctx, stop := context.WithCancel(t.Context())
	rounds := make(chan int)
	zombie := later(func() (int, error) {
		z, err := m.store.Mover(ctx, id)
		for n := 0; err == nil; n++ {
			select {
			case rounds <- n:
			case <-ctx.Done():
			}
			old := resilience.Watermark{Last: int64(n % 20 * 3), Total: 60, Epoch: 1}
			z.Join(4)
			if _, err = z.Apply(ctx, old, store.Bounds{Together: true}); err == nil {
				z.Join(4)
				_, err = z.Revert(ctx, old, store.Bounds{Partial: true, Together: true})
			}
			if ctx.Err() != nil {
				return n, nil
			}
		}
		return 0, err
	})
	for at.Last < 45 {
		<-rounds
		mover.Join(2)
		next, err := mover.Apply(t.Context(), at, store.Bounds{Together: true})
		require.NoError(t, err)
		at = next
	}
	at, err := m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	for at.Last > 0 {
		<-rounds
		mover.Join(2)
		next, err := mover.Revert(t.Context(), at, store.Bounds{Together: true})
		require.NoError(t, err)
		require.Less(t, next.Last, at.Last, "a zombie moved the watermark")
		at = next
	}
	stop()
	tried, err := zombie()
	require.NoError(t, err)
	require.NotZero(t, tried)
	require.NoError(t, m.store.EndUndo(t.Context(), id))
	require.Equal(t, start, m.rows("rehome.chunks"))
}

func TestFault19DeletedRowsVanishAndRowsPutBackAreSwept(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 9)
	m.exec(`DELETE FROM rehome.chunks WHERE ordinal IN (2, 8)`)
	m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'a.md', 8, 'again')`)
	m.apply(id, -1)
	left, err := m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 1, left)
	m.apply(id, -1)
	m.complete(id)
	plan := m.accounted(id)
	require.EqualValues(t, 2, plan.Vanished)
	require.Equal(t, map[string]int{"b.md": 8}, m.at())
}

func TestFault20ARowThatIsCommittedLateIsSwept(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	late := m.session()
	_, err := late.Exec(t.Context(), `INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'a.md', 0, 'late, with a low id')`)
	require.NoError(t, err)
	m.fill(6, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	m.apply(id, -1)
	require.NoError(t, late.Commit(t.Context()))
	left, err := m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 1, left)
	// Its answer is lost: another attempt finds nothing new, and one row left.
	left, err = m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 1, left)
	m.apply(id, -1)
	m.complete(id)
	m.accounted(id)
	require.Equal(t, map[string]int{"b.md": 7}, m.at())
}

func TestFault21ALockHolderDelaysOthersForAMomentOnly(t *testing.T) {
	t.Parallel()
	const moment = 1500 * time.Millisecond // 250 ms, on a busy machine
	for name, c := range map[string]struct {
		bounds store.Bounds
		most   time.Duration
		tries  int // by the end of one that fails; 0: it goes on beyond those that others see
	}{
		"Gentle":        {store.Bounds{Gentle: true}, moment, 1},
		"GentleForLong": {store.Bounds{Gentle: true, Patient: true}, moment, 1},
		"Ordinary":      {store.Bounds{}, moment, 0},
		"Dear":          {store.Bounds{Patient: true}, 6 * time.Second, 1}, // 2 s
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, id := renaming(t, 3)
			start := m.rows("rehome.chunks")
			m.countsTries()
			mover, at := m.mover(id)
			holder := m.session()
			_, err := holder.Exec(t.Context(), `SELECT FROM rehome.chunks WHERE ordinal = 3 FOR UPDATE`)
			require.NoError(t, err)
			started := time.Now()
			answer := later(func() (resilience.Watermark, error) { return mover.Apply(t.Context(), at, c.bounds) })
			m.waiting()
			began := time.Now()
			m.exec(`UPDATE rehome.chunks SET embedding = embedding WHERE ordinal = 1`) // of the same batch
			require.Less(t, time.Since(began), c.most)
			if c.tries == 0 {
				require.Eventually(t, func() bool { return m.tries() > 2 }, time.Minute, 10*time.Millisecond)
				require.NoError(t, holder.Rollback(t.Context()))
				at, err = answer()
				require.NoError(t, err)
				require.EqualValues(t, 3, at.Last)
			} else {
				_, err = answer()
				require.Equal(t, resilience.LockTimeout, store.TroubleOf(errors.Unwrap(err)), err)
				require.Equal(t, c.tries, m.tries())
				if c.most > moment {
					require.Greater(t, time.Since(started), 2*time.Second)
				}
				require.NoError(t, holder.Rollback(t.Context()))
				require.EqualValues(t, 3, m.apply(id, -1).Last)
			}
			m.revert(id)
			require.Equal(t, start, m.rows("rehome.chunks"))
		})
	}
}

// countsTries has every try of a batch counted that begins with the first row.
func (m *migrations) countsTries() {
	m.Helper()
	m.exec(`CREATE SEQUENCE public.tries`)
	m.exec(`CREATE FUNCTION public.try() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.tries'); RETURN NEW; END $$`)
	m.exec(`CREATE TRIGGER try BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (OLD.ordinal = 1 AND NEW.path <> OLD.path) EXECUTE FUNCTION public.try()`)
}

func (m *migrations) tries() int {
	m.Helper()
	return m.count(`SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.tries`)
}

// TestFault21ALockThatIsAlwaysHeldIsReportedInTheEnd: others were given way to for longer
// than ten seconds.
func TestFault21ALockThatIsAlwaysHeldIsReportedInTheEnd(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes twelve seconds")
	}
	m, id := renaming(t, 3)
	m.countsTries()
	mover, at := m.mover(id)
	holder := m.session()
	_, err := holder.Exec(t.Context(), `SELECT FROM rehome.chunks WHERE ordinal = 3 FOR UPDATE`)
	require.NoError(t, err)
	began := time.Now()
	_, err = mover.Apply(t.Context(), at, store.Bounds{})
	require.Equal(t, resilience.LockTimeout, store.TroubleOf(errors.Unwrap(err)), err)
	require.Greater(t, time.Since(began), 12*time.Second)
	require.Greater(t, m.tries(), 2)
}

func TestFault22ADeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 3)
	mover, at := m.mover(id)
	app := m.session()
	_, err := app.Exec(t.Context(), `UPDATE rehome.chunks SET content = 'edited' WHERE ordinal = 3`)
	require.NoError(t, err)
	answer := later(func() (resilience.Watermark, error) { return mover.Apply(t.Context(), at, store.Bounds{Patient: true}) }) // else it gives up before the server looks for one
	m.waiting()
	if _, err = app.Exec(t.Context(), `UPDATE rehome.chunks SET content = 'edited' WHERE ordinal = 1`); err == nil {
		require.NoError(t, app.Commit(t.Context()))
	} else {
		require.NoError(t, app.Rollback(t.Context())) // Postgres chose the application
	}
	at, err = answer()
	require.NoError(t, err)
	require.EqualValues(t, 3, at.Last)
	require.Equal(t, map[string]int{"b.md": 3}, m.at())
}

func TestFault24AStatementOutOfTimeChangesNothing(t *testing.T) {
	t.Parallel()
	m, id := renaming(t, 3)
	m.exec(`CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NEW; END $$`)
	m.exec(`CREATE TRIGGER slow BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = 2) EXECUTE FUNCTION public.slow()`)
	start := m.rows("rehome.chunks")
	mover, at := m.mover(id)
	_, err := mover.Apply(t.Context(), at, store.Bounds{Gentle: true}) // 5 s
	require.ErrorContains(t, err, "statement timeout")
	require.Equal(t, start, m.rows("rehome.chunks"))
	m.exec(`DROP TRIGGER slow ON rehome.chunks`)
	require.EqualValues(t, 3, m.apply(id, -1).Last, "it goes on when that is mended")
	m.revert(id)
	require.Equal(t, start, m.rows("rehome.chunks"))
}
