package resilience

import "time"

// OrphanKind says why a chunk has no living source.
type OrphanKind string

// Missing orphans have a source that is gone.
const Missing OrphanKind = "missing"

// Class is what a scan makes of a chunk. Only ClassMissing leads to an orphan;
// every doubt has a class of its own.
type Class string

// The classes of a scan. Their counts sum to the chunks of the memory.
const (
	ClassAlive    Class = "alive"     // the source is there, or where an alias leads
	ClassMissing  Class = "missing"   // the source is gone
	ClassUnknown  Class = "unknown"   // nobody could look: an error, a link or a change of type on the way, or locators that disagree
	ClassConflict Class = "conflict"  // a living file has this path except for case, normalisation or encoding
	ClassUnowned  Class = "unowned"   // no file of the tree is named: a URL, an empty or a foreign path
	ClassHeld     Class = "held"      // a person holds it, or it was restored and is unchanged since
	ClassInFlight Class = "in_flight" // a migration that is not over moves it
	ClassTooNew   Class = "too_new"   // it appeared after the scan began
)

// Tally counts chunks and the bytes of their text.
type Tally struct {
	Chunks int64 `json:"chunks"`
	Bytes  int64 `json:"bytes"`
}

// Orphan is a chunk without a living source.
type Orphan struct {
	Memory         string     `json:"memory"`
	ChunkID        string     `json:"chunk_id"`
	FilePath       string     `json:"file_path"`
	Kind           OrphanKind `json:"kind"`
	Reason         string     `json:"reason"` // a sentence
	Priority       float64    `json:"priority"`
	Bytes          int64      `json:"bytes"`
	Owners         []string   `json:"owners"`
	LastAccessedAt *time.Time `json:"last_accessed_at,omitempty"`
	AccessCount    int64      `json:"access_count"`
	FirstMissingAt time.Time  `json:"first_missing_at"`
	LastMissingAt  time.Time  `json:"last_missing_at"`
	MissingScans   int        `json:"missing_scans"` // scans in a row that read where it should be and did not find it
	LastScan       string     `json:"last_scan"`
	Confirmed      bool       `json:"confirmed"` // cleanup may take it
}

// ScanStatus says how far a scan can be believed.
type ScanStatus string

// The states of a scan.
const (
	ScanRunning    ScanStatus = "running"
	ScanComplete   ScanStatus = "complete"
	ScanIncomplete ScanStatus = "incomplete" // some directories could not be read; what lies below them is unknown
	ScanAborted    ScanStatus = "aborted"    // it changed nothing
)

// ScanPolicy is what was in force during a scan. It is stored with the scan.
type ScanPolicy struct {
	DryRun          bool `json:"dry_run"`
	AcceptShrinkage bool `json:"accept_shrinkage"`
}

// ScanResult is what a scan found.
type ScanResult struct {
	ScanID         string          `json:"scan_id"`
	Memory         string          `json:"memory"`
	Status         ScanStatus      `json:"status"`
	Reason         string          `json:"reason,omitempty"` // why it is not complete
	DryRun         bool            `json:"dry_run"`
	Files          FileCounts      `json:"files"`
	Orphans        OrphanCounts    `json:"orphans"`
	Classes        map[Class]Tally `json:"classes"`
	Conflicts      int64           `json:"conflicts"` // paths that a living file has but for case, normalisation or encoding
	AliasesCreated int64           `json:"aliases_created"`
	AliasesEnded   int64           `json:"aliases_ended"` // a file lives at the old path again
	Migrations     []string        `json:"migrations"`
	StartedAt      time.Time       `json:"started_at"`
	DurationMS     int64           `json:"duration_ms"`
	WorkflowID     string          `json:"workflow_id"`
}

// FileCounts is what a scan saw of the tree, compared with the catalogue.
type FileCounts struct {
	Seen    int64 `json:"seen"`
	New     int64 `json:"new"`
	Changed int64 `json:"changed"` // size or time of change differ
	Missing int64 `json:"missing"`
	Renamed int64 `json:"renamed"`
}

// OrphanCounts is what stands recorded after a scan.
type OrphanCounts struct {
	Total  int64                `json:"total"`
	Bytes  int64                `json:"bytes"`
	ByKind map[OrphanKind]int64 `json:"by_kind"`
}

// Confirmation is what makes an orphan one that cleanup may take: enough scans
// that read where the source should be and did not find it, far enough apart,
// and long enough ago.
type Confirmation struct {
	Scans int           `json:"scans"`
	Gap   time.Duration `json:"gap"`   // from the first scan that missed it to the last
	Grace time.Duration `json:"grace"` // since the first scan that missed it
}

// confirmingScans is never waived: one look can be wrong in ways that no check
// within that look can find.
const confirmingScans = 2

// Confirmation returns the rule in force. Waived drops gap and grace, for one
// run that a person asked for by name; the scans stay.
func (s Settings) Confirmation(waived bool) Confirmation {
	if waived {
		return Confirmation{Scans: confirmingScans}
	}
	return Confirmation{Scans: confirmingScans, Gap: s.OrphanScanGap, Grace: max(s.OrphanGrace, day)}
}
