package workflows

import (
	"go.temporal.io/sdk/workflow"

	"rehome/resilience"
)

// MigrateBatch lets chunks follow their files: rows in fixed batches, back to
// back, each its own transaction.
func MigrateBatch(ctx workflow.Context, in MigrateInput) (resilience.Plan, error) {
	return migrate(ctx, resilience.Batch, in)
}

// steady works through the journal at the plan's own pace.
type steady struct{}

func (steady) next(workflow.Context, *migration, resilience.Watermark) (leg, error) {
	return leg{}, nil
}
