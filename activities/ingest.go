package activities

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"rehome/corpus"
	"rehome/resilience"
	"rehome/store"
)

// IngestSliceInput orders one slice of an ingest that its owner has claimed.
type IngestSliceInput struct {
	Origin
	Owner
	Memory       string `json:"memory"`
	MaxFileBytes int64  `json:"max_file_bytes,omitempty"` // zero means corpus.DefaultMaxFileBytes
	Slice        Slice  `json:"slice,omitzero"`
}

// IngestSliceResult says how far an ingest has come.
type IngestSliceResult struct {
	Counts resilience.Ingested `json:"counts"` // of the whole run
	Done   bool                `json:"done"`
}

// IngestSlice reads files of the root and stores them, batch by batch, until
// the slice is over or the tree is. Where it goes on, and what it counted so
// far, is kept with the claim.
func (a *Files) IngestSlice(ctx context.Context, in IngestSliceInput) (IngestSliceResult, error) {
	memory, err := a.Store.Builtin(ctx, in.Memory)
	if err != nil {
		return IngestSliceResult{}, classify("ingest", err)
	}
	root, err := corpus.OpenRoot(memory.Root)
	if err != nil {
		return IngestSliceResult{}, temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("the root of memory %s cannot be read: %v; mount it, or give the worker the right to read it", in.Memory, err), Refused, nil)
	}
	defer root.Close() //nolint:errcheck // nothing was written to it
	var counts resilience.Ingested
	claim, err := a.Store.ReadClaim(ctx, in.Memory, store.IngestClaim, in.RunID, &counts)
	if err != nil {
		return IngestSliceResult{}, classify("ingest", err)
	}
	ahead := readAhead(ctx, root, parseIngestCursor(claim.Cursor), in.MaxFileBytes)
	defer ahead.stop()
	counts, done, err := inSlice(ctx, in.Slice, func(ctx context.Context) (resilience.Ingested, bool, error) {
		batch, err := ahead.next(ctx, func() { activity.RecordHeartbeat(ctx, counts) })
		if err != nil || batch == nil {
			return counts, err == nil, err
		}
		order := store.IngestBatch{Files: batch.files, Next: batch.cursor.String(), Counts: counts.Clone()}
		for _, reason := range batch.skipped {
			order.Counts.Skip(string(reason))
		}
		if counts, err = a.Store.Ingest(ctx, memory, claim, order); err != nil {
			return counts, false, err
		}
		claim.Cursor = order.Next
		return counts, false, nil
	})
	if errors.Is(err, store.ErrFenced) {
		// The claim may still be ours, and another attempt of this very call the
		// one that went on: then the next attempt goes on from there.
		return IngestSliceResult{}, errors.New("ingest: " + err.Error())
	}
	return IngestSliceResult{Counts: counts, Done: done}, classify("ingest", err)
}
