package resilience

import (
	"cmp"
	"slices"
	"time"
)

// Pulse is what a slice measured of its batches, and the size it came to.
type Pulse struct {
	Batches   int        `json:"batches"`
	Rows      int64      `json:"rows"`
	ActiveMS  float64    `json:"active_ms"`            // server time of all batches, failed ones too
	LockMS    float64    `json:"lock_ms,omitempty"`    // that they waited for locks beside, as far as it was seen
	P95MS     float64    `json:"p95_ms"`               // of one batch with its waits for locks, in the stretch between two looks in which that was most
	Blocked   int        `json:"blocked,omitempty"`    // most sessions that waited for a batch at once
	BlockedMS float64    `json:"blocked_ms,omitempty"` // longest such wait
	Trouble   Trouble    `json:"trouble,omitempty"`    // of the last batch that failed
	Adjusted  Adjustment `json:"adjusted,omitzero"`    // last change of the batch size
	Servo     Servo      `json:"servo"`
}

// And is two stretches of one slice together.
func (p Pulse) And(later Pulse) Pulse {
	return Pulse{
		Batches: p.Batches + later.Batches, Rows: p.Rows + later.Rows, ActiveMS: p.ActiveMS + later.ActiveMS,
		LockMS: p.LockMS + later.LockMS, P95MS: max(p.P95MS, later.P95MS), Blocked: max(p.Blocked, later.Blocked), BlockedMS: max(p.BlockedMS, later.BlockedMS),
		Trouble: cmp.Or(later.Trouble, p.Trouble), Adjusted: cmp.Or(later.Adjusted, p.Adjusted), Servo: later.Servo,
	}
}

// Health is what a plan knows of its server. It is a value that travels from
// one look to the next.
type Health struct {
	Sample   Sample   `json:"sample"`
	Baseline Baseline `json:"baseline"`
	Gates    []Gate   `json:"gates,omitempty"`
}

// HealthCheck is what a look at a server came to: the health, with every gate, and
// what keeps the plan waiting.
type HealthCheck struct {
	Health Health    `json:"health"`
	Shut   []Gate    `json:"shut,omitempty"`
	At     time.Time `json:"at"`             // when this was so, by the clock that the hours go by
	Opens  time.Time `json:"opens,omitzero"` // when its hours begin; zero: they have
	Calm   bool      `json:"calm,omitempty"` // every signal has been far from its limit for a while
}

// Rules are what a plan's health is judged by.
type Rules struct {
	Limits Limits
	Hours  Hours
}

// judge returns every gate, that of the hours too where there are some.
func (r Rules) judge(now time.Time, s Sample, b Baseline) []Gate {
	gates := Judge(now, s, b, r.Limits)
	if len(r.Hours.spans) == 0 {
		return gates
	}
	g := Gate{Name: HoursGate, State: GateOpen, Detail: "within the hours of this plan"}
	if !r.Hours.Open(now) {
		g.State, g.Detail = GateShut, "outside the hours of this plan, until "+r.Hours.Next(now).UTC().Format("2006-01-02 15:04 MST")
	}
	return append(gates, g)
}

// First is the health after two looks at a server that the plan has not touched
// yet; they are its baseline.
func (h Health) First(now time.Time, one, two Sample, r Rules) Health {
	two = two.Since(one)
	h.Sample, h.Baseline = two, Baseline{
		At: two.At, ProbeMS: max(one.ProbeMS, two.ProbeMS), Waiters: max(one.Waiters, two.Waiters), WALRate: max(0, two.WALRate), Replicas: min(one.Replicas, two.Replicas),
	}
	h.Gates = Follow(h.Gates, r.judge(now, h.Sample, h.Baseline), now)
	return h
}

// After is the health after another look at the server, and a slice.
func (h Health) After(now time.Time, s Sample, p *Pulse, r Rules) Health {
	s = s.Since(h.Sample)
	if p != nil && p.Batches > 0 {
		s.OwnMS, s.Blocked, s.BlockedMS = p.P95MS, max(s.Blocked, p.Blocked), max(s.BlockedMS, p.BlockedMS)
		if h.Baseline.OwnMS == 0 && p.Trouble == NoTrouble {
			h.Baseline.OwnMS = p.P95MS
		}
	}
	h.Baseline = h.Baseline.missing(now, s.Replicas)
	h.Sample, h.Gates = s, Follow(h.Gates, r.judge(now, s, h.Baseline), now)
	return h
}

// missing is the baseline after so many replicas were seen. One that stays away for long
// was removed, and one that came is missed when it stops.
func (b Baseline) missing(now time.Time, attached int) Baseline {
	switch {
	case attached >= b.Replicas:
		b.Replicas, b.GoneSince = attached, time.Time{}
	case b.GoneSince.IsZero():
		b.GoneSince = now
	case now.Sub(b.GoneSince) >= goneFor:
		b.Replicas, b.GoneSince = attached, time.Time{}
	}
	return b
}

// Vacuumed is the health after the table was vacuumed. What shut the gate of the
// dead row versions has been mended, so one good look is enough to open it.
func (h Health) Vacuumed() Health {
	h.Gates = slices.Clone(h.Gates)
	for i := range h.Gates {
		if h.Gates[i].Name == DeadGate {
			h.Gates[i].Good = goodSamples - 1
		}
	}
	return h
}

// Unseen is the health after a look that failed: what is known gets old.
func (h Health) Unseen(now time.Time, why string, r Rules) Health {
	h.Sample.Failure = why
	h.Gates = Follow(h.Gates, r.judge(now, h.Sample, h.Baseline), now)
	return h
}
