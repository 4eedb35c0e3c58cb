package main

import (
	"context"
	"fmt"
	"io"

	"rehome/resilience"
	"rehome/store"
)

// exceptionsOf reads the first rows of a plan that did not go where they should.
func (s *session) exceptionsOf(ctx context.Context, plan resilience.Plan) ([]store.Exception, error) {
	const most = 100
	found, err := s.data.Exceptions(ctx, plan.ID, most)
	return orEmpty(found), err
}

// exceptionRows shows which chunks stayed behind, and why.
func exceptionRows(w io.Writer, exceptions []store.Exception) {
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
}
