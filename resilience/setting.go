package resilience

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// day is the floor of what protects chunks: shorter and a weekend's mistake is
// found too late.
const day = 24 * time.Hour

// maxDays is what a duration can hold, and more than anybody waits.
const maxDays = 100_000

// Set reads the value of one setting as it is kept in Postgres. Durations are
// written 90m, 36h or 7d.
func (s *Settings) Set(key, value string) error {
	next := *s // a value that is refused changes nothing
	var err error
	switch key {
	case "max_version_history":
		next.MaxVersionHistory, err = number(value, 1000)
	case "migration_batch_size":
		next.MigrationBatchSize, err = number(value, MaxBatchSize)
	case "compare_one_in":
		next.CompareOneIn, err = number(value, 1000)
	case "approve_by_another":
		next.ApproveByAnother, err = yes(value)
	case "max_concurrent_migrations":
		next.MaxConcurrentMigrations, err = number(value, 1000)
	case "undo_window":
		next.UndoWindow, err = span(value, 0)
	case "max_cleanup_operations":
		next.MaxCleanupOperations, err = number(value, 1_000_000_000)
	case "orphan_grace":
		next.OrphanGrace, err = span(value, day)
	case "orphan_scan_gap":
		next.OrphanScanGap, err = span(value, 0)
	case "quarantine_retention":
		next.QuarantineRetention, err = span(value, day)
	default:
		return fmt.Errorf("there is no setting %q", key)
	}
	if err != nil {
		return fmt.Errorf("setting %s: %w", key, err)
	}
	*s = next
	return nil
}

func yes(value string) (bool, error) {
	is, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%q: want true or false", value)
	}
	return is, nil
}

func number(value string, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%q: want a whole number from 1 to %d", value, most)
	}
	return n, nil
}

func span(value string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if days, ok := strings.CutSuffix(value, "d"); ok {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		d = -1
		if n >= 0 && n <= maxDays { // not so for NaN
			d = time.Duration(n * float64(day))
		}
	}
	if err != nil || d < least {
		return 0, fmt.Errorf("%q: want a duration such as 90m, 36h or 7d, at least %s", value, least)
	}
	return d, nil
}
