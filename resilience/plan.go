package resilience

import (
	"fmt"
	"slices"
	"time"
)

// Strategy names the way a plan's moves are carried out.
type Strategy string

// The strategies.
const (
	Immediate   Strategy = "immediate"   // all rows in one transaction
	Batch       Strategy = "batch"       // a fixed number of rows in each transaction, back to back
	Gradual     Strategy = "gradual"     // growing stages with pauses, behind health gates
	Intelligent Strategy = "intelligent" // looks first, and picks a way and a pace for each group
)

// Strategies lists every strategy.
func Strategies() []Strategy { return []Strategy{Immediate, Batch, Gradual, Intelligent} }

// ParseStrategy returns the strategy called s.
func ParseStrategy(s string) (Strategy, error) {
	if !slices.Contains(Strategies(), Strategy(s)) {
		return "", fmt.Errorf("strategy %q: want one of immediate, batch, gradual, intelligent", s)
	}
	return Strategy(s), nil
}

// Kind of a plan.
type Kind string

// Rename changes the path of chunks where they are.
const Rename Kind = "rename"

// Status of a plan.
type Status string

// The states of a plan. From Queued on until it has ended, a plan owns its chunks.
const (
	Pending          Status = "pending"           // being planned
	AwaitingApproval Status = "awaiting_approval" // a person has to say yes
	Queued           Status = "queued"            // waits for a slot
	Executing        Status = "executing"
	Paused           Status = "paused"
	Completed        Status = "completed"
	RollingBack      Status = "rolling_back"
	RolledBack       Status = "rolled_back"
	Failed           Status = "failed"    // the rollback itself could not finish
	Cancelled        Status = "cancelled" // before any effect on the memory
)

// legalMoves is the one table of what a plan's status may become.
var legalMoves = map[Status][]Status{
	Pending:          {AwaitingApproval, Queued, Cancelled},
	AwaitingApproval: {Queued, Cancelled},
	Queued:           {Executing, AwaitingApproval, Cancelled}, // the table drifted while it waited: approval again
	Executing:        {Paused, Completed, RollingBack},
	Paused:           {Executing, RollingBack},
	Completed:        {RolledBack}, // by the completion of the plan that undoes it
	RollingBack:      {RolledBack, Failed},
	Failed:           {RollingBack},
}

// Statuses lists every status.
func Statuses() []Status {
	return []Status{Pending, AwaitingApproval, Queued, Executing, Paused, Completed, RollingBack, RolledBack, Failed, Cancelled}
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

// OpenStatuses lists the statuses of plans that may still go on.
func OpenStatuses() []Status { return slices.DeleteFunc(Statuses(), Status.Ended) }

// Ended reports whether nothing more happens to a plan in status s by itself.
func (s Status) Ended() bool { return s == Completed || s == RolledBack || s == Cancelled }

// OnItsWay reports whether a plan in status s does what was asked of it, or has.
func (s Status) OnItsWay() bool {
	switch s {
	case Pending, Queued, Executing, Completed:
		return true
	case AwaitingApproval, Paused, RollingBack, RolledBack, Failed, Cancelled:
		return false
	}
	return false
}

// Live reports whether a plan in status s owns its chunks: no other may touch them.
func (s Status) Live() bool {
	switch s {
	case Pending, Queued, Executing, Paused, RollingBack, Failed:
		return true
	case AwaitingApproval, Completed, RolledBack, Cancelled:
		return false
	}
	return false
}

// Plan is a migration before and while it runs.
type Plan struct {
	ID         string        `json:"migration_id"`
	Memory     string        `json:"memory"`
	Strategy   Strategy      `json:"strategy"`
	Kind       Kind          `json:"kind"`
	Status     Status        `json:"status"`
	Undoes     string        `json:"undoes,omitempty"`
	UndoneBy   string        `json:"undone_by,omitempty"`
	Moves      int64         `json:"moves"`
	Moved      int64         `json:"moved"`
	Stayed     int64         `json:"stayed"` // by the way alias_only: rehome.current_path answers for them
	Drifted    int64         `json:"drifted"`
	Vanished   int64         `json:"vanished"`
	Disagree   int64         `json:"disagree"`  // rows left out since their locators disagree
	Tied       int64         `json:"tied"`      // rows that go with others in one transaction, of whatever size: their files change places
	Conflicts  int64         `json:"conflicts"` // why it cannot be carried out; one is enough
	Bytes      int64         `json:"bytes"`
	Physics    Physics       `json:"physics"`
	Way        Way           `json:"way"`
	Risk       Risk          `json:"risk"`
	Estimate   Estimate      `json:"estimate"`
	EstimateMS int64         `json:"estimate_ms"` // its p50
	Approval   *Approval     `json:"approval,omitempty"`
	Hash       string        `json:"plan_hash"`
	Policy     Policy        `json:"policy"`
	Transfer   *Transferring `json:"transfer,omitempty"` // of the kind transfer only
	Throttle   *Throttle     `json:"throttle,omitempty"` // while one is in force
	WorkflowID string        `json:"workflow_id"`
	RunID      string        `json:"run_id"`
	Reason     string        `json:"reason,omitempty"` // why it waits, was cancelled or went back
	Steps      []string      `json:"rollback_plan"`
	CreatedAt  time.Time     `json:"created_at"`
	PlanningMS int64         `json:"planning_ms"`
	ApplyMS    int64         `json:"apply_ms"`    // first batch to last commit by the server's clock; to now while it executes
	DurationMS int64         `json:"duration_ms"` // creation to the end
}

// RowBytes is what a batch writes of each row: of one that is copied all of it, and else
// not what is stored out of line.
func (p Plan) RowBytes() int64 {
	bytes := max(p.Physics.RowBytes, p.Bytes/max(1, p.Moves))
	if p.Kind == Transfer {
		bytes = max(bytes, p.Physics.StoredBytes)
	}
	return bytes
}

// Policy is what the operator asked of a plan. It is stored with the plan and
// read from there; no later phase reads a default again.
type Policy struct {
	BatchSize int       `json:"batch_size"`           // rows in one transaction, 1 to MaxBatchSize
	Sized     bool      `json:"sized,omitempty"`      // somebody asked for that size; else it is the setting's
	Rate      float64   `json:"rate,omitempty"`       // rows a second; 0 is unlimited
	OnFailure OnFailure `json:"on_failure,omitempty"` // empty: UndoAll
	GroupSize int64     `json:"group_size,omitempty"` // rows of a group, for UndoGroup; 0 is DefaultGroupSize
	Way       Way       `json:"way,omitempty"`        // empty: Update, or what intelligent chooses
	Hours     string    `json:"hours,omitempty"`      // of the day in which gradual may work, see ParseHours; empty: all
	Author    string    `json:"author,omitempty"`     // who started it
	ByAnother bool      `json:"by_another,omitempty"` // only somebody else than the author may approve it; the setting says so, not who orders
}

// OnFailure says what becomes of a plan of which a batch, or what follows the batches,
// fails for good. One whose table was changed pauses, whatever it says.
type OnFailure string

// The failure policies.
const (
	UndoAll   OnFailure = "undo_all"   // put everything back
	Stop      OnFailure = "stop"       // keep what is done, and pause
	UndoGroup OnFailure = "undo_group" // put the group in work back, and pause
)

// DefaultGroupSize is how many rows are put back by UndoGroup at most.
const DefaultGroupSize = 10_000

// ParseOnFailure returns the failure policy called s.
func ParseOnFailure(s string) (OnFailure, error) {
	if p := OnFailure(s); p == UndoAll || p == Stop || p == UndoGroup {
		return p, nil
	}
	return "", fmt.Errorf("failure policy %q: want one of undo_all, stop, undo_group", s)
}

// Approval is a person's yes to one plan, as it was.
type Approval struct {
	Hash string    `json:"plan_hash"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
}

// ApprovalLasts is how long after an approval a plan may begin.
const ApprovalLasts = 24 * time.Hour

// Outcome of one planned row. A row without an exception was moved.
type Outcome string

// Outcomes other than moved, but for the last.
const (
	Drifted  Outcome = "drifted"  // its path or id is no longer the journalled one; left alone
	Vanished Outcome = "vanished" // the application deleted it
	Clashed  Outcome = "conflict" // something else came to be where it would go
	Edited   Outcome = "edited"   // its copy went, and what the application wrote to it came home
)
