package resilience

import "time"

// Why a chunk is in quarantine.
const (
	ReasonMissing  = "missing"  // its source was gone
	ReasonReplaced = "replaced" // its text was edited away
)

// Quarantined is a chunk that was taken out of a memory and can be put back.
type Quarantined struct {
	ID            int64     `json:"id"` // of the entry: a chunk can be taken out more than once
	Memory        string    `json:"memory"`
	ChunkID       string    `json:"chunk_id"`
	FilePath      string    `json:"file_path"`
	Reason        string    `json:"reason"`
	RunID         string    `json:"run_id"`
	Bytes         int64     `json:"bytes"` // of its text
	QuarantinedAt time.Time `json:"quarantined_at"`
	RetainUntil   time.Time `json:"retain_until"`
}

// RestoreResult says what came back from quarantine and what did not.
type RestoreResult struct {
	Memory   string     `json:"memory"`
	Restored int64      `json:"restored"`
	Bytes    int64      `json:"bytes"`
	Left     []LeftOver `json:"left"`    // stay in quarantine
	Dropped  []string   `json:"dropped"` // columns that the rows had and the table has no more; their values are not restored
}

// LeftOver is an entry that could not be restored.
type LeftOver struct {
	ID       int64  `json:"id"`
	ChunkID  string `json:"chunk_id"`
	FilePath string `json:"file_path"`
	Why      string `json:"why"`
}
