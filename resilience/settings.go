package resilience

import "time"

// Settings are the knobs kept in Postgres; what is not set there has its default.
// The policy in force is stored with each run.
type Settings struct {
	MaxVersionHistory       int           `json:"max_version_history"`       // versions kept of an alias, newest last
	MigrationBatchSize      int           `json:"migration_batch_size"`      // rows in one transaction
	CompareOneIn            int           `json:"compare_one_in"`            // of how many chunks of a batch one is compared with what it was; 1: all
	ApproveByAnother        bool          `json:"approve_by_another"`        // who orders a plan may not approve it
	MaxConcurrentMigrations int           `json:"max_concurrent_migrations"` // plans that work at the same time
	UndoWindow              time.Duration `json:"undo_window"`               // how long a finished plan can be undone
	MaxCleanupOperations    int           `json:"max_cleanup_operations"`    // chunks one cleanup may remove
	OrphanGrace             time.Duration `json:"orphan_grace"`              // how long a source must have been missing
	OrphanScanGap           time.Duration `json:"orphan_scan_gap"`           // between the first and the last scan that missed it
	QuarantineRetention     time.Duration `json:"quarantine_retention"`      // how long a removed chunk can be restored
}

// MaxBatchSize bounds the rows of one transaction: above it locks are held for
// long and nothing is gained (batches of 1,000 already run at full speed).
const MaxBatchSize = 20_000

// DefaultSettings returns the settings of an installation that changed none.
func DefaultSettings() Settings {
	return Settings{
		MaxVersionHistory:       10,
		MigrationBatchSize:      50,
		CompareOneIn:            16,
		MaxConcurrentMigrations: 2,
		UndoWindow:              7 * 24 * time.Hour,
		MaxCleanupOperations:    100,
		OrphanGrace:             7 * 24 * time.Hour,
		OrphanScanGap:           time.Hour,
		QuarantineRetention:     30 * 24 * time.Hour,
	}
}
