package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
)

// buildIndexes is the compensation of a plan that goes the way Rebuild.
const buildIndexes = "build the vector indexes again"

// takeIndexes takes the vector indexes away, where the plan's way is to build
// them again after its rows have moved. An undo builds them after the rows are
// back, too.
func (m *migration) takeIndexes(ctx workflow.Context) error {
	if m.way != resilience.Rebuild {
		return nil
	}
	m.saga.owe(buildIndexes)
	in := activities.IndexInput{PlanInput: m.named(Order{}), Epoch: max(m.epoch, 1)}
	err := workflow.ExecuteActivity(brief(ctx, "Take the vector indexes away while rows move"), database.TakeIndexes, in).Get(ctx, nil)
	if m.dropped(ctx) {
		return m.abortion()
	}
	return err
}

// buildIndexes builds them again, if any are away.
func (m *migration) buildIndexes(ctx workflow.Context) error {
	if m.way != resilience.Rebuild {
		return nil
	}
	const summary = "Build the vector indexes again, and check them"
	words := Progress{Phase: "Building the vector indexes again"}
	if m.phase == undoing {
		m.progress.set(ctx, words)
		return workflow.ExecuteActivity(m.undoing(m.in.Tuning.lengthy(ctx, summary)), database.BuildIndexes, m.named(Order{})).Get(ctx, nil)
	}
	m.phase = building
	if err := m.begin(ctx, "build"); err != nil {
		return err
	}
	m.progress.set(ctx, words)
	// It may take hours, and its rows go back faster without it.
	return m.unlessAborted(ctx, step{change: buildStopped, summary: summary, activity: database.BuildIndexes, in: m.named(Order{})}, nil)
}

// abandoned says that a person aborted the migration on its way forward.
func (m *migration) abandoned() bool { return m.aborted != nil && m.phase != undoing }

// askRebuild says why a person has to approve a plan that takes indexes away.
// Who named the way and approved beforehand has said yes to it.
func (m *migration) askRebuild(plan resilience.Plan) string {
	if plan.Way != resilience.Rebuild || m.in.Policy.Way == resilience.Rebuild && m.approves(plan) {
		return ""
	}
	return fmt.Sprintf("it drops %s and builds it again after the rows have moved; until then searches by similarity go without", strings.Join(plan.Physics.VectorIndexes, ", "))
}
