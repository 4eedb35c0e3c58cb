package resilience

import (
	"cmp"
	"fmt"
	"slices"
)

// Check refuses a policy that cannot be carried out by a strategy. It is of what was
// asked for, before defaults are filled in.
func (p Policy) Check(by Strategy) error {
	if p.OnFailure != "" {
		if _, err := ParseOnFailure(string(p.OnFailure)); err != nil {
			return err
		}
	}
	switch {
	case p.GroupSize < 0:
		return fmt.Errorf("group size %d: want rows of a group, 0 for %d", p.GroupSize, int64(DefaultGroupSize))
	case p.GroupSize > 0 && p.OnFailure != UndoGroup:
		return fmt.Errorf("group size %d: only the failure policy %s has groups", p.GroupSize, UndoGroup)
	case p.Way != "" && !slices.Contains(Ways(), p.Way):
		return fmt.Errorf("way %q: want one of update, turns, trickle, alias_only, rebuild", p.Way)
	case p.Way != "" && by != Intelligent:
		return fmt.Errorf("way %s: only the strategy %s chooses among ways, not %s", p.Way, Intelligent, by)
	case p.Hours != "" && by != Gradual:
		return fmt.Errorf("hours %q: only the strategy %s waits for hours, not %s", p.Hours, Gradual, by)
	case p.Rate > 0 && by == Immediate:
		return fmt.Errorf("rate %g: the strategy %s moves all in one transaction, and keeps to no rate; %s does", p.Rate, Immediate, Batch)
	case p.BatchSize > 0 && by == Immediate:
		return fmt.Errorf("batch size %d: the strategy %s moves all in one transaction, of whatever size; %s has batches", p.BatchSize, Immediate, Batch)
	}
	if _, err := ParseHours(p.Hours); err != nil {
		return err
	}
	return Pace{Rate: &p.Rate, BatchSize: &p.BatchSize}.Check()
}

// Lasting is the policy of a plan as operators have changed it for good.
func (p Plan) Lasting() Policy {
	policy := p.Policy
	t := p.Throttle
	if t == nil {
		return policy
	}
	if t.Rate != nil && t.Until == nil {
		policy.Rate = *t.Rate
	}
	if t.BatchUntil == nil {
		policy.BatchSize = cmp.Or(t.batchSize(), policy.BatchSize)
	}
	return policy
}

// CheckStrategy refuses to let a plan go on by a strategy that would not keep what
// was asked of it, and says what to do. The size of batches is no matter: it is
// with each plan, asked for or not, and each strategy has its own use for it.
func (p Plan) CheckStrategy(next Strategy) error {
	asked := p.Policy
	asked.BatchSize = 0
	if p.Undoes != "" { // nobody asked for hours of it: they are those of the plan that it undoes
		asked.Hours = ""
	}
	if t := p.Throttle; t != nil {
		asked.BatchSize = t.batchSize()
		if t.rate() > 0 || t.Rate != nil && t.Until == nil { // else the plan's own rate comes back
			asked.Rate = *t.Rate
		}
	}
	err := asked.Check(next)
	if err == nil {
		return nil
	}
	var lift string
	if asked.Rate > 0 {
		lift += " --rate 0"
	}
	if asked.BatchSize > 0 {
		lift += " --batch-size 0"
	}
	if next == Immediate && lift != "" {
		return fmt.Errorf("migration %s stays with %s: %w; once it moves, pause it and lift its pace for good, `starter migration throttle %s%s`, or leave the strategy as it is", p.ID, p.Strategy, err, p.ID, lift)
	}
	return fmt.Errorf("migration %s stays with %s: %w; to do without, put it back with `starter migration abort %s` and plan it anew, or leave the strategy as it is", p.ID, p.Strategy, err, p.ID)
}

// CheckThrottle refuses a pace that a plan's strategy does not keep to. One without
// bounds is always fine.
func (p Pace) CheckThrottle(plan string, by Strategy) error {
	if err := (Policy{Rate: p.rate(), BatchSize: p.batchSize()}).Check(by); err != nil {
		return fmt.Errorf("migration %s is not throttled: %w; pause it, let it go on by that with `starter migration strategy %s %s`, and throttle it then", plan, err, plan, Batch)
	}
	return nil
}

// ToUndo is the policy of the undo of a plan that went by a strategy: as it went, at
// its rate and in its hours. What becomes of an undo of which a batch fails is its
// own, and so is its way.
func (p Policy) ToUndo(by Strategy) Policy {
	undo := Policy{BatchSize: p.BatchSize, Sized: p.Sized, Rate: p.Rate, Hours: p.Hours}
	if by == Immediate { // a rate it has was lifted before the plan became immediate
		undo.Rate = 0
	}
	if by != Gradual {
		undo.Hours = ""
	}
	return undo
}
