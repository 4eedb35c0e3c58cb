package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
)

// handle registers every message a migration answers. It is called before
// anything that blocks, so that none comes too early.
func (m *migration) handle(ctx workflow.Context) error {
	for _, u := range []struct {
		name, description string
		handler, check    any
	}{
		{PauseUpdate, "Stop before the next batch. Nothing is undone; resume goes on from there. author and reason are kept with it.", m.pause, m.checkPause},
		{ResumeUpdate, "Go on after a pause. author and reason are kept with it.", m.resume, m.checkResume},
		{ThrottleUpdate, "Change the pace, also of a plan that goes back: rate is rows a second (0: no bound), batch_size is rows in one transaction (0: the plan's own); what is left out stays as it is. expires is seconds after which the plan's own is in force again, author is who wants it.", m.throttle, m.checkThrottle},
		{ApproveUpdate, "Say yes to the plan with this plan_hash; author is who says so.", m.approve, m.checkApprove},
		{StrategyUpdate, "Go on by another strategy: immediate, batch, gradual or intelligent. For plans that are queued or paused. With approve, yes to the risk that the plan has by it. author is who wants it.", m.change, m.checkChange},
		{AbortUpdate, "Stop and put every chunk back where it was. author and reason are kept with it.", m.abort, m.checkAbort},
	} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, u.name, u.handler,
			workflow.UpdateHandlerOptions{Validator: u.check, Description: u.description})
		if err != nil {
			return err
		}
	}
	return m.handleStuck(ctx)
}

// write gives an operator's wish to Postgres, where the next batch reads it.
// Local activities, since it is a row or two and should be in force at once.
func write(ctx workflow.Context, summary, activity string, in any) error {
	return ask(ctx, summary, activity, in, nil)
}

// ask is write with an answer.
func ask(ctx workflow.Context, summary, activity string, in, answer any) error {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: time.Minute,
		RetryPolicy:            patience(),
		Summary:                short(summary),
	})
	return workflow.ExecuteLocalActivity(ctx, activity, in).Get(ctx, answer)
}

func rejected(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), activities.Conflict, nil)
}

func (m *migration) checkPause(workflow.Context, Order) error {
	if m.paused || m.backing {
		return rejected("migration %s is paused already", m.in.Migration)
	}
	return m.checkMoving("pause")
}

// checkMoving accepts an order only while there are batches it can act on.
func (m *migration) checkMoving(order string) error {
	if m.phase != moving || m.aborted != nil {
		return rejected("migration %s is %s; there is nothing to %s", m.in.Migration, m.phase, order)
	}
	return nil
}

func (m *migration) pause(ctx workflow.Context, o Order) (Answer, error) {
	o = o.signed()
	m.orders++
	if err := write(ctx, wanted("Pause", o), "PauseMigration", m.named(o)); err != nil {
		return Answer{}, err
	}
	m.paused, m.resuming = true, nil
	m.hold(ctx, o)
	return Answer{resilience.Paused}, nil
}

func (m *migration) checkResume(workflow.Context, Order) error {
	if !m.paused {
		return rejected("migration %s is not paused", m.in.Migration)
	}
	return m.checkMoving("resume")
}

// resume lets the plan go on as soon as there is a slot for it: the one it had
// went to others.
func (m *migration) resume(ctx workflow.Context, o Order) (Answer, error) {
	o = o.signed()
	m.orders++
	var turn activities.Turn
	if err := ask(ctx, wanted("Go on", o), "ResumeMigration", m.named(o), &turn); err != nil {
		return Answer{}, err
	}
	answer := Answer{resilience.Executing}
	if !turn.Granted {
		m.resuming, answer.Status = &o, resilience.Paused
	}
	m.paused = false
	m.release(ctx)
	return answer, nil
}

func (m *migration) checkApprove(_ workflow.Context, a Approval) error {
	if m.phase != approving || m.approved {
		return rejected("migration %s is %s; there is nothing to approve", m.in.Migration, m.phase)
	}
	if a.Hash != m.hash {
		return rejected("the plan hash of migration %s is %s, not %q; look at it again: `starter migration show %s`", m.in.Migration, m.hash, a.Hash, m.in.Migration)
	}
	if a.Author == "" {
		return temporal.NewNonRetryableApplicationError("approve wants an author: who says yes is kept with the plan", activities.Invalid, nil)
	}
	return nil
}

func (m *migration) approve(ctx workflow.Context, a Approval) (Answer, error) {
	err := write(ctx, wanted("Approve the plan", Order{Author: a.Author}), "ApproveMigration",
		activities.ApproveInput{PlanInput: m.named(Order{Author: a.Author}), Hash: a.Hash})
	if err != nil {
		return Answer{}, err
	}
	m.approved = true
	return Answer{resilience.Queued}, nil
}

func (m *migration) checkChange(_ workflow.Context, n NewStrategy) error {
	if _, err := resilience.ParseStrategy(string(n.Strategy)); err != nil {
		return temporal.NewNonRetryableApplicationError(err.Error(), activities.Invalid, nil)
	}
	switch {
	case n.Approve && n.Author == "":
		return temporal.NewNonRetryableApplicationError("approve wants an author: who says yes is kept with the plan", activities.Invalid, nil)
	case m.aborted != nil || m.phase != queueing && (m.phase != moving || !m.paused):
		return rejected("migration %s is %s; its strategy can be changed while it is queued or paused", m.in.Migration, m.phase)
	case m.deciding:
		return rejected("migration %s is being split into groups; try again in a moment", m.in.Migration)
	case n.Strategy == m.strategy:
		return rejected("migration %s is %s already", m.in.Migration, n.Strategy)
	case m.next != "":
		return rejected("migration %s is changing to %s already", m.in.Migration, m.next)
	}
	return nil
}

// judgedAnew is the change by which a plan that goes on by another strategy is found by
// that one, and shows its risk and its estimate by it.
const judgedAnew = "judged-anew"

// knowAnew takes note of what a plan was found to be under another strategy.
func (m *migration) knowAnew(ctx workflow.Context, strategy resilience.Strategy) error {
	if workflow.GetVersion(ctx, judgedAnew, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, StrategyAttribute.ValueSet(string(strategy))); err != nil {
		return err
	}
	var plan resilience.Plan
	if err := ask(ctx, "Read what the plan is by it", "ReadMigration", m.named(Order{}), &plan); err != nil {
		return err
	}
	return m.know(ctx, plan)
}

// change lets another workflow go on with the plan, at the same watermark.
func (m *migration) change(ctx workflow.Context, n NewStrategy) (Answer, error) {
	var hash string
	o := Order{Author: n.Author}.signed()
	err := ask(ctx, wanted(fmt.Sprintf("Go on by strategy %s", n.Strategy), o), "ChangeStrategy",
		activities.ChangeInput{PlanInput: m.named(o), Strategy: n.Strategy, Approve: n.Approve}, &hash)
	if err != nil {
		return Answer{}, err
	}
	m.hash, m.next = hash, n.Strategy
	if err := m.knowAnew(ctx, n.Strategy); err != nil {
		workflow.GetLogger(ctx).Error("risk of another strategy not shown", "migration", m.in.Migration, "error", err)
	}
	if m.paused {
		return Answer{resilience.Paused}, nil
	}
	return Answer{resilience.Queued}, nil
}

func (m *migration) checkThrottle(_ workflow.Context, pace resilience.Pace) error {
	if err := pace.Check(); err != nil {
		return temporal.NewNonRetryableApplicationError(err.Error(), activities.Invalid, nil)
	}
	if m.phase == undoing || m.phase == moving && m.aborted != nil {
		return nil // what goes back keeps to a pace, too
	}
	return m.checkMoving("throttle")
}

func (m *migration) throttle(ctx workflow.Context, pace resilience.Pace) (Answer, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx) // a run that was cancelled goes back, too
	defer done()
	o := Order{Author: pace.Author}.signed()
	pace.Author = o.Author
	err := write(ctx, wanted("Throttle to "+pace.String(), o), "ThrottleMigration",
		activities.ThrottleInput{Origin: m.in.Origin, Migration: m.in.Migration, Pace: pace})
	switch {
	case m.phase == undoing || m.aborted != nil:
		return Answer{resilience.RollingBack}, err
	case m.paused:
		return Answer{resilience.Paused}, err
	}
	return Answer{resilience.Executing}, err
}

func (m *migration) checkAbort(workflow.Context, Order) error {
	if m.aborted != nil {
		return rejected("migration %s is being aborted already", m.in.Migration)
	}
	switch m.phase {
	case looking:
		return rejected("migration %s is %s; try again in a moment", m.in.Migration, m.phase)
	case completing, undoing:
		return rejected("migration %s is %s; to undo it when it is completed: `starter migration rollback %s`", m.in.Migration, m.phase, m.in.Migration)
	}
	return nil
}

// abort turns the plan round at once where it has begun to move, which stops
// the slice in flight; the main routine then undoes what was done.
func (m *migration) abort(ctx workflow.Context, o Order) (Answer, error) {
	o = o.signed()
	m.aborted = &o
	if m.beginning {
		return m.drop(ctx)
	}
	switch m.phase {
	case planning, approving, queueing:
		return Answer{resilience.Cancelled}, nil
	case switching:
		return Answer{resilience.RollingBack}, nil
	}
	return m.turn(ctx)
}

// drop ends a plan that is about to begin, or turns it round where it has begun: which of
// them, Postgres knows, and lets nothing begin that was dropped.
func (m *migration) drop(ctx workflow.Context) (Answer, error) {
	if workflow.GetVersion(ctx, beginStopped, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return Answer{resilience.Cancelled}, nil
	}
	err := write(ctx, wanted("Drop the plan", *m.aborted), "CancelMigration", m.named(m.order(m.abortion())))
	if kind(err) == activities.Conflict {
		return m.turn(ctx)
	}
	status := resilience.Cancelled
	if m.retiring() { // the source rows of a transfer that goes back come home already
		status = resilience.RollingBack
	}
	return Answer{status}, m.untold(ctx, err)
}

// abortStops is the change by which an abort that Postgres does not hear of in time stops
// the slice in work, where it waited for the end of it.
const abortStops = "abort-stops"

// turn lets everything go back.
func (m *migration) turn(ctx workflow.Context) (Answer, error) {
	err := write(ctx, wanted("Put everything back", *m.aborted), "BeginUndo", m.named(*m.aborted))
	return Answer{resilience.RollingBack}, m.untold(ctx, err)
}

// untold is what an abort comes to that Postgres was not told of: where that may pass, since
// it is away or the slice in work locks what is to be written, the slice, if one is in work,
// ends instead, and the main routine tells Postgres as soon as it can.
func (m *migration) untold(ctx workflow.Context, err error) error {
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	if err == nil || ok && app.NonRetryable() || workflow.GetVersion(ctx, abortStops, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return err
	}
	workflow.GetLogger(ctx).Warn("an abort is in force when what is in work has ended", "migration", m.in.Migration, "error", err)
	if m.stop != nil {
		m.stop()
	}
	return nil
}

// wanted sums an order up: what, for whom, and why.
func wanted(what string, o Order) string {
	if o.Author != "" {
		what += ", for " + o.Author
	}
	if o.Reason != "" {
		what += ": " + o.Reason
	}
	return what
}

// signed is an order of a person, with who gives it: one who doesn't say is not taken for
// the plan itself.
func (o Order) signed() Order {
	o.Author = cmp.Or(o.Author, resilience.Somebody)
	return o
}

// named is an order as activities take it.
func (m *migration) named(o Order) activities.PlanInput {
	return activities.PlanInput{Origin: m.in.Origin, Migration: m.in.Migration, Author: o.Author, Reason: o.Reason}
}
