package workflows

import (
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
)

// owner is the chain of runs that the calling workflow belongs to.
func owner(ctx workflow.Context) activities.Owner {
	info := workflow.GetInfo(ctx)
	return activities.Owner{WorkflowID: info.WorkflowExecution.ID, RunID: info.FirstRunID}
}

// claimed runs work as the one owner of a kind of work on a memory. The claim
// is released whatever happens, also after a cancel.
func claimed(ctx workflow.Context, in activities.ClaimInput, work func(workflow.Context) error) error {
	in.Owner = owner(ctx)
	// A cancel must not part us from the answer: the claim could be taken after all.
	detached, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if err := workflow.ExecuteActivity(brief(detached, "See that no other "+in.Kind+" of "+in.Memory+" runs"), database.Claim, in).Get(detached, nil); err != nil {
		return err
	}
	err := work(ctx)
	if workflow.IsContinueAsNewError(err) {
		return err // the next run goes on under the same claim
	}
	releaseErr := workflow.ExecuteActivity(brief(detached, "Let the next "+in.Kind+" of "+in.Memory+" run"), database.Release, in).Get(detached, nil)
	if err != nil {
		return err
	}
	return releaseErr
}
