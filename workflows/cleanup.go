package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
)

// Cleanup moves confirmed orphans of a memory to quarantine, those most in the
// way first. However it ends, whole batches are done and counted.
func Cleanup(ctx workflow.Context, in CleanupInput) (resilience.CleanupResult, error) {
	shown, err := showProgress(ctx, "Cleanup of memory "+in.Memory)
	if err != nil {
		return resilience.CleanupResult{}, err
	}
	c := cleanupRun{in: in, shown: shown}
	claim := activities.ClaimInput{Origin: in.Origin, Memory: in.Memory, Kind: store.CleanupClaim}
	err = claimed(ctx, claim, c.run)
	return c.result, err
}

type cleanupRun struct {
	in     CleanupInput
	shown  *progress
	order  activities.CleanupInput
	result resilience.CleanupResult
}

func (c *cleanupRun) run(ctx workflow.Context) error {
	c.order = activities.CleanupInput{
		Origin: c.in.Origin, Owner: owner(ctx), Memory: c.in.Memory, CleanupID: "cleanup-" + runSuffix(ctx),
		DryRun: c.in.DryRun, Max: c.in.Max, Waived: c.in.WaiveGrace, Slice: c.in.Tuning.Slice,
	}
	c.shown.set(ctx, Progress{Phase: "Choosing confirmed orphans"})
	planning := c.in.Tuning.lengthy(ctx, "Choose the confirmed orphans to clean")
	if err := workflow.ExecuteActivity(planning, database.PlanCleanup, c.order).Get(ctx, &c.result); err != nil {
		return err
	}
	err := c.clean(ctx)
	if workflow.IsContinueAsNewError(err) {
		return err
	}
	detached, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	finishErr := workflow.ExecuteActivity(brief(detached, "Close the cleanup"), database.FinishCleanup, c.order).Get(detached, &c.result)
	if err != nil {
		return err
	}
	return finishErr
}

func (c *cleanupRun) clean(ctx workflow.Context) error {
	ctx = onFiles(c.in.Tuning.sliced(ctx, "Look for the files once more and quarantine their chunks"), c.in.Installation)
	for {
		var slice activities.CleanupSlice
		if err := workflow.ExecuteActivity(ctx, files.CleanOrphans, c.order).Get(ctx, &slice); err != nil {
			return err
		}
		c.result = slice.Result
		c.shown.set(ctx, cleanupProgress(slice.Result))
		if slice.Done {
			return nil
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return workflow.NewContinueAsNewError(ctx, CleanupName, c.in)
		}
	}
}

func cleanupProgress(r resilience.CleanupResult) Progress {
	return Progress{
		Phase: "Moving orphans to quarantine", Unit: "chunks", Total: r.TotalOrphans,
		Done:  r.CleanedOrphans + r.FailedCleanups + r.Skipped,
		Facts: []Fact{{"Moved", fmt.Sprint(r.CleanedOrphans)}, {"Left alone", fmt.Sprint(r.Skipped)}, {"Refused by the database", fmt.Sprint(r.FailedCleanups)}},
	}
}
