package resilience

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Servo finds the batch size at which a batch takes a wanted time on the
// server. It is a value: its methods return the servo that follows, so that it
// can travel through a workflow's history. Make one with NewServo.
//
//	servo := NewServo(GradualAim, rowBytes, false)
//	servo, adjusted := servo.After(Timing{Rows: n, MS: ms}, calm) // after each batch
//	servo, adjusted = servo.Eased(LockTimeout)                    // after one that failed
type Servo struct {
	TargetMS float64  `json:"target_ms"`
	Least    int      `json:"least"`
	Most     int      `json:"most"`
	Size     int      `json:"size"`             // rows of the next batch
	Window   []Timing `json:"window,omitempty"` // batches since the size was last looked at, oldest first
}

// Aim is what a strategy wants of its batches.
type Aim struct {
	Target time.Duration // of server time
	Most   int           // rows
}

// The aims of the strategies that adapt.
var (
	GradualAim     = Aim{Target: 50 * time.Millisecond, Most: 2_000}
	IntelligentAim = Aim{Target: 100 * time.Millisecond, Most: 10_000}
)

// Timing is one batch as it was measured: how long the server was at work in the try
// that succeeded, without the waits for a connection and for locks. A row that others
// have locked and leave as it is is waited for, for a quarter of a second, and for two
// where it had to be for long or a batch is dear to begin anew; that says something of
// them, and nothing of the size. Of such a wait up to some hundredths of a second are not
// seen, and count as work.
type Timing struct {
	Rows     int64   `json:"rows"`
	MS       float64 `json:"ms"`
	LockMS   float64 `json:"lock_ms,omitempty"`   // that it waited for locks beside
	WALBytes int64   `json:"wal_bytes,omitempty"` // that the server's log grew by meanwhile: the batch wrote no more; 0: nobody looked
}

// Of is what so many rows would have taken of a batch that had more than it was to have,
// since they go together. It waits for locks as the batch did.
func (t Timing) Of(size int) Timing {
	if most := int64(size); size > 0 && t.Rows > most {
		part := float64(most) / float64(t.Rows)
		t.Rows, t.MS, t.WALBytes = most, t.MS*part, int64(math.Ceil(float64(t.WALBytes)*part))
	}
	return t
}

// fits is how many rows write no more than a batch may of the server's log, where they
// write as many bytes each as these did; more than there are where it wrote nothing.
func (t Timing) fits() float64 {
	return float64(t.Rows) * mostWAL / float64(t.WALBytes)
}

// allFit is how many rows fit by the batch that wrote most for each.
func allFit(batches []Timing) float64 {
	most := math.Inf(1)
	for _, b := range batches {
		if b.WALBytes > 0 {
			most = min(most, b.fits())
		}
	}
	return most
}

// Adjustment is a change of the batch size, and why. The zero value is none.
type Adjustment struct {
	From  int     `json:"from"`
	To    int     `json:"to"`
	P90MS float64 `json:"p90_ms"` // of the batches it rests on
	Why   string  `json:"why"`
}

// String says the adjustment in words.
func (a Adjustment) String() string {
	return fmt.Sprintf("%d to %d rows a batch: %s", a.From, a.To, a.Why)
}

// Trouble is how a batch failed that may succeed when it is smaller.
type Trouble string

// The troubles.
const (
	NoTrouble        Trouble = ""
	LockTimeout      Trouble = "lock_timeout"      // others held its rows
	Deadlock         Trouble = "deadlock"          // or a serialization failure
	StatementTimeout Trouble = "statement_timeout" // it took too long
	InTheWay         Trouble = "in_the_way"        // it kept others waiting, and was cancelled for that
)

// LeastRows is how small the batches of a servo get, unless rows are huge.
const LeastRows = 20

// Bounds and constants of the servo.
const (
	firstBytes    = 4 << 20  // of the first batch
	mostBytes     = 16 << 20 // of any batch of more than one row
	mostWAL       = 32 << 20 // bytes that one writes to the server's log
	servoWindow   = 10       // batches between two looks
	servoMemory   = 0.75     // weight of a batch against the one after it
	servoGrowth   = 1.5      // at most, in one look
	deadBandBelow = 0.8      // of the target: between these two the size stays
	deadBandAbove = 1.1
	tooSlow       = 2.0 // of the target: halve at once
	farTooSlow    = 5.0 // of the target: take a tenth at once
)

// NewServo starts at a size that suits rows of so many bytes; where each row
// that moves is put into a vector index again, at a very small one.
func NewServo(aim Aim, rowBytes int64, reindexes bool) Servo {
	rowBytes = max(rowBytes, 1)
	most := int(max(1, min(int64(aim.Most), mostBytes/rowBytes)))
	first := int(max(100, min(1000, firstBytes/rowBytes)))
	if reindexes {
		first = LeastRows
	}
	return Servo{
		TargetMS: float64(aim.Target) / float64(time.Millisecond),
		Least:    min(LeastRows, most), Most: most, Size: min(first, most),
	}
}

// AtMost is the servo with batches of no more than so many rows.
func (s Servo) AtMost(rows int) Servo {
	s.Most = min(s.Most, rows)
	s.Least, s.Size = min(s.Least, s.Most), min(s.Size, s.Most)
	return s
}

// After takes a batch into account. The size grows only while all is calm: no
// health signal was near its limit for a while. A batch of fewer rows than asked
// for says nothing, unless it was slow or wrote too much.
func (s Servo) After(b Timing, calm bool) (Servo, Adjustment) {
	if size, why := s.over(b); why != "" {
		return s.resized(size, b.MS, why)
	}
	if b.Rows < int64(s.Size) {
		return s, Adjustment{}
	}
	s.Window = append(slices.Clone(s.Window), b)
	if len(s.Window) < servoWindow {
		return s, Adjustment{}
	}
	return s.look(calm)
}

// over is the size after a batch that is too much by itself, and why; no reason: it is not.
func (s Servo) over(b Timing) (size float64, why string) {
	size = float64(s.Size)
	switch {
	case b.MS > farTooSlow*s.TargetMS:
		size, why = size/10, fmt.Sprintf("a batch took %.0f ms, more than 5 times the %.0f wanted", b.MS, s.TargetMS)
	case b.MS > tooSlow*s.TargetMS:
		size, why = size/2, fmt.Sprintf("a batch took %.0f ms, more than twice the %.0f wanted", b.MS, s.TargetMS)
	}
	fits := b.fits()
	if b.Rows < int64(s.Size) { // most of it may be of others, or of few rows
		fits = max(fits, float64(s.Size)/2)
	}
	if b.WALBytes > mostWAL && fits < size {
		size, why = fits, fmt.Sprintf("a batch wrote %.0f MiB of WAL, and %d are the most", math.Ceil(float64(b.WALBytes)/(1<<20)), mostWAL>>20)
	}
	return size, why
}

// look decides on the size by the batches of a full window. It grows to what their WAL
// leaves room for, and not at all where that is little, so that it comes to rest.
func (s Servo) look(calm bool) (Servo, Adjustment) {
	p90, rate, room := p90(s.Window), s.rate(), allFit(s.Window)
	s.Window = nil
	if p90 >= deadBandBelow*s.TargetMS && p90 <= deadBandAbove*s.TargetMS {
		return s, Adjustment{}
	}
	size := float64(s.Size)
	next := min(rate*s.TargetMS, size*s.TargetMS/p90, math.Ceil(size*servoGrowth), room)
	if next > size && (!calm || room*deadBandBelow < size) {
		return s, Adjustment{}
	}
	return s.resized(next, p90, fmt.Sprintf("9 of 10 batches took %.1f ms or less, and %.0f are wanted", p90, s.TargetMS))
}

// Eased makes the batches smaller after one that failed.
func (s Servo) Eased(t Trouble) (Servo, Adjustment) {
	size := float64(s.Size)
	switch t {
	case LockTimeout:
		return s.resized(size*0.5, 0, "a batch waited too long for rows that others hold")
	case InTheWay:
		return s.resized(size*0.5, 0, "a batch kept other sessions waiting")
	case Deadlock:
		return s.resized(size*0.7, 0, "a batch and an application's write got into each other's way")
	case StatementTimeout:
		return s.resized(size*0.25, 0, "a batch ran into its time limit")
	case NoTrouble:
	}
	return s, Adjustment{}
}

// resized changes the size within the bounds and begins a new window.
func (s Servo) resized(size, p90 float64, why string) (Servo, Adjustment) {
	next := int(max(float64(s.Least), min(float64(s.Most), size)))
	s.Window = nil
	if next == s.Size {
		return s, Adjustment{}
	}
	a := Adjustment{From: s.Size, To: next, P90MS: p90, Why: why}
	s.Size = next
	return s, a
}

// rate is rows per millisecond, the newest batches counting most.
func (s Servo) rate() float64 {
	rows, ms, weight := 0.0, 0.0, 1.0
	for _, b := range slices.Backward(s.Window) {
		rows += weight * float64(b.Rows)
		ms += weight * b.MS
		weight *= servoMemory
	}
	return rows / ms
}

// p90 is the time within which nine of ten batches ended.
func p90(batches []Timing) float64 {
	return Quantile(batches, 0.9)
}

// Quantile is the time within which a share of the batches ended; 0 when there are none.
func Quantile(batches []Timing, share float64) float64 {
	if len(batches) == 0 {
		return 0
	}
	ms := make([]float64, len(batches))
	for i, b := range batches {
		ms[i] = b.MS
	}
	slices.Sort(ms)
	return ms[int(math.Ceil(share*float64(len(ms))))-1]
}

// RetryTries is how often a batch in trouble is tried before that is left to others.
const RetryTries = 10

// RetryAfter is how long to wait before try 0, 1, … of a batch in trouble: about
// a tenth of a second, doubled each time, 10 s at most. Chance, from 0 to 1,
// spreads those that were in each other's way.
func RetryAfter(try int, chance float64) time.Duration {
	const longest = 10 * time.Second
	wait := longest
	if try < 10 {
		wait = 100 * time.Millisecond << max(try, 0)
	}
	return min(longest, time.Duration(float64(wait)*(0.5+chance)))
}
