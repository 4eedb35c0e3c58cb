package resilience_test

import (
	"cmp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
)

// plain is a table with a b-tree over its path; vectored has an HNSW index too.
var (
	plain    = resilience.Physics{Rows: 1_000_000, RowBytes: 1100, PathIndexes: []string{"by_path"}}
	vectored = resilience.Physics{Rows: 20_000, RowBytes: 1100, PathIndexes: []string{"by_path"}, VectorIndexes: []string{"by_embedding"}, MayRebuild: true}
)

// facts of a plan on a quiet table that migrations were run on before.
func facts(s resilience.Strategy, p resilience.Physics, rows int64, batch int) resilience.Facts {
	return resilience.Facts{Strategy: s, Way: resilience.Update, Physics: p, Effort: s.Effort(rows, resilience.Policy{BatchSize: batch})}
}

func TestRiskIsAsItsTableSays(t *testing.T) {
	t.Parallel()
	worst := facts(resilience.Batch, plain, 100_000, 50)
	worst.First = true
	worst.Load = resilience.Load{Known: true, Writes: 1e6, Reads: 1e9, Dead: 0.5, Blinded: true}
	rebuilt := facts(resilience.Batch, vectored, 20_000, 50)
	rebuilt.Way = resilience.Rebuild
	for _, c := range []struct {
		of    resilience.Facts
		score int
		level resilience.RiskLevel
	}{
		{facts(resilience.Batch, plain, 25, 50), 11, resilience.LowRisk},
		{facts(resilience.Batch, plain, 100_000, 50), 25, resilience.LowRisk},
		{worst, 55, resilience.MediumRisk},
		{facts(resilience.Batch, plain, 5_000_000, 1000), 32, resilience.MediumRisk},
		{facts(resilience.Batch, vectored, 20_000, 50), 42, resilience.MediumRisk},
		{facts(resilience.Gradual, vectored, 20_000, 50), 37, resilience.MediumRisk},
		{facts(resilience.Immediate, plain, 100_000, 50), 42, resilience.MediumRisk},
		{facts(resilience.Immediate, vectored, 20_000, 50), 65, resilience.HighRisk},
		{rebuilt, 60, resilience.HighRisk},
		{resilience.Facts{}, 0, resilience.LowRisk},
	} {
		risk := resilience.Assess(c.of)
		require.Equal(t, c.score, risk.Score, "%s of %d: %v", c.of.Strategy, c.of.Effort.Rows, risk.Reasons)
		require.Equal(t, c.level, risk.Level)
		require.Equal(t, c.level == resilience.HighRisk || c.level == resilience.CriticalRisk, risk.NeedsApproval())
	}
}

func TestEveryPointOfARiskHasItsReason(t *testing.T) {
	t.Parallel()
	f := facts(resilience.Immediate, vectored, 20_000, 50)
	f.First = true
	f.Load = resilience.Load{Known: true, Writes: 100, Reads: 10}
	require.Equal(t, []string{
		"17 points: 20,000 chunks",
		"20 points: every chunk's embedding is indexed again: an update is not HOT, and there is by_embedding",
		"13 points: one transaction holds its locks for about 37.8 s",
		"8 points: others write about 100 rows a minute to the table",
		"2 points: the table is looked into about 10 times a minute",
		"5 points: no migration of this memory was completed yet",
		"15 points: strategy immediate",
	}, resilience.Assess(f).Reasons)
}

func drawFacts(t *rapid.T, name string) resilience.Facts {
	s := rapid.SampledFrom(resilience.Strategies()).Draw(t, name+" strategy")
	p := resilience.Physics{
		Rows: rapid.Int64Min(0).Draw(t, name+" table"), RowBytes: rapid.Int64Range(1, 8000).Draw(t, name+" bytes"),
		HOT: rapid.Bool().Draw(t, name+" hot"), MayRebuild: true,
	}
	if rapid.Bool().Draw(t, name+" vectors") {
		p.VectorIndexes = []string{"v"}
	}
	rows := rapid.Int64().Draw(t, name+" rows")
	return resilience.Facts{
		Strategy: s, Physics: p,
		Way:    rapid.SampledFrom([]resilience.Way{resilience.Update, resilience.Trickle, resilience.AliasOnly, resilience.Rebuild}).Draw(t, name+" way"),
		Effort: s.Effort(rows, resilience.Policy{BatchSize: rapid.IntRange(1, resilience.MaxBatchSize).Draw(t, name+" batch")}),
		Load: resilience.Load{
			Known: true, Writes: rapid.Float64().Draw(t, name+" writes"), Reads: rapid.Float64().Draw(t, name+" reads"),
			Dead: rapid.Float64().Draw(t, name+" dead"), Blinded: rapid.Bool().Draw(t, name+" blinded"),
		},
		References: rapid.Int64().Draw(t, name+" references"),
		First:      rapid.Bool().Draw(t, name+" first"),
	}
}

func TestRiskIsMonotoneInEachFactAndStaysInBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawFacts(t, "a"), drawFacts(t, "b")
		risk := resilience.Assess(a)
		require.True(t, risk.Score >= 0 && risk.Score <= 100, "%+v of %+v", risk, a)
		require.NotEmpty(t, risk.Level)
		for name, change := range map[string]func(f *resilience.Facts){
			"rows":       func(f *resilience.Facts) { f.Effort.Rows = max(a.Effort.Rows, b.Effort.Rows) },
			"batch":      func(f *resilience.Facts) { f.Effort.Batch = max(cmp.Or(a.Effort.Batch, 1000), b.Effort.Batch) },
			"width":      func(f *resilience.Facts) { f.Physics.RowBytes = max(a.Physics.RowBytes, b.Physics.RowBytes) },
			"writes":     func(f *resilience.Facts) { f.Load.Writes = max(a.Load.Writes, b.Load.Writes) },
			"reads":      func(f *resilience.Facts) { f.Load.Reads = max(a.Load.Reads, b.Load.Reads) },
			"dead":       func(f *resilience.Facts) { f.Load.Dead = max(a.Load.Dead, b.Load.Dead) },
			"references": func(f *resilience.Facts) { f.References = max(a.References, b.References) },
			"first":      func(f *resilience.Facts) { f.First = true },
			"blinded":    func(f *resilience.Facts) { f.Load.Blinded = true },
			"cold pages": func(f *resilience.Facts) { f.Physics.HOT = false },
		} {
			more := a
			change(&more)
			require.GreaterOrEqual(t, resilience.Assess(more).Score, risk.Score, "more %s: %+v against %+v", name, more, a)
		}
	})
}

// TestOrdinaryRenamesNeedNoApproval: batches of any legal size on a table
// without vector index, whatever others do to it meanwhile.
func TestOrdinaryRenamesNeedNoApproval(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t, "a")
		f.Strategy, f.Way, f.Physics, f.References = resilience.Batch, resilience.Update, plain, 0
		f.Effort = f.Strategy.Effort(rapid.Int64Range(1, 100_000).Draw(t, "few"), resilience.Policy{BatchSize: f.Effort.Batch})
		risk := resilience.Assess(f)
		require.False(t, risk.NeedsApproval(), "%+v", risk)
	})
}

func TestWhatLocksForMinutesIsRefusedWithWhatWouldDo(t *testing.T) {
	t.Parallel()
	wide := plain
	wide.RowBytes = 8000
	hot := vectored
	hot.HOT, hot.HOTShare, hot.PathIndexes = true, 1, nil
	rented := vectored
	rented.MayRebuild = false
	by := func(f resilience.Facts, w resilience.Way) resilience.Facts {
		f.Way = w
		return f
	}
	for _, c := range []struct {
		of   resilience.Facts
		says string // parts that the refusal has, "" when there is none
	}{
		{facts(resilience.Immediate, plain, 1_000_000, 50), ""},
		{facts(resilience.Immediate, plain, 1_000_001, 50), "1,000,001 chunks in one transaction|use batch"},
		{facts(resilience.Immediate, wide, 900_000, 50), "lock 900,000 chunks for about 1m26s|use batch"},
		{facts(resilience.Immediate, vectored, 30_000, 50), ""},
		{facts(resilience.Immediate, vectored, 40_000, 50), "index the embeddings of 40,000 chunks again in by_embedding|use gradual"},
		{facts(resilience.Immediate, hot, 1_000_000, 50), ""},
		{by(facts(resilience.Immediate, vectored, 5_000_000, 50), resilience.AliasOnly), ""},
		{by(facts(resilience.Immediate, vectored, 40_000, 50), resilience.Rebuild), ""},
		{by(facts(resilience.Batch, rented, 40_000, 50), resilience.Rebuild), "does not own the table|alias_only"},
		{by(facts(resilience.Batch, plain, 40_000, 50), resilience.Rebuild), "no vector index"},
		{facts(resilience.Batch, vectored, 50_000_000, 50), ""},
	} {
		got := c.of.Refusal()
		if c.says == "" {
			require.Empty(t, got)
			continue
		}
		for part := range strings.SplitSeq(c.says, "|") {
			require.Contains(t, got, part)
		}
	}
}

// TestAYesReachesAsFarAsItsRisk: what is beyond it is asked about again.
func TestAYesReachesAsFarAsItsRisk(t *testing.T) {
	t.Parallel()
	yes, none := &resilience.Approval{Hash: "h1", By: "ana"}, (*resilience.Approval)(nil)
	for _, c := range []struct {
		approval  *resilience.Approval
		undoes    string
		was, next resilience.RiskLevel
		says      string // empty: nobody is asked
	}{
		{none, "", resilience.LowRisk, resilience.MediumRisk, ""},
		{none, "", resilience.MediumRisk, resilience.HighRisk, "nobody has approved it"},
		{none, "", resilience.HighRisk, resilience.HighRisk, "nobody has approved it"},
		{none, "m-0", resilience.MediumRisk, resilience.CriticalRisk, ""},
		{yes, "", resilience.MediumRisk, resilience.HighRisk, "by batch it is medium (42 of 100)"},
		{yes, "", resilience.HighRisk, resilience.HighRisk, ""},
		{yes, "", resilience.CriticalRisk, resilience.HighRisk, ""},
		{yes, "", resilience.HighRisk, resilience.CriticalRisk, "by batch it is high"},
		{&resilience.Approval{Hash: "h0"}, "", resilience.HighRisk, resilience.HighRisk, "nobody has approved it"},
	} {
		plan := resilience.Plan{Hash: "h1", Strategy: resilience.Batch, Approval: c.approval, Undoes: c.undoes, Risk: resilience.Risk{Level: c.was, Score: 42}}
		said := plan.Unapproved(resilience.Risk{Level: c.next})
		require.Equal(t, c.says == "", said == "", "%+v: %s", c, said)
		require.Contains(t, said, c.says)
	}
}

// TestAPlanGoesOnByItsWay: whatever strategy takes it over.
func TestAPlanGoesOnByItsWay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		had, goes resilience.Way
		by        resilience.Strategy
	}{
		{resilience.AliasOnly, resilience.AliasOnly, resilience.Batch},
		{resilience.Turns, resilience.Turns, resilience.Intelligent},
		{resilience.Turns, resilience.Update, resilience.Immediate},
		{resilience.Trickle, resilience.Trickle, resilience.Intelligent},
		{resilience.Trickle, resilience.Update, resilience.Batch},
		{resilience.Rebuild, resilience.Rebuild, resilience.Batch},
	} {
		f := facts(c.by, plain, 100, 50)
		on := resilience.Plan{Strategy: c.by, Way: c.had, Physics: vectored}.GoingOn(f)
		require.Equal(t, c.goes, on.Way, c)
		if c.had == resilience.Rebuild {
			require.Equal(t, vectored, on.Physics, "as they were before they were taken away")
		} else {
			require.Equal(t, plain, on.Physics, c)
		}
	}
}

// TestAPlanKnowsItsWays: what it would take by each that is open to it, by the one
// that it goes as much as is expected, and why the others are closed.
func TestAPlanKnowsItsWays(t *testing.T) {
	t.Parallel()
	roomless := vectored
	roomless.PathIndexes, roomless.Unindexed, roomless.RowBytes = nil, true, 800
	ways := func(change func(p *resilience.Plan, f *resilience.Facts)) (resilience.Estimate, map[resilience.Way]resilience.WayCost) {
		plan := resilience.Plan{Memory: "docs", Kind: resilience.Rename, Status: resilience.Pending, Strategy: resilience.Batch, Moves: 20_000, Policy: resilience.Policy{BatchSize: 50}}
		f := facts(resilience.Batch, roomless, plan.Moves, 50)
		if change != nil {
			change(&plan, &f)
		}
		f.Strategy, f.Effort = plan.Strategy, plan.Strategy.Effort(plan.Moves, plan.Policy)
		e := plan.Assess(f, []resilience.PastRun{ran("docs", 20_000, 3000, 1000)}).Estimate
		all := map[resilience.Way]resilience.WayCost{}
		for _, w := range e.Ways {
			require.NotEmpty(t, w.Note, w.Way)
			all[w.Way] = w
		}
		return e, all
	}
	for _, s := range resilience.Strategies() {
		e, all := ways(func(p *resilience.Plan, _ *resilience.Facts) { p.Strategy = s })
		require.Len(t, all, len(resilience.Ways()), s)
		require.Equal(t, e.P50MS, all[resilience.Update].MS, s)
		for way, w := range all {
			require.Equal(t, way == resilience.Update, w.Taken, way)
			require.Empty(t, w.Closed, way)
		}
		require.Greater(t, all[resilience.Update].MS, 5*all[resilience.Turns].MS, s)
		require.Greater(t, all[resilience.Trickle].MS, all[resilience.Update].MS, s)
	}
	_, all := ways(func(_ *resilience.Plan, f *resilience.Facts) { f.Settled = true })
	require.Equal(t, "the rows have to keep their order", all[resilience.Turns].Closed)
	_, all = ways(func(_ *resilience.Plan, f *resilience.Facts) { f.Physics = plain })
	require.Equal(t, "an index holds the path", all[resilience.Turns].Closed)
	require.Equal(t, "the table has no vector index", all[resilience.Rebuild].Closed)
	_, all = ways(func(p *resilience.Plan, _ *resilience.Facts) { p.Undoes = "m-0" })
	require.Equal(t, "rows that moved have to move back", all[resilience.AliasOnly].Closed)
	require.Contains(t, all[resilience.Rebuild].Closed, "it needs an approval")
	require.NotEmpty(t, all[resilience.Turns].Closed)
	require.Empty(t, all[resilience.Trickle].Closed)
	_, all = ways(func(p *resilience.Plan, _ *resilience.Facts) { p.Status = resilience.Queued })
	require.Empty(t, all[resilience.Turns].Closed)
	require.NotEmpty(t, all[resilience.Rebuild].Closed, "nobody is asked any more")
	_, all = ways(func(p *resilience.Plan, _ *resilience.Facts) { p.Status = resilience.Paused })
	require.Equal(t, "the rows have to keep their order", all[resilience.Turns].Closed)
	e, all := ways(func(p *resilience.Plan, _ *resilience.Facts) { p.Kind = resilience.Transfer })
	require.Len(t, all, 1, "new rows go one way only")
	require.Equal(t, e.P50MS, all[resilience.Update].MS)
	require.Contains(t, all[resilience.Update].Note, "copied")

	e, _ = ways(nil)
	for _, w := range e.TakenBy([]resilience.Group{{Way: resilience.AliasOnly}, {Way: resilience.Trickle}}).Ways {
		require.Equal(t, w.Way == resilience.AliasOnly || w.Way == resilience.Trickle, w.Taken, w.Way)
	}
}
