package workflows

import (
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rehome/resilience"
)

// Search attributes by which runs can be filtered in the web UI. All are
// keywords; the worker registers them.
var (
	MemoryAttribute   = temporal.NewSearchAttributeKeyKeyword("RehomeMemory")
	StrategyAttribute = temporal.NewSearchAttributeKeyKeyword("RehomeStrategy")
	RiskAttribute     = temporal.NewSearchAttributeKeyKeyword("RehomeRisk")
	PhaseAttribute    = temporal.NewSearchAttributeKeyKeyword("RehomePhase")
)

// showPhase lets runs be filtered by what they are doing.
func showPhase(ctx workflow.Context, phase string) error {
	return workflow.UpsertTypedSearchAttributes(ctx, PhaseAttribute.ValueSet(phase))
}

// showRisk lets runs be filtered by their risk, as soon as it is known.
func showRisk(ctx workflow.Context, level resilience.RiskLevel) error {
	if level == "" {
		return nil
	}
	return workflow.UpsertTypedSearchAttributes(ctx, RiskAttribute.ValueSet(string(level)))
}
