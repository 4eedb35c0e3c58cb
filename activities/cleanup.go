package activities

import (
	"context"
	"errors"

	"rehome/resilience"
	"rehome/store"
)

// CleanupInput orders a step of a cleanup that its owner has claimed.
type CleanupInput struct {
	Origin
	Owner
	Memory    string `json:"memory"`
	CleanupID string `json:"cleanup_id"`
	DryRun    bool   `json:"dry_run,omitempty"`
	Max       int    `json:"max,omitempty"`    // zero means the setting max_cleanup_operations
	Waived    bool   `json:"waived,omitempty"` // grace and gap do not count
	Slice     Slice  `json:"slice,omitzero"`
}

func (in CleanupInput) run() store.Cleanup {
	return store.Cleanup{ID: in.CleanupID, Memory: in.Memory, WorkflowID: in.WorkflowID, RunID: in.RunID, DryRun: in.DryRun}
}

// PlanCleanup chooses the orphans that the cleanup takes on.
func (a *Database) PlanCleanup(ctx context.Context, in CleanupInput) (resilience.CleanupResult, error) {
	var result resilience.CleanupResult
	err := beating(ctx, func(ctx context.Context) (err error) {
		result, err = a.Store.PlanCleanup(ctx, in.run(), in.Max, in.Waived)
		return err
	})
	return result, outrun("plan the cleanup", err)
}

// FinishCleanup closes the cleanup and returns what it did.
func (a *Database) FinishCleanup(ctx context.Context, in CleanupInput) (resilience.CleanupResult, error) {
	result, err := a.Store.FinishCleanup(ctx, in.run())
	return result, classify("finish the cleanup", err)
}

// CleanupSlice says how far a cleanup has come.
type CleanupSlice struct {
	Result resilience.CleanupResult `json:"result"` // so far
	Done   bool                     `json:"done"`
}

// cleanBatch is how many rows go to quarantine in one transaction at most. When
// looking for their files takes too long, fewer do.
const cleanBatch = 1000

// CleanOrphans takes orphans to quarantine, batch by batch. Their files are
// looked for right before, here and not on another worker, so that hardly any
// time passes between the look and the act.
func (a *Files) CleanOrphans(ctx context.Context, in CleanupInput) (CleanupSlice, error) {
	memory, err := a.Store.Memory(ctx, in.Memory)
	if err != nil {
		return CleanupSlice{}, classify("clean up", err)
	}
	root, err := a.openTree(memory)
	if err != nil {
		return CleanupSlice{}, classify("open the root", err)
	}
	defer root.Close() //nolint:errcheck // nothing was written to it
	if err := a.checkCanaries(ctx, root, memory); err != nil {
		return CleanupSlice{}, classify("look at the root", err)
	}
	size := cleanBatch
	_, done, err := inSlice(ctx, in.Slice, func(ctx context.Context) (int64, bool, error) {
		last, over, err := a.cleanBatch(ctx, in, root, memory, size)
		if errors.Is(err, store.ErrOutdated) && size > 1 {
			size /= 2
			return last, false, nil
		}
		return last, over, err
	})
	if err != nil {
		return CleanupSlice{}, outrun("clean up", err)
	}
	result, err := a.Store.CleanupResult(ctx, in.CleanupID)
	return CleanupSlice{Result: result, Done: done}, classify("clean up", err)
}

func (a *Files) cleanBatch(ctx context.Context, in CleanupInput, root tree, memory resilience.Memory, size int) (int64, bool, error) {
	doomed, err := a.Store.NextDoomed(ctx, in.run(), size)
	if err != nil || doomed.Over {
		return doomed.Last, doomed.Over, err
	}
	looks := make([]store.Look, len(doomed.Suspects))
	if err := lookAll(ctx, root, memory, doomed.Suspects, looks); err != nil {
		return 0, false, err
	}
	gone := make([]int64, 0, len(looks))
	for _, l := range looks {
		if l.Class == resilience.ClassMissing {
			gone = append(gone, l.Ordinal)
		}
	}
	return doomed.Last, false, a.Store.Quarantine(ctx, in.run(), doomed, gone)
}

// checkCanaries refuses a root in which none of the files stands any more that
// stand for the last scan.
func (a *Files) checkCanaries(ctx context.Context, root tree, memory resilience.Memory) error {
	canaries, err := a.Store.Canaries(ctx, memory.Name)
	if err != nil || len(canaries) == 0 {
		return err
	}
	for _, raw := range canaries {
		if _, err := root.Stat(string(raw)); err == nil {
			return nil
		}
	}
	return refused("the root %s of memory %s may not be the right tree: none of %d files that the last scan saw is there. Nothing was cleaned; mount the right tree, or scan again", memory.Root, memory.Name, len(canaries))
}
