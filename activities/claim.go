package activities

import (
	"context"
	"errors"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"rehome/store"
)

// Owner is the chain of runs that does a piece of claimed work.
type Owner struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"` // of the chain's first run: continue-as-new keeps a claim
}

// ClaimInput names the work to own and its owner.
type ClaimInput struct {
	Origin
	Owner
	Memory string `json:"memory"`
	Kind   string `json:"kind"`
}

// Claim makes a workflow the owner of a kind of work on a memory. A claim
// whose run is closed is taken over; one that is open is a Conflict that names
// its owner.
func (a *Database) Claim(ctx context.Context, in ClaimInput) error {
	want := in.claim()
	owner, err := a.Store.TakeClaim(ctx, want)
	if !errors.Is(err, store.ErrConflict) {
		return classify("claim", err)
	}
	open, askErr := isOpen(ctx, a.Temporal, owner.WorkflowID, owner.RunID)
	if askErr != nil {
		return classify("ask Temporal about "+owner.WorkflowID, askErr)
	}
	if open {
		return classify("claim", err)
	}
	_, err = a.Store.ReplaceClaim(ctx, owner, want)
	return classify("take over the claim of "+owner.WorkflowID, err)
}

// Release gives up what Claim took.
func (a *Database) Release(ctx context.Context, in ClaimInput) error {
	return classify("release", a.Store.ReleaseClaim(ctx, in.claim()))
}

func (in ClaimInput) claim() store.Claim {
	return store.Claim{Memory: in.Memory, Kind: in.Kind, WorkflowID: in.WorkflowID, RunID: in.RunID}
}

// isOpen reports whether the chain of runs that began with runID is still
// going. One that Temporal has forgotten is not.
func isOpen(ctx context.Context, c client.Client, workflowID, runID string) (bool, error) {
	described, err := c.DescribeWorkflowExecution(ctx, workflowID, "")
	if _, gone := errors.AsType[*serviceerror.NotFound](err); gone {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	latest := described.GetWorkflowExecutionInfo()
	return latest.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING && latest.GetFirstRunId() == runID, nil
}
