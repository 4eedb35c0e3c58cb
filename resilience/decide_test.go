package resilience_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
)

const month = 31 * 24 * time.Hour

func TestSmallDirectoriesOfTheSameHeatMoveTogetherColdAndSmallFirst(t *testing.T) {
	t.Parallel()
	clusters := resilience.Gather([]resilience.Directory{
		{Name: "d/busy", Rows: 9000, Uses: 50, Idle: new(time.Minute)},
		{Name: "d/archive", Rows: 4000},
		{Name: "d/a", Rows: 10, Uses: 1, Idle: new(2 * month)},
		{Name: "d/b", Rows: 20},
		{Name: "d/now", Rows: 5, Uses: 1, Idle: new(time.Second)},
		{Name: "d/week", Rows: 700, Uses: 3, Idle: new(100 * time.Hour)},
	})
	var seen []string
	for _, c := range clusters {
		seen = append(seen, fmt.Sprintf("%s %s %d %v", c.Heat, c.Name, c.Rows, c.Members))
	}
	require.Equal(t, []string{
		"cold d/a and 1 more 30 [d/a d/b]",
		"cold d/archive 4000 [d/archive]",
		"warm d/week 700 [d/week]",
		"hot d/now 5 [d/now]",
		"hot d/busy 9000 [d/busy]",
	}, seen)
}

func TestAMemoryThatCountsNoUsesHasNoColdChunks(t *testing.T) {
	t.Parallel()
	clusters := resilience.Gather([]resilience.Directory{{Name: "large", Rows: 9000}, {Name: "small", Rows: 4000}})
	require.Len(t, clusters, 2)
	require.Equal(t, "small", clusters[0].Name)
	require.Equal(t, resilience.Unknown, clusters[0].Heat)
}

// TestGroupsHoldEveryRowOnce: whatever the directories, their rows and names are
// in exactly one cluster, and there are not too many.
func TestGroupsHoldEveryRowOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "directories")
		directories := make([]resilience.Directory, n)
		var rows int64
		for i := range directories {
			d := resilience.Directory{Name: fmt.Sprint(i), Rows: rapid.Int64Range(1, 5000).Draw(t, "rows"), Rest: i == n-1}
			if hours := rapid.IntRange(-1, 2000).Draw(t, "idle"); hours >= 0 {
				d.Idle, d.Uses = new(time.Duration(hours)*time.Hour), 1
			}
			directories[i], rows = d, rows+d.Rows
		}
		clusters := resilience.Gather(directories)
		if len(clusters) > resilience.MaxGroups {
			t.Fatalf("%d clusters", len(clusters))
		}
		groups := resilience.Decide(clusters, resilience.Circumstances{Costs: costs(0.02)})
		var names []string
		rest := 0
		for i, g := range groups {
			names = append(names, g.Members...)
			if g.Rest {
				rest++
			}
			if g.Position != i+1 || g.BatchSize < 1 || g.ExpectedMS <= 0 || g.Reason == "" {
				t.Fatalf("group %+v", g)
			}
		}
		slices.Sort(names)
		if len(names) != n-1 || len(slices.Compact(names)) != n-1 || rest != 1 || groups[len(groups)-1].Until != rows {
			t.Fatalf("%d names of %d, %d rest, until %d of %d", len(names), n-1, rest, groups[len(groups)-1].Until, rows)
		}
	})
}

// costs of a memory where an update takes so long.
func costs(update float64) resilience.Costs {
	return resilience.Costs{
		Update: resilience.Cost{MSPerRow: update, Basis: "measured"},
		Bare:   resilience.Cost{MSPerRow: 0.02}, Stay: resilience.Cost{MSPerRow: 0.004}, Build: resilience.Cost{MSPerRow: update / 8},
	}
}

func cluster(heat resilience.Heat, rows int64) resilience.Cluster {
	return resilience.Cluster{Heat: heat, Directory: resilience.Directory{Name: "d", Rows: rows, Bytes: 1000 * rows}}
}

// TestRowsOfAPageTakeTurns: where the path is in no index, a row finds room on
// its page once another has left, so that few touch the vector index. No two of
// a page may be in one transaction.
func TestRowsOfAPageTakeTurns(t *testing.T) {
	t.Parallel()
	roomless := resilience.Physics{Rows: 50_000, RowBytes: 800, VectorIndexes: []string{"hnsw"}, Unindexed: true, MayRebuild: true}
	wide := roomless
	wide.RowBytes = 5000
	indexed := roomless
	indexed.Unindexed, indexed.PathIndexes = false, []string{"p"}
	for _, c := range []struct {
		name string
		in   resilience.Circumstances
		way  resilience.Way
	}{
		{"ten rows on a page", resilience.Circumstances{Physics: roomless}, resilience.Turns},
		{"one row on a page", resilience.Circumstances{Physics: wide}, resilience.Rebuild},
		{"an index holds the path", resilience.Circumstances{Physics: indexed}, resilience.Rebuild},
		{"the order is settled", resilience.Circumstances{Physics: roomless, Settled: true}, resilience.Rebuild},
	} {
		c.in.Costs = resilience.NewCosts(c.in.Physics, 0, "")
		g := resilience.Decide([]resilience.Cluster{cluster(resilience.Cold, 6000)}, c.in)[0]
		if c.way == resilience.Turns {
			require.Equal(t, 600, g.Most, c.name)
			require.LessOrEqual(t, g.BatchSize, 600, c.name)
			course := g.Start(1000)
			require.Equal(t, 600, course.Servo.Most, c.name)
			require.Equal(t, 600, course.Default, c.name)
			require.Contains(t, g.Reason, "10 rows on a page", c.name)
		} else {
			g = resilience.Decide([]resilience.Cluster{cluster(resilience.Cold, 50_000)}, c.in)[0]
		}
		require.Equal(t, c.way, g.Way, c.name)
		for _, a := range g.Alternatives {
			require.NotEqual(t, g.Way, a.Way, c.name)
			require.NotEmpty(t, a.Why, c.name)
		}
	}
}

// TestABatchCountsWhatItWrites: of a copy also what is stored out of line, which an update
// leaves where it is.
func TestABatchCountsWhatItWrites(t *testing.T) {
	t.Parallel()
	plain := resilience.Physics{Rows: 100_000, RowBytes: 1100, PathIndexes: []string{"p"}}
	wide := plain
	wide.StoredBytes = 40 << 10
	for _, c := range []struct {
		name    string
		kind    resilience.Kind
		physics resilience.Physics
		text    int64
		bytes   int64
		size    int
		most    int
	}{
		{"a rename", resilience.Rename, wide, 1000, 1100, 4925, 10_000},
		{"a rename of long texts", resilience.Rename, wide, 8 << 10, 8 << 10, 2048, 2048},
		{"a transfer", resilience.Transfer, wide, 1000, 40 << 10, 409, 409},
		{"a transfer of texts that were compressed", resilience.Transfer, wide, 80 << 10, 80 << 10, 204, 204},
		{"a transfer of a plan that knew no more", resilience.Transfer, plain, 1000, 1100, 4925, 10_000},
	} {
		const rows = 50_000
		one := resilience.Cluster{Heat: resilience.Warm, Directory: resilience.Directory{Rows: rows, Bytes: rows * c.text}}
		g := resilience.Decide([]resilience.Cluster{one}, resilience.Circumstances{Physics: c.physics, Costs: costs(0.02), Transfer: c.kind == resilience.Transfer})[0]
		require.Equal(t, c.size, g.BatchSize, c.name)
		require.Equal(t, c.most, g.Start(1000).Servo.Most, c.name)
		plan := resilience.Plan{Kind: c.kind, Moves: rows, Bytes: rows * c.text, Physics: c.physics}
		require.Equal(t, c.bytes, plan.RowBytes(), c.name)
	}
}

func TestEachSituationHasItsWay(t *testing.T) {
	t.Parallel()
	plain := resilience.Physics{Rows: 100_000, PathIndexes: []string{"p"}}
	vector := resilience.Physics{Rows: 100_000, VectorIndexes: []string{"hnsw"}, MayRebuild: true}
	words := resilience.Physics{Rows: 100_000, GINIndexes: []string{"words"}}
	document := resilience.Physics{Rows: 100_000, GINIndexes: []string{"document"}, PathIndexes: []string{"document"}}
	foreign := vector
	foreign.MayRebuild = false
	for _, c := range []struct {
		name     string
		heat     resilience.Heat
		rows     int64
		in       resilience.Circumstances
		way      resilience.Way
		strategy resilience.Strategy
		size     int
		says     string
	}{
		{"plain", resilience.Unknown, 50_000, resilience.Circumstances{Physics: plain, Costs: costs(0.02)}, resilience.Update, resilience.Batch, 4925, "b-tree indexes only"},
		{"a GIN index of other columns", resilience.Unknown, 50_000, resilience.Circumstances{Physics: words, Costs: costs(0.02)}, resilience.Update, resilience.Batch, 4925, "touches GIN words (without the path): "},
		{"a GIN index with the path in it", resilience.Unknown, 50_000, resilience.Circumstances{Physics: document, Costs: costs(0.02)}, resilience.Update, resilience.Batch, 4925, "touches GIN document: "},
		{"cold and quick", resilience.Cold, 4000, resilience.Circumstances{Physics: plain, Costs: costs(0.02)}, resilience.Update, resilience.Immediate, 4000, "one transaction"},
		{"cold and long", resilience.Cold, 90_000, resilience.Circumstances{Physics: plain, Costs: costs(0.02)}, resilience.Update, resilience.Batch, 4925, "Batches"},
		{"hot", resilience.Hot, 4000, resilience.Circumstances{Physics: plain, Costs: costs(0.02)}, resilience.Update, resilience.Gradual, 1175, "in use just now"},
		{"few rows in a vector index", resilience.Warm, 1000, resilience.Circumstances{Physics: vector, Costs: costs(2)}, resilience.Update, resilience.Batch, 49, "bearable"},
		{"many rows in a vector index", resilience.Warm, 50_000, resilience.Circumstances{Physics: vector, Costs: costs(2)}, resilience.Rebuild, resilience.Batch, 4925, "building it once"},
		{"a small part of it", resilience.Warm, 5000, resilience.Circumstances{Physics: vector, Costs: costs(2)}, resilience.Trickle, resilience.Gradual, 24, "250 rows a second"},
		{"a small part that nobody uses", resilience.Cold, 5000, resilience.Circumstances{Physics: vector, Costs: costs(2)}, resilience.AliasOnly, resilience.Batch, 10_000, "they stay"},
		{"an index that is not ours", resilience.Warm, 50_000, resilience.Circumstances{Physics: foreign, Costs: costs(2)}, resilience.Trickle, resilience.Gradual, 24, "half of the time"},
		{"an undo moves what moved", resilience.Cold, 50_000, resilience.Circumstances{Physics: vector, Costs: costs(2), Undoing: true}, resilience.Trickle, resilience.Gradual, 24, ""},
		{"nobody is asked when it has begun", resilience.Warm, 50_000, resilience.Circumstances{Physics: vector, Costs: costs(2), Late: true}, resilience.Trickle, resilience.Gradual, 24, ""},
		{"the operator's", resilience.Warm, 50_000, resilience.Circumstances{Physics: plain, Costs: costs(2), Policy: resilience.Policy{Way: resilience.AliasOnly}}, resilience.AliasOnly, resilience.Batch, 10_000, "operator"},
	} {
		g := resilience.Decide([]resilience.Cluster{cluster(c.heat, c.rows)}, c.in)[0]
		require.Equal(t, c.way, g.Way, c.name)
		require.Equal(t, c.strategy, g.Strategy, c.name)
		require.Equal(t, c.size, g.BatchSize, c.name)
		require.Contains(t, g.Reason, c.says, c.name)
		for _, a := range g.Alternatives {
			require.NotEqual(t, g.Way, a.Way, c.name)
			require.NotEmpty(t, a.Why, c.name)
		}
	}
}

// TestATrickleLeavesOthersHalfOfTheTime, and is expected to take as long. A group in use
// rests where the server has no room.
func TestATrickleLeavesOthersHalfOfTheTime(t *testing.T) {
	t.Parallel()
	vector := resilience.Physics{Rows: 100_000, VectorIndexes: []string{"hnsw"}}
	for _, c := range []struct {
		heat    resilience.Heat
		physics resilience.Physics
		way     resilience.Way
		nice    float64
	}{
		{resilience.Hot, resilience.Physics{}, resilience.Update, 0},
		{resilience.Warm, vector, resilience.Trickle, 1},
		{resilience.Warm, resilience.Physics{}, resilience.Update, 0},
		{resilience.Cold, resilience.Physics{}, resilience.Update, 0},
	} {
		g := resilience.Decide([]resilience.Cluster{cluster(c.heat, 5000)}, resilience.Circumstances{Physics: c.physics, Costs: costs(2)})[0]
		require.Equal(t, c.way, g.Way)
		require.InDelta(t, c.nice, g.Nice(), 0, c.heat)
		require.InDelta(t, (1+c.nice)*g.Forecast.Of(5000, int64(g.BatchSize)), g.ExpectedMS, 0.001, c.heat)
		if c.heat == resilience.Hot {
			require.Contains(t, g.Reason, "a rest of 3 times as long after each while a signal is near its limit")
		}
	}
}

func TestADecisionIsSaidInWords(t *testing.T) {
	t.Parallel()
	vector := resilience.Physics{Rows: 100_000, VectorIndexes: []string{"hnsw"}}
	cold := cluster(resilience.Warm, 5000)
	cold.Uses, cold.Idle = 1234, new(36*time.Hour)
	g := resilience.Decide([]resilience.Cluster{cold}, resilience.Circumstances{Physics: vector, Costs: costs(2)})[0]
	require.Equal(t, "by strategy gradual and way trickle, 24 in the first transaction, 250 a second, about 20.6 s", g.Decision())
	require.Equal(t, "warm, used 1,234 times, last 1.5 days ago, 5,000,000 bytes of text, index class vector in a table of about 100,000 rows, 2 ms for an update of a row (measured)", g.Inputs.String())
	require.Equal(t, "not update, about 10.0 s: dearer than what was chosen", g.Alternatives[0].String())
	require.Contains(t, resilience.Inputs{Heat: resilience.Unknown}.String(), "uses are not counted, ")
	require.Contains(t, resilience.Inputs{Heat: resilience.Cold}.String(), "cold, never used, ")
}
