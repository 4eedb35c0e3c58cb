package resilience

import (
	"fmt"
	"slices"
	"time"
)

// Strategy names the way a plan's moves are carried out.
type Strategy string

// Batch moves a fixed number of rows in each transaction, back to back.
const Batch Strategy = "batch"

// ParseStrategy returns the strategy called s.
func ParseStrategy(s string) (Strategy, error) {
	if Strategy(s) != Batch {
		return "", fmt.Errorf("strategy %q: want %s", s, Batch)
	}
	return Batch, nil
}

// Kind of a plan.
type Kind string

// Rename changes the path of chunks where they are.
const Rename Kind = "rename"

// Status of a plan.
type Status string

// The states of a plan. Every state but Completed, RolledBack, Failed and
// Cancelled is live: the plan owns its chunks.
const (
	Pending     Status = "pending"
	Executing   Status = "executing"
	Paused      Status = "paused"
	Completed   Status = "completed"
	RollingBack Status = "rolling_back"
	RolledBack  Status = "rolled_back"
	Failed      Status = "failed"    // the rollback itself could not finish
	Cancelled   Status = "cancelled" // before any effect on the memory
)

// legalMoves is the one table of what a plan's status may become.
var legalMoves = map[Status][]Status{
	Pending:     {Executing, Cancelled},
	Executing:   {Paused, Completed, RollingBack},
	Paused:      {Executing, RollingBack},
	Completed:   {RolledBack}, // by the completion of the plan that undoes it
	RollingBack: {RolledBack, Failed},
	Failed:      {RollingBack},
}

// Statuses lists every status.
func Statuses() []Status {
	return []Status{Pending, Executing, Paused, Completed, RollingBack, RolledBack, Failed, Cancelled}
}

// CanBecome reports whether a plan in status s may go to next.
func (s Status) CanBecome(next Status) bool { return slices.Contains(legalMoves[s], next) }

// Before lists the statuses from which a plan may go to s.
func (s Status) Before() []Status {
	var from []Status
	for _, f := range Statuses() {
		if f.CanBecome(s) {
			from = append(from, f)
		}
	}
	return from
}

// LiveStatuses lists the statuses in which a plan owns its chunks.
func LiveStatuses() []Status {
	return slices.DeleteFunc(Statuses(), func(s Status) bool { return !s.Live() })
}

// Live reports whether a plan in status s still owns its chunks.
func (s Status) Live() bool {
	switch s {
	case Pending, Executing, Paused, RollingBack, Failed:
		return true
	case Completed, RolledBack, Cancelled:
		return false
	}
	return false
}

// Plan is a migration before and while it runs.
type Plan struct {
	ID         string    `json:"migration_id"`
	Memory     string    `json:"memory"`
	Strategy   Strategy  `json:"strategy"`
	Kind       Kind      `json:"kind"`
	Status     Status    `json:"status"`
	Undoes     string    `json:"undoes,omitempty"`
	UndoneBy   string    `json:"undone_by,omitempty"`
	Moves      int64     `json:"moves"`
	Moved      int64     `json:"moved"`
	Drifted    int64     `json:"drifted"`
	Vanished   int64     `json:"vanished"`
	Disagree   int64     `json:"disagree"` // rows left out since their locators disagree
	Bytes      int64     `json:"bytes"`
	Hash       string    `json:"plan_hash"`
	Policy     Policy    `json:"policy"`
	WorkflowID string    `json:"workflow_id"`
	RunID      string    `json:"run_id"`
	Reason     string    `json:"reason,omitempty"` // why it was cancelled or rolled back
	Steps      []string  `json:"rollback_plan"`
	CreatedAt  time.Time `json:"created_at"`
	PlanningMS int64     `json:"planning_ms"`
	ApplyMS    int64     `json:"apply_ms"`    // first batch to last commit by the server's clock
	DurationMS int64     `json:"duration_ms"` // creation to the end
}

// Policy is what the operator asked of a plan. It is stored with the plan and
// read from there; no later phase reads a default again.
type Policy struct {
	BatchSize int     `json:"batch_size"`       // rows in one transaction, 1 to MaxBatchSize
	Rate      float64 `json:"rate,omitempty"`   // rows a second; 0 is unlimited
	Author    string  `json:"author,omitempty"` // who started it
}

// Outcome of one planned row. A row without an exception was moved.
type Outcome string

// Outcomes other than moved.
const (
	Drifted  Outcome = "drifted"  // its path or id is no longer the journalled one; left alone
	Vanished Outcome = "vanished" // the application deleted it
)
