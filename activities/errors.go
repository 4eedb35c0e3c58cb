package activities

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/temporal"

	"rehome/store"
)

// Types of the errors that end a step, as workflows and the command line see
// them. They are in histories: never renamed.
const (
	NotFound = "NotFound"
	Conflict = "Conflict"
	Refused  = "Refused"
	Invalid  = "Invalid"
	Fenced   = "Fenced"
	Rights   = "Rights"
	Schema   = "Schema"
	Unfit    = "Unfit"
	Changed  = "Changed"
	Verify   = "Verify"
	Returned = "Returned"
)

// classify turns an error into what Temporal decides by. Context errors and
// typed errors pass unchanged; what a retry cannot mend becomes non-retryable;
// the rest, a database that is away among it, is retried.
func classify(op string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return err
	}
	for _, known := range []struct {
		kind error
		typ  string
	}{
		{store.ErrNotFound, NotFound},
		{store.ErrConflict, Conflict},
		{store.ErrRefused, Refused},
		{store.ErrInvalid, Invalid},
		{store.ErrFenced, Fenced},
		{store.ErrRights, Rights},
		{store.ErrSchema, Schema},
		{store.ErrChanged, Changed}, // which is unfit, too
		{store.ErrUnfit, Unfit},
		{store.ErrVerify, Verify},
		{store.ErrReturned, Returned},
	} {
		if errors.Is(err, known.kind) {
			message := fmt.Sprintf("%s: %s", op, err)
			if p, ok := errors.AsType[*store.Problem](err); ok {
				message = p.Message
			}
			return temporal.NewNonRetryableApplicationError(message, known.typ, err)
		}
	}
	return fmt.Errorf("%s: %w", op, err)
}
