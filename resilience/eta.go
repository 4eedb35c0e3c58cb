package resilience

import (
	"math"
	"time"
)

// tempoSpan is how far back a Tempo remembers.
const tempoSpan = time.Minute

// Tempo is how fast rows went lately: what was done and how long it took, the
// older the less it weighs. Pauses are not part of it; a throttle is.
type Tempo struct {
	Rows    float64 `json:"rows"`
	Seconds float64 `json:"seconds"`
}

// Add takes note of rows that took a while. No step weighs more than the span: an
// hour in which the database was away, or by which a clock was put forward, is
// forgotten soon.
func (t *Tempo) Add(rows int64, took time.Duration) {
	if rows <= 0 || took <= 0 {
		return
	}
	seconds := min(took, tempoSpan).Seconds()
	keep := math.Exp(-seconds / tempoSpan.Seconds())
	t.Rows = t.Rows*keep + float64(rows)*seconds/took.Seconds()
	t.Seconds = t.Seconds*keep + seconds
}

// Rate is rows a second; 0 is not known yet.
func (t Tempo) Rate() float64 {
	if t.Seconds <= 0 {
		return 0
	}
	return t.Rows / t.Seconds
}

// Spread of what is left, as a factor on its middle.
const (
	wideSpread   = 2.5 // nothing is known of the past
	narrowSpread = 1.1 // no run is surer than this of its own rest
)

// ETA is how long the rest of a plan takes: half of such rests end within P50,
// nine of ten within P90.
type ETA struct {
	P50    time.Duration `json:"p50"`
	P90    time.Duration `json:"p90"`
	Frozen bool          `json:"frozen,omitempty"` // the plan is paused: counted from when it goes on
}

// Rest says how long the left rows of total take at the rate of lately, or, as
// long as none is known, by the estimate alone; ok is false when that knows
// nothing either. The spread is the estimate's, and shrinks with what is left:
// what the run has shown of itself counts for more and more.
func (e Estimate) Rest(left, total int64, lately Tempo, paused bool) (eta ETA, ok bool) {
	if left <= 0 || total <= 0 {
		return ETA{Frozen: paused}, true
	}
	share := min(1, float64(left)/float64(total))
	var seconds float64
	switch rate := lately.Rate(); {
	case rate > 0:
		seconds = float64(left) / rate
	case e.P50MS > 0:
		seconds = float64(e.P50MS) / 1000 * share
	default:
		return ETA{Frozen: paused}, false
	}
	spread := narrowSpread + (e.spread()-narrowSpread)*share
	return ETA{P50: duration(seconds), P90: duration(seconds * spread), Frozen: paused}, true
}

// spread is how much longer than its middle a run of this kind may take.
func (e Estimate) spread() float64 {
	if e.P50MS <= 0 || e.P90MS <= 0 {
		return wideSpread
	}
	return max(narrowSpread, float64(e.P90MS)/float64(e.P50MS))
}

// duration of so many seconds, as far as one can be written.
func duration(seconds float64) time.Duration {
	return time.Duration(min(seconds*float64(time.Second), math.MaxInt64/2))
}
