package workflows

import (
	"cmp"

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

// begin takes up a step of the work: plan, approval, move, build, switch, soak,
// retire or undo. Runs are filtered by it, or by what keeps them from it.
func (m *migration) begin(ctx workflow.Context, work string) error {
	m.work, m.waits = work, ""
	if m.kept() != "" && tellsWhatKeeps(ctx) {
		m.mark(ctx)
		return nil
	}
	return m.say(ctx, work)
}

// waitFor shows what the step waits for: queued, soak or waiting; nothing when it goes on.
func (m *migration) waitFor(ctx workflow.Context, what string) {
	m.waits = what
	m.mark(ctx)
}

// kept is what keeps the run from its work.
func (m *migration) kept() string {
	switch {
	case m.stuck != nil:
		return "stuck"
	case m.phase == undoing: // it heeds no other order
		return ""
	case m.shown.Hold != nil:
		return "paused"
	case m.resuming != nil:
		return "queued"
	}
	return m.waits
}

// mark lets runs be filtered by what keeps them, or again by their work. It costs an
// event where that has changed, and none where it has not.
func (m *migration) mark(ctx workflow.Context) {
	now := cmp.Or(m.kept(), m.work)
	if now == m.said || now == "" || !tellsWhatKeeps(ctx) {
		return
	}
	if err := m.say(ctx, now); err != nil {
		workflow.GetLogger(ctx).Error("phase not shown", "migration", m.in.Migration, "phase", now, "error", err)
	}
}

// say sets the phase by which the run is filtered.
func (m *migration) say(ctx workflow.Context, phase string) error {
	m.said = phase
	return workflow.UpsertTypedSearchAttributes(ctx, PhaseAttribute.ValueSet(phase))
}

// whatKeeps is the change by which runs are filtered by what keeps them from their
// work, too.
const whatKeeps = "what-keeps"

func tellsWhatKeeps(ctx workflow.Context) bool {
	return workflow.GetVersion(ctx, whatKeeps, workflow.DefaultVersion, 1) != workflow.DefaultVersion
}

// showRisk lets runs be filtered by their risk, as soon as it is known.
func showRisk(ctx workflow.Context, level resilience.RiskLevel) error {
	if level == "" {
		return nil
	}
	return workflow.UpsertTypedSearchAttributes(ctx, RiskAttribute.ValueSet(string(level)))
}
