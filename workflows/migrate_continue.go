package workflows

import (
	"cmp"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rehome/resilience"
	"rehome/store"
)

// homeward is what a run that puts everything back hands to the next.
type homeward struct {
	Cause *ending             `json:"cause,omitempty"`
	Stuck *stuck              `json:"stuck,omitempty"`
	Leave *store.Leave        `json:"leave,omitempty"`
	Home  resilience.Verified `json:"home,omitzero"`
}

// ending is why a plan is undone, which is how its last run ends: an error as it crosses
// continue-as-new.
type ending struct {
	Type      string `json:"type,omitempty"`
	Message   string `json:"message"`
	Cancelled bool   `json:"cancelled,omitempty"`
}

func endingOf(err error) *ending {
	if err == nil {
		return nil
	}
	return &ending{Type: kind(err), Message: message(err), Cancelled: temporal.IsCanceledError(err)}
}

func (e *ending) err() error {
	switch {
	case e == nil:
		return nil
	case e.Cancelled:
		return temporal.NewCanceledError()
	}
	return temporal.NewNonRetryableApplicationError(e.Message, e.Type, nil)
}

// continueAsNew goes on in a fresh history, under the same workflow id.
func (m *migration) continueAsNew(ctx workflow.Context) error {
	if err := m.owePast(ctx); err != nil { // the next run is not one that was reset
		return err
	}
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	if m.abandoned() {
		return m.abortion()
	}
	if err := ctx.Err(); err != nil { // a cancel does not reach the next run
		return err
	}
	next := m.in
	next.Resume = &Resume{
		Phase: m.phase, Hash: m.hash, Admission: m.admission,
		Epoch: m.epoch, Sweeps: m.sweeps, Paused: m.paused, Resuming: m.resuming, Saga: m.saga, Carrying: m.carrying, Shown: m.shown, Way: m.way, Switched: m.switched,
	}
	if m.phase == undoing {
		next.Resume.Homeward = &homeward{Cause: endingOf(m.cause), Stuck: m.stuck, Leave: m.leave, Home: m.home}
	}
	if l, ok := m.manner.(lasting); ok {
		l.handOver(next.Resume)
	}
	return workflow.NewContinueAsNewError(ctx, MigrateName(cmp.Or(m.next, m.strategy)), next)
}

// takeUp goes on where the run before was.
func (m *migration) takeUp(r Resume) {
	if l, ok := m.manner.(lasting); ok {
		l.takeUp(r)
	}
	m.phase, m.hash, m.admission, m.epoch, m.sweeps, m.paused, m.saga = r.Phase, r.Hash, r.Admission, r.Epoch, r.Sweeps, r.Paused, r.Saga
	m.resuming, m.shown, m.way = r.Resuming, r.Shown, r.Way
	m.carrying, m.switched = r.Carrying, r.Switched
	if h := r.Homeward; h != nil {
		m.turned, m.cause, m.stuck, m.leave, m.home = true, h.Cause.err(), h.Stuck, h.Leave, h.Home
	}
}

// undoContinued is the change by which an undo, too, goes on in a fresh history. One whose
// history was too long before that stays in it.
const undoContinued = "undo-continued"

// afresh lets an undo go on in a fresh history when this one has become long: at a low
// rate, or stuck and left alone, it may last for weeks. A cancel that began it does not
// reach the next run, and need not: why it goes back is handed on.
func (m *migration) afresh(ctx workflow.Context) error {
	if !workflow.GetInfo(ctx).GetContinueAsNewSuggested() || workflow.GetVersion(ctx, undoContinued, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	return m.continueAsNew(ctx)
}
