package main

import (
	"context"
	"fmt"
	"io"
	"math"

	"rehome/resilience"
	"rehome/store"
)

// shownExceptions is how many rows that did not go where they should are shown of a plan,
// unless somebody wants more.
const shownExceptions = 100

// exceptionsOf reads the first rows of a plan that did not go where they should, limit at
// most, 0 being all, and reports whether there are more.
func (s *session) exceptionsOf(ctx context.Context, plan resilience.Plan, limit int) (found []store.Exception, more bool, err error) {
	if limit <= 0 {
		limit = math.MaxInt32
	}
	found, err = s.data.Exceptions(ctx, plan.ID, limit+1)
	more = len(found) > limit
	return orEmpty(found[:min(limit, len(found))]), more, err
}

// exceptionRows shows which chunks stayed behind, and why.
func exceptionRows(w io.Writer, exceptions []store.Exception, more bool) {
	for _, e := range exceptions {
		words := fmt.Sprintf("chunk %s: %s", e.Chunk, e.Outcome)
		if e.Undoing {
			words += ", it did not go back"
		}
		if e.Detail != "" {
			words += ": " + e.Detail
		}
		row(w, "exception", words)
	}
	if more {
		row(w, "exception", "and more; --exceptions 0 lists all")
	}
}
