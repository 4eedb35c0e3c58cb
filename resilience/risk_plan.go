package resilience

import (
	"cmp"
	"fmt"
	"time"
)

// Assessment is what planning finds out about a plan beside its moves.
type Assessment struct {
	Physics  Physics
	Way      Way
	Risk     Risk
	Estimate Estimate
	Refusal  string // why it must not be carried out as it was asked for; empty: it may
}

// Assess judges a plan by the facts and by past runs alike, newest first. How slow the
// server is, they say where the facts do not.
func (p Plan) Assess(f Facts, past []PastRun) Assessment {
	p.Physics, p.Way = f.Physics, f.Way
	expected := Expect(p.ByRuleMS(), p.Moves, p.Memory, past)
	f.Effort.Slowness = cmp.Or(f.Effort.Slowness, p.Slowness(past))
	expected = p.withWaits(expected)
	expected.Ways = p.ways(f)
	a := Assessment{Physics: f.Physics, Way: f.Way, Risk: Assess(f), Estimate: expected}
	if p.Undoes == "" { // what was done can be undone, whatever it takes
		a.Refusal = f.Refusal()
	}
	return a
}

// Slowness is how many times its cost by rule a plan takes, going by past runs alike.
func (p Plan) Slowness(past []PastRun) float64 {
	byRule := p.ByRuleMS()
	return float64(Expect(byRule, p.Moves, p.Memory, past).P50MS) / float64(byRule)
}

// Unapproved says why a person has to say yes before a plan goes on at another
// risk. It is empty when nobody has to: the yes to a plan holds while the level of
// its risk does not rise.
func (p Plan) Unapproved(next Risk) string {
	approved := p.Approval != nil && p.Approval.Hash == p.Hash
	switch {
	case p.Undoes != "" || !next.NeedsApproval() || approved && !next.above(p.Risk):
		return ""
	case approved:
		return fmt.Sprintf("by %s it is %s (%d of 100)", p.Strategy, p.Risk.Level, p.Risk.Score)
	}
	return "nobody has approved it"
}

// MayApprove refuses the yes of who ordered a plan, where somebody else has to say it.
// Names are taken on trust.
func (p Policy) MayApprove(author string) error {
	if p.ByAnother && author == p.Author {
		return fmt.Errorf("%s ordered it, and the setting approve_by_another wants the yes of somebody else", author)
	}
	return nil
}

// GoingOn are the facts of a plan whose way was decided on, under the strategy that it
// has now.
func (p Plan) GoingOn(f Facts) Facts {
	f.Way = p.Way
	switch {
	case p.Way == Rebuild: // the indexes may be away
		f.Physics = p.Physics
	case p.Strategy != Intelligent && (p.Way == Turns || p.Way == Trickle): // only its batches go so
		f.Way = Update
	}
	return f
}

// ways are all that there are, each with what the whole plan would take by it, as
// slow as the facts say, or why it is closed. Intelligent is the strategy that
// chooses among them. A transfer has no choice: its rows are new ones.
func (p Plan) ways(f Facts) []WayCost {
	all := p.Physics.Ways(f.Effort)
	if p.Kind == Transfer {
		all = []WayCost{{Way: p.Way, Rate: f.Effort.Rate, Note: "rows are copied, and the old ones are taken away after the switch"}}
	}
	c := Circumstances{
		Physics: p.Physics, Undoing: p.Undoes != "", Late: p.Status != Pending,
		Settled: f.Settled || p.Status != Pending && p.Status != Queued,
	}
	for i := range all {
		w := &all[i]
		if w.Closed == "" {
			w.Closed = c.bars(w.Way)
		}
		by := p
		by.Way, w.Taken = w.Way, w.Way == p.Way
		w.MS = by.pacedMS(toMS(float64(by.ByRuleMS())*f.Effort.slowness())) + by.soakMS()
	}
	return all
}

// ByRuleMS is what the work of a plan costs from its start to its end as the rules
// have it, before anything was learned: that of its way, as its strategy goes about
// it. A transfer copies each row and later retires it, which is the work of
// transferWork updates. What a plan waits for is no work: see withWaits.
func (p Plan) ByRuleMS() int64 {
	effort := p.Strategy.Effort(p.Moves, p.Policy)
	effort.Rate = 0
	if p.Kind == Transfer {
		effort.Slowness = transferWork
	}
	cost := max(1, p.Physics.Cost(p.Way, effort).MS)
	if p.Strategy == Gradual {
		cost = GradualTime(msDuration(cost)).Milliseconds()
	}
	return cost
}

// withWaits makes of the time that the work of a plan is expected to take that of the
// plan. A wait is as long on a slow server as on a fast one.
func (p Plan) withWaits(work Estimate) Estimate {
	p50, p90 := p.pacedMS(work.P50MS), p.pacedMS(work.P90MS)
	p90 = max(p90, toMS(narrowSpread*float64(p50)))
	work.P50MS, work.P90MS = p50+p.soakMS(), p90+p.soakMS()
	return work
}

// pacedMS is how long work takes that goes no faster than its plan's rate.
func (p Plan) pacedMS(work int64) int64 {
	if pace := p.paceMS(); pace > 0 {
		return max(work, aroundMS+pace)
	}
	return work
}

// soakMS is how long the chunks of a transfer stand in both memories.
func (p Plan) soakMS() int64 {
	if p.Transfer == nil || p.Transfer.Back {
		return 0
	}
	return p.Transfer.Lasts().Milliseconds()
}

// paceMS is how long the rows of a plan take at least at its rate, which a transfer keeps
// to when it copies them and again when it retires them.
func (p Plan) paceMS() int64 {
	if p.Policy.Rate <= 0 {
		return 0
	}
	rows := float64(p.Moves)
	if p.Kind == Transfer {
		rows *= 2
	}
	pace := toMS(1000 * rows / p.Policy.Rate)
	if p.Strategy == Gradual {
		pace = withSoaks(msDuration(pace)).Milliseconds()
	}
	return pace
}

// heldUp is how many times the time that its rate allows a run has to take before it was
// the server that set its pace.
const heldUp = 1.5

// Teaches reports whether the time that a run of a plan took says what its work costs:
// not where it was the rate that made it so long.
func (p Plan) Teaches(tookMS float64) bool { return tookMS > heldUp*float64(p.paceMS()) }

// msDuration is so many milliseconds, within what a duration holds with its soaks.
func msDuration(ms int64) time.Duration {
	const most = int64(1e12)
	return time.Duration(min(ms, most)) * time.Millisecond
}

// transferWork was measured: an INSERT costs 1.4 times what an UPDATE does, a
// DELETE half of that, and both are verified.
const transferWork = 2.5
