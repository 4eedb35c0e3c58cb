package resilience_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestChangesOfTheTablesOfATransferAreNamed(t *testing.T) {
	t.Parallel()
	full := func(kind string) func(c *resilience.Column) { return func(c *resilience.Column) { c.Full = kind } }
	add := func(s *resilience.Shape) { s.Columns = append(s.Columns, column("more", "text", full("text"))) }
	drop := func(s *resilience.Shape) { s.Columns = slices.Delete(s.Columns, 4, 5) }
	retype := func(s *resilience.Shape) { s.Columns[1].Full = "character varying(9)" }
	nothing := func(*resilience.Shape) {}
	for name, c := range map[string]struct {
		from, to func(s *resilience.Shape)
		says     []string
	}{
		"nothing":                      {nothing, nothing, nil},
		"added to the source":          {add, nothing, []string{`column "more" of table public.wiki was added`}},
		"dropped from the source":      {drop, nothing, []string{`column "author" of table public.wiki was dropped or renamed`}},
		"of another type":              {retype, nothing, []string{`column "body" of table public.wiki became character varying(9) from text`}},
		"added to the target":          {nothing, add, nil},
		"filled, and dropped":          {nothing, drop, []string{`column "lang" of table public.bag was dropped or renamed`}},
		"filled, and of another type":  {nothing, retype, []string{`column "text" of table public.bag became character varying(9) from character varying`}},
		"watched, and of another type": {nothing, func(s *resilience.Shape) { s.Columns[5].Full = "bigint" }, []string{`column "rank" of table public.bag became bigint from integer`}},
		"generated in the source":      {func(s *resilience.Shape) { add(s); s.Columns[len(s.Columns)-1].Generated = true }, nothing, nil},
		"another search path":          {func(s *resilience.Shape) { s.Columns[1].Full = `"My types".text` }, func(s *resilience.Shape) { s.Columns[5].Full = "pg_catalog.integer" }, nil},
		"watched, and gone":            {nothing, func(s *resilience.Shape) { s.Columns = slices.Delete(s.Columns, 5, 6) }, nil},
		"nobody's work":                {nothing, func(s *resilience.Shape) { s.Columns[6].Full = "bigint" }, nil},
		"all at once": {func(s *resilience.Shape) { add(s); drop(s) }, retype, []string{
			`column "author" of table public.wiki was dropped or renamed`, `column "more" of table public.wiki was added`, `column "text" of table public.bag became character varying(9) from character varying`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := wiki(), bag()
			to.Columns = append(to.Columns, column("rank", "integer"), column("seen", "integer"))
			to.Mapping.AccessCount = "seen"
			for _, s := range []*resilience.Shape{&from, &to} {
				s.Mapping.Schema, s.Mapping.Table = "public", s.Name
				for i := range s.Columns {
					s.Columns[i].Full = s.Columns[i].Type
				}
			}
			fit, err := resilience.FitTables(from, to)
			require.NoError(t, err)
			signed := resilience.Sign(from, to, fit)
			c.from(&from)
			c.to(&to)
			require.Equal(t, c.says, signed.Changes(from, to))
		})
	}
}

// TestAChangeOfOneTableIsNamedOnce where both memories are over it.
func TestAChangeOfOneTableIsNamedOnce(t *testing.T) {
	t.Parallel()
	from := wiki()
	fit, err := resilience.FitTables(from, from)
	require.NoError(t, err)
	signed := resilience.Sign(from, from, fit)
	from.Columns[1].Full = "json"
	require.Len(t, signed.Changes(from, from), 1)
}
