package workflows

import (
	"go.temporal.io/sdk/workflow"

	"rehome/resilience"
	"rehome/store"
)

// MigrateImmediate lets chunks follow their files all at once: the skeleton of
// batch with one batch. Planning refuses what would hold locks for long.
func MigrateImmediate(ctx workflow.Context, in MigrateInput) (resilience.Plan, error) {
	return migrate(ctx, resilience.Immediate, in)
}

// atOnce takes all that is left in one batch.
type atOnce struct{}

func (atOnce) next(_ workflow.Context, _ *migration, at resilience.Watermark) (leg, error) {
	return leg{bounds: store.Bounds{Batch: int(max(1, at.Total-at.Last)), Patient: true}}, nil
}
