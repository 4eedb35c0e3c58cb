package workflows

import (
	"time"

	"rehome/activities"
	"rehome/resilience"
)

// Registered names. They are in histories: never renamed.
const (
	IngestName   = "ingest"
	ScanName     = "orphan-scan"
	CleanupName  = "cleanup"
	RollbackName = "rollback"
)

// MigrateName is the workflow that carries out a strategy.
func MigrateName(s resilience.Strategy) string { return "migrate-" + string(s) }

// Names of the messages a migration answers.
const (
	PauseUpdate    = "pause"
	ResumeUpdate   = "resume"
	ThrottleUpdate = "throttle"
	AbortUpdate    = "abort"
	ApproveUpdate  = "approve"
	StrategyUpdate = "strategy"
	RetryUpdate    = "retry"
	SkipUpdate     = "skip"
	ProgressQuery  = "progress"
)

// TaskQueue is where workflows and database work of an installation run.
func TaskQueue(installation string) string { return "rehome-" + installation }

// FilesQueue is where work that reads a root runs: only on workers that have it.
func FilesQueue(installation string) string { return TaskQueue(installation) + "-files" }

// IngestID is the workflow id of a memory's ingest. There is one at a time.
func IngestID(installation, memory string) string { return installation + "/ingest/" + memory }

// ScanID is the workflow id of a memory's scan. There is one at a time.
func ScanID(installation, memory string) string { return installation + "/scan/" + memory }

// CleanupID is the workflow id of a memory's cleanup. There is one at a time.
func CleanupID(installation, memory string) string { return installation + "/cleanup/" + memory }

// MigrateID is the workflow id of a migration.
func MigrateID(installation, memory, plan string) string {
	return installation + "/migrate/" + memory + "/" + plan
}

// RollbackID is the workflow id of the rollback of a migration.
func RollbackID(installation, memory, plan string) string {
	return installation + "/rollback/" + memory + "/" + plan
}

// Tuning holds the timings of a run. The zero value is right outside tests.
type Tuning struct {
	Slice     activities.Slice    `json:"slice,omitzero"`
	Heartbeat activities.Duration `json:"heartbeat,omitempty"` // zero means 30 s
	Soak      activities.Duration `json:"soak,omitempty"`      // after each stage of gradual; zero: as its stages say
	Look      activities.Duration `json:"look,omitempty"`      // first wait for a server that is unwell; zero means 2 s
}

// IngestInput starts an ingest.
type IngestInput struct {
	activities.Origin
	Memory       string `json:"memory"`
	MaxFileBytes int64  `json:"max_file_bytes,omitempty"` // larger files are skipped; zero means corpus.DefaultMaxFileBytes
	Tuning       Tuning `json:"tuning,omitzero"`
	// Since is when the first run of a chain started; a continuation carries it.
	Since time.Time `json:"since,omitzero"`
}

// ScanInput starts an orphan scan.
type ScanInput struct {
	activities.Origin
	Memory          string `json:"memory"`
	ScanID          string `json:"scan_id,omitempty"` // empty: made from the run's id
	DryRun          bool   `json:"dry_run,omitempty"`
	AcceptShrinkage bool   `json:"accept_shrinkage,omitempty"` // a person typed the memory's name: fewer files than before are right, this once
	Tuning          Tuning `json:"tuning,omitzero"`
}

// CleanupInput starts a cleanup.
type CleanupInput struct {
	activities.Origin
	Memory     string `json:"memory"`
	DryRun     bool   `json:"dry_run,omitempty"`
	Max        int    `json:"max,omitempty"`         // chunks at most; zero means the setting max_cleanup_operations
	WaiveGrace bool   `json:"waive_grace,omitempty"` // a person typed the memory's name: grace and gap do not count, this once; two scans still do
	Tuning     Tuning `json:"tuning,omitzero"`
}

// MigrateInput starts a migration. The moves come from Renames, or, for a plan
// that undoes a completed one, from the journal of Undoes. With a memory to
// transfer to, they are the chunks under a prefix.
type MigrateInput struct {
	activities.Origin
	Memory    string                  `json:"memory"`
	Migration string                  `json:"migration"` // plan id
	Renames   []resilience.RenameRule `json:"renames,omitempty"`
	Undoes    string                  `json:"undoes,omitempty"`
	resilience.TransferOrder
	Policy   resilience.Policy `json:"policy"`
	PlanOnly bool              `json:"plan_only,omitempty"` // plan, and wait for an approval whatever the risk
	Approve  bool              `json:"approve,omitempty"`   // who started it approves it, whatever the risk
	Tuning   Tuning            `json:"tuning,omitzero"`
	Resume   *Resume           `json:"resume,omitempty"` // set by the run before, at continue-as-new
}

// Resume is what one run of a migration hands to the next.
type Resume struct {
	Climb  *climb             `json:"climb,omitempty"`  // of gradual
	Groups []resilience.Group `json:"groups,omitempty"` // of intelligent

	Phase     phase          `json:"phase"`
	Hash      string         `json:"plan_hash"`
	Admission admission      `json:"admission,omitzero"`
	Epoch     int64          `json:"epoch"`
	Sweeps    int            `json:"sweeps"`
	Paused    bool           `json:"paused"`
	Resuming  *Order         `json:"resuming,omitempty"`
	Saga      Saga           `json:"saga"`
	Carrying  *carrying      `json:"carrying,omitempty"` // of a transfer
	Shown     shown          `json:"shown,omitzero"`
	Way       resilience.Way `json:"way,omitempty"`
	Switched  bool           `json:"switched,omitempty"` // the old paths of a rename lead to the new ones
	Homeward  *homeward      `json:"homeward,omitempty"` // of an undo
}

// Approval is the argument of the update approve: yes to a plan with this hash.
type Approval struct {
	Hash   string `json:"plan_hash"`
	Author string `json:"author,omitempty"`
}

// NewStrategy is the argument of the update strategy.
type NewStrategy struct {
	Strategy resilience.Strategy `json:"strategy"`
	Approve  bool                `json:"approve,omitempty"` // yes to the risk that the plan has by it
	Author   string              `json:"author,omitempty"`
}

// Order is the argument of the updates pause, resume and abort.
type Order struct {
	Author string `json:"author,omitempty"` // who gives it
	Reason string `json:"reason,omitempty"`
}

// Answer is what an update returns: the status the plan has now or is going to.
type Answer struct {
	Status resilience.Status `json:"status"`
}

// RollbackInput starts the undo of a migration that is completed, or that ended
// without its workflow having undone it.
type RollbackInput struct {
	activities.Origin
	Memory    string `json:"memory"`
	Migration string `json:"migration"`            // the plan to undo
	Undo      string `json:"undo"`                 // id of the plan that undoes it, when it is completed
	BatchSize int    `json:"batch_size,omitempty"` // rows in one transaction; zero means that of the plan to undo
	Author    string `json:"author,omitempty"`
	Tuning    Tuning `json:"tuning,omitzero"`
}
