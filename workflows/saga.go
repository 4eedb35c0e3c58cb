package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// RollbackFailed is the type of the error of a run whose undo could not finish.
const RollbackFailed = "RollbackFailed"

// Saga is the list of compensations that a run owes, oldest first. They are
// names, not functions, so that they can be stored as the rollback plan and
// carried over continue-as-new.
type Saga struct {
	Owed   []string `json:"owed,omitempty"`
	Failed []string `json:"failed,omitempty"` // those that were left out, and why
}

// owe registers a compensation. It is called before the step itself, since a
// step that seems to fail may have taken effect; compensations therefore do
// nothing where there is nothing to undo.
func (s *Saga) owe(name string) {
	if !slices.Contains(s.Owed, name) {
		s.Owed = append(s.Owed, name)
	}
}

// compensate runs what is owed, newest first, on a context that a cancel does
// not reach. A compensation that fails for good, which is when a person leaves it
// out, does not keep the others from running, but the plan is not closed as
// rolled back; the error then is RollbackFailed and names those that failed. What is
// done is owed no more, so that a run that continues this one does the rest.
func (s *Saga) compensate(ctx workflow.Context, run func(ctx workflow.Context, name string) error) error {
	for _, name := range slices.Backward(s.Owed) {
		if name == closePlan && len(s.Failed) > 0 {
			break
		}
		err := run(ctx, name)
		if workflow.IsContinueAsNewError(err) {
			return err
		}
		if err != nil {
			workflow.GetLogger(ctx).Error("compensation failed", "compensation", name, "error", err)
			s.Failed = append(s.Failed, fmt.Sprintf("%s: %s", name, message(err)))
		}
		s.Owed = s.Owed[:len(s.Owed)-1]
	}
	if len(s.Failed) > 0 {
		// A fresh error: joined with a cancel, the failed rollback would vanish behind it.
		return temporal.NewNonRetryableApplicationError("the rollback could not finish: "+strings.Join(s.Failed, "; "), RollbackFailed, nil)
	}
	return nil
}
