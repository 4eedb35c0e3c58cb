package resilience_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
)

func ran(memory string, rows int64, took, byRule float64) resilience.PastRun {
	return resilience.PastRun{Memory: memory, Rows: rows, TookMS: took, ByRuleMS: byRule}
}

func TestEstimatesRestOnWhatTheySay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		past     []resilience.PastRun
		p50, p90 int64
		basis    string
	}{
		{"nothing known", nil, 1000, 2500, "no run of this kind was completed yet: what its rows cost elsewhere, so the range is wide"},
		{"one run", []resilience.PastRun{ran("docs", 500, 600, 300)}, 2000, 4121, "1 run of this kind of this memory, of 500 chunks"},
		{"others' only", []resilience.PastRun{ran("wiki", 500, 600, 300)}, 2000, 4121, "1 run of this kind of other memories, since this one has none, of 500 chunks"},
		{"own before others'", []resilience.PastRun{ran("wiki", 500, 900, 300), ran("docs", 500, 300, 300)}, 1000, 2061, "1 run of this kind of this memory, of 500 chunks"},
		{
			"those of about the same size",
			[]resilience.PastRun{ran("docs", 5, 9000, 300), ran("docs", 500, 600, 300), ran("docs", 900, 600, 300), ran("docs", 5000, 600, 300)},
			2000, 3500, "3 runs of this kind of this memory, of 500 to 5,000 chunks",
		},
		{
			"runs far apart",
			[]resilience.PastRun{ran("docs", 500, 300, 300), ran("docs", 500, 600, 300), ran("docs", 500, 3000, 300)},
			2000, 8400, "3 runs of this kind of this memory, of 500 chunks",
		},
		{
			"time that grows faster than the cost",
			[]resilience.PastRun{ran("docs", 500, 500, 500), ran("docs", 500, 2000, 1000), ran("docs", 500, 8000, 2000)},
			2000, 3500, "3 runs of this kind of this memory, of 500 chunks",
		},
		{
			"time that hardly grows, beside one odd run",
			[]resilience.PastRun{ran("docs", 500, 3000, 500), ran("docs", 500, 3000, 800), ran("docs", 500, 3000, 2000), ran("docs", 500, 9000, 2100)},
			3000, 7200, "4 runs of this kind of this memory, of 500 chunks",
		},
		{
			"in proportion beyond what was seen",
			[]resilience.PastRun{ran("docs", 500, 3000, 100), ran("docs", 500, 3000, 200), ran("docs", 500, 3000, 500)},
			6000, 10_500, "3 runs of this kind of this memory, of 500 chunks",
		},
		{
			"less for more is chance",
			[]resilience.PastRun{ran("docs", 500, 4000, 500), ran("docs", 500, 3000, 800), ran("docs", 500, 2000, 2000)},
			3000, 5250, "3 runs of this kind of this memory, of 500 chunks",
		},
		{
			"of about the same cost they say nothing of how time grows",
			[]resilience.PastRun{ran("docs", 500, 2000, 1000), ran("docs", 500, 2800, 1100), ran("docs", 500, 2500, 1050)},
			2381, 4167, "3 runs of this kind of this memory, of 500 chunks",
		},
		{"nonsense is no run", []resilience.PastRun{ran("docs", 500, 0, 300), ran("docs", 500, 600, 0)}, 1000, 2500, "no run of this kind was completed yet: what its rows cost elsewhere, so the range is wide"},
	} {
		require.Equal(t, resilience.Estimate{P50MS: c.p50, P90MS: c.p90, Basis: c.basis}, resilience.Expect(1000, 600, "docs", c.past), c.name)
	}
}

// TestAfterThreeRunsEstimatesAreGood runs plans of many sizes on machines that
// are slower or faster than the rules think, by a factor that wavers from run to
// run: in the median the error is under a quarter, and 9 of 10 end within p90.
func TestAfterThreeRunsEstimatesAreGood(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var errors []float64
	within, all := 0, 0
	for range 200 {
		slow := math.Exp(random.NormFloat64())
		var past []resilience.PastRun
		for run := range 8 {
			rows := int64(math.Exp(3 + 9*random.Float64()))
			byRule := plain.Cost(resilience.Update, resilience.Effort{Rows: rows, Batch: 50}).MS
			took := float64(byRule) * slow * math.Exp(0.2*random.NormFloat64())
			if run >= 3 {
				e := resilience.Expect(byRule, rows, "docs", past)
				errors = append(errors, math.Abs(took-float64(e.P50MS))/float64(e.P50MS))
				all++
				if took <= float64(e.P90MS) {
					within++
				}
			}
			past = slices.Insert(past, 0, resilience.PastRun{Memory: "docs", Rows: rows, TookMS: took, ByRuleMS: float64(byRule)})
		}
	}
	slices.Sort(errors)
	require.Less(t, errors[len(errors)/2], 0.25)
	require.GreaterOrEqual(t, float64(within)/float64(all), 0.9)
}

// TestWorkThatGrowsOtherwiseIsForetold: runs that wait or rest more the longer they
// are, and runs most of which is the same for each, both by a power of their cost.
func TestWorkThatGrowsOtherwiseIsForetold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		power, slow := rapid.Float64Range(0, 2).Draw(t, "power"), rapid.Float64Range(0.1, 100).Draw(t, "slow")
		took := func(byRule float64) float64 { return 100 * slow * math.Pow(byRule/1000, power) }
		var past []resilience.PastRun
		for range rapid.IntRange(1, 8).Draw(t, "runs") {
			byRule := rapid.Float64Range(1000, 5000).Draw(t, "by rule")
			past = append(past, ran("docs", 1000, took(byRule), byRule))
		}
		past = append(past, ran("docs", 1000, took(1000), 1000), ran("docs", 1000, took(5000), 5000))
		now := rapid.Int64Range(1000, 5000).Draw(t, "now")
		require.InEpsilon(t, took(float64(now)), float64(resilience.Expect(now, 1000, "docs", past).P50MS), 0.06)
	})
}

func TestEstimatesAreInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var past []resilience.PastRun
		for range rapid.IntRange(0, 20).Draw(t, "runs") {
			past = append(past, ran(rapid.SampledFrom([]string{"docs", "wiki"}).Draw(t, "memory"), rapid.Int64Range(0, 1e7).Draw(t, "rows"),
				rapid.Float64Range(0, 1e9).Draw(t, "took"), rapid.Float64Range(0, 1e9).Draw(t, "by rule")))
		}
		e := resilience.Expect(rapid.Int64Range(1, 1e9).Draw(t, "cost"), rapid.Int64Range(0, 1e7).Draw(t, "size"), "docs", past)
		require.GreaterOrEqual(t, e.P50MS, int64(0))
		require.GreaterOrEqual(t, e.P90MS, e.P50MS)
		require.NotEmpty(t, e.Basis)
	})
}

func TestTheCostOfARowIsLearned(t *testing.T) {
	t.Parallel()
	run := func(memory string, rows int64, batch int, apply float64) resilience.PastRun {
		return resilience.PastRun{Memory: memory, Rows: rows, Batch: batch, ApplyMS: apply}
	}
	for _, c := range []struct {
		name string
		past []resilience.PastRun
		want float64
	}{
		{"none", nil, 0},
		{"too few rows to tell", []resilience.PastRun{run("docs", 99, 50, 400)}, 0},
		{"without the transactions", []resilience.PastRun{run("docs", 1000, 50, 80)}, 0.05},
		{"which never are more than half", []resilience.PastRun{run("docs", 1000, 1, 1000)}, 0.5},
		{"the median of this memory's", []resilience.PastRun{run("docs", 10_000, 10_000, 20_001.5), run("docs", 1000, 1000, 1001.5), run("docs", 100, 100, 301.5), run("wiki", 1000, 10, 9e9)}, 2},
	} {
		got, basis := resilience.LearnedRow(c.past, "docs")
		require.InDelta(t, c.want, got, 1e-9, c.name)
		require.Equal(t, c.want > 0, basis != "", c.name)
	}
}

// TestWaitsAreExpected: a rate and a soak are no longer on a server that is slow, and
// the rests of gradual are.
func TestWaitsAreExpected(t *testing.T) {
	t.Parallel()
	seconds := resilience.Seconds(600)
	plan := resilience.Plan{
		Memory: "docs", Strategy: resilience.Batch, Kind: resilience.Rename, Way: resilience.Update, Moves: 10_000, Physics: plain,
		Policy: resilience.Policy{BatchSize: 1000},
	}
	rename := float64(plan.ByRuleMS())
	for name, c := range map[string]struct {
		change      func(p *resilience.Plan)
		waits       float64 // in milliseconds
		least, most float64 // times the work of a rename
	}{
		"nothing to wait for":  {func(*resilience.Plan) {}, 0, 1, 1},
		"a rate":               {func(p *resilience.Plan) { p.Policy.Rate = 100 }, 100_000, 0, 1},
		"a rate out of reach":  {func(p *resilience.Plan) { p.Policy.Rate = 1e6 }, 0, 1, 1},
		"gradual, which rests": {func(p *resilience.Plan) { p.Strategy = resilience.Gradual }, 0, 4, 10},
		"gradual, at a rate":   {func(p *resilience.Plan) { p.Strategy, p.Policy.Rate = resilience.Gradual, 100 }, 150_000, 0, 2},
		"rows that stay":       {func(p *resilience.Plan) { p.Way = resilience.AliasOnly }, 0, 0, 1},
		"they go by a rate":    {func(p *resilience.Plan) { p.Way, p.Policy.Rate = resilience.AliasOnly, 100 }, 100_000, 0, 1},
		"a transfer, which soaks": {func(p *resilience.Plan) {
			p.Kind, p.Transfer = resilience.Transfer, &resilience.Transferring{TransferOrder: resilience.TransferOrder{Soak: &seconds}}
		}, 600_000, 1, 4},
		"one at a rate, in both of its steps": {func(p *resilience.Plan) {
			p.Kind, p.Transfer, p.Policy.Rate = resilience.Transfer, &resilience.Transferring{TransferOrder: resilience.TransferOrder{Soak: &seconds}}, 100
		}, 800_000, 0, 1},
		"one that takes it all back": {func(p *resilience.Plan) {
			p.Kind, p.Transfer = resilience.Transfer, &resilience.Transferring{TransferOrder: resilience.TransferOrder{Soak: &seconds}, Back: true}
		}, 0, 1, 4},
	} {
		for _, slow := range []float64{1, 3} {
			p := plan
			c.change(&p)
			require.Equal(t, p.Policy.Rate == 0 || p.Policy.Rate > 1000, p.Teaches(rename*slow), name)
			run := ran("docs", p.Moves, 1000*slow, 1000)
			facts := resilience.Facts{Strategy: p.Strategy, Way: p.Way, Physics: p.Physics, Effort: p.Strategy.Effort(p.Moves, p.Policy)}
			e := p.Assess(facts, []resilience.PastRun{run, run, run}).Estimate
			require.GreaterOrEqual(t, float64(e.P50MS), c.waits+c.least*rename*slow, name)
			require.LessOrEqual(t, float64(e.P50MS), c.waits+c.most*rename*slow, name)
			soak := 0.0
			if p.Transfer != nil && !p.Transfer.Back {
				soak = 600_000
			}
			p50, p90 := float64(e.P50MS)-soak, float64(e.P90MS)-soak
			require.GreaterOrEqual(t, p90, 1.1*p50-1, name)
			require.LessOrEqual(t, p90, max(1.1*p50+1, c.waits-soak+2*c.most*rename*slow), "%s: a wait is sure", name)
			for _, w := range e.Ways {
				if w.Taken {
					require.InDelta(t, e.P50MS, w.MS, 1, name)
				}
			}
		}
	}
}
