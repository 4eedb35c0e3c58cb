package workflows

import (
	"cmp"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rehome/resilience"
	"rehome/store"
)

// The compensations of a transfer, besides those that every plan has.
const (
	switchBack = "switch the references and aliases back"
	unretire   = "take back what the last step did to the source rows"
)

// carrying is what a run knows of the transfer it carries out.
type carrying struct {
	Back      bool      `json:"back,omitempty"`      // it undoes one
	SoakUntil time.Time `json:"soak_until,omitzero"` // zero: the soak has not begun
	Retiring  bool      `json:"retiring,omitempty"`  // slices are those of the last step
}

// carryingOf is nil for a plan of another kind.
func carryingOf(plan resilience.Plan) *carrying {
	if plan.Transfer == nil {
		return nil
	}
	return &carrying{Back: plan.Transfer.Back}
}

// turned is that of the plan that undoes it.
func (c *carrying) turned() *carrying {
	if c == nil {
		return nil
	}
	return &carrying{Back: !c.Back}
}

// transferRollback lists what the undo of a transfer does, in its order.
func transferRollback(back bool) []string {
	steps := []string{unretire, switchBack, moveBack}
	if back {
		slices.Reverse(steps)
	}
	return append(steps, closePlan)
}

// owing is the rollback plan: the usual one, or that of a transfer.
func (m *migration) owing(usual []string) []string {
	if m.carrying == nil {
		return usual
	}
	return transferRollback(m.carrying.Back)
}

// What steps of an undo do to a transfer, whose rows are copies, and to one that goes
// back.
var (
	transferWords = map[string]string{unretire: "bring the source rows back from quarantine", moveBack: "delete the copies, last made first"}
	returnWords   = map[string]string{moveBack: "make the copies again", unretire: "take the source rows out of their memory again"}
)

// readable are the steps of an undo as people read them.
func (m *migration) readable(steps []string) []string {
	if m.carrying == nil {
		return steps
	}
	words, readable := transferWords, slices.Clone(steps)
	if m.carrying.Back {
		words = returnWords
	}
	for i, s := range steps {
		readable[i] = cmp.Or(words[s], s)
	}
	return readable
}

// carryOver does the steps of a transfer. What readers find changes only in the
// switch; until the source rows have retired everything stands in both places,
// and what is written to the source meanwhile is copied again. A plan that goes
// back does the opposite, from the end.
func (m *migration) carryOver(ctx workflow.Context) error {
	steps := []func(workflow.Context) error{m.copyAll, m.switchOver, m.soak, m.copyAll, m.switchOver, m.retireAll}
	if m.carrying.Back {
		steps = []func(workflow.Context) error{m.retireAll, m.switchOver, m.copyAll}
	}
	if m.carrying.Retiring && !m.carrying.Back && workflow.GetVersion(ctx, retiresOn, workflow.DefaultVersion, 1) == 1 { // the run before came that far
		steps = steps[len(steps)-1:]
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
		if m.aborted != nil {
			return m.abortion()
		}
	}
	m.phase = completing
	return m.whileExecuting(ctx, m.then(closing, database.CompleteMigration), steps[len(steps)-1])
}

// retiresOn is the change by which a transfer that retires goes on with that in a fresh
// history, where it took the copying for the retiring.
const retiresOn = "retires-on"

// copyAll makes the copies, or takes them away, as the plan's strategy says.
func (m *migration) copyAll(ctx workflow.Context) error {
	m.saga.owe(moveBack)
	return m.moveAll(ctx)
}

// switchOver lets references lead to the copies, or to the source again.
func (m *migration) switchOver(ctx workflow.Context) error {
	if err := m.begin(ctx, "switch"); err != nil {
		return err
	}
	m.saga.owe(switchBack)
	m.phase = switching
	defer func() { m.phase = moving }()
	before := m.copyAll
	if m.carrying.Back {
		before = m.retireAll
	}
	return m.whileExecuting(ctx, m.then("Let references lead to where the chunks are", database.SwitchReferences), before)
}

// soak lets time pass in which the source rows are still there. The end is kept,
// so that a run that takes over waits for the rest only.
func (m *migration) soak(ctx workflow.Context) error {
	if m.carrying.SoakUntil.IsZero() {
		m.carrying.SoakUntil = workflow.Now(ctx).Add(m.in.Lasts())
	}
	left := m.carrying.SoakUntil.Sub(workflow.Now(ctx))
	if left > 0 {
		if err := m.begin(ctx, "soak"); err != nil {
			return err
		}
		m.progress.set(ctx, Progress{Phase: "Soaking: the chunks stand in both memories", Facts: []Fact{{"Until", m.carrying.SoakUntil.UTC().Format(time.RFC3339)}}})
		if _, err := await(ctx, left, "Soak: the chunks stand in both memories", func() bool { return m.aborted != nil || m.next != "" }); err != nil {
			return err
		}
		if m.aborted == nil && m.next != "" {
			return m.continueAsNew(ctx)
		}
	}
	m.sweeps = 0 // rows that came meanwhile are taken along
	return nil
}

// retireAll takes the source rows out of their memory, or brings them back.
func (m *migration) retireAll(ctx workflow.Context) error {
	m.phase, m.carrying.Retiring = moving, true
	defer func() { m.beginning, m.carrying.Retiring = false, false }()
	if err := m.begin(ctx, "retire"); err != nil {
		return err
	}
	m.saga.owe(unretire)
	return m.moveOn(ctx)
}

// retiring reports whether the slices ordered now are those of a transfer's last step.
func (m *migration) retiring() bool { return m.carrying != nil && m.carrying.Retiring }

// ahead asks the strategy for the next slice. The last step of a transfer goes
// at the plan's own pace, unless the strategy has a way of its own with it.
func (m *migration) ahead(ctx workflow.Context, at resilience.Watermark) (leg, any, error) {
	if m.retiring() {
		var way leg
		var err error
		if r, ok := m.manner.(retirer); ok {
			way, err = r.retire(ctx, m, at)
		}
		way.summary = "Take the source rows out of their memory"
		return way, database.RetireSlice, err
	}
	way, err := m.manner.next(ctx, m, at)
	return way, database.MoveSlice, err
}

func (m *migration) switchBack(ctx workflow.Context) error {
	return workflow.ExecuteActivity(m.undoing(m.in.Tuning.lengthy(ctx, "Switch the references back")), database.UndoSwitchReferences, m.named(Order{})).Get(ctx, nil)
}

func (m *migration) unretire(ctx workflow.Context) error {
	m.began, m.beganAt = workflow.Now(ctx), -1
	for {
		at, err := m.slice(ctx, "Take back what the last step did", database.UnretireSlice, leg{bounds: store.Bounds{Leave: m.leave}})
		if err != nil || at.Last == 0 {
			return err
		}
		if m.stuck != nil && workflow.GetVersion(ctx, skipsRows, workflow.DefaultVersion, 1) == 1 {
			if err := m.goesOn(ctx); err != nil { // what else is to be left out, a person says anew
				return err
			}
		}
		if err := m.afresh(ctx); err != nil {
			return err
		}
	}
}
