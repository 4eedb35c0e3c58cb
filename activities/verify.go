package activities

import (
	"context"

	"go.temporal.io/sdk/activity"

	"rehome/resilience"
)

// verifiedRows is how many rows of a journal one transaction looks at.
const verifiedRows = 20_000

// VerifyInput orders one slice of the look at all rows of a plan.
type VerifyInput struct {
	Origin
	Migration string              `json:"migration"`
	Slice     Slice               `json:"slice,omitzero"`
	At        resilience.Verified `json:"at,omitzero"`    // what the slice before returned
	Late      bool                `json:"late,omitempty"` // chunks that came to the old paths are swept no more
}

// VerifyMigration looks at every row of a plan after the last has moved, slice
// by slice, and at what else is at its targets. A mismatch is an error that no
// retry mends, but a sweep may what is Returned.
func (a *Database) VerifyMigration(ctx context.Context, in VerifyInput) (resilience.Verified, error) {
	at := in.At
	at, _, err := inSlice(ctx, in.Slice, func(ctx context.Context) (resilience.Verified, bool, error) {
		var err error
		if at.Total == 0 || at.Last < at.Total {
			err = beating(ctx, func(ctx context.Context) (err error) {
				at, err = a.Store.Verify(ctx, in.Migration, at, verifiedRows)
				return err
			})
			return at, at.Total == 0, err
		}
		err = beating(ctx, func(ctx context.Context) (err error) {
			at.Foreign, err = a.Store.VerifyTargets(ctx, in.Migration)
			if err == nil && in.Late {
				if _, err := a.Store.Late(ctx, in.Migration); err != nil { // it would only have told of them
					activity.GetLogger(ctx).Warn("cannot tell whether more chunks came to the old paths", "migration", in.Migration, "error", err)
				}
			}
			return err
		})
		at.Done = err == nil
		return at, true, err
	})
	at.Done = at.Done || err == nil && at.Total == 0
	return at, classify("verify", err)
}

// VerifyUndo looks at all rows of a plan that its own undo took back, slice by slice. A
// mismatch is an error that no retry mends.
func (a *Database) VerifyUndo(ctx context.Context, in VerifyInput) (resilience.Verified, error) {
	at := in.At
	at, _, err := inSlice(ctx, in.Slice, func(ctx context.Context) (resilience.Verified, bool, error) {
		err := beating(ctx, func(ctx context.Context) (err error) {
			at, err = a.Store.VerifyUndo(ctx, in.Migration, at, verifiedRows)
			return err
		})
		at.Done = err == nil && at.Last == at.Total
		return at, at.Done, err
	})
	return at, classify("verify the undo", err)
}
