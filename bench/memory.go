package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
)

var peakResident = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`)

// forgetPeak lets the worker's peak of memory begin anew.
func (r *rig) forgetPeak() {
	// Where that is not possible, the peak is that of the process's life: no less.
	_ = os.WriteFile(r.proc("clear_refs"), []byte("5"), 0)
}

// burden is how much memory the worker took since forgetPeak, and how many events the last
// run by batch at 1000 left in Temporal.
func (r *rig) burden(ctx context.Context, what string, c crop, byThousand string) ([]row, error) {
	events, err := r.events(ctx, byThousand)
	if err != nil {
		return nil, fmt.Errorf("count the events of %s: %w", byThousand, err)
	}
	return []row{
		single(figure{fmt.Sprintf("%s of %s, batch at 1000: Temporal events in a million rows", what, c), number, atMost(300).by(alone)}, float64(events)*1e6/float64(c.rows)),
		r.peak(figure{fmt.Sprintf("%ss of %s: memory of the worker at its peak", what, c), mebibytes, atMost(128).by(alone)}),
	}, nil
}

// peak is the row of the most memory that the worker has had in RAM, where the
// system tells.
func (r *rig) peak(f figure) row {
	status, err := os.ReadFile(r.proc("status"))
	if err != nil {
		return row{figure: f, skipped: err.Error()}
	}
	found := peakResident.FindSubmatch(status)
	if found == nil {
		return row{figure: f, skipped: r.proc("status") + " says nothing of it"}
	}
	var kilobytes float64
	if _, err := fmt.Sscan(string(found[1]), &kilobytes); err != nil {
		return row{figure: f, skipped: err.Error()}
	}
	return single(f, kilobytes/1024)
}

func (r *rig) proc(file string) string { return fmt.Sprintf("/proc/%d/%s", r.worker.PID(), file) }
