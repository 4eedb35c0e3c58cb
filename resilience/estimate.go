package resilience

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Estimate of how long a plan takes from its start to its end.
type Estimate struct {
	P50MS int64  `json:"p50_ms"`
	P90MS int64  `json:"p90_ms"`
	Basis string `json:"basis"` // what it rests on, in a sentence

	Ways    []WayCost `json:"ways,omitempty"`    // that the plan goes or could go, and those that are closed to it
	Careful bool      `json:"careful,omitempty"` // a group of the plan gives way to others, which takes longer
}

// TakenBy marks the ways that the groups of a plan go, and says whether one of them is
// gradual.
func (e Estimate) TakenBy(groups []Group) Estimate {
	e.Careful = slices.ContainsFunc(groups, func(g Group) bool { return g.Strategy == Gradual })
	e.Ways = slices.Clone(e.Ways)
	for i := range e.Ways {
		e.Ways[i].Taken = slices.ContainsFunc(groups, func(g Group) bool { return g.Way == e.Ways[i].Way })
	}
	return e
}

// Alike says which runs cost alike.
type Alike struct {
	Memory   string
	Kind     string   // of the plan; for one that undoes another, UndoKind
	Strategy Strategy // empty: any that moves back to back
	Way      Way
	Class    IndexClass
	Careful  bool // a group of it gave way to others
}

// UndoKind is the kind under which plans that undo others of a kind are learned.
func UndoKind(k Kind) string { return "undo " + string(k) }

// Alike says with which runs a plan is compared.
func (p Plan) Alike() Alike {
	a := Alike{Memory: p.Memory, Kind: string(p.Kind), Strategy: p.Strategy, Way: cmp.Or(p.Way, Update), Class: p.Physics.Class(), Careful: p.Estimate.Careful}
	if p.Undoes != "" {
		a.Kind = UndoKind(p.Kind)
	}
	return a
}

// PastRun is what a run of a plan took.
type PastRun struct {
	Memory   string
	Rows     int64
	Batch    int     // rows in one transaction
	ApplyMS  float64 // first batch to last commit
	TookMS   float64 // start to end, without waiting for people and without a soak
	ByRuleMS float64 // what Plan.ByRuleMS makes of the same work; 0: nobody asked
}

// slowness is how many times its cost by rule a run took, to a thousandth.
func (r PastRun) slowness() float64 { return math.Round(1000*r.TookMS/r.ByRuleMS) / 1000 }

// Effort is what so many rows are for a strategy, under a policy.
func (s Strategy) Effort(rows int64, policy Policy) Effort {
	e := Effort{Rows: rows, Batch: policy.BatchSize, Rate: policy.Rate}
	switch s {
	case Immediate:
		e.Batch = int(max(1, min(rows, math.MaxInt32)))
	case Intelligent:
		e.Batch = 0 // it finds its own
	case Batch, Gradual:
	}
	return e
}

// How many runs count, and how much wider than the runs themselves the range is
// while they are few.
const (
	runsThatCount = 10
	runsWanted    = 3  // of about the same size, or all sizes count
	sameSize      = 10 // times larger or smaller
	fewRuns       = 1.5
	absurd        = 1e6 // slowness that no server has
	costsApart    = 1.2 // times as much, for two runs to say how time grows
	mostPower     = 2.0
)

// Expect estimates how long an amount of work takes that costs so much by rule
// (Physics.Cost), going by runs alike, newest first:
//
//	power = median of log(time / time) / log(cost / cost) of each two runs, from 0 to 2
//	p50   = median of time × (cost by rule / cost by rule of the run) ^ power of the runs
//	p90   = max(their 90th percentile, p50 × (1 + 1.5 / √(1 + n)))
//
// n is the number of runs that count: the last ten of the same memory, or where
// it has none of others; when three of them are at most ten times larger or
// smaller, only those. The power is 1, in proportion, where there are not three of them,
// or no two of which one costs 1.2 times the other, and beyond what the least and the
// most of them cost. It is the slope of H. Theil ("A rank-invariant method of linear and
// polynomial regression analysis", 1950) between logarithms, which no single odd run
// turns. Without any run p50 is the cost by rule, and p90 is 2.5 × p50. What a plan
// waits for comes on top, see Plan.withWaits.
func Expect(byRuleMS, rows int64, memory string, past []PastRun) Estimate {
	usable := slices.DeleteFunc(slices.Clone(past), func(r PastRun) bool { return !(r.slowness() > 0 && r.slowness() < absurd) })
	runs, whose := relevant(usable, rows, memory)
	if len(runs) == 0 {
		return Estimate{
			P50MS: byRuleMS, P90MS: toMS(float64(byRuleMS) * (1 + fewRuns)),
			Basis: "no run of this kind was completed yet: what its rows cost elsewhere, so the range is wide",
		}
	}
	times := scaled(runs, float64(byRuleMS))
	p50 := quantile(times, 0.5)
	p90 := max(quantile(times, 0.9), p50*(1+fewRuns/math.Sqrt(float64(1+len(runs)))))
	return Estimate{P50MS: toMS(p50), P90MS: toMS(p90), Basis: describe(runs, whose)}
}

// scaled are the times that work of a cost by rule takes, going by each of some runs, the
// shortest first.
func scaled(runs []PastRun, byRuleMS float64) []float64 {
	least, most := runs[0].ByRuleMS, runs[0].ByRuleMS
	for _, r := range runs {
		least, most = min(least, r.ByRuleMS), max(most, r.ByRuleMS)
	}
	known, power := min(max(byRuleMS, least), most), exponent(runs)
	times := make([]float64, len(runs))
	for i, r := range runs {
		times[i] = r.TookMS * math.Pow(known/r.ByRuleMS, power) * byRuleMS / known
	}
	slices.Sort(times)
	return times
}

// exponent is the power of their cost by rule with which the time of runs grows: below 1
// where more of it is the same for each run than the rules know, above where a longer run
// gives way to others more often.
func exponent(runs []PastRun) float64 {
	if len(runs) < runsWanted {
		return 1
	}
	var slopes []float64
	for i, a := range runs {
		for _, b := range runs[i+1:] {
			if cost := math.Log(b.ByRuleMS / a.ByRuleMS); math.Abs(cost) >= math.Log(costsApart) {
				slopes = append(slopes, math.Log(b.TookMS/a.TookMS)/cost)
			}
		}
	}
	if len(slopes) == 0 {
		return 1
	}
	slices.Sort(slopes)
	return min(max(quantile(slopes, 0.5), 0), mostPower)
}

// relevant are the runs that count, and whose they are.
func relevant(past []PastRun, rows int64, memory string) (runs []PastRun, whose string) {
	own := slices.DeleteFunc(slices.Clone(past), func(r PastRun) bool { return r.Memory != memory })
	runs, whose = own, "of this memory"
	if len(own) == 0 {
		runs, whose = past, "of other memories, since this one has none"
	}
	near := slices.DeleteFunc(slices.Clone(runs), func(r PastRun) bool {
		return r.Rows > sameSize*max(rows, 1) || sameSize*max(r.Rows, 1) < rows
	})
	if len(near) >= runsWanted {
		runs = near
	}
	return runs[:min(len(runs), runsThatCount)], whose
}

// describe says what was measured.
func describe(runs []PastRun, whose string) string {
	least, most := runs[0].Rows, runs[0].Rows
	for _, r := range runs {
		least, most = min(least, r.Rows), max(most, r.Rows)
	}
	var b strings.Builder
	if len(runs) == 1 {
		b.WriteString("1 run of this kind")
	} else {
		fmt.Fprintf(&b, "%d runs of this kind", len(runs))
	}
	fmt.Fprintf(&b, " %s, of %s", whose, thousands(least))
	if most != least {
		fmt.Fprintf(&b, " to %s", thousands(most))
	}
	b.WriteString(" chunks")
	return b.String()
}

// quantile of sorted values, between the two that are nearest to it.
func quantile(sorted []float64, part float64) float64 {
	at := part * float64(len(sorted)-1)
	low := int(math.Floor(at))
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// leastLearned is how many rows a run has to have before it says what one costs.
const leastLearned = 100

// LearnedRow says what an update of one row really cost in runs alike, newest
// first, of any size: in the median, and without what their transactions cost.
// It is 0 when no run tells.
func LearnedRow(past []PastRun, memory string) (ms float64, basis string) {
	usable := slices.DeleteFunc(slices.Clone(past), func(r PastRun) bool { return r.Rows < leastLearned || r.ApplyMS <= 0 })
	if len(usable) == 0 {
		return 0, ""
	}
	runs, whose := relevant(usable, usable[0].Rows, memory)
	perRow := make([]float64, len(runs))
	for i, r := range runs {
		transactions := transactionMS * math.Ceil(float64(r.Rows)/float64(cmp.Or(r.Batch, defaultBatch)))
		perRow[i] = max(r.ApplyMS-transactions, r.ApplyMS/2) / float64(r.Rows)
	}
	slices.Sort(perRow)
	return quantile(perRow, 0.5), describe(runs, whose)
}
