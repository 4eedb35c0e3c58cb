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
	SharedTable     ConflictKind = "shared_table"     // another live plan moves chunks of a memory over the same table
	NoSource        ConflictKind = "no_source"        // nothing is at or under the source
	NestedScope     ConflictKind = "nested_scope"     // source and target lie in one another
	SamePath        ConflictKind = "same_path"        // source equal to target
	TooLong         ConflictKind = "too_long"         // the column of paths does not take the target
	Circle          ConflictKind = "circle"           // files change places where an index takes no two chunks at one, and none can step aside, or too many would go together
	TakenID         ConflictKind = "taken_id"         // the table of a transfer's target has the id, and makes none by itself
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

// Explain words a conflict. What stands in the way is another path, for OtherPlan the
// other migration, as for SharedTable, whose source is a memory, for TooLong the type of
// the column, for Circle why they cannot, for TakenID the id, and for NoSource what stayed
// when it was renamed to there.
func (c Conflict) Explain(inTheWay string) string {
	stays := fmt.Sprintf("%s cannot go to %s", c.Source, c.Target)
	if c.Source == c.Target { // a transfer keeps the path
		stays = c.Source + " cannot go to the other memory"
	}
	switch c.Kind {
	case TargetTaken:
		return fmt.Sprintf("%s: the target is taken, there already are chunks of %s", stays, inTheWay)
	case DuplicateTarget:
		return fmt.Sprintf("%s and %s would both go to %s", c.Source, inTheWay, c.Target)
	case Lookalike:
		return fmt.Sprintf("%s: it is %s but for case or Unicode form", stays, inTheWay)
	case OtherPlan:
		return fmt.Sprintf("%s is being moved by migration %s", c.Source, inTheWay)
	case SharedTable:
		return fmt.Sprintf("chunks of memory %s, which is over the same table, are being moved by migration %s; wait until it has ended, or roll it back", c.Source, inTheWay)
	case NoSource:
		if c.Source == "" { // all of a memory was asked for
			return "there is no chunk with a path"
		}
		if inTheWay != "" {
			return fmt.Sprintf("there is no chunk at or under %s: those of %s stayed there when it was renamed by alias only; name them by that path", c.Source, inTheWay)
		}
		return "there is no chunk at or under " + c.Source
	case NestedScope:
		return stays + ": one lies in the other"
	case Circle:
		return fmt.Sprintf("%s: files change places, and %s; go by a free name, in three migrations: the first file there, the others, the first from there", stays, inTheWay)
	case SamePath:
		return c.Source + " would go to where it is"
	case TooLong:
		return fmt.Sprintf("%s: that is too long for the column of paths, which is %s", stays, inTheWay)
	case TakenID:
		return fmt.Sprintf("%s: the id %s of a chunk of it is taken in the table there, whose column of ids makes none by itself; give that column a default", stays, inTheWay)
	}
	return fmt.Sprintf("%s: %s", stays, c.Kind)
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
	return fmt.Sprintf("%s. Nothing was moved; see `starter migration show %s`, change what you ask for or what stands in its way, and plan again", said, plan)
}
