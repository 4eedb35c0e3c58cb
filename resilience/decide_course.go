package resilience

import (
	"fmt"
	"math"
	"slices"
)

// Forecast of a batch: so much for each, and so much for each of its rows.
type Forecast struct {
	BatchMS float64 `json:"batch_ms"`
	RowMS   float64 `json:"row_ms"`
}

// batchMS is what a batch costs beside its rows, before anything was measured.
const batchMS = 1.5

// Of is the time that rows take in batches of a size.
func (f Forecast) Of(rows, size int64) float64 {
	return f.RowMS*float64(rows) + f.BatchMS*math.Ceil(float64(rows)/float64(max(size, 1)))
}

// SizeFor is how many rows of so many bytes a batch may have that is to take so
// long.
func (f Forecast) SizeFor(target float64, rowBytes int64) int {
	rows := (target - f.BatchMS) / f.RowMS
	rows = min(rows, largestSize, float64(mostBytes/max(rowBytes, 1)))
	return int(max(rows, 1, min(leastSize, float64(mostBytes/max(rowBytes, 1)))))
}

// learned is the forecast that fits batches best: a line through them where
// their sizes differ, and otherwise the old cost of a batch with the rest spread
// over the rows.
func (f Forecast) learned(batches []Timing) Forecast {
	var n, rows, ms, squares, products float64
	for _, b := range batches {
		n, rows, ms = n+1, rows+float64(b.Rows), ms+b.MS
		squares, products = squares+float64(b.Rows)*float64(b.Rows), products+float64(b.Rows)*b.MS
	}
	spread := n*squares - rows*rows
	next := f
	if spread > 0.01*rows*rows {
		next.RowMS = (n*products - rows*ms) / spread
		next.BatchMS = (ms - next.RowMS*rows) / n
	}
	if spread <= 0.01*rows*rows || next.RowMS <= 0 || next.BatchMS < 0 {
		next.BatchMS = min(f.BatchMS, ms/n/2)
		next.RowMS = (ms - next.BatchMS*n) / rows
	}
	return next
}

// Course is how the batches of a group go: as its forecast says, adapted by a
// servo, and at the plan's own size while the forecast is off. It is a value
// that is stored between slices. Make one with Group.Start.
type Course struct {
	Servo    Servo     `json:"servo"`
	Forecast Forecast  `json:"forecast"`
	Default  int       `json:"default"`            // the plan's own size
	Falls    int       `json:"falls,omitempty"`    // how often the forecast was off
	Fallen   int       `json:"fallen,omitempty"`   // batches to go at the plan's own size
	Errors   []float64 `json:"errors,omitempty"`   // of the forecasts of the last batches, as shares
	Measured []Timing  `json:"measured,omitempty"` // the last batches
	Waits    Waits     `json:"waits,omitzero"`
}

// When a forecast is off, and for how long it is not trusted then.
const (
	forecastWindow = 20   // batches
	forecastError  = 0.30 // of the time forecast, in 9 of 10 batches
	forecastGrain  = 5.0  // ms: an error is never a share of less
	forecastMemory = 2 * forecastWindow
	mostFallen     = 16 * forecastWindow
)

// Start is the course of a group before its first batch, in a plan with a batch
// size of its own.
func (g Group) Start(plan int) Course {
	rowBytes := max(g.Inputs.rowBytes(g.Rows), 1)
	most := int(max(1, min(largestSize, mostBytes/rowBytes)))
	if g.Most > 0 {
		most, plan = min(most, g.Most), min(plan, g.Most)
	}
	return Course{
		Servo:    Servo{TargetMS: g.TargetMS, Least: min(LeastRows, most), Most: most, Size: min(g.BatchSize, most)},
		Forecast: g.Forecast, Default: plan,
	}
}

// Size of the next batch.
func (c Course) Size() int {
	if c.Fallen > 0 {
		return c.Default
	}
	return c.Servo.Size
}

// String says the size in force in words.
func (c Course) String() string {
	if c.Fallen > 0 {
		return fmt.Sprintf("%d rows a batch, the plan's own size, since the forecast was off; adapting again after %d more", c.Default, c.Fallen)
	}
	return fmt.Sprintf("%d rows a batch, adapted to %.0f ms", c.Servo.Size, c.Servo.TargetMS)
}

// After takes a batch into account. It returns what there is to tell, if
// anything: another size, a forecast that is off, or one that is right again.
func (c Course) After(b Timing, calm bool) (Course, string) {
	if b.Rows < int64(c.Size()) && b.MS <= tooSlow*c.Servo.TargetMS && b.WALBytes <= mostWAL {
		return c, "" // the rest of something: it says nothing
	}
	expected := c.Forecast.Of(b.Rows, b.Rows)
	c.Errors = last(c.Errors, forecastWindow, math.Abs(b.MS-expected)/max(expected, forecastGrain))
	c.Measured = last(c.Measured, forecastMemory, b)
	if smaller, why := c.within(b); why != "" {
		return smaller, why
	}
	if c.Fallen > 0 {
		return c.climb(calm)
	}
	if len(c.Errors) == forecastWindow && share(c.Errors, 0.9) > forecastError && (calm || c.Default <= c.Servo.Size) && float64(c.Default) <= allFit(c.Measured) {
		return c.fall()
	}
	var a Adjustment
	if c.Servo, a = c.Servo.After(b, calm); a == (Adjustment{}) {
		return c, ""
	}
	return c, a.String()
}

// within makes the batches smaller after one that wrote too much WAL, also where they went
// by the plan's own size: that one is too large then.
func (c Course) within(b Timing) (Course, string) {
	if b.WALBytes <= mostWAL {
		return c, ""
	}
	servo, size := c.Servo, c.Size()
	servo.Size = size
	servo, a := servo.After(b, false)
	if a == (Adjustment{}) || a.To > size { // it is as small as they get
		return c, ""
	}
	servo.Size = min(servo.Size, c.Servo.Size) // with which it was content before the forecast was off
	a.To = servo.Size
	c.Servo, c.Fallen = servo, 0
	return c, a.String()
}

// Eased makes the batches smaller after one that failed, also where they went by the
// plan's own size: that one is too large then.
func (c Course) Eased(t Trouble) (Course, string) {
	servo := c.Servo
	servo.Size = min(servo.Size, c.Size())
	servo, a := servo.Eased(t)
	if a == (Adjustment{}) {
		return c, ""
	}
	c.Servo, c.Fallen = servo, 0
	return c, a.String()
}

// fall goes back to the plan's own size for a while, each time for twice as long.
func (c Course) fall() (Course, string) {
	off := share(c.Errors, 0.9)
	c.Falls++
	c.Fallen = min(mostFallen, forecastWindow<<min(c.Falls-1, 10))
	c.Errors = nil
	return c, fmt.Sprintf("the forecast of %s a row was off by %.0f %% or more in 1 of 10 batches: the next %d go by the plan's own size of %d rows",
		ms(c.Forecast.RowMS), 100*off, c.Fallen, c.Default)
}

// climb counts a batch at the plan's own size, and after the last of them
// begins anew with what was measured; with larger batches only where all is calm.
func (c Course) climb(calm bool) (Course, string) {
	if c.Fallen--; c.Fallen > 0 {
		return c, ""
	}
	c.Forecast = c.Forecast.learned(c.Measured)
	c.Errors, c.Servo.Window = nil, nil
	size := int(min(float64(c.Servo.Most), float64(c.Forecast.SizeFor(c.Servo.TargetMS, 0)), allFit(c.Measured)))
	if !calm {
		size = min(size, c.Default)
	}
	c.Servo.Size = max(c.Servo.Least, size)
	return c, fmt.Sprintf("measured %s a row and %s a batch: on with %d rows a batch", ms(c.Forecast.RowMS), ms(c.Forecast.BatchMS), c.Servo.Size)
}

// last appends to the last n values.
func last[T any](values []T, n int, v T) []T {
	values = append(slices.Clone(values), v)
	return values[max(0, len(values)-n):]
}

// share is the value that a share of the values does not exceed.
func share(values []float64, part float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(math.Ceil(part*float64(len(sorted))))-1]
}
