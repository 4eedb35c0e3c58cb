package resilience_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
)

func TestIndexesDecideWhatAnUpdateCosts(t *testing.T) {
	t.Parallel()
	key := resilience.Index{Name: "pk", Method: "btree"}
	path := resilience.Index{Name: "by_path", Method: "btree", Path: true}
	document := resilience.Index{Name: "in_metadata", Method: "gin", Path: true}
	words := resilience.Index{Name: "words", Method: "gin"}
	hnsw := resilience.Index{Name: "near", Method: "hnsw"}
	ivf := resilience.Index{Name: "near2", Method: "ivfflat"}
	for _, c := range []struct {
		name    string
		indexes []resilience.Index
		room    float64
		class   resilience.IndexClass
		share   float64
	}{
		{"none in the way, and room", []resilience.Index{key}, 1, resilience.HOTClass, 1},
		{"none in the way, nearly all have room", []resilience.Index{key, hnsw}, 0.95, resilience.HOTClass, 0.95},
		{"none in the way, no room", []resilience.Index{key}, 0.1, resilience.PlainClass, 0.1},
		{"the path is indexed", []resilience.Index{key, path}, 1, resilience.PlainClass, 0},
		{"inside a document", []resilience.Index{key, document}, 1, resilience.GINClass, 0},
		{"words are indexed, and there is no room", []resilience.Index{key, words}, 0.4, resilience.GINClass, 0.4},
		{"words are indexed, and there is room", []resilience.Index{key, words}, 1, resilience.HOTClass, 1},
		{"hnsw without room", []resilience.Index{key, hnsw}, 0, resilience.VectorClass, 0},
		{"ivfflat, and the path is indexed", []resilience.Index{key, path, ivf}, 1, resilience.VectorClass, 0},
		{"the worst counts", []resilience.Index{path, document, hnsw}, 1, resilience.VectorClass, 0},
	} {
		p := resilience.NewPhysics(c.indexes, c.room)
		require.Equal(t, c.class, p.Class(), c.name)
		require.InDelta(t, c.share, p.HOTShare, 0, c.name)
		require.Equal(t, c.class == resilience.HOTClass, p.HOT, c.name)
	}
	p := resilience.NewPhysics([]resilience.Index{path, document, words, hnsw, ivf}, 1)
	require.Equal(t, []string{"by_path", "in_metadata"}, p.PathIndexes)
	require.Equal(t, []string{"in_metadata", "words"}, p.GINIndexes)
	require.Equal(t, "in by_path and inside GIN in_metadata", p.PathIn())
	require.Equal(t, "GIN in_metadata, words", p.GINs())
	require.Equal(t, []string{"near", "near2"}, p.VectorIndexes)
	p = resilience.NewPhysics([]resilience.Index{key, words}, 0)
	require.Empty(t, p.PathIn(), "a GIN index of other columns")
	require.Equal(t, "GIN words (without the path)", p.GINs())
}

func TestRoomIsWhatWasMeasured(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		pages []int64
		bytes int64
		want  float64
	}{
		{"an empty table", nil, 1000, 1},
		{"half full pages", []int64{4, 4, 4}, 1000, 1},
		{"pages filled to 70 %", []int64{57, 57}, 100, 0.43},
		{"full pages", []int64{81, 81}, 100, 0.01},
		{"one page of four has room", []int64{80, 80, 80, 20}, 100, 0.1},
		{"wider than thought", []int64{8}, 2000, 0},
	} {
		require.InDelta(t, c.want, resilience.Room(c.pages, c.bytes), 0.01, c.name)
	}
}

func TestWideColumnsDoNotCountInTheHeap(t *testing.T) {
	t.Parallel()
	column := func(bytes float64) resilience.ColumnWidth { return resilience.ColumnWidth{Bytes: bytes, Movable: true} }
	fixed := resilience.ColumnWidth{Bytes: 1500}
	for _, c := range []struct {
		columns []resilience.ColumnWidth
		want    int64
	}{
		{nil, 32},
		{[]resilience.ColumnWidth{column(1000), column(900)}, 1932},
		{[]resilience.ColumnWidth{column(1100), column(1540)}, 1150},
		{[]resilience.ColumnWidth{column(6148), column(3000), column(40)}, 32 + 18 + 18 + 40},
		{[]resilience.ColumnWidth{fixed, fixed, column(100)}, 3050},
	} {
		require.Equal(t, c.want, resilience.HeapWidth(c.columns))
	}
}

// TestCostsAreThoseMeasured compares the rules with figures that were measured
// by hand on two cores: journalled and verified, with
// what surrounds the moves.
func TestCostsAreThoseMeasured(t *testing.T) {
	t.Parallel()
	hot := resilience.Physics{RowBytes: 1100, HOTShare: 1, HOT: true}
	for _, c := range []struct {
		name  string
		of    resilience.Physics
		rows  int64
		batch int
		ms    int64
	}{
		{"batches of 5,000", plain, 100_000, 5000, 2110},
		{"batches of 1,000", plain, 100_000, 1000, 2350},
		{"batches of 100", plain, 100_000, 100, 3640},
		{"HOT", hot, 100_000, 5000, 860},
		{"HNSW, not HOT", vectored, 20_000, 5000, 37_800},
	} {
		const byHand = 300 // ms around the moves, where no workflow surrounds them
		got := c.of.Cost(resilience.Update, resilience.Effort{Rows: c.rows, Batch: c.batch})
		none := c.of.Cost(resilience.Update, resilience.Effort{Batch: c.batch})
		require.InEpsilon(t, c.ms, byHand+got.MS-none.MS, 0.15, c.name)
	}
}

func TestWaysAreComparable(t *testing.T) {
	t.Parallel()
	ways := map[resilience.Way]resilience.WayCost{}
	for _, w := range vectored.Ways(resilience.Effort{Rows: 20_000}) {
		ways[w.Way] = w
		require.Equal(t, w.Way == resilience.Turns, w.Closed != "", w.Way)
	}
	require.Len(t, ways, 5)
	require.Greater(t, ways[resilience.Update].MS, 5*ways[resilience.Rebuild].MS, "what makes a rebuild worth while")
	require.Greater(t, ways[resilience.Trickle].MS, ways[resilience.Update].MS)
	require.InDelta(t, 265, ways[resilience.Trickle].Rate, 1, "half of 529 rows a second")
	require.Less(t, ways[resilience.AliasOnly].MS, int64(1000))

	bound := vectored.Cost(resilience.Trickle, resilience.Effort{Rows: 20_000, Rate: 10})
	require.InDelta(t, 10, bound.Rate, 0, "never faster than was asked")
	require.InEpsilon(t, 2_000_000, bound.MS, 0.01)
	learned := vectored.Cost(resilience.Update, resilience.Effort{Rows: 20_000, Slowness: 0.05})
	require.Less(t, learned.MS, int64(3000), "what was learned counts, not what was measured elsewhere")

	narrow := vectored
	narrow.Unindexed, narrow.RowBytes = true, 800
	require.Greater(t, narrow.Cost(resilience.Update, resilience.Effort{Rows: 20_000}).MS, 5*narrow.Cost(resilience.Turns, resilience.Effort{Rows: 20_000}).MS, "ten rows on a page")
	narrow.RowBytes = 6000
	require.Contains(t, narrow.Cost(resilience.Turns, resilience.Effort{Rows: 10}).Closed, "one row only")

	hot := vectored
	hot.HOT, hot.HOTShare = true, 1
	require.NotEmpty(t, hot.Cost(resilience.Rebuild, resilience.Effort{Rows: 10}).Closed)
	require.NotEmpty(t, plain.Cost(resilience.Rebuild, resilience.Effort{Rows: 10}).Closed)
}

func TestCostsNeverFallWithMoreWork(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t, "a")
		less, more := f.Effort, f.Effort
		more.Rows = max(less.Rows, rapid.Int64().Draw(t, "more"))
		for i, w := range f.Physics.Ways(less) {
			require.GreaterOrEqual(t, f.Physics.Ways(more)[i].MS, w.MS, w.Way)
			require.GreaterOrEqual(t, w.MS, int64(0), w.Way)
		}
	})
}
