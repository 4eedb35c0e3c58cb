package resilience

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// RiskLevel is a risk in a word.
type RiskLevel string

// The levels, with the score at which each begins.
const (
	LowRisk      RiskLevel = "low"      // 0
	MediumRisk   RiskLevel = "medium"   // 30
	HighRisk     RiskLevel = "high"     // 60: a person has to approve
	CriticalRisk RiskLevel = "critical" // 80
)

// Risk of a plan, with what it is made of.
type Risk struct {
	Level   RiskLevel `json:"level"`
	Score   int       `json:"score"` // 0 to 100
	Reasons []string  `json:"reasons"`
}

// NeedsApproval reports whether a person has to say yes first.
func (r Risk) NeedsApproval() bool { return r.Level == HighRisk || r.Level == CriticalRisk }

// above reports whether the level is higher than another.
func (r Risk) above(other Risk) bool {
	levels := []RiskLevel{LowRisk, MediumRisk, HighRisk, CriticalRisk}
	return slices.Index(levels, r.Level) > slices.Index(levels, other.Level)
}

// Facts are what the risk of a plan is made of.
type Facts struct {
	Strategy   Strategy
	Way        Way
	Physics    Physics
	Effort     Effort // as the strategy makes it, see Strategy.Effort
	Load       Load
	References int64 // that have to be pointed to other chunks
	First      bool  // no migration of the memory was ever completed
	Settled    bool  // rows have to keep their order: some take the places that others leave
}

// Load is what others do to a memory's table.
type Load struct {
	Known   bool    // the server counts for long enough to say
	Writes  float64 // rows a minute, ours left out
	Reads   float64 // scans a minute
	Dead    float64 // share of dead rows
	Blinded bool    // there are replicas, and our role cannot see how far behind they are
}

// Points of what is there or is not, and of each strategy.
const (
	vectorPoints  = 20
	rebuildPoints = 25
	signPoints    = 5 // for each lesser sign
	deadTooMany   = 0.1
	fullRisk      = 100
)

func strategyPoints(s Strategy) int {
	switch s {
	case Immediate:
		return 15
	case Batch:
		return 5
	case Intelligent:
		return 3
	case Gradual:
	}
	return 0
}

// Assess sums up what can go wrong, as points with their reasons:
//
//	4 log10(rows), at most 28
//	5 log10(ms that one transaction holds locks / 100), at most 15
//	20 for embeddings that are indexed again for each row
//	25 for a search without its index until it is built again, and never below 60
//	4 log10(1 + rows that others write in a minute), at most 10
//	2 log10(1 + scans in a minute), at most 5
//	2.5 log10(1 + references to point elsewhere), at most 10
//	5 each for replicas whose lag cannot be seen, for more than 10 % of dead
//	rows, and for the first migration of a memory
//	15 for immediate, 5 for batch, 3 for intelligent, 0 for gradual
//
// The score never falls when one of them grows. Some values, where nothing but
// what is named is known:
//
//	batch of 50, 25 rows                                        11
//	batch of 50, 100,000 rows                                   25
//	the same, the first of its memory, with all the load there is  55
//	batch of 1,000, 5,000,000 rows                              32
//	batch of 50, 20,000 rows with an HNSW index                 42
//	gradual, 20,000 rows with an HNSW index                     37
//	immediate, 100,000 rows                                     42
//	immediate, 20,000 rows with an HNSW index                   65
//	rebuild of the index around 20,000 rows in batches          60
func Assess(f Facts) Risk {
	var t tally
	t.add(growth(4, float64(f.Effort.Rows), 28), "%s chunks", thousands(f.Effort.Rows))
	if f.Way == Update || f.Way == Trickle || f.Way == "" {
		t.addIf(f.Physics.Class() == VectorClass, vectorPoints, "every chunk's embedding is indexed again: an update is not HOT, and there is %s", names(f.Physics.VectorIndexes))
	}
	held := f.lockMS()
	t.add(growth(5, float64(held)/100, 15), "one transaction holds its locks for about %s", Spell(held))
	t.addIf(f.Way == Rebuild, rebuildPoints, "similarity search goes without %s until it is built again", names(f.Physics.VectorIndexes))
	t.load(f.Load)
	t.add(growth(2.5, 1+float64(f.References), 10), "%s references are pointed to other chunks", thousands(f.References))
	t.addIf(f.First, signPoints, "no migration of this memory was completed yet")
	t.addIf(f.Strategy != "", strategyPoints(f.Strategy), "strategy %s", f.Strategy)
	if f.Way == Rebuild {
		t.score = max(t.score, highFrom)
	}
	score := min(t.score, fullRisk)
	return Risk{Level: levelOf(score), Score: score, Reasons: t.reasons}
}

// Where the levels begin.
const (
	mediumFrom   = 30
	highFrom     = 60
	criticalFrom = 80
)

func levelOf(score int) RiskLevel {
	switch {
	case score < mediumFrom:
		return LowRisk
	case score < highFrom:
		return MediumRisk
	case score < criticalFrom:
		return HighRisk
	}
	return CriticalRisk
}

// lockMS is how long one transaction of the plan holds the locks of its rows.
func (f Facts) lockMS() int64 {
	p := f.Physics
	switch f.Way {
	case AliasOnly:
		return 0
	case Rebuild:
		p.VectorIndexes = nil
	case Turns:
		p = p.InTurns()
	case Update, Trickle:
	}
	return p.TransactionMS(f.Effort)
}

// tally is a score while it is summed up.
type tally struct {
	score   int
	reasons []string
}

// add counts points, if there are any, with their reason.
func (t *tally) add(points int, format string, args ...any) {
	t.addIf(points > 0, points, format, args...)
}

func (t *tally) addIf(holds bool, points int, format string, args ...any) {
	if !holds || points == 0 {
		return
	}
	t.score += points
	unit := "points"
	if points == 1 {
		unit = "point"
	}
	t.reasons = append(t.reasons, fmt.Sprintf("%d %s: %s", points, unit, fmt.Sprintf(format, args...)))
}

func (t *tally) load(l Load) {
	if l.Known {
		t.add(growth(4, 1+l.Writes, 10), "others write about %s rows a minute to the table", thousands(int64(math.Round(l.Writes))))
		t.add(growth(2, 1+l.Reads, 5), "the table is looked into about %s times a minute", thousands(int64(math.Round(l.Reads))))
	}
	t.addIf(l.Dead > deadTooMany, signPoints, "%.0f %% of the table's rows are dead: it is not vacuumed as fast as it changes", 100*l.Dead)
	t.addIf(l.Blinded, signPoints, "rehome's role cannot see how far replicas are behind: grant it pg_monitor")
}

// growth gives points for each power of ten, from 0 up to a limit.
func growth(each, amount float64, most int) int {
	if !(amount > 1) {
		return 0
	}
	return int(math.Round(min(each*math.Log10(amount), float64(most))))
}

// thousands writes a number with commas.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
