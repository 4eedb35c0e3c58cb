package resilience

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Sample is how a server was at one moment, as far as a migration can harm it.
type Sample struct {
	At          time.Time `json:"at"`
	BlockedMS   float64   `json:"blocked_ms"`        // longest wait of a session for a batch of ours
	Blocked     int       `json:"blocked"`           // sessions that wait for one
	Waiters     int       `json:"waiters"`           // sessions that wait for any lock
	ProbeMS     float64   `json:"probe_ms"`          // p95 of reading one chunk by its id
	Replicas    int       `json:"replicas"`          // attached
	Unreadable  int       `json:"unreadable"`        // of these, ones whose lag our role may not see
	LagMS       float64   `json:"lag_ms"`            // of the slowest replica
	LagBytes    float64   `json:"lag_bytes"`         // likewise
	WALBytes    float64   `json:"wal_bytes"`         // written since the server was made
	WALRate     float64   `json:"wal_rate"`          // bytes a second since the sample before; less than 0: there is none
	Connections float64   `json:"connections"`       // share of max_connections in use
	Dead        float64   `json:"dead_tuples"`       // row versions of the memory's table that await VACUUM
	Live        float64   `json:"live_tuples"`       // likewise, living rows
	OwnMS       float64   `json:"own_p95_ms"`        // p95 of our own batches since the sample before; 0: there were none
	Failure     string    `json:"failure,omitempty"` // why no newer sample could be taken
}

// Since works out the rates between an earlier sample and this one.
func (s Sample) Since(before Sample) Sample {
	s.WALRate = -1
	if passed := s.At.Sub(before.At).Seconds(); !before.At.IsZero() && passed > 0 {
		s.WALRate = max(0, s.WALBytes-before.WALBytes) / passed
	}
	return s
}

// Baseline is how a server was before a migration had an effect on it.
type Baseline struct {
	At      time.Time `json:"at"`
	ProbeMS float64   `json:"probe_ms"`
	Waiters int       `json:"waiters"`
	WALRate float64   `json:"wal_rate"`
	OwnMS   float64   `json:"own_p95_ms"` // of the first batches; 0: there were none yet
	// Replicas that were attached: one that stops is not seen any more.
	Replicas int `json:"replicas,omitempty"`
	// GoneSince is since when there are fewer; zero: there are not.
	GoneSince time.Time `json:"gone_since,omitzero"`
}

// Limits are the values above which a migration keeps off a server. Each has a
// lower one, from which on it does not grow and rests longer.
type Limits struct {
	BlockedMS float64       `json:"blocked_ms"` // of a session's wait for us
	Waiters   int           `json:"waiters"`    // at least; twice the baseline is free
	ProbeMS   float64       `json:"probe_ms"`   // whatever the baseline
	LagMS     float64       `json:"lag_ms"`
	LagBytes  float64       `json:"lag_bytes"`
	WALBudget float64       `json:"wal_budget"`  // bytes a second beyond the baseline, of which four fifths may be used
	Connected float64       `json:"connections"` // share of max_connections
	DeadShare float64       `json:"dead_share"`  // of the table's row versions
	DeadRows  float64       `json:"dead_rows"`   // at least; fewer are for autovacuum to ignore
	OwnMS     float64       `json:"own_ms"`      // p95 of a batch that is always free
	Age       time.Duration `json:"age"`         // of a sample
}

// DefaultLimits are those of a plan that says nothing of its own.
func DefaultLimits() Limits {
	return Limits{
		BlockedMS: 1000, Waiters: 5, ProbeMS: 250, LagMS: 5000, LagBytes: 256 << 20, WALBudget: 32 << 20,
		Connected: 0.85, DeadShare: 0.2, DeadRows: 1000, OwnMS: 4 * float64(GradualAim.Target.Milliseconds()), Age: 15 * time.Second,
	}
}

// LateLimits are those of a group that comes last in its plan: the dead rows that
// it meets are those of the groups before it, and can wait for autovacuum.
func LateLimits() Limits {
	limits := DefaultLimits()
	limits.DeadShare = 1
	return limits
}

// GateName names a reason to wait.
type GateName string

// The gates.
const (
	SampleGate      GateName = "sample"      // nothing new is known of the server
	BlockedGate     GateName = "blocked"     // sessions wait for our batches
	WaitersGate     GateName = "waiters"     // sessions wait for locks
	ProbeGate       GateName = "probe"       // reads of the memory are slow
	ReplicaGate     GateName = "replica_lag" // replicas fall behind
	WALGate         GateName = "wal_rate"    // much is written
	ConnectionsGate GateName = "connections" // few are left
	DeadGate        GateName = "dead_tuples" // VACUUM is behind
	OwnGate         GateName = "own_latency" // our batches are slow
	HoursGate       GateName = "hours"       // not at this time of the day
)

// GateState says whether a gate lets a migration through.
type GateState string

// The states of a gate.
const (
	GateOpen         GateState = "open"
	GateNear         GateState = "near" // its limit: through, but no faster
	GateShut         GateState = "shut"
	GateNotAvailable GateState = "not_available" // the signal does not apply here
)

// Gate is one signal as it was judged.
type Gate struct {
	Name   GateName  `json:"gate"`
	State  GateState `json:"state"`
	Value  float64   `json:"value"`
	Limit  float64   `json:"limit"` // above which it shuts
	Detail string    `json:"detail"`
	Since  time.Time `json:"since,omitzero"` // it is in this state
	Good   int       `json:"good,omitempty"` // samples well below the limit, one after another, since it shut
}

// Judge compares a sample with the limits and returns every gate, in their
// order. An old sample shuts the first of them, whatever it says, and so does
// one from the future.
func Judge(now time.Time, s Sample, b Baseline, l Limits) []Gate {
	mib := func(bytes float64) string { return fmt.Sprintf("%.1f MiB", bytes/(1<<20)) }
	age := now.Sub(s.At)
	stale := fmt.Sprintf("the newest look at the server is %s old", age.Round(time.Second))
	switch {
	case s.At.IsZero():
		age, stale = l.Age+1, "no look at the server has succeeded"
	case age < 0: // the clock was put back since, and nobody knows how old it is
		age, stale = max(-age, l.Age+1), fmt.Sprintf("the newest look at the server is %s ahead of the clock, which was put back", -age.Round(time.Second))
	}
	if s.Failure != "" {
		stale += ": " + s.Failure
	}
	waiters := float64(max(l.Waiters, 2*b.Waiters))
	probe := max(1.5*b.ProbeMS, min(l.ProbeMS, max(3*b.ProbeMS, b.ProbeMS+10))) // where reads take less than a millisecond, three times that is noise
	gates := []Gate{
		gauge(SampleGate, age.Seconds(), l.Age.Seconds(), l.Age.Seconds(), stale),
		gauge(BlockedGate, s.BlockedMS, nearlyBlocked(l), l.BlockedMS,
			fmt.Sprintf("%d sessions wait for a batch of ours, the longest for %.0f ms", s.Blocked, s.BlockedMS)),
		gauge(WaitersGate, float64(s.Waiters), min(waiters, float64(b.Waiters+3)), waiters,
			fmt.Sprintf("%d sessions wait for locks; %d did before", s.Waiters, b.Waiters)),
		gauge(ProbeGate, s.ProbeMS, min(probe, max(1.5*b.ProbeMS, b.ProbeMS+3)), probe,
			fmt.Sprintf("reading one chunk takes %.1f ms (p95); it took %.1f before", s.ProbeMS, b.ProbeMS)),
		replicaGate(s, b, l, mib),
		walGate(s, b, l, mib),
		gauge(ConnectionsGate, s.Connections, l.Connected*0.82, l.Connected,
			fmt.Sprintf("%.0f %% of the server's connections are in use", 100*s.Connections)),
		deadGate(s, l),
	}
	if s.OwnMS == 0 {
		return append(gates, notAvailable(OwnGate, "no batch was measured yet"))
	}
	return append(gates, gauge(OwnGate, s.OwnMS, max(2*b.OwnMS, l.OwnMS/2), max(4*b.OwnMS, l.OwnMS),
		fmt.Sprintf("our batches take %.0f ms (p95); the first took %.0f", s.OwnMS, b.OwnMS)))
}

// gauge is a gate that shuts above a limit and warns above a lower one.
func gauge(name GateName, value, near, limit float64, detail string) Gate {
	g := Gate{Name: name, State: GateOpen, Value: value, Limit: limit, Detail: detail}
	switch {
	case value > limit || math.IsNaN(value):
		g.State = GateShut
	case value > near:
		g.State = GateNear
	}
	return g
}

func notAvailable(name GateName, why string) Gate {
	return Gate{Name: name, State: GateNotAvailable, Detail: why}
}

// goneFor is how long a replica that was attached is waited for, until it is taken for one
// that was removed.
const goneFor = 15 * time.Minute

// replicaGate takes the worse of time and bytes, each as a share of its limit.
func replicaGate(s Sample, b Baseline, l Limits, mib func(float64) string) Gate {
	switch {
	case s.Replicas < b.Replicas:
		return Gate{Name: ReplicaGate, State: GateShut, Value: 1, Detail: fmt.Sprintf(
			"%d of %d replicas are not attached any more; for %.0f minutes it waits for them", b.Replicas-s.Replicas, b.Replicas, goneFor.Minutes())}
	case s.Replicas == 0:
		return notAvailable(ReplicaGate, "no replica is attached")
	case s.Unreadable > 0:
		return Gate{Name: ReplicaGate, State: GateShut, Value: 1, Detail: fmt.Sprintf(
			"%d replicas are attached whose lag cannot be seen; grant pg_monitor to the role rehome connects with", s.Unreadable)}
	}
	worse := max(s.LagMS/l.LagMS, s.LagBytes/l.LagBytes)
	return gauge(ReplicaGate, worse, 0.25, 1, fmt.Sprintf("the slowest of %d replicas is %.1f s and %s behind", s.Replicas, s.LagMS/1000, mib(s.LagBytes)))
}

func walGate(s Sample, b Baseline, l Limits, mib func(float64) string) Gate {
	if s.WALRate < 0 {
		return notAvailable(WALGate, "it takes two looks")
	}
	return gauge(WALGate, max(0, s.WALRate-b.WALRate), 0.5*l.WALBudget, 0.8*l.WALBudget,
		fmt.Sprintf("%s of WAL are written a second; %s were before", mib(s.WALRate), mib(b.WALRate)))
}

func deadGate(s Sample, l Limits) Gate {
	if s.Dead+s.Live == 0 {
		return notAvailable(DeadGate, "Postgres has no statistics of the table yet")
	}
	share := s.Dead / (s.Dead + s.Live)
	detail := fmt.Sprintf("%.0f %% of the table's row versions are dead (%.0f); VACUUM the table", 100*share, s.Dead)
	if s.Dead < l.DeadRows {
		share = 0
	}
	return gauge(DeadGate, share, l.DeadShare/2, l.DeadShare, detail)
}

// Hysteresis: a gate that is shut opens after so many good samples one after
// another, each at most this share of its limit.
const (
	goodSamples = 3
	goodShare   = 0.8
)

// Follow carries over from the gates as they were to those just judged: since
// when each is in its state, and that one which shut stays so until the signal
// was good for a while.
func Follow(before, judged []Gate, now time.Time) []Gate {
	gates := slices.Clone(judged)
	for i := range gates {
		g := &gates[i]
		g.Since = now
		at := slices.IndexFunc(before, func(b Gate) bool { return b.Name == g.Name })
		if at < 0 {
			continue
		}
		was := before[at]
		if was.State == GateShut && g.State != GateShut && g.Name != SampleGate && g.Name != HoursGate {
			if g.State == GateNotAvailable || g.Value <= goodShare*g.Limit {
				g.Good = was.Good + 1
			}
			if g.Good < goodSamples {
				g.State = GateShut
			}
		}
		if was.State == g.State && was.Since.Before(now) { // or the clock was put back
			g.Since = was.Since
		}
		if g.State != GateShut {
			g.Good = 0
		}
	}
	return gates
}

// Shut returns the gates that keep a migration waiting.
func Shut(gates []Gate) []Gate {
	return slices.DeleteFunc(slices.Clone(gates), func(g Gate) bool { return g.State != GateShut })
}

// calmAfter is how long every gate has to be open before batches may grow.
const calmAfter = 15 * time.Second

// Calm reports whether every signal has been far from its limit for a while.
func Calm(gates []Gate, now time.Time) bool {
	return !slices.ContainsFunc(gates, func(g Gate) bool {
		return g.State != GateNotAvailable && (g.State != GateOpen || now.Sub(g.Since) < calmAfter)
	})
}

// Waits is what is known of the sessions that batches keep waiting, from looks at
// them. The zero value has seen none.
type Waits struct {
	Last time.Time `json:"last,omitzero"` // that one was seen to wait for long
}

// Seen takes a look into account: how long, in milliseconds, the session waits that
// has waited longest; 0 when none does.
func (w Waits) Seen(now time.Time, ms float64) Waits {
	if ms > nearlyBlocked(DefaultLimits()) {
		w.Last = now
	}
	return w
}

// Calm reports whether nobody was seen to wait for long for a while, so that batches
// may grow.
func (w Waits) Calm(now time.Time) bool { return now.Sub(w.Last) >= calmAfter }

// nearlyBlocked is the wait of a session for us, in milliseconds, above which
// batches do not grow.
func nearlyBlocked(l Limits) float64 { return l.BlockedMS / 5 }

// Strained reports whether a gate is shut or near its limit.
func Strained(gates []Gate) bool {
	return slices.ContainsFunc(gates, func(g Gate) bool { return g.State == GateShut || g.State == GateNear })
}

// Nice is how many times as long as it worked a migration that looks at the server
// rests, which usually is so many times: longer while a signal is near its limit.
func Nice(usual float64, gates []Gate) float64 {
	if Strained(gates) {
		return max(2*usual, GradualNice)
	}
	return usual
}

// Reasons says why a migration waits, each reason with its start.
func Reasons(gates []Gate) string {
	shut := Shut(gates)
	words := make([]string, len(shut))
	for i, g := range shut {
		words[i] = fmt.Sprintf("%s (since %s)", g.Detail, g.Since.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	return strings.Join(words, "; ")
}
