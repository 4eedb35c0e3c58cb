package workflows_test

import (
	"context"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// course is a way that a plan can go, with the steps at which an order may come.
type course struct {
	name          string
	strategy      resilience.Strategy
	transfer      bool
	rebuild       bool // of the vector index, around the moves
	undoes        bool // a completed plan
	forward, back []string
	breaks        string // the step that fails where all others are to be undone
}

// courses are all of them.
func courses() []course {
	begin := []string{"PlanMigration", "RequestApproval", "ApproveMigration", "QueueMigration", "TakeSlot", "BeginMigration"}
	move := []string{"ReadWatermark", "MoveSlice", "SweepMigration", "VerifyMigration"}
	end := []string{"CompleteMigration", "ReadMigration"}
	back := []string{"RevertSlice", "VerifyUndo", "EndUndo", "NoteMigration"}
	rename := course{
		forward: slices.Concat(begin, move, []string{"SwitchAliases"}, end),
		back:    append([]string{"BeginUndo", "UndoSwitchAliases"}, back...), breaks: "SwitchAliases",
	}
	undoing := rename // neither a person nor a slot is waited for
	undoing.undoes, undoing.forward = true, slices.Concat([]string{"PlanMigration", "QueueMigration", "BeginMigration"}, move, []string{"SwitchAliases"}, end)
	carried := course{
		transfer: true,
		forward:  slices.Concat(begin, move, []string{"SwitchReferences", "ReadRetired", "RetireSlice"}, end),
		back:     append([]string{"BeginUndo", "UndoSwitchReferences", "UnretireSlice"}, back...), breaks: "RetireSlice",
	}
	returned := course{
		transfer: true, undoes: true,
		forward: slices.Concat([]string{"PlanMigration", "QueueMigration", "BeginMigration", "ReadRetired", "RetireSlice", "SwitchReferences"}, move, end),
		back:    []string{"BeginUndo", "UndoSwitchReferences", "UnretireSlice", "RevertSlice", "EndUndo", "NoteMigration"}, breaks: "VerifyMigration",
	}
	rebuilt := course{
		rebuild: true,
		forward: slices.Concat(begin, []string{"TakeIndexes"}, move, []string{"BuildIndexes", "SwitchAliases"}, end),
	}
	rebuiltBack := course{ // the index is built after the rows are back, and not before
		rebuild: true,
		back:    append([]string{"BeginUndo", "BuildIndexes"}, back...), breaks: "VerifyMigration",
	}
	of := func(c course, name string, strategy resilience.Strategy, own ...string) course {
		c.name, c.strategy, c.forward = name, strategy, append(own, c.forward...)
		return c
	}
	return []course{
		of(rename, "batch", resilience.Batch),
		of(rename, "immediate", resilience.Immediate),
		of(rename, "gradual", resilience.Gradual, "CheckHealth"),
		of(rename, "intelligent", resilience.Intelligent, "AnalyseMigration", "CheckHealth"),
		of(rebuilt, "rebuild", resilience.Intelligent),
		of(rebuiltBack, "undone rebuild", resilience.Intelligent),
		of(undoing, "rollback", resilience.Batch),
		of(carried, "transfer", resilience.Batch),
		of(carried, "immediate transfer", resilience.Immediate),
		of(carried, "gradual transfer", resilience.Gradual, "CheckHealth"),
		of(returned, "transfer rollback", resilience.Batch),
		of(carried, "intelligent transfer", resilience.Intelligent, "AnalyseMigration", "CheckHealth"),
	}
}

// undone reports whether a step is one of the way back.
func (c course) undone(step string) bool { return slices.Contains(c.back, step) }

func (c course) input() workflows.MigrateInput {
	in := planned()
	if c.transfer {
		in.To = "archive"
	}
	return in
}

// run carries the plan of a course out, or undoes it.
func (c course) run(env *testsuite.TestWorkflowEnvironment) {
	if c.undoes {
		env.ExecuteWorkflow(workflows.Rollback, workflows.RollbackInput{Memory: "docs", Migration: "m-0", Undo: "m-1"})
		return
	}
	env.ExecuteWorkflow(workflows.MigrateName(c.strategy), c.input())
}

// TakeOverMigration finds a plan that was carried out.
func (k *keeper) TakeOverMigration(context.Context, activities.PlanInput) (resilience.Plan, error) {
	plan := resilience.Plan{ID: "m-0", Status: resilience.Completed, Strategy: resilience.Batch}
	if k.plan.Transfer != nil {
		plan.Transfer = &resilience.Transferring{}
	}
	return plan, k.do("TakeOverMigration")
}

// CheckHealth finds a server that bears all of it, unless a gate is shut.
func (k *keeper) CheckHealth(context.Context, activities.HealthInput) (check resilience.HealthCheck, err error) {
	err = k.do("CheckHealth", func() { check.Shut = k.shut })
	return check, err
}

// AnalyseMigration finds a group for each strategy that a group can have.
func (k *keeper) AnalyseMigration(context.Context, activities.AnalyseInput) (activities.Analysis, error) {
	return activities.Analysis{Plan: k.plan, Groups: []resilience.Group{
		{Position: 1, Until: 10, Rows: 10, Name: "cold", Strategy: resilience.Batch, Way: resilience.Update, BatchSize: 5},
		{Position: 2, Until: 30, Rows: 20, Name: "hot", Strategy: resilience.Gradual, Way: resilience.Update, BatchSize: 5},
	}}, k.do("AnalyseMigration")
}

// MoveSlice says what the moves cost where that is asked.
func (k *keeper) MoveSlice(ctx context.Context, in activities.SliceInput) (resilience.Watermark, error) {
	at, err := k.actor.MoveSlice(ctx, in)
	return felt(at, in), err
}

func felt(at resilience.Watermark, in activities.SliceInput) resilience.Watermark {
	if in.Servo != nil {
		at.Pulse = &resilience.Pulse{Batches: 1, Rows: 10, ActiveMS: 1000, P95MS: 40, Servo: *in.Servo}
	}
	return at
}

// ReadMigration returns the plan, of which gradual asks how large its rows are.
func (k *keeper) ReadMigration(context.Context, activities.PlanInput) (resilience.Plan, error) {
	return k.plan, k.do("ReadMigration")
}

// TakeIndexes takes nothing of a plan that was turned round, and nothing twice, as the
// store does.
func (k *keeper) TakeIndexes(context.Context, activities.IndexInput) (names []string, err error) {
	err = k.do("TakeIndexes", func() {
		if k.status == resilience.Executing || k.status == resilience.Paused {
			k.away, k.taken, names = k.away || !k.taken, true, k.plan.Physics.VectorIndexes
		}
	})
	if err == nil && names == nil {
		err = temporal.NewNonRetryableApplicationError("it was turned round", activities.Fenced, nil)
	}
	return names, err
}

func (k *keeper) BuildIndexes(context.Context, activities.PlanInput) (built int, err error) {
	err = k.do("BuildIndexes", func() {
		if k.away {
			k.away, built = false, 1
		}
	})
	return built, err
}

func (k *keeper) SwitchReferences(context.Context, activities.PlanInput) error {
	return k.do("SwitchReferences", func() { k.switched = k.switched || k.status == resilience.Executing })
}

func (k *keeper) UndoSwitchReferences(context.Context, activities.PlanInput) error {
	return k.do("UndoSwitchReferences", func() { k.switched = false })
}

// left is the watermark of the rows that have left their memory.
func (k *keeper) left() resilience.Watermark {
	at := k.at
	at.Last = k.retired
	return at
}

func (k *keeper) ReadRetired(context.Context, activities.PlanInput) (at resilience.Watermark, err error) {
	err = k.do("ReadRetired", func() { at = k.left() })
	return at, err
}

func (k *keeper) RetireSlice(_ context.Context, in activities.SliceInput) (at resilience.Watermark, err error) {
	err = k.do("RetireSlice", func() {
		if k.at.Wish == resilience.WishRun {
			k.retired = min(k.retired+k.slice, k.at.Total)
		}
		at = felt(k.left(), in)
	})
	return at, err
}

func (k *keeper) UnretireSlice(context.Context, activities.SliceInput) (at resilience.Watermark, err error) {
	err = k.do("UnretireSlice", func() {
		k.retired = max(k.retired-k.slice, 0)
		at = k.left()
	})
	return at, err
}

// patiently lets a rehearsal take longer than the usual three seconds of the real
// clock: hundreds of them run beside each other.
const patiently = time.Minute
