package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
)

// approvalWait is how long a plan waits for a person's yes before it is dropped.
const approvalWait = 7 * 24 * time.Hour

// A plan that waits in the queue asks every so often whether it is its turn: the
// less often the more come before it, so that a long queue costs little.
const (
	slotPoll    = 2 * time.Second
	slotPollFor = time.Second // more for each that comes before it
	slotPollMax = 30 * time.Second
)

// admission is where a plan stands before it begins.
type admission struct {
	Ask    string `json:"ask,omitempty"`    // why a person has to approve; empty: nobody has to
	Queued bool   `json:"queued,omitempty"` // approved as far as need be, and in the queue
	Waited bool   `json:"waited,omitempty"` // time has passed since the plan was made
}

// admit waits until the plan may begin: for a person's yes where one is needed,
// and for a slot. It lets the plan begin; from there on it has effects.
func (m *migration) admit(ctx workflow.Context) error {
	if err := m.analyseQueued(ctx); err != nil {
		return err
	}
	for {
		if err := m.awaitApproval(ctx); err != nil {
			return err
		}
		if err := m.awaitSlot(ctx); err != nil {
			return err
		}
		if m.dropped(ctx) {
			return m.abortion()
		}
		m.saga.owe(closePlan)
		m.beginning = true
		var b activities.Beginning
		in := activities.BeginInput{PlanInput: m.named(Order{}), Recheck: m.admission.Waited}
		err := m.unlessAborted(ctx, step{change: beginStopped, summary: "Start moving, if the table is what was planned", activity: database.BeginMigration, in: in}, &b)
		if m.dropped(ctx) {
			return m.abortion()
		}
		if err != nil || b.Begun {
			return err
		}
		m.beginning = false
		m.admission = admission{Ask: b.Why}
	}
}

// dropped reports whether a person aborted the plan before its rows move. Postgres was told
// then, unless it was away.
func (m *migration) dropped(ctx workflow.Context) bool {
	return m.answered(ctx, beginStopped)
}

// awaitApproval asks a person, if there is something to ask.
func (m *migration) awaitApproval(ctx workflow.Context) error {
	if m.admission.Ask == "" || m.admission.Queued {
		return nil
	}
	m.phase, m.approved = approving, false
	m.progress.set(ctx, Progress{Phase: "Waiting for approval: " + m.admission.Ask, Facts: append(m.shown.risk(),
		Fact{"Plan hash", m.hash}, Fact{"To go on", "update approve with this plan hash"}, Fact{"To drop it", "update abort"})})
	if err := m.begin(ctx, "approval"); err != nil {
		return err
	}
	err := workflow.ExecuteActivity(brief(ctx, "Ask a person to approve: "+m.admission.Ask), database.RequestApproval, m.named(Order{Reason: m.admission.Ask})).Get(ctx, nil)
	if err != nil {
		return err
	}
	m.admission.Waited = true
	answered, err := await(ctx, approvalWait, "A person has to approve it by then", func() bool { return m.approved || m.aborted != nil })
	switch {
	case err != nil:
		return err
	case m.aborted != nil:
		return m.abortion()
	case !answered:
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf("nobody approved it within %.0f days, so it was dropped, and nothing has moved; plan it again with `starter migrate`, and then `starter migration approve ID`", approvalWait.Hours()/24), activities.Refused, nil)
	}
	return nil
}

// awaitSlot waits in the queue. An undo goes before everything and needs no slot.
func (m *migration) awaitSlot(ctx workflow.Context) error {
	m.phase = queueing
	if !m.admission.Queued {
		in := activities.QueueInput{PlanInput: m.named(Order{}), Approve: m.in.Approve}
		if in.Approve {
			in.Author = m.in.Policy.Author
		}
		if err := m.unlessAborted(ctx, step{change: beginStopped, summary: "Put the plan into the queue", activity: database.QueueMigration, in: in}, nil); err != nil {
			return err
		}
		m.admission.Queued = true
	}
	for m.in.Undoes == "" {
		var turn activities.Turn
		err := workflow.ExecuteActivity(brief(ctx, "Take one of the slots for working plans"), database.TakeSlot, m.named(Order{})).Get(ctx, &turn)
		if err != nil || turn.Granted {
			return err
		}
		m.tellWait(ctx, "Queued: waiting for another migration to end", turn.Wait)
		m.waitFor(ctx, "queued")
		if err := m.waitInQueue(ctx, turn.Wait); err != nil {
			return err
		}
	}
	return nil
}

// waitInQueue lets a while pass, unless something happens.
func (m *migration) waitInQueue(ctx workflow.Context, queue resilience.Wait) error {
	m.admission.Waited = true
	pause := min(slotPoll+time.Duration(len(queue.First))*slotPollFor, slotPollMax)
	if _, err := await(ctx, pause, "Wait for a slot; then ask again", func() bool { return m.aborted != nil || m.next != "" || m.paused }); err != nil {
		return err
	}
	switch {
	case m.aborted != nil:
		return m.abortion()
	case m.next != "" || workflow.GetInfo(ctx).GetContinueAsNewSuggested():
		return m.continueAsNew(ctx)
	}
	return nil
}

// comeBack lets a plan that was paused go on, as soon as there is a slot.
func (m *migration) comeBack(ctx workflow.Context) error {
	for m.resuming != nil { // a pause takes it back
		orders := m.orders
		var turn activities.Turn
		err := workflow.ExecuteActivity(brief(ctx, "Go on, if there is a slot"), database.ResumeMigration, m.named(*m.resuming)).Get(ctx, &turn)
		switch {
		case err != nil:
			m.resuming = nil
			return err
		case m.paused && turn.Granted: // told to pause while the answer came
			return m.pauseAgain(ctx)
		case m.paused:
			return nil
		case turn.Granted && m.orders == orders:
			m.resuming = nil
			m.mark(ctx)
			return nil
		case turn.Granted: // told something else; ask what holds
			continue
		}
		m.tellWait(ctx, "Resumed, and waiting for another migration to end", turn.Wait)
		if err := m.waitInQueue(ctx, turn.Wait); err != nil {
			return err
		}
	}
	return nil
}

// pauseAgain lets a pause stand that a late resume went over.
func (m *migration) pauseAgain(ctx workflow.Context) error {
	var o Order
	if h := m.shown.Hold; h != nil {
		o = Order{Author: h.By, Reason: h.Reason}
	}
	return workflow.ExecuteActivity(brief(ctx, "Pause, as was asked while it was about to go on"), database.PauseMigration, m.named(o)).Get(ctx, nil)
}

// askFirst says why a person has to approve a plan before it begins.
func (m *migration) askFirst(plan resilience.Plan) string {
	switch {
	case m.in.PlanOnly:
		return "it was only to be planned"
	case m.in.Undoes == "" && plan.Risk.NeedsApproval() && !m.approves(plan):
		return fmt.Sprintf("its risk is %s (%d of 100)", plan.Risk.Level, plan.Risk.Score)
	}
	return m.askRebuild(plan)
}

// approves reports whether who ordered a plan has said yes to it, and may.
func (m *migration) approves(plan resilience.Plan) bool {
	return m.in.Approve && !plan.Policy.ByAnother
}
