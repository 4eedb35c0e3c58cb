package resilience_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func column(name, kind string, more ...func(*resilience.Column)) resilience.Column {
	c := resilience.Column{Name: name, Type: kind, Modifier: -1, Readable: true, Insert: true}
	for _, m := range more {
		m(&c)
	}
	return c
}

func notNull(c *resilience.Column)  { c.NotNull = true }
func numbered(c *resilience.Column) { c.Numbered, c.Default = true, "nextval('s')" }

// wiki keeps its path in a column, and has an author that others do not.
func wiki() resilience.Shape {
	return resilience.Shape{Name: "wiki", Columns: []resilience.Column{
		column("id", "bigint", notNull, numbered), column("body", "text", notNull), column("vec", "real[]"), column("page", "text"), column("author", "text"), column("lang", "text"),
	}, Mapping: resilience.Mapping{
		ID: "id", IDType: "bigint", Content: "body", Embedding: "vec", Locators: []resilience.Locator{{Column: "page", Type: "text"}},
	}}
}

// bag keeps its path in its metadata.
func bag() resilience.Shape {
	return resilience.Shape{Name: "bag", Columns: []resilience.Column{
		column("key", "text", notNull), column("text", "character varying"), column("v", "vector", func(c *resilience.Column) { c.Modifier = 3 }), column("meta", "jsonb"), column("lang", "text"),
	}, Mapping: resilience.Mapping{
		ID: "key", IDType: "text", Content: "text", Embedding: "v", Metadata: "meta", Locators: []resilience.Locator{{Column: "meta", Keys: []string{"source"}, Type: "jsonb"}},
	}}
}

func TestColumnsAreMatchedByMeaning(t *testing.T) {
	t.Parallel()
	fit, err := resilience.FitTables(wiki(), bag())
	require.NoError(t, err)
	require.Equal(t, []resilience.Fill{
		{Column: "key", Type: "text", Means: resilience.MeansID, NotNull: true},
		{Column: "text", Type: "character varying", Means: resilience.MeansContent, From: "body"},
		{Column: "v", Type: "vector", Means: resilience.MeansVector, From: "vec"},
		{Column: "meta", Type: "jsonb", Means: resilience.MeansDocument},
		{Column: "lang", Type: "text", Means: resilience.MeansSame, From: "lang"},
	}, fit.Fills)
	require.True(t, fit.KeepID)
	require.Equal(t, []string{"author"}, fit.Extras)
	require.Equal(t, 3, fit.Dimension)

	fit, err = resilience.FitTables(bag(), wiki())
	require.NoError(t, err)
	require.False(t, fit.KeepID, "a sequence would meet the id later")
	require.Equal(t, []string{"meta"}, fit.Homeless, "the target has no metadata")
}

func TestUnfitColumnsAreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(from, to *resilience.Shape)
		says   []string
	}{
		"every one of them": {func(_, to *resilience.Shape) {
			to.Columns = append(to.Columns, column("rank", "integer", notNull), column("tenant", "uuid", notNull))
		}, []string{`"rank"`, `"tenant"`}},
		"a narrower embedding":    {func(_, to *resilience.Shape) { to.Columns[2].Type = "halfvec" }, []string{`"v"`, "halfvec", "real[]"}},
		"a right that is missing": {func(_, to *resilience.Shape) { to.Columns[1].Insert = false }, []string{`"text"`, "INSERT"}},
		"an id": {func(_, to *resilience.Shape) {
			to.Columns[0].Type, to.Mapping.IDType = "uuid", "uuid"
		}, []string{`"key"`, "bigint"}},
		"dimensions": {func(from, _ *resilience.Shape) { from.Columns[2].Type, from.Columns[2].Modifier = "vector", 4 }, []string{"3 dimensions", "4"}},
	} {
		from, to := wiki(), bag()
		c.change(&from, &to)
		_, err := resilience.FitTables(from, to)
		for _, words := range c.says {
			require.ErrorContains(t, err, words, name)
		}
	}
}

func TestTransferOrders(t *testing.T) {
	t.Parallel()
	none, some, bad := resilience.Seconds(0), resilience.Seconds(90), resilience.Seconds(-1)
	require.Equal(t, resilience.DefaultSoak, resilience.TransferOrder{}.Lasts())
	require.Zero(t, resilience.TransferOrder{Soak: &none}.Lasts())
	require.Equal(t, 90*time.Second, resilience.TransferOrder{Soak: &some}.Lasts())
	require.NoError(t, resilience.TransferOrder{To: "b", Soak: &none}.Check("a", ""))
	require.Error(t, resilience.TransferOrder{To: "a"}.Check("a", ""))
	require.Error(t, resilience.TransferOrder{To: "b", Soak: &bad}.Check("a", ""))
	for _, way := range resilience.Ways() {
		err := resilience.TransferOrder{To: "b"}.Check("a", way)
		if way == resilience.Update {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, "way "+string(way))
		require.ErrorContains(t, err, "--rate")
	}
}
