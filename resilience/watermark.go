package resilience

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
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

// Pace bounds how fast a plan moves. As an order it leaves as it is what is nil.
type Pace struct {
	Rate      *float64 `json:"rate,omitempty"`       // rows a second; 0 is unlimited
	BatchSize *int     `json:"batch_size,omitempty"` // rows in one transaction; 0 is the plan's own size
	Author    string   `json:"author,omitempty"`
	Expires   Seconds  `json:"expires,omitempty"` // after so many seconds the plan's own is in force again, in place of what the order says; 0: never
}

// Throttle is the pace that people asked for while the plan ran: what is nil is the plan's
// own. Rate and batch size may be of two orders, and end each in its time.
type Throttle struct {
	Pace
	Until      *time.Time `json:"until,omitempty"`       // from then on the plan's own rate is in force again; nil: never
	BatchUntil *time.Time `json:"batch_until,omitempty"` // likewise of the batch size
}

// Seconds is a duration as a person writes it into JSON.
type Seconds float64

// Seconds of it.
func (s Seconds) Seconds() float64 { return float64(s) }

// Check refuses a pace that cannot be kept.
func (p Pace) Check() error {
	if p.Rate == nil && p.BatchSize == nil {
		return errors.New("a pace without anything in it: want a rate, a batch size or both")
	}
	if r := p.rate(); r < 0 || r != r {
		return fmt.Errorf("rate %v: want rows a second, 0 for no bound", r)
	}
	if p.Expires < 0 || p.Expires != p.Expires {
		return fmt.Errorf("expiry after %v seconds: want more than 0, or 0 for never", float64(p.Expires))
	}
	if b := p.batchSize(); b < 0 || b > MaxBatchSize {
		return fmt.Errorf("batch size %d: want 1 to %d rows, 0 for the usual size", b, MaxBatchSize)
	}
	return nil
}

// rate is the bound that a pace sets; 0 where it sets none.
func (p Pace) rate() float64 {
	if p.Rate == nil {
		return 0
	}
	return *p.Rate
}

// batchSize is likewise.
func (p Pace) batchSize() int {
	if p.BatchSize == nil {
		return 0
	}
	return *p.BatchSize
}

// String says the pace in words.
func (p Pace) String() string {
	var words []string
	switch {
	case p.rate() > 0:
		words = append(words, fmt.Sprintf("%g rows a second", *p.Rate))
	case p.Rate != nil:
		words = append(words, "no bound on the rate")
	}
	switch {
	case p.batchSize() > 0:
		words = append(words, fmt.Sprintf("%d rows a batch", *p.BatchSize))
	case p.BatchSize != nil:
		words = append(words, "batches of the usual size")
	}
	if p.Expires > 0 {
		words = append(words, "for "+time.Duration(float64(p.Expires)*float64(time.Second)).String())
	}
	return strings.Join(words, ", ")
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
// An undo has its size from the plan that it undoes, asked for or not.
func (p *Policy) ApplyDefaults(s Settings, undo bool) {
	if !undo {
		p.Sized = p.BatchSize > 0
	}
	p.BatchSize = cmp.Or(p.BatchSize, s.MigrationBatchSize)
	p.ByAnother = s.ApproveByAnother
}
