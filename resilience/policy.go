package resilience

import (
	"fmt"
	"slices"
)

// Check refuses a policy that cannot be carried out by a strategy.
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
	}
	if _, err := ParseHours(p.Hours); err != nil {
		return err
	}
	return Pace{Rate: p.Rate, BatchSize: p.BatchSize}.Check()
}

// ToUndo is the policy of the undo of a plan that went by a strategy: as it went, at
// its rate and in its hours. What becomes of an undo of which a batch fails is its
// own, and so is its way.
func (p Policy) ToUndo(by Strategy) Policy {
	undo := Policy{BatchSize: p.BatchSize, Rate: p.Rate, Hours: p.Hours}
	if by == Immediate { // a rate it has was lifted before the plan became immediate
		undo.Rate = 0
	}
	if by != Gradual {
		undo.Hours = ""
	}
	return undo
}
