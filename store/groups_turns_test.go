package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// TestRowsOfAPageThatTakeTurnsStayOnIt: pages are full and the path is in no
// index. In the order of the journal nearly every row has to go elsewhere, and
// touches every index; in turns only the first of each page does. Nothing runs
// beside it: a transaction anywhere keeps what is dead from being cleared.
func TestRowsOfAPageThatTakeTurnsStayOnIt(t *testing.T) {
	for _, c := range []struct {
		way         resilience.Way
		least, most int
	}{
		{resilience.Turns, 1800, 2400},
		{resilience.Update, 0, 600},
	} {
		t.Run(string(c.way), func(t *testing.T) {
			mapping := resilience.Mapping{Schema: "public", Table: "crowd", ID: "id", IDType: "bigint", Content: "content", Locators: []resilience.Locator{{Column: "path", Type: "text"}}}
			m := newMigrations(t, mapping)
			m.exec(`CREATE TABLE public.crowd (id bigint PRIMARY KEY, path text NOT NULL, content text NOT NULL) WITH (fillfactor = 100, autovacuum_enabled = off)`)
			m.exec(`INSERT INTO public.crowd SELECT i, format('a/d%s/f%s.md', i / 1200, to_char(i / 20, 'FM000')), repeat(md5(i::text), 24) FROM generate_series(1, 2400) i`)
			m.exec(`CREATE TABLE public.was AS SELECT id, (ctid::text::point)[0] AS page FROM public.crowd`)
			m.planIntelligent("m-1", resilience.Policy{}, rule("a", "b"))
			physics, err := m.store.Physics(t.Context(), mapping)
			require.NoError(t, err)
			require.True(t, physics.Unindexed)
			require.EqualValues(t, 9, physics.RowsOnPage())
			groups, err := m.store.Group(t.Context(), "m-1", nil, inGroups(resilience.Circumstances{
				Physics: physics, Costs: resilience.NewCosts(physics, 0, ""), Policy: resilience.Policy{Way: c.way},
			}))
			require.NoError(t, err)

			mover, at := m.mover("m-1")
			for _, g := range groups {
				for at.Last < g.Until {
					at, err = mover.Apply(t.Context(), at, store.Bounds{Until: g.Until, Batch: min(g.BatchSize, 130)})
					require.NoError(t, err)
				}
			}
			require.EqualValues(t, 2400, m.complete("m-1").Moved)
			stayed := m.count(`SELECT count(*) FROM public.crowd c JOIN public.was USING (id) WHERE (c.ctid::text::point)[0] = page`)
			require.GreaterOrEqual(t, stayed, c.least)
			require.LessOrEqual(t, stayed, c.most)
		})
	}
}
