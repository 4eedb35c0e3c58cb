package resilience

import (
	"fmt"
	"strings"
)

// ConflictKind says why a plan cannot be carried out as it was asked for.
type ConflictKind string

// The kinds of conflict.
const (
	TargetTaken     ConflictKind = "target_taken"     // chunks of another file are there, above it or below it
	DuplicateTarget ConflictKind = "duplicate_target" // two go to one place
	Lookalike       ConflictKind = "lookalike"        // as either of these, but for case or Unicode form
	OtherPlan       ConflictKind = "other_plan"       // another live plan owns the chunks
	NoSource        ConflictKind = "no_source"        // nothing is at or under the source
	NestedScope     ConflictKind = "nested_scope"     // source and target lie in one another
	SamePath        ConflictKind = "same_path"        // source equal to target
	TooLong         ConflictKind = "too_long"         // the column of paths does not take the target
)

// KeptConflicts is how many conflicts of a plan are kept. All are counted.
const KeptConflicts = 1000

// Conflict is one reason why a plan cannot be carried out.
type Conflict struct {
	Kind   ConflictKind `json:"kind"`
	Source string       `json:"source"`
	Target string       `json:"target"`
	Detail string       `json:"detail"` // the reason in words
}

// Explain words a conflict. What stands in the way is another path, for OtherPlan
// the other migration, and for TooLong the type of the column.
func (c Conflict) Explain(inTheWay string) string {
	switch c.Kind {
	case TargetTaken:
		return fmt.Sprintf("%s cannot go to %s: the target is taken, there already are chunks of %s", c.Source, c.Target, inTheWay)
	case DuplicateTarget:
		return fmt.Sprintf("%s and %s would both go to %s", c.Source, inTheWay, c.Target)
	case Lookalike:
		return fmt.Sprintf("%s cannot go to %s: it is %s but for case or Unicode form", c.Source, c.Target, inTheWay)
	case OtherPlan:
		return fmt.Sprintf("%s is being moved by migration %s", c.Source, inTheWay)
	case NoSource:
		return "there is no chunk at or under " + c.Source
	case NestedScope:
		return fmt.Sprintf("%s cannot go to %s: one lies in the other", c.Source, c.Target)
	case SamePath:
		return c.Source + " would go to where it is"
	case TooLong:
		return fmt.Sprintf("%s cannot go to %s: that is too long for the column of paths, which is %s", c.Source, c.Target, inTheWay)
	}
	return fmt.Sprintf("%s cannot go to %s: %s", c.Source, c.Target, c.Kind)
}

// ConflictRefusal is what a plan with these conflicts, of so many in all, is
// refused with: the first three, and where to see the rest.
func ConflictRefusal(plan string, first []Conflict, total int64) string {
	const named = 3
	var words []string
	for _, c := range first[:min(named, len(first))] {
		words = append(words, c.Detail)
	}
	said := strings.Join(words, "; ")
	if more := total - int64(len(words)); more > 0 {
		said += fmt.Sprintf("; and %d more", more)
	}
	return fmt.Sprintf("%s. Nothing was moved; see `starter migration show %s`, change the renames or what stands in their way, and plan again", said, plan)
}
