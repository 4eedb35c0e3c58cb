package resilience

import (
	"fmt"
	"strings"
)

// Wait is for whom a plan waits in the queue.
type Wait struct {
	AtWork []string `json:"at_work,omitempty"` // plans with a slot
	First  []string `json:"first,omitempty"`   // plans that came before it and wait too
}

// namedInQueue is how many of those that came first are named to people.
const namedInQueue = 5

// String names them, as far as people read on.
func (w Wait) String() string {
	var parts []string
	if len(w.AtWork) > 0 {
		parts = append(parts, strings.Join(w.AtWork, ", ")+" at work")
	}
	if named := w.First[:min(len(w.First), namedInQueue)]; len(named) > 0 {
		text := strings.Join(named, ", ")
		if more := len(w.First) - len(named); more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, text+" before it")
	}
	return strings.Join(parts, ", ")
}
