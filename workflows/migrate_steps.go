package workflows

import (
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
)

// What comes after the moves is done in steps, each an activity that may take long.

// latePause is the change by which a pause that comes late is waited out, where it
// had the plan undone.
const latePause = "late-pause"

// whileExecuting does a step that may be refused unless the plan executes. A pause may
// stand in Postgres of which this run was not told: one from before a reset, or of
// an attempt that was given up and had its effect late. Or the step fails, and the plan
// pauses for it. Then the moves before it are taken up again, which wait until the pause
// is over, take all orders, and find nothing to do.
func (m *migration) whileExecuting(ctx workflow.Context, do, moves func(workflow.Context) error) error {
	for phase, work := m.phase, m.work; ; m.phase = phase {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if m.pausedBefore(ctx, err) {
			m.phase, m.paused = moving, true
			m.hold(ctx, Order{})
		} else {
			m.phase, m.sweeps = moving, 0
			if err := m.entrustLate(ctx, "a step failed", err); err != nil {
				return err
			}
		}
		if err := moves(ctx); err != nil {
			return err
		}
		m.work = work
		m.mark(ctx)
	}
}

// closing is what the last step does.
const closing = "Account for every row and close the plan"

// then is a step that comes after the moves.
func (m *migration) then(summary string, activity any) func(workflow.Context) error {
	return func(ctx workflow.Context) error {
		return m.unlessAborted(ctx, step{change: stepStopped, summary: summary, activity: activity, in: m.named(Order{})}, nil)
	}
}

// pausedBefore reports whether a step was refused for a pause that this run was not told of.
func (m *migration) pausedBefore(ctx workflow.Context, err error) bool {
	if kind(err) != activities.Conflict || workflow.GetVersion(ctx, latePause, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return false
	}
	at, err := m.where(ctx)
	return err == nil && at.Wish == resilience.WishPause
}

// Changes by which an abort does not wait for an activity.
const (
	planStopped  = "plan-stopped"  // that writes the journal
	beginStopped = "begin-stopped" // that queues the plan, or begins it, which it did all the same
	buildStopped = "build-stopped" // that builds the indexes
	stepStopped  = "step-stopped"  // that switches
)

// step is an activity that may take long.
type step struct {
	change       string // by which an abort does not wait for it
	summary      string
	activity, in any
}

// unlessAborted does what an abort makes void: it is stopped then. A cancel of the run
// reaches it by itself.
func (m *migration) unlessAborted(ctx workflow.Context, s step, result any) error {
	work, stop := workflow.WithCancel(ctx)
	doing := workflow.ExecuteActivity(m.in.Tuning.lengthy(work, s.summary), s.activity, s.in)
	_ = workflow.Await(ctx, func() bool { return doing.IsReady() || m.abandoned() })
	if m.abandoned() && workflow.GetVersion(ctx, s.change, workflow.DefaultVersion, 1) == 1 {
		stop()
		_ = doing.Get(ctx, nil)
		return m.abortion()
	}
	return doing.Get(ctx, result)
}
