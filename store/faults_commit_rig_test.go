package store_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// lossy is a memory, and a store that loses a COMMIT of each of its steps.
type lossy struct {
	*migrations
	shaky *store.Store
	cut   *devtest.Cutter
	how   devtest.Cut
	join  int // batches of a move that go together
}

func newLossy(t *testing.T, how devtest.Cut) *lossy {
	t.Helper()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	cut := devtest.CutCommits(t, m.pool.Config().ConnString())
	return &lossy{migrations: m, shaky: store.New(devtest.Connect(t, cut.URL)), cut: cut, how: how, join: 1}
}

// twice does a step whose COMMIT is lost, and then as an activity is tried again.
// What was committed is not done again, and of what was not, nothing is there.
func (l *lossy) twice(what string, do func(ctx context.Context) error) {
	l.Helper()
	before := l.everything()
	l.cut.Arm(l.how)
	require.Error(l, do(l.Context()), what)
	require.Empty(l, l.cut.Take(), "%s had nothing to commit", what)
	once := l.everything()
	if l.how == devtest.BeforeCommit {
		require.Equal(l, before, once, what)
	} else {
		require.NotEqual(l, before, once, what)
	}
	require.NoError(l, do(l.Context()), what)
	if l.how == devtest.AfterCommit {
		require.Equal(l, once, l.everything(), what)
	}
}

// everything is every row of every table, rehome's own too.
func (l *lossy) everything() []string {
	l.Helper()
	var query string
	require.NoError(l, l.pool.QueryRow(l.Context(), `
		SELECT string_agg(format('SELECT %L || t::text FROM %s t', c.oid::regclass || ' ', c.oid::regclass), ' UNION ALL ')
		FROM pg_class c WHERE relkind = 'r' AND relnamespace IN ('rehome'::regnamespace, 'public'::regnamespace)`).Scan(&query))
	rows, err := l.pool.Query(l.Context(), query+` ORDER BY 1`)
	require.NoError(l, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(l, err)
	return all
}

// step is a step of a plan that says nothing but whether it was done.
func (l *lossy) step(what, id string, do func(s *store.Store, ctx context.Context, plan string) error) {
	l.Helper()
	l.twice(what, func(ctx context.Context) error { return do(l.shaky, ctx, id) })
}

// batches does all batches of a plan, each from where the plan was before it: its
// second attempt is told where the first one, that was committed, came to.
func (l *lossy) batches(what string, until func(at resilience.Watermark) bool,
	read func(context.Context) (resilience.Watermark, error), do func(context.Context, resilience.Watermark) (resilience.Watermark, error),
) (n int) {
	l.Helper()
	at, err := read(l.Context())
	require.NoError(l, err)
	for ; !until(at); n++ {
		var next resilience.Watermark
		l.twice(what, func(ctx context.Context) (err error) {
			next, err = do(ctx, at)
			return err
		})
		now, err := read(l.Context())
		require.NoError(l, err)
		require.Equal(l, now.Last, next.Last, what)
		require.NotEqual(l, at.Last, next.Last, what)
		at = next
	}
	return n
}

func done(at resilience.Watermark) bool   { return at.Last == at.Total }
func undone(at resilience.Watermark) bool { return at.Last == 0 }

func (l *lossy) move(what, id string, until func(at resilience.Watermark) bool, step func(*store.Mover, context.Context, resilience.Watermark, store.Bounds) (resilience.Watermark, error)) int {
	l.Helper()
	return l.batches(what, until, func(ctx context.Context) (resilience.Watermark, error) { return l.store.Watermark(ctx, id) },
		func(ctx context.Context, at resilience.Watermark) (resilience.Watermark, error) {
			mover, err := l.shaky.Mover(ctx, id)
			if err != nil {
				return at, err
			}
			mover.Join(l.join)
			return step(mover, ctx, at, store.Bounds{Together: true})
		})
}

func (l *lossy) retirement(what, id string, until func(at resilience.Watermark) bool, step func(*store.Retirer, context.Context, resilience.Watermark, store.Bounds) (resilience.Watermark, error)) int {
	l.Helper()
	return l.batches(what, until, func(ctx context.Context) (resilience.Watermark, error) { return l.store.Retired(ctx, id) },
		func(ctx context.Context, at resilience.Watermark) (resilience.Watermark, error) {
			r, err := l.shaky.Retirer(ctx, id)
			if err != nil {
				return at, err
			}
			return step(r, ctx, at, store.Bounds{})
		})
}

// begins makes a plan and lets it begin.
func (l *lossy) begins(p store.NewPlan) string {
	l.Helper()
	p.Strategy, p.Policy, p.WorkflowID, p.RunID, p.Rollback = resilience.Batch, resilience.Policy{BatchSize: 4}, "w/"+p.ID, "r-"+p.ID, []string{"undo"}
	if p.Transfer.To == "" {
		l.twice("the plan", func(ctx context.Context) error { return l.shaky.CreatePlan(ctx, p) })
	} else { // here the first COMMIT would be that of a look at the tables
		require.NoError(l, l.store.CreatePlan(l.Context(), p))
	}
	l.step("the journal", p.ID, (*store.Store).Journal)
	l.step("the queue", p.ID, (*store.Store).Queue)
	l.step("the start", p.ID, (*store.Store).Begin)
	return p.ID
}

func (l *lossy) turn(id string) {
	l.Helper()
	l.twice("the order to go back", func(ctx context.Context) error { _, err := l.shaky.BeginUndo(ctx, id, "a test", ""); return err })
}

// accountedEvents checks that nothing is recorded twice, and how it ended.
func (m *migrations) accountedEvents(id, end string) {
	m.Helper()
	events, err := m.store.Events(m.Context(), id)
	require.NoError(m, err)
	seen := map[string]int{}
	for _, e := range events {
		seen[e.What]++
		require.Equal(m, 1, seen[e.What], e.What)
	}
	require.Equal(m, 1, seen[end], "%v", seen)
}
