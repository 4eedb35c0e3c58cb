package resilience

import (
	"fmt"
	"strings"
	"time"
)

// What one transaction may do at most: above it others would stand before its
// locks, or vacuum behind it, for minutes.
const (
	MaxImmediateRows = 1_000_000
	MaxLockMS        = 60_000
)

// Refusal says why a plan must not be carried out as it was asked for, and what
// would do instead. It is empty when it may.
func (f Facts) Refusal() string {
	if closed := f.Physics.Cost(f.Way, f.Effort).Closed; (f.Way == Rebuild || f.Way == Turns) && closed != "" {
		return fmt.Sprintf("the way %s is not open: %s; plan it without a way, or with trickle or alias_only", f.Way, closed)
	}
	if f.Strategy != Immediate || f.Way == AliasOnly {
		return ""
	}
	held := f.lockMS()
	switch {
	case f.Physics.Class() == VectorClass && f.Way != Rebuild && held > MaxLockMS:
		return fmt.Sprintf("immediate would index the embeddings of %s chunks again in %s, and lock them for about %s in one transaction, more than %s; use gradual, or intelligent, which looks for another way",
			thousands(f.Effort.Rows), names(f.Physics.VectorIndexes), Spell(held), Spell(MaxLockMS))
	case held > MaxLockMS:
		return fmt.Sprintf("immediate would lock %s chunks for about %s in one transaction, more than %s; use batch", thousands(f.Effort.Rows), Spell(held), Spell(MaxLockMS))
	case f.Effort.Rows > MaxImmediateRows:
		return fmt.Sprintf("immediate would change %s chunks in one transaction, more than %s; use batch", thousands(f.Effort.Rows), thousands(MaxImmediateRows))
	}
	return ""
}

// names lists a few names.
func names(list []string) string {
	const few = 3
	if len(list) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:few], ", "), len(list)-few)
	}
	return strings.Join(list, ", ")
}

// Spell writes milliseconds for people: 40 ms, 3.1 s, 2m7s.
func Spell(ms int64) string {
	exact := time.Duration(ms) * time.Millisecond
	switch {
	case exact < time.Second:
		return fmt.Sprintf("%d ms", ms)
	case exact < time.Minute:
		return fmt.Sprintf("%.1f s", exact.Seconds())
	}
	return exact.Round(time.Second).String()
}
