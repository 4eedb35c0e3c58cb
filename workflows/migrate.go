package workflows

import (
	"fmt"
	"time"

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
	summary string // empty: the usual one
	adapt   bool   // its size follows what batches take
	stop    bool   // there is something to wait for first: look again

	servo *resilience.Servo // picks the size of each batch; nil: bounds do
	calm  bool              // the servo may let batches grow
	nice  float64           // rest after each batch, as a multiple of the time it took

	health *activities.HealthInput // what the slice minds; nil: nothing
}

// retirer is a manner with a way of its own with the last step of a transfer.
type retirer interface {
	retire(ctx workflow.Context, m *migration, at resilience.Watermark) (leg, error)
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
		return &gradually{limits: resilience.DefaultLimits()}
	case resilience.Intelligent:
		return &phased{care: gradually{limits: resilience.LateLimits()}}
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
	looking    phase = "being looked at" // by a rollback, which may be of what somebody else carried out
	planning   phase = "being planned"
	approving  phase = "awaiting approval"
	queueing   phase = "queued"
	moving     phase = "moving chunks"
	building   phase = "building its vector indexes again"
	switching  phase = "switching its references and aliases"
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
	work      string // the step in work, as runs are filtered by it
	waits     string // what the step waits for, likewise
	said      string // by what this run is filtered
	hash      string // of the plan
	way       resilience.Way
	admission admission
	approved  bool // as it stands
	beginning bool // or it has begun, and its rows do not move yet
	epoch     int64
	sweeps    int // rounds done
	paused    bool
	deciding  bool                // on its groups: its strategy stays
	backing   bool                // it has paused itself, and puts a group back first
	resuming  *Order              // a person asked to go on
	orders    int                 // to pause or resume, so far
	next      resilience.Strategy // a person asked to go on by it
	aborted   *Order
	stop      workflow.CancelFunc // ends the slice in work; nil: there is none
	switched  bool                // the old paths of a rename lead to the new ones
	cause     error               // why it is undone; nil: that is what was asked for
	turned    bool                // the plan was turned round
	elsewhere bool                // and not by this run, which leaves the undo to that
	saga      Saga
	stuck     *stuck              // a compensation that fails again and again
	leave     *store.Leave        // what the next batch back may leave where it is
	home      resilience.Verified // how far the look at all that went back is
	unseen    bool                // that look failed
	progress  *progress
	shown     shown
	began     time.Time // of the moves of this run, for the rate
	beganAt   int64     // watermark then; negative: not known
	sliced    time.Time // when the last slice of this run ended
}

func newMigration(ctx workflow.Context, strategy resilience.Strategy, in MigrateInput) (*migration, error) {
	m := &migration{in: in, phase: planning}
	var err error
	if m.progress, err = showProgress(ctx, m.title()); err != nil {
		return nil, err
	}
	m.by(strategy)
	if in.To != "" {
		m.carrying = &carrying{}
	}
	if in.Resume != nil {
		m.takeUp(*in.Resume)
		m.tell(ctx) // the web UI forgot what the run before told it
	}
	return m, m.handle(ctx)
}

func (m *migration) title() string {
	return fmt.Sprintf("Migration %s of memory %s", m.in.Migration, m.in.Memory)
}

// by lets the migration go by a strategy.
func (m *migration) by(strategy resilience.Strategy) {
	m.strategy, m.manner = strategy, manners(strategy)
	if p, ok := m.manner.(*phased); ok { // of its groups, whatever the plan waits for
		m.progress.beneath = func() string { return decisions(p.groups) }
	}
}

// run plans the migration, carries it out, and undoes it if that fails.
func (m *migration) run(ctx workflow.Context) (resilience.Plan, error) {
	if m.phase == undoing { // the run before began that
		return m.undo(ctx, m.cause)
	}
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
	case workflow.IsContinueAsNewError(err), m.elsewhere:
		return resilience.Plan{}, err
	case err != nil:
		if m.aborted != nil && ctx.Err() == nil { // whatever it met with then
			err = m.abortion()
		}
		return m.undo(ctx, err)
	}
	return m.result(ctx)
}

// plan journals the moves. It changes nothing in the memory.
func (m *migration) plan(ctx workflow.Context) error {
	m.progress.set(ctx, Progress{Phase: "Planning: finding the chunks and writing the journal"})
	if err := m.begin(ctx, "plan"); err != nil {
		return err
	}
	var plan resilience.Plan
	in := activities.PlanMigrationInput{
		Origin: m.in.Origin, Owner: owner(ctx), Memory: m.in.Memory, Migration: m.in.Migration, Strategy: m.strategy,
		Renames: m.in.Renames, Undoes: m.in.Undoes, Transfer: m.in.TransferOrder, Policy: m.in.Policy, Rollback: m.readable(m.owing(rollbackPlan(m.in.Policy.Way))),
	}
	err := m.unlessAborted(ctx, step{change: planStopped, summary: "Find the chunks to move and journal them", activity: database.PlanMigration, in: in}, &plan)
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

// carryOut does the steps that have effects, each after its compensation was
// registered.
func (m *migration) carryOut(ctx workflow.Context) error {
	if m.carrying != nil {
		return m.carryOver(ctx)
	}
	if m.switched { // the run before came that far
		if err := m.begin(ctx, "switch"); err != nil {
			return err
		}
		if err := m.moveOn(ctx); err != nil {
			return err
		}
		return m.complete(ctx)
	}
	// 1. Rows move; then those that appeared at the old paths meanwhile.
	if err := m.takeIndexes(ctx); err != nil {
		return err
	}
	m.saga.owe(moveBack)
	if err := m.moveAll(ctx); err != nil {
		return err
	}
	if err := m.whileExecuting(ctx, m.buildIndexes, m.moveAll); err != nil {
		return err
	}
	// 2. Readers of the old paths find the new ones.
	m.phase = switching
	m.tell(ctx)
	if err := m.begin(ctx, "switch"); err != nil {
		return err
	}
	m.saga.owe(restoreAliases)
	if err := m.whileExecuting(ctx, m.then("Let the old paths resolve to the new ones", database.SwitchAliases), m.moveAll); err != nil {
		return err
	}
	if m.aborted != nil {
		return m.abortion()
	}
	m.switched = true
	return m.complete(ctx)
}

// complete accounts for every row.
func (m *migration) complete(ctx workflow.Context) error {
	m.phase = completing
	m.tell(ctx)
	return m.whileExecuting(ctx, m.then(closing, database.CompleteMigration), m.moveNoMore)
}

// moveNoMore waits out a pause where the old paths resolve to the new ones: what appears
// at an old path by then is there to stay.
func (m *migration) moveNoMore(ctx workflow.Context) error {
	if workflow.GetVersion(ctx, leftLate, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return m.moveAll(ctx)
	}
	return m.moveOn(ctx)
}
