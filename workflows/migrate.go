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

// manner is what one strategy does differently from the others: before each
// slice it says how far and how fast to go, and may wait first.
type manner interface {
	next(ctx workflow.Context, m *migration, at resilience.Watermark) (leg, error)
}

// leg is the way that one slice is to go.
type leg struct {
	bounds  store.Bounds
	slice   activities.Slice // zero: as tuned
	summary string           // empty: the usual one
	adapt   bool             // its size follows what batches take
	stop    bool             // there is something to wait for first: look again

	servo *resilience.Servo // picks the size of each batch; nil: bounds do
	calm  bool              // the servo may let batches grow
}

// lasting is a manner that remembers something from run to run.
type lasting interface {
	takeUp(r Resume)
	handOver(r *Resume)
}

// manners is the table in which a strategy is found.
func manners(s resilience.Strategy) manner {
	switch s {
	case resilience.Immediate:
		return atOnce{}
	case resilience.Gradual:
		return &gradually{}
	case resilience.Intelligent:
		return &phased{}
	}
	return steady{}
}

// migrate carries out a plan by a strategy. When a step fails for good, or a
// person aborts or cancels, everything is put back.
func migrate(ctx workflow.Context, strategy resilience.Strategy, in MigrateInput) (resilience.Plan, error) {
	m, err := newMigration(ctx, strategy, in)
	if err != nil {
		return resilience.Plan{}, err
	}
	return m.run(ctx)
}

// phase of a migration, in words that fit "the migration is …".
type phase string

const (
	planning   phase = "being planned"
	approving  phase = "awaiting approval"
	queueing   phase = "queued"
	moving     phase = "moving chunks"
	building   phase = "building its vector indexes again"
	switching  phase = "switching its aliases"
	completing phase = "completing"
	undoing    phase = "being rolled back"
)

// The compensations, by the names that the rollback plan shows.
const (
	closePlan      = "close the plan as rolled back"
	moveBack       = "move the chunks back, last moved first"
	restoreAliases = "restore the aliases and the catalogue of files"
)

// rollbackPlan lists what an undo does, in its order.
func rollbackPlan(way resilience.Way) []string {
	if way == resilience.Rebuild {
		return []string{restoreAliases, moveBack, buildIndexes, closePlan}
	}
	return []string{restoreAliases, moveBack, closePlan}
}

// maxSweeps bounds the rounds in which rows that an application keeps adding
// at the old paths are taken along.
const maxSweeps = 5

// migration is the skeleton of a run: what all strategies share.
type migration struct {
	in        MigrateInput
	strategy  resilience.Strategy
	carrying  *carrying // nil for a plan of another kind than transfer
	manner    manner
	phase     phase
	hash      string // of the plan
	way       resilience.Way
	admission admission
	approved  bool // as it stands
	epoch     int64
	sweeps    int // rounds done
	paused    bool
	resuming  *Order              // a person asked to go on
	orders    int                 // to pause or resume, so far
	next      resilience.Strategy // a person asked to go on by it
	aborted   *Order
	saga      Saga
	stuck     *stuck       // a compensation that fails again and again
	leave     *store.Leave // what the next batch back may leave where it is
	progress  *progress
	shown     shown
	began     time.Time // of the moves of this run, for the rate
	beganAt   int64     // watermark then; negative: not known
}

func newMigration(ctx workflow.Context, strategy resilience.Strategy, in MigrateInput) (*migration, error) {
	shown, err := showProgress(ctx, fmt.Sprintf("Migration %s of memory %s", in.Migration, in.Memory))
	if err != nil {
		return nil, err
	}
	m := &migration{in: in, strategy: strategy, manner: manners(strategy), phase: planning, progress: shown}
	if in.To != "" {
		m.carrying = &carrying{}
	}
	if r := in.Resume; r != nil {
		if l, ok := m.manner.(lasting); ok {
			l.takeUp(*r)
		}
		m.phase, m.hash, m.admission, m.epoch, m.sweeps, m.paused, m.saga = r.Phase, r.Hash, r.Admission, r.Epoch, r.Sweeps, r.Paused, r.Saga
		m.resuming, m.shown, m.way = r.Resuming, r.Shown, r.Way
		m.carrying = r.Carrying
		m.tell(ctx) // the web UI forgot what the run before told it
	}
	return m, m.handle(ctx)
}

// run plans the migration, carries it out, and undoes it if that fails.
func (m *migration) run(ctx workflow.Context) (resilience.Plan, error) {
	var err error
	if m.phase == planning {
		err = m.plan(ctx)
	}
	if err == nil && m.phase != moving {
		err = m.admit(ctx)
	}
	if err != nil && !workflow.IsContinueAsNewError(err) && m.giveUp(ctx, err) {
		return resilience.Plan{}, err
	}
	if err == nil {
		err = m.carryOut(ctx)
	}
	switch {
	case workflow.IsContinueAsNewError(err):
		return resilience.Plan{}, err
	case err != nil:
		return m.undo(ctx, err)
	}
	return m.result(ctx)
}

// plan journals the moves. It changes nothing in the memory.
func (m *migration) plan(ctx workflow.Context) error {
	m.progress.set(ctx, Progress{Phase: "Planning: finding the chunks and writing the journal"})
	if err := showPhase(ctx, "plan"); err != nil {
		return err
	}
	var plan resilience.Plan
	err := workflow.ExecuteActivity(m.in.Tuning.lengthy(ctx, "Find the chunks to move and journal them"), database.PlanMigration, activities.PlanMigrationInput{
		Origin: m.in.Origin, Owner: owner(ctx), Memory: m.in.Memory, Migration: m.in.Migration, Strategy: m.strategy,
		Renames: m.in.Renames, Undoes: m.in.Undoes, Transfer: m.in.TransferOrder, Policy: m.in.Policy, Rollback: m.owing(rollbackPlan(m.in.Policy.Way)),
	}).Get(ctx, &plan)
	if p, ok := m.manner.(*phased); ok && err == nil {
		plan, err = p.analyse(ctx, m)
	}
	if err == nil && m.aborted != nil {
		err = m.abortion()
	}
	m.carrying = carryingOf(plan)
	m.hash, m.way, m.admission.Ask = plan.Hash, plan.Way, m.askFirst(plan)
	if err == nil {
		err = m.know(ctx, plan)
	}
	return err
}

// giveUp ends a plan that never had an effect, and reports whether it did. A
// plan that has begun, although that step seemed to fail, is to be undone.
func (m *migration) giveUp(ctx workflow.Context, cause error) bool {
	detached, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	in := m.named(m.order(cause))
	err := workflow.ExecuteActivity(brief(detached, "Cancel the plan: nothing was changed"), database.CancelMigration, in).Get(detached, nil)
	// A cause that is a conflict itself says that the plan is somebody else's, or was refused.
	return kind(err) != activities.Conflict || kind(cause) == activities.Conflict
}

// carryOut does the steps that have effects, each after its compensation was
// registered.
func (m *migration) carryOut(ctx workflow.Context) error {
	if m.carrying != nil {
		return m.carryOver(ctx)
	}
	// 1. Rows move; then those that appeared at the old paths meanwhile.
	if err := m.takeIndexes(ctx); err != nil {
		return err
	}
	m.saga.owe(moveBack)
	if err := m.moveAll(ctx); err != nil {
		return err
	}
	if err := m.buildIndexes(ctx); err != nil {
		return err
	}
	// 2. Readers of the old paths find the new ones.
	m.phase = switching
	if err := showPhase(ctx, "switch"); err != nil {
		return err
	}
	m.saga.owe(restoreAliases)
	if err := workflow.ExecuteActivity(brief(ctx, "Let the old paths resolve to the new ones"), database.SwitchAliases, m.named(Order{})).Get(ctx, nil); err != nil {
		return err
	}
	if m.aborted != nil {
		return m.abortion()
	}
	// 3. Every row is accounted for.
	m.phase = completing
	return workflow.ExecuteActivity(brief(ctx, "Account for every row and close the plan"), database.CompleteMigration, m.named(Order{})).Get(ctx, nil)
}

// moveAll moves what the journal has, and what sweeps add to it.
func (m *migration) moveAll(ctx workflow.Context) error {
	m.phase = moving
	if err := showPhase(ctx, "move"); err != nil {
		return err
	}
	for {
		if err := m.moveSlices(ctx); err != nil {
			return err
		}
		var found int64
		if m.sweeps < maxSweeps {
			m.sweeps++
			err := workflow.ExecuteActivity(m.in.Tuning.lengthy(ctx, "Look for chunks that appeared at the old paths"), database.SweepMigration, m.named(Order{})).Get(ctx, &found)
			if err != nil {
				return err
			}
		}
		if found == 0 {
			if err := m.verify(ctx); err != nil {
				return err
			}
			if held, err := m.held(ctx); err != nil || !held {
				return err
			}
		}
	}
}

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
	m.epoch = max(m.epoch, 1) // that of a plan that nobody has turned round
	m.began = workflow.Now(ctx)
	m.beganAt = -1
	at, err := m.where(ctx)
	for err == nil && (at.Wish != resilience.WishRun || at.Last < at.Total) {
		at, err = m.moveSlice(ctx, at)
		if err == nil && (m.next != "" || workflow.GetInfo(ctx).GetContinueAsNewSuggested()) {
			return m.continueAsNew(ctx)
		}
	}
	return err
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
	if err != nil || way.stop {
		return at, err
	}
	next, err := m.slice(ctx, cmp.Or(way.summary, "Move chunks to their new paths"), move, way)
	if err != nil {
		return m.failed(ctx, at, err)
	}
	// A pause that this run was not told of is from before a reset. One that
	// was followed by a resume while the slice came back is over.
	if next.Wish == resilience.WishPause && m.orders == orders && !m.paused {
		m.paused = true
		m.hold(ctx, Order{})
	}
	return next, nil
}

// waitOut waits until a pause ends.
func (m *migration) waitOut(ctx workflow.Context, at resilience.Watermark) (resilience.Watermark, error) {
	err := workflow.Await(ctx, func() bool { return !m.paused || m.aborted != nil || m.next != "" })
	return at, err
}

// where reads the watermark.
func (m *migration) where(ctx workflow.Context) (resilience.Watermark, error) {
	var at resilience.Watermark
	read := database.ReadWatermark
	if m.retiring() {
		read = database.ReadRetired
	}
	err := workflow.ExecuteActivity(brief(ctx, "See how far the plan is"), read, m.named(Order{})).Get(ctx, &at)
	return at, err
}

// failed does what the plan's policy says of a batch that fails for good: undo
// everything (it returns the error), or put the group in work back and pause,
// or only pause.
func (m *migration) failed(ctx workflow.Context, from resilience.Watermark, cause error) (resilience.Watermark, error) {
	policy := m.in.Policy.OnFailure
	if m.aborted != nil || temporal.IsCanceledError(cause) || policy == "" || policy == resilience.UndoAll || kind(cause) == activities.Fenced {
		return from, cause
	}
	if err := m.halt(ctx, "a batch failed: "+message(cause)); err != nil {
		return from, err
	}
	if policy == resilience.UndoGroup && !m.retiring() {
		m.paused = false // nobody resumes it before the group is back
		size := cmp.Or(m.in.Policy.GroupSize, resilience.DefaultGroupSize)
		back := leg{bounds: store.Bounds{Floor: from.Last / size * size, Partial: true}}
		for {
			at, err := m.slice(ctx, "Put the group in work back", database.RevertSlice, back)
			if err != nil {
				return from, err
			}
			if m.aborted != nil {
				return from, m.abortion()
			}
			if at.Last <= back.bounds.Floor {
				break
			}
		}
		m.paused = true
	}
	return m.where(ctx)
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
	in := activities.SliceInput{Origin: m.in.Origin, Migration: m.in.Migration, Epoch: m.epoch, Slice: cmp.Or(m.in.Tuning.Slice, way.slice), Bounds: way.bounds, Servo: way.servo, Calm: way.calm, Adapt: way.adapt}
	options := m.in.Tuning.sliced(ctx, summary)
	if m.phase == undoing {
		options = m.undoing(options)
	}
	err := workflow.ExecuteActivity(options, move, in).Get(ctx, &at)
	if err == nil {
		m.show(ctx, at)
	}
	return at, err
}

// continueAsNew goes on in a fresh history, under the same workflow id.
func (m *migration) continueAsNew(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	if m.aborted != nil {
		return m.abortion()
	}
	next := m.in
	next.Resume = &Resume{
		Phase: m.phase, Hash: m.hash, Admission: m.admission,
		Epoch: m.epoch, Sweeps: m.sweeps, Paused: m.paused, Resuming: m.resuming, Saga: m.saga, Carrying: m.carrying, Shown: m.shown, Way: m.way,
	}
	if l, ok := m.manner.(lasting); ok {
		l.handOver(next.Resume)
	}
	return workflow.NewContinueAsNewError(ctx, MigrateName(cmp.Or(m.next, m.strategy)), next)
}

// abortion is the error of a run that a person told to stop.
func (m *migration) abortion() error {
	by := cmp.Or(m.aborted.Author, "an operator")
	text := fmt.Sprintf("aborted by %s", by)
	if m.aborted.Reason != "" {
		text += ": " + m.aborted.Reason
	}
	return temporal.NewNonRetryableApplicationError(text, Aborted, nil)
}

// order is who wants the plan undone, if somebody does, and why.
func (m *migration) order(cause error) Order {
	o := Order{Reason: message(cause)}
	if m.aborted != nil {
		o.Author = m.aborted.Author
	}
	return o
}

// undo puts everything back and returns the cause, or, when it cannot, an
// error of type RollbackFailed.
func (m *migration) undo(ctx workflow.Context, cause error) (resilience.Plan, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	m.phase = undoing
	err := m.compensate(ctx, m.order(cause))
	if err == nil {
		err = cause
	}
	plan, readErr := m.result(ctx)
	if readErr != nil {
		return plan, readErr
	}
	return plan, err
}

// compensate fences the moves and runs what the saga owes.
func (m *migration) compensate(ctx workflow.Context, order Order) error {
	if err := showPhase(ctx, "undo"); err != nil {
		return err
	}
	var at resilience.Watermark
	err := workflow.ExecuteActivity(brief(ctx, "Turn the plan round: "+order.Reason), database.BeginUndo, m.named(order)).Get(ctx, &at)
	if err == nil {
		m.epoch = at.Epoch
		usual, transfer := m.compensations(), m.transferCompensations()
		err = m.saga.compensate(ctx, func(ctx workflow.Context, name string) error {
			step, ok := usual[name]
			if !ok {
				step = transfer[name]
			}
			return m.insist(ctx, name, step)
		})
	}
	if err == nil {
		return nil
	}
	in := m.named(Order{Reason: message(err)})
	if recordErr := workflow.ExecuteActivity(brief(ctx, "Record that the rollback could not finish"), database.FailUndo, in).Get(ctx, nil); recordErr != nil {
		workflow.GetLogger(ctx).Error("failed rollback not recorded", "migration", m.in.Migration, "error", recordErr)
	}
	return err
}

// compensations is the table in which a saga's names are found.
func (m *migration) compensations() map[string]func(workflow.Context) error {
	return map[string]func(workflow.Context) error{
		restoreAliases: func(ctx workflow.Context) error {
			return workflow.ExecuteActivity(m.undoing(brief(ctx, "Restore the aliases")), database.UndoSwitchAliases, m.named(Order{})).Get(ctx, nil)
		},
		moveBack: func(ctx workflow.Context) error {
			m.began, m.beganAt = workflow.Now(ctx), -1
			for {
				at, err := m.slice(ctx, "Move chunks back to their old paths", database.RevertSlice, leg{bounds: store.Bounds{Leave: m.leave}})
				if err != nil {
					return err
				}
				if err := m.goesOn(ctx); err != nil || at.Last == 0 {
					return err
				}
			}
		},
		buildIndexes: m.buildIndexes,
		closePlan: func(ctx workflow.Context) error {
			return workflow.ExecuteActivity(m.undoing(brief(ctx, "Close the plan as rolled back")), database.EndUndo, m.named(Order{})).Get(ctx, nil)
		},
	}
}
