package store_test

import (
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev/model"
	"rehome/resilience"
	"rehome/store"
)

// replica is a plan of the model's size. It does in Postgres what happens in the model.
type replica struct {
	*migrations
	id     string
	paths  [model.Gone + 1]string // of the places
	chunks []int64                // in the order of the journal
	mover  *store.Mover
}

// replica plans a migration of its own in a directory.
func (m *migrations) replica(dir string) *replica {
	m.Helper()
	r := &replica{migrations: m, paths: [...]string{model.AtOld: dir + "/old.md", model.AtNew: dir + "/new.md", model.Elsewhere: dir + "/other.md", model.Gone: ""}}
	m.fill(model.Rows, r.paths[model.AtOld])
	var err error
	r.id, err = m.plan("", rule(r.paths[model.AtOld], r.paths[model.AtNew]))
	require.NoError(m, err)
	require.NoError(m, m.store.Queue(m.Context(), r.id))
	r.mover, err = m.store.Mover(m.Context(), r.id)
	require.NoError(m, err)
	require.NoError(m, m.pool.QueryRow(m.Context(), `
		SELECT array_agg(m.chunk_id::bigint ORDER BY m.ordinal)
		FROM rehome.migration_plans p JOIN rehome.migration_moves m ON m.plan = p.number WHERE p.plan_id = $1`, r.id).Scan(&r.chunks))
	return r
}

// try does what an attempt does, and returns the watermark of those that tell it.
func (r *replica) try(a model.Attempt) (at resilience.Watermark, err error) {
	ctx, s := r.Context(), r.store
	from := resilience.Watermark{Last: int64(a.Last), Total: model.Rows, Epoch: int64(a.Epoch)}
	all := resilience.Verified{}
	switch a.Act {
	case model.None:
	case model.Begin:
		err = s.Begin(ctx, r.id)
	case model.Apply:
		return r.mover.Apply(ctx, from, store.Bounds{Batch: model.Batch})
	case model.Revert:
		return r.mover.Revert(ctx, from, store.Bounds{Batch: model.Batch})
	case model.PutBack:
		return r.mover.Revert(ctx, from, store.Bounds{Batch: model.Batch, Partial: true})
	case model.Verify:
		_, err = s.Verify(ctx, r.id, all, model.Rows)
	case model.Switch:
		err = s.Switch(ctx, r.id)
	case model.Complete:
		err = s.Complete(ctx, r.id)
	case model.Pause:
		err = s.Pause(ctx, r.id, "ana", "a test")
	case model.Resume:
		var resumed bool
		resumed, _, err = s.Resume(ctx, r.id, "ana", "a test", nil)
		require.Equal(r, err == nil, resumed, "it has a slot")
	case model.CancelPlan:
		err = s.CancelPlan(ctx, r.id, "ana", "a test")
	case model.BeginUndo:
		return s.BeginUndo(ctx, r.id, "a test", "ana")
	case model.UndoSwitch:
		err = s.UndoSwitch(ctx, r.id)
	case model.VerifyUndo:
		_, err = s.VerifyUndo(ctx, r.id, all, model.Rows)
	case model.EndUndo:
		err = s.EndUndo(ctx, r.id)
	}
	return at, err
}

// does tries what a transaction of the model does, from the state that it begins in:
// what that tells, and whether it is refused, are as in the model.
func (r *replica) does(t model.Transaction, how string) {
	r.Helper()
	at, err := r.try(t.Attempt)
	if t.Refused {
		require.True(r, errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrVerify) || errors.Is(err, store.ErrReturned), "%s is not refused, but: %v\n%s", t.Attempt, err, how)
		_, byPostgres := errors.AsType[*pgconn.PgError](err)
		require.False(r, byPostgres, "%s is not refused by a guard, but: %v\n%s", t.Attempt, err, how)
		return
	}
	require.NoError(r, err, "%s\n%s", t.Attempt, how)
	if at.Total > 0 {
		require.Equal(r, [3]any{int64(t.After.Last), int64(t.After.Epoch), t.After.Wish}, [3]any{at.Last, at.Epoch, at.Wish}, "what %s tells\n%s", t.Attempt, how)
	}
}

// follow is does, and what it makes of the database is as in the model, too.
func (r *replica) follow(t model.Transaction, how string) {
	r.Helper()
	r.does(t, how)
	require.Equal(r, t.After, r.read(), "%s\n%s", t.Attempt, how)
}

// read is what the database has of the plan.
func (r *replica) read() (d model.Database) {
	r.Helper()
	var paths []string
	var skipped, left []int64
	require.NoError(r, r.pool.QueryRow(r.Context(), `
		SELECT p.status, g.wish, g.last, g.epoch, coalesce(g.turned, 0), rehome.current_path('docs', $2) = $3,
			ARRAY(SELECT coalesce(c.path, '') FROM unnest($4::bigint[]) WITH ORDINALITY AS m (id, ordinal) LEFT JOIN rehome.chunks c USING (id) ORDER BY m.ordinal),
			ARRAY(SELECT ordinal FROM rehome.migration_exceptions e WHERE e.plan_id = p.plan_id AND NOT undoing),
			ARRAY(SELECT ordinal FROM rehome.migration_exceptions e WHERE e.plan_id = p.plan_id AND undoing)
		FROM rehome.migration_plans p JOIN rehome.migration_progress g USING (plan_id) WHERE plan_id = $1`,
		r.id, r.paths[model.AtOld], r.paths[model.AtNew], r.chunks).
		Scan(&d.Status, &d.Wish, &d.Last, &d.Epoch, &d.Turned, &d.Switched, &paths, &skipped, &left))
	for i, path := range paths {
		place := slices.Index(r.paths[:], path)
		require.NotEqual(r, -1, place, "row %d is at %q", i+1, path)
		d.Rows[i].Is = model.Place(place)
	}
	for _, ordinal := range skipped {
		d.Rows[ordinal-1].Skipped = true
	}
	for _, ordinal := range left {
		d.Rows[ordinal-1].Left = true
	}
	return d
}

// put makes the database what it is to be.
func (r *replica) put(d model.Database) {
	r.Helper()
	var paths []string
	var skipped, left []int64
	for i, row := range d.Rows {
		paths = append(paths, r.paths[row.Is])
		if row.Skipped {
			skipped = append(skipped, int64(i+1))
		}
		if row.Left {
			left = append(left, int64(i+1))
		}
	}
	all := &pgx.Batch{}
	all.Queue(`UPDATE rehome.migration_plans SET status = $2, finished_at = NULL WHERE plan_id = $1`, r.id, d.Status)
	all.Queue(`UPDATE rehome.migration_progress SET wish = $2, last = $3, epoch = $4, turned = nullif($5, 0) WHERE plan_id = $1`, r.id, d.Wish, d.Last, d.Epoch, d.Turned)
	all.Queue(`DELETE FROM rehome.migration_events`)
	all.Queue(`DELETE FROM rehome.migration_exceptions`)
	all.Queue(`
		INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing)
		SELECT $1, ordinal, 'drifted', false FROM unnest($2::bigint[]) ordinal UNION ALL SELECT $1, ordinal, 'drifted', true FROM unnest($3::bigint[]) ordinal`, r.id, skipped, left)
	all.Queue(`DELETE FROM rehome.chunks`)
	all.Queue(`
		INSERT INTO rehome.chunks (id, memory, path, ordinal, content) OVERRIDING SYSTEM VALUE
		SELECT id, 'docs', path, n, 'text ' || n FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS r (id, path, n) WHERE path <> ''`, r.chunks, paths)
	require.NoError(r, r.pool.SendBatch(r.Context(), all).Close())
	if is := r.read(); is.Switched != d.Switched {
		turn := store.UnswitchAliases
		if d.Switched {
			turn = store.SwitchAliases
		}
		require.NoError(r, turn(r.store, r.Context(), r.id, "docs"))
	}
}

// write lets the application do what it does between two states.
func (r *replica) write(from, to model.Database) {
	r.Helper()
	for i, is := range to.Rows {
		switch path := r.paths[is.Is]; {
		case is.Is == from.Rows[i].Is:
		case path == "":
			r.exec(`DELETE FROM rehome.chunks WHERE id = $1`, r.chunks[i])
		default:
			r.exec(`UPDATE rehome.chunks SET path = $2 WHERE id = $1`, r.chunks[i], path)
		}
	}
}

// from does all transactions that begin in a state.
func (r *replica) from(b *begun) {
	r.Helper()
	how := fmt.Sprintf("of %+v", b.at)
	r.put(b.at)
	for _, t := range b.void {
		r.does(t, how)
	}
	if r.read() != b.at { // which of them was it?
		for _, t := range b.void {
			r.put(b.at)
			r.follow(t, how)
		}
		require.Fail(r, "none of them alone changes the database, and all of them do", how)
	}
	for _, t := range b.changes {
		r.put(b.at)
		r.follow(t, how)
	}
}

// begun are the transactions that begin in one state.
type begun struct {
	at            model.Database
	void, changes []model.Transaction // those that change nothing go one after another
}

// beginnings gathers transactions by the state that they begin in.
func beginnings(all []model.Transaction) []*begun {
	var found []*begun
	by := map[model.Database]*begun{}
	for _, t := range all {
		b := by[t.Before]
		if b == nil {
			b = &begun{at: t.Before}
			by[t.Before], found = b, append(found, b)
		}
		if t.Before == t.After {
			b.void = append(b.void, t)
		} else {
			b.changes = append(b.changes, t)
		}
	}
	return found
}

// count is how many transactions there are.
func count(all []*begun) (n int) {
	for _, b := range all {
		n += len(b.void) + len(b.changes)
	}
	return n
}
