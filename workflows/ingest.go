package workflows

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
)

// IngestResult says what an ingest did.
type IngestResult struct {
	Memory string `json:"memory"`
	resilience.Ingested
	DurationMS int64  `json:"duration_ms"`
	WorkflowID string `json:"workflow_id"`
}

// ingestSlice is shorter than others, so that who waits for an ingest sees it
// get on: how many files there are is known only at its end.
const ingestSlice = activities.Duration(5 * time.Second)

// Ingest reads the root of a builtin memory into its chunks. Chunks whose text
// is still in their file stay; those whose text was edited away go to
// quarantine; files that are gone are left to a scan.
func Ingest(ctx workflow.Context, in IngestInput) (IngestResult, error) {
	if in.Since.IsZero() {
		in.Since = workflow.Now(ctx)
	}
	shown, err := showProgress(ctx, "Ingest into memory "+in.Memory)
	if err != nil {
		return IngestResult{}, err
	}
	result := IngestResult{Memory: in.Memory, WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID}
	claim := activities.ClaimInput{Origin: in.Origin, Memory: in.Memory, Kind: store.IngestClaim}
	err = claimed(ctx, claim, func(ctx workflow.Context) error {
		result.Ingested, err = ingestAll(ctx, in, shown)
		return err
	})
	if result.SkippedByReason == nil {
		result.SkippedByReason = map[string]int64{} // {} in JSON
	}
	result.DurationMS = workflow.Now(ctx).Sub(in.Since).Milliseconds()
	return result, err
}

// ingestAll orders slices until the tree is read.
func ingestAll(ctx workflow.Context, in IngestInput, shown *progress) (resilience.Ingested, error) {
	order := activities.IngestSliceInput{
		Origin: in.Origin, Owner: owner(ctx), Memory: in.Memory, MaxFileBytes: in.MaxFileBytes,
		Slice: activities.Slice{Time: cmp.Or(in.Tuning.Slice.Time, ingestSlice)},
	}
	ctx = onFiles(in.Tuning.sliced(ctx, "Read files, cut them into chunks and store those"), in.Installation)
	for {
		var slice activities.IngestSliceResult
		if err := workflow.ExecuteActivity(ctx, files.IngestSlice, order).Get(ctx, &slice); err != nil {
			return slice.Counts, err
		}
		shown.set(ctx, ingestProgress(slice.Counts))
		if slice.Done {
			return slice.Counts, nil
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return slice.Counts, workflow.NewContinueAsNewError(ctx, IngestName, in)
		}
	}
}

func ingestProgress(counts resilience.Ingested) Progress {
	facts := []Fact{
		{"Text read", fmt.Sprintf("%.1f MB", float64(counts.Bytes)/1e6)},
		{"Chunks new", fmt.Sprint(counts.Chunks.New)},
		{"Chunks kept", fmt.Sprint(counts.Chunks.Kept)},
		{"Chunks replaced", fmt.Sprint(counts.Chunks.Replaced)},
	}
	//workflowcheck:ignore the keys are sorted at once
	for _, reason := range slices.Sorted(maps.Keys(counts.SkippedByReason)) {
		facts = append(facts, Fact{"Skipped: " + reason, fmt.Sprint(counts.SkippedByReason[reason])})
	}
	return Progress{Phase: "Reading files", Done: counts.Files.Seen, Unit: "files", Facts: facts}
}
