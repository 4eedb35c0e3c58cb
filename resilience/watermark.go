package resilience

import (
	"cmp"
	"fmt"
	"time"
)

// Wish is what the operator wants of a running plan. The next batch reads it.
type Wish string

// The wishes.
const (
	WishRun   Wish = "run"
	WishPause Wish = "pause"
	WishUndo  Wish = "undo"
)

// Watermark says how far a plan has come: rows 1 to Last of Total are at their
// new place, or are exceptions.
type Watermark struct {
	Last     int64   `json:"last"`
	Total    int64   `json:"total"`
	Epoch    int64   `json:"epoch"` // raised when a plan is turned round; a writer with an older one is fenced
	Wish     Wish    `json:"wish"`
	Rate     float64 `json:"rate"` // rows a second; 0 is unlimited
	Drifted  int64   `json:"drifted"`
	Vanished int64   `json:"vanished"`
	Pulse    *Pulse  `json:"pulse,omitempty"` // of the slice that came here, when it measured itself
	Pace     string  `json:"pace,omitempty"`  // how the batches of a group go, in words, where they adapt

	Check *HealthCheck `json:"check,omitempty"` // the look with which that slice ended, when it minded the server's health
}

// Pace bounds how fast a plan moves.
type Pace struct {
	Rate      float64 `json:"rate"`                 // rows a second; 0 is unlimited
	BatchSize int     `json:"batch_size,omitempty"` // rows in one transaction; 0 leaves it as it is
	Author    string  `json:"author,omitempty"`
	Expires   Seconds `json:"expires,omitempty"` // after so many seconds the plan's own pace is in force again; 0: never
}

// Throttle is a pace that somebody asked for while the plan ran.
type Throttle struct {
	Pace
	Until *time.Time `json:"until,omitempty"` // from then on the plan's own pace is in force again; nil: never
}

// Seconds is a duration as a person writes it into JSON.
type Seconds float64

// Seconds of it.
func (s Seconds) Seconds() float64 { return float64(s) }

// Check refuses a pace that cannot be kept.
func (p Pace) Check() error {
	if p.Rate < 0 || p.Rate != p.Rate {
		return fmt.Errorf("rate %v: want rows a second, 0 for no bound", p.Rate)
	}
	if p.Expires < 0 || p.Expires != p.Expires {
		return fmt.Errorf("expiry after %v seconds: want more than 0, or 0 for never", float64(p.Expires))
	}
	if p.BatchSize < 0 || p.BatchSize > MaxBatchSize {
		return fmt.Errorf("batch size %d: want 1 to %d rows, 0 to leave it", p.BatchSize, MaxBatchSize)
	}
	return nil
}

// String says the pace in words.
func (p Pace) String() string {
	rate := "no bound on the rate"
	if p.Rate > 0 {
		rate = fmt.Sprintf("%g rows a second", p.Rate)
	}
	if p.BatchSize > 0 {
		rate += fmt.Sprintf(", %d rows a batch", p.BatchSize)
	}
	if p.Expires > 0 {
		rate += fmt.Sprintf(", for %s", time.Duration(float64(p.Expires)*float64(time.Second)))
	}
	return rate
}

// Somebody is who ordered what nobody says to have ordered: by a form of the web UI that
// was left empty, say. It is kept apart from what a plan does by itself.
const Somebody = "an operator"

// Event is one thing that happened to a plan.
type Event struct {
	At     time.Time `json:"at"`
	What   string    `json:"event"`
	Author string    `json:"author,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// ApplyDefaults fills in what was not said, and what is not for who orders a plan to say.
func (p *Policy) ApplyDefaults(s Settings) {
	p.BatchSize = cmp.Or(p.BatchSize, s.MigrationBatchSize)
	p.ByAnother = s.ApproveByAnother
}
