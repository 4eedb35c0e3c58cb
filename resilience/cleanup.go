package resilience

import "time"

// LookExpires is how old the last look for a chunk's file may be when the
// chunk's removal commits.
const LookExpires = 5 * time.Second

// CleanupPolicy is what was in force during a cleanup. It is stored with the
// run, and every step reads it from there.
type CleanupPolicy struct {
	Max    int          `json:"max"` // chunks at most
	Waived bool         `json:"waived"`
	Rule   Confirmation `json:"rule"`
}

// CleanupResult is what a cleanup did, in rows it really moved. In a dry run it
// is what it would have done.
type CleanupResult struct {
	RunID          string `json:"run_id"`
	Memory         string `json:"memory"`
	DryRun         bool   `json:"dry_run"`
	TotalOrphans   int64  `json:"total_orphans"`   // confirmed ones the run took on
	Limit          int64  `json:"limit"`           // of them, for one run: at the limit more may be left
	CleanedOrphans int64  `json:"cleaned_orphans"` // are in quarantine
	FailedCleanups int64  `json:"failed_cleanups"` // the database refused to let them go
	Skipped        int64  `json:"skipped"`         // the last look found them changed, held, in use or alive
	BytesFreed     int64  `json:"bytes_freed"`
	AliasesExpired int64  `json:"aliases_expired"`
	Purged         int64  `json:"purged"`
	DurationMS     int64  `json:"duration_ms"`
	WorkflowID     string `json:"workflow_id"`
}
