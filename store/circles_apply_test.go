package store_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
	"rehome/store"
)

// TestAnyCircleGoesAnywhere lets files change places at random, a batch after another,
// and turns round somewhere, or back when all is done.
func TestAnyCircleGoesAnywhere(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{
		"Plain":     ``,
		"Aftermath": `CREATE TRIGGER noted AFTER UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.noted()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
			m.exec(`CREATE FUNCTION public.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
			m.exec(more)
			tied, refused := 0, 0
			rapid.Check(t, func(r *rapid.T) {
				m.exec(`TRUNCATE rehome.chunks`)
				for _, p := range []string{"a/1", "a/x/1", "b/1", "b/x/1", "b/x/2", "c/1", "c/2", "d/1", "1", "2"} {
					m.fill(rapid.IntRange(1, 5).Draw(r, "chunks of "+p), p)
				}
				rules := circles(r)
				if len(rules) == 0 {
					return
				}
				start := m.rows("rehome.chunks")
				want := map[string]int{}
				for path, n := range m.at() {
					want[renamed(path, rules)] += n
				}
				id, err := m.plan("", rules...)
				if err != nil { // for another reason, such as that a file cannot be where a directory is
					for _, c := range m.conflicts(id) {
						require.NotEqual(r, resilience.Circle, c.Kind)
					}
					require.NotEmpty(r, m.conflicts(id))
					require.NoError(r, m.store.CancelPlan(context.Background(), id, "", "refused"))
					refused++
					return
				}
				if m.read(id).Tied > 0 {
					tied++
				}
				if at := m.someBatches(r, id); at.Last < at.Total || rapid.Bool().Draw(r, "turn round at the end") {
					m.revert(id)
					require.Equal(r, start, m.rows("rehome.chunks"))
					return
				}
				m.complete(id)
				require.Equal(r, want, m.at())
				m.backAgain(r, id, start, want)
			})
			t.Log(tied, "plans with circles,", refused, "refused")
			require.Greater(t, tied, refused)
		})
	}
}

// circles are renames of which most change places.
func circles(r *rapid.T) (rules []resilience.RenameRule) {
	names := []string{"a", "b", "c", "d", "1", "2"}
	if rapid.Bool().Draw(r, "deeper") {
		names = []string{"a/x", "b/x", "c", "d/1", "2"}
	}
	olds := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 2, len(names), rapid.ID[string]).Draw(r, "olds")
	news := append(olds[1:len(olds):len(olds)], olds[0])
	if rapid.IntRange(0, 3).Draw(r, "some circles, or one") == 0 {
		news = rapid.Permutation(olds).Draw(r, "news")
	}
	if rapid.IntRange(0, 3).Draw(r, "a chain") == 0 {
		news[rapid.IntRange(0, len(news)-1).Draw(r, "of")] = "free"
	}
	for i, old := range olds {
		if old != news[i] {
			rules = append(rules, rule(old, news[i]))
		}
	}
	return rules
}

// someBatches moves some or all of a plan. After none of them is any chunk aside.
func (m *migrations) someBatches(r *rapid.T, id string) (at resilience.Watermark) {
	m.Helper()
	const all = 40
	batches := rapid.OneOf(rapid.Just(all), rapid.IntRange(1, 6)).Draw(r, "batches of "+id)
	for n := 0; n < batches && (n == 0 || at.Last < at.Total); n++ {
		at = m.apply(id, 1)
		for path := range m.at() {
			require.NotContains(r, path, "~")
		}
	}
	return at
}

// backAgain undoes a completed plan by one of its own, which is turned round somewhere or
// undone in its turn.
func (m *migrations) backAgain(r *rapid.T, id string, before []string, after map[string]int) {
	m.Helper()
	back, err := m.plan(id)
	require.NoError(r, err)
	if at := m.someBatches(r, back); at.Last < at.Total {
		m.revert(back)
		require.Equal(r, after, m.at())
		return
	}
	m.complete(back)
	require.Equal(r, before, m.rows("rehome.chunks"))
	if rapid.Bool().Draw(r, "and there again") {
		m.migrate(back)
		require.Equal(r, after, m.at())
	}
}

// renamed is where a file is to go: the longest rule wins.
func renamed(path string, rules []resilience.RenameRule) string {
	to, length := path, 0
	for _, r := range rules {
		if rest, under := strings.CutPrefix(path+"/", r.Old+"/"); under && len(r.Old) > length {
			to, length = strings.TrimSuffix(r.New+"/"+rest, "/"), len(r.Old)
		}
	}
	return to
}

// TestACircleGoesTogetherOrNotAtAll: a chunk that the table refuses keeps all of its
// circle where it is. One that others moved is no part of it.
func TestACircleGoesTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md", "c.md", "d.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	id, err := m.plan("", rule("c.md", "e.md"), rule("a.md", "b.md"), rule("b.md", "a.md"), rule("d.md", "f.md"))
	require.NoError(t, err)
	knots, aside := m.tied(id)
	require.Equal(t, "{[11,20)}", knots)
	require.Equal(t, "{[16,21)}", aside)

	at := m.apply(id, 4) // of which the last ends before the circle
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	m.exec(`CREATE FUNCTION public.stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''it stays''; END'`)
	for _, refusal := range []string{
		`CONSTRAINT stays CHECK (NOT (content = 'text 2 of a.md' AND path LIKE 'b%'))`,
		`TRIGGER stays BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.content = 'text 2 of a.md' AND NEW.path LIKE 'b%') EXECUTE FUNCTION public.stays()`,
	} {
		constraint := strings.HasPrefix(refusal, "CONSTRAINT")
		if constraint {
			m.exec(`ALTER TABLE rehome.chunks ADD ` + refusal)
		} else {
			m.exec(`CREATE ` + refusal)
		}
		_, err = mover.Apply(t.Context(), at, store.Bounds{})
		require.ErrorContains(t, err, "rows 11 to 20 of "+id+" go together")
		require.ErrorContains(t, err, "stays")
		require.NotContains(t, err.Error(), "text 2", "nor what is in the chunk")
		require.ErrorIs(t, err, store.ErrConflict, "which is what the failure policy is for")
		require.Equal(t, map[string]int{"a.md": 5, "b.md": 5, "e.md": 5, "f.md": 5}, m.at())
		if constraint {
			m.exec(`ALTER TABLE rehome.chunks DROP CONSTRAINT stays`)
		} else {
			m.exec(`DROP TRIGGER stays ON rehome.chunks`)
		}
	}

	m.exec(`UPDATE rehome.chunks SET path = 'elsewhere.md' WHERE content = 'text 4 of b.md'`)
	at = m.apply(id, 1)
	require.EqualValues(t, 20, at.Last)
	require.EqualValues(t, 1, at.Drifted)
	require.Equal(t, map[string]int{"a.md": 4, "b.md": 5, "e.md": 5, "f.md": 5, "elsewhere.md": 1}, m.at())

	// On the way back likewise, until a person leaves all of it where it is.
	m.exec(`ALTER TABLE rehome.chunks ADD CONSTRAINT stays CHECK (content <> 'text 2 of a.md' OR path <> 'a.md') NOT VALID`)
	at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	_, err = mover.Revert(t.Context(), at, store.Bounds{})
	require.ErrorContains(t, err, "stays")
	at, err = mover.Revert(t.Context(), at, store.Bounds{Leave: &store.Leave{At: at.Last, Reason: "it may stay"}})
	require.NoError(t, err)
	require.EqualValues(t, 10, at.Last)
	for at.Last > 0 {
		at, err = mover.Revert(t.Context(), at, store.Bounds{})
		require.NoError(t, err)
	}
	require.Equal(t, map[string]int{"a.md": 4, "b.md": 5, "c.md": 5, "d.md": 5, "elsewhere.md": 1}, m.at())
	left, err := m.store.Exceptions(t.Context(), id, 100)
	require.NoError(t, err)
	outcomes := map[resilience.Outcome]int{}
	for _, e := range left {
		outcomes[e.Outcome]++
	}
	require.Equal(t, map[resilience.Outcome]int{resilience.Drifted: 1, resilience.Clashed: 9}, outcomes)
}

// bounded is a batch and the row at which it ends.
type bounded struct {
	bounds store.Bounds
	last   int64
}

// steps takes one after another, each to where it ends.
func (m *migrations) steps(step func(context.Context, resilience.Watermark, store.Bounds) (resilience.Watermark, error), at resilience.Watermark, all []bounded) resilience.Watermark {
	m.Helper()
	for _, one := range all {
		var err error
		at, err = step(m.Context(), at, one.bounds)
		require.NoError(m, err)
		require.Equal(m, one.last, at.Last)
	}
	return at
}

// TestBatchesEndBetweenCircles, wherever their bounds are, and take all of one.
func TestBatchesEndBetweenCircles(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md", "c.md", "d.md", "e.md", "f.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	start := m.rows("rehome.chunks")
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"), rule("c.md", "d.md"), rule("d.md", "c.md"), rule("e.md", "g.md"), rule("f.md", "h.md"))
	require.NoError(t, err)
	knots, _ := m.tied(id)
	require.Equal(t, "{[11,20),[21,30)}", knots)
	require.EqualValues(t, 20, m.read(id).Tied)
	at := m.apply(id, 0)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	at = m.steps(mover.Apply, at, []bounded{
		{store.Bounds{Batch: 4}, 4},
		{store.Bounds{Batch: 4}, 8},
		{store.Bounds{Batch: 4}, 10},
		{store.Bounds{Batch: 1, Gentle: true}, 20},
		{store.Bounds{Until: 22, Rate: 1}, 30},
	})
	require.Equal(t, at.Total, at.Last)
	at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	m.steps(mover.Revert, at, []bounded{
		{store.Bounds{Batch: 1}, 20},
		{store.Bounds{Floor: 15}, 10},
		{store.Bounds{Batch: 100}, 0},
	})
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestAllAtOnceIsOneTransaction, whatever circles are in it.
func TestAllAtOnceIsOneTransaction(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md", "c.md", "d.md", "e.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	start := m.rows("rehome.chunks")
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"), rule("c.md", "d.md"), rule("d.md", "c.md"), rule("e.md", "f.md"))
	require.NoError(t, err)
	at := m.apply(id, 0)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	at, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 25})
	require.NoError(t, err)
	require.EqualValues(t, 25, at.Last)
	at, err = m.store.BeginUndo(t.Context(), id, "a test", "")
	require.NoError(t, err)
	at, err = mover.Revert(t.Context(), at, store.Bounds{Batch: 25})
	require.NoError(t, err)
	require.Zero(t, at.Last)
	require.Equal(t, start, m.rows("rehome.chunks"))
}

// TestBatchesThatGoTogetherEndBeforeACircle: those far from it lose nothing to it.
func TestBatchesThatGoTogetherEndBeforeACircle(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(5, "a.md", "b.md")
	m.fill(30_000, "e.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"), rule("e.md", "f.md"))
	require.NoError(t, err)
	knots, _ := m.tied(id)
	require.Equal(t, "{[30001,30010)}", knots)
	at := m.apply(id, 0)
	mover, err := m.store.Mover(t.Context(), id)
	require.NoError(t, err)
	together := false
	for at.Last < at.Total {
		mover.Join(2)
		at, err = mover.Apply(t.Context(), at, store.Bounds{Batch: 999, Together: true})
		require.NoError(t, err)
		together = together || mover.Batches() > 1
	}
	require.EqualValues(t, 30_010, m.complete(id).Moved)
	require.Equal(t, map[string]int{"a.md": 5, "b.md": 5, "f.md": 30_000}, m.at())
	require.True(t, together)
}

// TestACircleGoesBesideWriters: who writes to its chunks meanwhile keeps what they wrote.
func TestACircleGoesBesideWriters(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(300, "a.md", "b.md")
	m.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (path, ordinal)`)
	id, err := m.plan("", rule("a.md", "b.md"), rule("b.md", "a.md"))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var edits atomic.Int64
	wrote := make(chan error, 1)
	go func() {
		for n := 1; ; n = n%600 + 1 {
			_, err := m.pool.Exec(context.WithoutCancel(ctx), `UPDATE rehome.chunks SET content = content || '!' WHERE id = $1`, n)
			if edits.Add(1); err != nil || ctx.Err() != nil {
				wrote <- err
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return edits.Load() > 10 }, time.Minute, time.Millisecond)
	require.EqualValues(t, 600, m.apply(id, 1).Last)
	stop()
	require.NoError(t, <-wrote)
	m.complete(id)
	var right, marks int64
	require.NoError(t, m.pool.QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE content LIKE '%of ' || translate(path, 'ab', 'ba') || '%'), sum(length(content) - length(replace(content, '!', ''))) FROM rehome.chunks`).Scan(&right, &marks))
	require.EqualValues(t, 600, right)
	require.Equal(t, edits.Load(), marks)
}
