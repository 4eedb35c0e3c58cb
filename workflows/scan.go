package workflows

import (
	"cmp"
	"fmt"

	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
)

// OrphanScan finds the chunks of a memory whose source is gone. What it cannot
// know it leaves as it is; a tree that may not be the memory's ends it as
// Refused, with nothing changed.
func OrphanScan(ctx workflow.Context, in ScanInput) (resilience.ScanResult, error) {
	shown, err := showProgress(ctx, "Scan of memory "+in.Memory)
	if err != nil {
		return resilience.ScanResult{}, err
	}
	in.ScanID = cmp.Or(in.ScanID, "scan-"+runSuffix(ctx))
	s := scanRun{in: in, shown: shown}
	claim := activities.ClaimInput{Origin: in.Origin, Memory: in.Memory, Kind: store.ScanClaim}
	err = claimed(ctx, claim, s.run)
	return s.result, err
}

// runSuffix tells the chain of runs apart from others: the end of its first
// run's id, of which the beginning may be a time.
func runSuffix(ctx workflow.Context) string {
	id := workflow.GetInfo(ctx).FirstRunID
	return id[max(0, len(id)-12):]
}

type scanRun struct {
	in     ScanInput
	shown  *progress
	order  activities.ScanInput
	result resilience.ScanResult
}

func (s *scanRun) run(ctx workflow.Context) error {
	s.order = activities.ScanInput{
		Origin: s.in.Origin, Owner: owner(ctx), Memory: s.in.Memory, ScanID: s.in.ScanID, Slice: s.in.Tuning.Slice,
		Policy: resilience.ScanPolicy{DryRun: s.in.DryRun, AcceptShrinkage: s.in.AcceptShrinkage},
	}
	err := s.steps(ctx)
	if err == nil || workflow.IsContinueAsNewError(err) {
		return err
	}
	detached, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	order := activities.AbortScanInput{ScanInput: s.order, Reason: message(err)}
	if abortErr := workflow.ExecuteActivity(brief(detached, "Close the scan as aborted"), database.AbortScan, order).Get(detached, nil); abortErr != nil {
		workflow.GetLogger(ctx).Error("the scan could not be closed as aborted", "scan", s.in.ScanID, "error", abortErr)
	}
	return err
}

func (s *scanRun) steps(ctx workflow.Context) error {
	// 1. The cutoff, and what has to be found.
	s.shown.set(ctx, Progress{Phase: "Listing the sources of the chunks"})
	listing := s.in.Tuning.lengthy(ctx, "List the sources of the memory's chunks")
	if err := workflow.ExecuteActivity(listing, database.BeginScan, s.order).Get(ctx, &s.order.Listed); err != nil {
		return err
	}
	// 2. What is there.
	walking := onFiles(s.in.Tuning.sliced(ctx, "Read the directories of the root"), s.in.Installation)
	if err := s.slices(ctx, walking, files.WalkTree, "Reading directories"); err != nil {
		return err
	}
	// 3. What was not seen, and a second look at it.
	judging := s.in.Tuning.lengthy(ctx, "Judge which sources are gone")
	if err := workflow.ExecuteActivity(judging, database.JudgeSources, s.order).Get(ctx, nil); err != nil {
		return err
	}
	looking := onFiles(s.in.Tuning.sliced(ctx, "Look once more for what was not seen"), s.in.Installation)
	if err := s.slices(ctx, looking, files.RecheckSources, "Looking again for missing files"); err != nil {
		return err
	}
	// 4. What it means.
	s.shown.set(ctx, Progress{Phase: "Recording orphans"})
	finishing := s.in.Tuning.lengthy(ctx, "Record orphans and refresh the catalogue")
	return workflow.ExecuteActivity(finishing, database.FinishScan, s.order).Get(ctx, &s.result)
}

// slices repeats an activity until its stage is done.
func (s *scanRun) slices(ctx, options workflow.Context, activity any, phase string) error {
	for {
		var slice activities.ScanSlice
		if err := workflow.ExecuteActivity(options, activity, s.order).Get(ctx, &slice); err != nil {
			return err
		}
		s.shown.set(ctx, scanProgress(phase, slice.ScanProgress))
		if slice.Done {
			return nil
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return workflow.NewContinueAsNewError(ctx, ScanName, s.in)
		}
	}
}

func scanProgress(phase string, p store.ScanProgress) Progress {
	now := Progress{
		Phase: phase, Done: p.Files, Unit: "names",
		Facts: []Fact{{"Directories", fmt.Sprint(p.Dirs)}, {"Directories that could not be read", fmt.Sprint(p.Unread)}},
	}
	if p.Suspects > 0 {
		now.Done, now.Total, now.Unit = p.Looked, p.Suspects, "sources"
	}
	return now
}
