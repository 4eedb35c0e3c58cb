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

// leaving is how many rows leave their place in one transaction where that need not be all
// at once, unless the plan has a size of its own: those of a transfer whose copies are led
// to already, and those that an undo takes back. The usual size is for plans that keep out
// of the way.
const leaving = 1000

// leaves is the way of a slice of rows that leave so.
func (m *migration) leaves(leave *store.Leave) leg {
	way := leg{bounds: store.Bounds{Leave: leave}}
	if m.strategy == resilience.Immediate && m.in.Policy.BatchSize == 0 {
		way.bounds.Batch = leaving
	}
	return way
}
