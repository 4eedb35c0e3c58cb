package workflows

import (
	"cmp"
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
)

// moveAll moves what the journal has, and what sweeps add to it, and looks at all of it.
func (m *migration) moveAll(ctx workflow.Context) error {
	m.phase, m.beginning = moving, false
	if err := m.begin(ctx, "move"); err != nil {
		return err
	}
	for {
		if err := m.moveSlices(ctx); err != nil {
			return err
		}
		found, err := m.sweep(ctx)
		if err == nil && found > 0 {
			continue
		}
		if err == nil {
			err = m.verify(ctx)
		}
		switch {
		case err == nil:
			if held, err := m.held(ctx); err != nil || !held {
				return err
			}
		case kind(err) == activities.Returned && m.sweeps < maxSweeps && workflow.GetVersion(ctx, returnedSwept, workflow.DefaultVersion, 1) == 1:
			// the next round takes it along
		default:
			if err := m.entrustLate(ctx, "the look at all chunks failed", err); err != nil {
				return err
			}
			m.sweeps = 0 // what kept coming back may have been stopped by then
		}
	}
}

// moveOn moves what is left of the journal, if anything is, and waits out what stops it.
func (m *migration) moveOn(ctx workflow.Context) error {
	for {
		if err := m.moveSlices(ctx); err != nil {
			return err
		}
		if held, err := m.held(ctx); err != nil || !held {
			return err
		}
	}
}

// sweep adds what appeared at the old paths to the journal, and returns how many rows it
// found; none once there were rounds enough.
func (m *migration) sweep(ctx workflow.Context) (found int64, err error) {
	if m.sweeps == maxSweeps {
		return 0, nil
	}
	m.sweeps++
	err = workflow.ExecuteActivity(m.in.Tuning.lengthy(ctx, "Look for chunks that appeared at the old paths"), database.SweepMigration, m.named(Order{})).Get(ctx, &found)
	return found, err
}

// returnedSwept is the change by which what came back to its old path while all rows are
// looked at is taken along once more, where it had the plan undone.
const returnedSwept = "returned-swept"

// held reports whether a person paused the plan after its last slice; it is not
// to go on before they say so.
func (m *migration) held(ctx workflow.Context) (bool, error) {
	err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	if err == nil && m.aborted != nil {
		err = m.abortion()
	}
	return m.paused || m.resuming != nil, err
}

// moveSlices orders slices until the watermark is at the end of the journal.
func (m *migration) moveSlices(ctx workflow.Context) error {
	if err := m.changeFirst(ctx); err != nil {
		return err
	}
	m.epoch = max(m.epoch, 1) // that of a plan that nobody has turned round
	m.began = workflow.Now(ctx)
	m.beganAt = -1
	at, err := m.where(ctx)
	if err == nil {
		m.show(ctx, at)
	}
	for err == nil && (at.Wish != resilience.WishRun || at.Last < at.Total) {
		at, err = m.moveSlice(ctx, at)
		if err == nil && (m.next != "" || workflow.GetInfo(ctx).GetContinueAsNewSuggested()) {
			return m.continueAsNew(ctx)
		}
	}
	return err
}

// changedFirst is the change by which another strategy that was asked for while the plan
// left the queue takes it up before its first slice.
const changedFirst = "changed-first"

// changeFirst lets the other workflow go on at once, where a person wanted another
// strategy before anything moved. An order that is on its way is waited for.
func (m *migration) changeFirst(ctx workflow.Context) error {
	if m.next == "" && workflow.AllHandlersFinished(ctx) || workflow.GetVersion(ctx, changedFirst, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil || m.next == "" {
		return err
	}
	return m.continueAsNew(ctx)
}

// moveSlice does what is next: it waits out a pause, or moves a slice.
func (m *migration) moveSlice(ctx workflow.Context, at resilience.Watermark) (resilience.Watermark, error) {
	if m.aborted != nil {
		return at, m.abortion()
	}
	if m.paused {
		return m.waitOut(ctx, at)
	}
	if m.resuming != nil {
		if err := m.comeBack(ctx); err != nil || m.paused {
			return at, err
		}
	}
	orders := m.orders
	way, move, err := m.ahead(ctx, at)
	if err != nil {
		return at, m.entrustLate(ctx, "what comes next could not be found out", err)
	}
	if way.stop {
		return at, nil
	}
	if m.aborted != nil && workflow.GetVersion(ctx, abortStops, workflow.DefaultVersion, 1) == 1 { // meanwhile
		return at, m.abortion()
	}
	m.waitFor(ctx, "") // not any more
	next, err := m.slice(ctx, cmp.Or(way.summary, "Move chunks to their new paths"), move, way)
	if err != nil {
		return m.failed(ctx, at, err)
	}
	// What this run was not told of is from before a reset. A pause that was followed by
	// a resume while the slice came back is over.
	if next.Wish == resilience.WishUndo && m.aborted == nil && workflow.GetVersion(ctx, turnedElsewhere, workflow.DefaultVersion, 1) == 1 {
		m.elsewhere = true
		return next, temporal.NewNonRetryableApplicationError(fmt.Sprintf("migration %[1]s was turned round by another run, or before this one was reset; see `starter migration show %[1]s`, and if it is not rolled back, `starter migration rollback %[1]s`", m.in.Migration), activities.Fenced, nil)
	}
	if next.Wish == resilience.WishPause && m.orders == orders && !m.paused {
		m.paused = true
		m.hold(ctx, Order{})
	}
	return next, nil
}

// turnedElsewhere is the change by which a run ends whose plan another has turned round: it
// ordered slices for ever that moved nothing.
const turnedElsewhere = "turned-elsewhere"

// waitOut waits until a pause ends.
func (m *migration) waitOut(ctx workflow.Context, at resilience.Watermark) (resilience.Watermark, error) {
	err := workflow.Await(ctx, func() bool { return !m.paused || m.aborted != nil || m.next != "" })
	return at, err
}

// where reads the watermark.
func (m *migration) where(ctx workflow.Context) (resilience.Watermark, error) {
	return m.whereIn(ctx, m.retiring())
}

// whereIn reads that of the moves, or of a transfer's last step.
func (m *migration) whereIn(ctx workflow.Context, retiring bool) (resilience.Watermark, error) {
	var at resilience.Watermark
	read := database.ReadWatermark
	if retiring {
		read = database.ReadRetired
	}
	err := workflow.ExecuteActivity(brief(ctx, "See how far the plan is"), read, m.named(Order{})).Get(ctx, &at)
	return at, err
}

// failed does what the plan's policy says of a batch that fails for good: undo
// everything (it returns the error), or put the group in work back and pause,
// or only pause.
func (m *migration) failed(ctx workflow.Context, from resilience.Watermark, cause error) (resilience.Watermark, error) {
	if !m.entrusts(ctx, cause) {
		return from, cause
	}
	if err := m.entrust(ctx, "a batch failed", cause); err != nil {
		return from, err
	}
	if m.in.Policy.OnFailure == resilience.UndoGroup && !m.retiring() && !tableChanged(ctx, cause) {
		if err := m.putGroupBack(ctx, from); err != nil {
			return from, err
		}
	}
	at, err := m.where(ctx)
	if err == nil {
		m.show(ctx, at)
	}
	return at, err
}

// entrusts says whether it is left to a person if a plan that fails for good goes on or
// back: its policy may say so, and where its table, or a column of it, is not there any
// more, nothing can go back either. Else all of it is undone.
func (m *migration) entrusts(ctx workflow.Context, cause error) bool {
	if m.aborted != nil || temporal.IsCanceledError(cause) || workflow.IsContinueAsNewError(cause) || kind(cause) == activities.Fenced {
		return false
	}
	return cmp.Or(m.in.Policy.OnFailure, resilience.UndoAll) != resilience.UndoAll || tableChanged(ctx, cause)
}

// changedPauses is the change by which a plan whose table was changed pauses.
const changedPauses = "changed-pauses"

func tableChanged(ctx workflow.Context, cause error) bool {
	return kind(cause) == activities.Changed && workflow.GetVersion(ctx, changedPauses, workflow.DefaultVersion, 1) == 1
}

// entrust pauses such a plan. An abort that comes meanwhile is in force.
func (m *migration) entrust(ctx workflow.Context, what string, cause error) error {
	reason := what + ": " + message(cause)
	if kind(cause) == activities.Changed {
		reason += "; put the table back as it was, then resume or abort"
	}
	err := m.halt(ctx, reason)
	if err != nil && m.aborted != nil {
		return m.abortion()
	}
	return err
}

// leftLate is the change by which the policy of a plan holds for what is found after its
// batches, which had all of it undone.
const leftLate = "left-late"

// entrustLate is entrust for what is found after the batches, or returns the cause.
func (m *migration) entrustLate(ctx workflow.Context, what string, cause error) error {
	if !m.entrusts(ctx, cause) || workflow.GetVersion(ctx, leftLate, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return cause
	}
	return m.entrust(ctx, what, cause)
}

// groupInWork is the change by which the group in work is the one that the failed
// batch is in, and not the one that its slice began in.
const groupInWork = "group-in-work"

// putGroupBack moves the rows of the group in work back. The plan is paused, and no
// order to resume it is taken before that is done; one that was on its way lets the
// plan go on from where it is then.
func (m *migration) putGroupBack(ctx workflow.Context, from resilience.Watermark) error {
	m.paused, m.backing = false, true
	defer func() { m.backing = false }()
	m.tell(ctx)
	latest := workflow.GetVersion(ctx, groupInWork, workflow.DefaultVersion, 1) == 1
	if latest {
		at, err := m.where(ctx)
		if err != nil {
			return err
		}
		from = at
	}
	size := cmp.Or(m.in.Policy.GroupSize, resilience.DefaultGroupSize)
	back := leg{bounds: store.Bounds{Floor: from.Last / size * size, Partial: true}}
	for {
		at, err := m.slice(ctx, "Put the group in work back", database.RevertSlice, back)
		if err == nil && m.aborted != nil {
			err = m.abortion()
		}
		if err != nil {
			return err
		}
		if latest && at.Wish == resilience.WishRun {
			m.release(ctx)
			return nil
		}
		if at.Last <= back.bounds.Floor {
			m.paused = true
			return nil
		}
	}
}

// halt pauses the plan by itself, with a reason that people see.
func (m *migration) halt(ctx workflow.Context, reason string) error {
	m.orders++
	if err := workflow.ExecuteActivity(brief(ctx, "Pause: "+reason), database.PauseMigration, m.named(Order{Reason: reason})).Get(ctx, nil); err != nil {
		return err
	}
	m.paused = true
	m.hold(ctx, Order{Reason: reason})
	return nil
}

// slice orders one slice of moves and shows how far it came.
func (m *migration) slice(ctx workflow.Context, summary string, move any, way leg) (resilience.Watermark, error) {
	var at resilience.Watermark
	in := activities.SliceInput{Origin: m.in.Origin, Migration: m.in.Migration, Epoch: m.epoch, Slice: m.in.Tuning.Slice, Bounds: way.bounds, Servo: way.servo, Calm: way.calm, Nice: way.nice, Adapt: way.adapt, Health: way.health}
	options := m.in.Tuning.sliced(ctx, summary)
	if m.phase == undoing {
		options = m.undoing(options)
	} else {
		options, m.stop = workflow.WithCancel(options)
		defer func() { m.stop(); m.stop = nil }()
	}
	err := workflow.ExecuteActivity(options, move, in).Get(ctx, &at)
	if err == nil {
		m.sliced = workflow.Now(ctx)
		m.show(ctx, at)
	}
	return at, err
}
