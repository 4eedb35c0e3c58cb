package workflows

import (
	"cmp"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
)

// undoTries is how often a compensation is tried before people are told that it
// is stuck. It is tried after that too, at growing intervals, without end.
const undoTries = 10

// The intervals at which a compensation that is stuck is tried by itself.
const (
	stuckWait    = 10 * time.Second
	maxStuckWait = 5 * time.Minute
)

// skipsRows is the change by which the rows that keep the last step of a transfer from being
// taken back can be left out, where the whole step was.
const skipsRows = "skips-rows"

// skipsChanged is the change by which copies that cannot be made again, since a table was
// changed, can be left out: no row is met that could be.
const skipsChanged = "skips-changed"

// stuck is a compensation that fails again and again.
type stuck struct {
	Step  string  `json:"step"`
	Cause string  `json:"cause"`
	Said  *advice `json:"said,omitempty"` // what a person wants, not done yet
}

// advice is a person's: try again, or go on without.
type advice struct {
	Order
	Skip bool `json:"skip,omitempty"`
}

// handleStuck registers the messages that help an undo that is stuck.
func (m *migration) handleStuck(ctx workflow.Context) error {
	err := workflow.SetUpdateHandlerWithOptions(ctx, RetryUpdate, m.retry, workflow.UpdateHandlerOptions{
		Validator:   func(workflow.Context, Order) error { return m.checkStuck(RetryUpdate) },
		Description: "Try the step of the undo that is stuck again, now.",
	})
	if err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, SkipUpdate, m.skip, workflow.UpdateHandlerOptions{
		Validator:   m.checkSkip,
		Description: "Go on without what keeps the undo from going on, for a reason: rows that cannot go back stay where they are and are listed, and the look at all rows of a rename is left out; any other step that is left out makes the rollback fail.",
	})
}

func (m *migration) checkStuck(verb string) error {
	switch {
	case m.stuck == nil:
		return rejected("migration %s is %s, and not stuck; there is nothing to %s", m.in.Migration, m.phase, verb)
	case m.stuck.Said != nil:
		return rejected("migration %s is doing already what was said before; see `starter migration show %s`", m.in.Migration, m.in.Migration)
	}
	return nil
}

func (m *migration) checkSkip(_ workflow.Context, o Order) error {
	if o.Reason == "" {
		return temporal.NewNonRetryableApplicationError("skip wants a reason, which is kept with what is left out", activities.Invalid, nil)
	}
	return m.checkStuck(SkipUpdate)
}

func (m *migration) retry(_ workflow.Context, o Order) (Answer, error) {
	m.stuck.Said = &advice{Order: o.signed()}
	return Answer{resilience.RollingBack}, nil
}

func (m *migration) skip(_ workflow.Context, o Order) (Answer, error) {
	m.stuck.Said = &advice{Order: o.signed(), Skip: true}
	return Answer{resilience.RollingBack}, nil
}

// insist runs a compensation until it is done, or until a person says to go on
// without. It is stuck after some tries, or at once by what no retry mends:
// people mend that too.
func (m *migration) insist(ctx workflow.Context, step string, do func(workflow.Context) error) error {
	wait := stuckWait
	for {
		err := do(ctx)
		if err == nil {
			return m.goesOn(ctx)
		}
		if workflow.IsContinueAsNewError(err) {
			return err
		}
		said, waitErr := m.helped(ctx, step, err, wait)
		if waitErr != nil {
			return waitErr
		}
		if wait = min(2*wait, maxStuckWait); said != nil {
			wait = stuckWait
		}
		if said == nil || !said.Skip {
			if err := m.afresh(ctx); err != nil {
				return err
			}
			continue
		}
		if m.unseen && m.carrying == nil { // each batch of a rename was verified already
			m.home.Done, m.unseen = true, false
			continue
		}
		if !m.rowByRow(ctx, step, err) {
			m.stuck = nil
			m.mark(ctx)
			return fmt.Errorf("left out by %s: %s (%s)", cmp.Or(said.Author, resilience.Somebody), said.Reason, message(err))
		}
		at, err := m.whereIn(ctx, step == unretire)
		if err != nil {
			return err
		}
		m.leave = &store.Leave{At: at.Last, Reason: said.Reason}
	}
}

// rowByRow says whether the rows that keep a step from being done can be left out alone: what
// comes home from quarantine does so or is listed, and nothing goes from a changed table.
func (m *migration) rowByRow(ctx workflow.Context, step string, cause error) bool {
	again := m.carrying != nil && m.carrying.Back // copies are made, and source rows leave
	if step == moveBack {
		return !again || kind(cause) != activities.Changed || workflow.GetVersion(ctx, skipsChanged, workflow.DefaultVersion, 1) == workflow.DefaultVersion
	}
	return step == unretire && again && kind(cause) != activities.Changed &&
		workflow.GetVersion(ctx, skipsRows, workflow.DefaultVersion, 1) == 1
}

// helped tells people that a step is stuck and waits for what they say, or for
// the next try.
func (m *migration) helped(ctx workflow.Context, step string, cause error, wait time.Duration) (*advice, error) {
	if m.stuck == nil {
		m.stuck = &stuck{}
	}
	m.stuck.Step, m.stuck.Cause = step, message(cause)
	m.mark(ctx)
	m.progress.set(ctx, Progress{Phase: fmt.Sprintf("Stuck: it cannot %s: %s", step, m.stuck.Cause), Facts: []Fact{
		{"To try now", "update retry"}, {"To go on without", "update skip with a reason"}, {"By itself", "it is tried again in " + wait.String()},
	}})
	if err := m.note(ctx, activities.Stuck, Order{Reason: step + ": " + m.stuck.Cause}); err != nil {
		return nil, err
	}
	_, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
		Timeout:      wait,
		TimerOptions: workflow.TimerOptions{Summary: "Stuck; it is tried again by itself"},
	}, func() bool { return m.stuck.Said != nil })
	said := m.stuck.Said
	m.stuck.Said = nil
	if said == nil || err != nil {
		return nil, err
	}
	what := activities.Retried
	if said.Skip {
		what = activities.Skipped
	}
	return said, m.note(ctx, what, said.Order)
}

// goesOn tells that what was stuck is not.
func (m *migration) goesOn(ctx workflow.Context) error {
	m.leave = nil
	if m.stuck == nil {
		return nil
	}
	step := m.stuck.Step
	m.stuck = nil
	m.mark(ctx)
	return m.note(ctx, activities.GoesOn, Order{Reason: step})
}

func (m *migration) note(ctx workflow.Context, what string, o Order) error {
	return workflow.ExecuteActivity(brief(ctx, "Note: "+what), database.NoteMigration,
		activities.NoteInput{PlanInput: m.named(o), What: what}).Get(ctx, nil)
}

// undoing bounds the tries of an activity of a compensation: when they are used
// up, people are told. One that is stuck is tried once at a time.
func (m *migration) undoing(ctx workflow.Context) workflow.Context {
	policy := patience()
	policy.MaximumAttempts = undoTries
	if m.stuck != nil {
		policy.MaximumAttempts = 1
	}
	return workflow.WithRetryPolicy(ctx, *policy)
}
