package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rehome/resilience"
)

// Mover carries out the moves of one plan, a batch in each transaction.
type Mover struct {
	store  *Store
	plan   string
	args   pgx.NamedArgs
	apply  *move
	revert *move
	knots  spans         // rows that go in one transaction, each
	aside  spans         // rows that make room for others
	before string        // said before each batch
	apart  string        // said before a batch whose rows are told apart; empty: nothing
	lock   string        // locks the rows of a batch; empty: there is no need
	alone  bool          // whoever sizes the batches learns from each
	took   Took          // of the last step
	done   int           // batches of the last step
	onward time.Duration // how long they may follow each other in a step
}

// move is how rows of a plan go in one direction.
type move struct {
	statement string
	undoing   bool       // the last rows go first
	aside     *stepping  // where some make room for others
	aftermath *aftermath // how they are looked at once more; nil: there is no need
	uncopies  *transfer  // whose copies go; nil: it does something else
	changed   string     // why it cannot be done with the tables as they are; empty: it can
}

// Took is what the last step took, done or not.
func (m *Mover) Took() Took { return m.took }

// Batches is how many batches the last step did.
func (m *Mover) Batches() int { return m.done }

// Mover prepares the statements of a plan from the mapping stored with it.
func (s *Store) Mover(ctx context.Context, plan string) (*Mover, error) {
	settings, err := s.Settings(ctx)
	if err != nil {
		return nil, err
	}
	if t, err := readTransfer(ctx, s.pool, plan); err != nil {
		return nil, fmt.Errorf("read the transfer %s: %w", plan, interpret(err))
	} else if t != nil {
		return t.mover(ctx, s)
	}
	t := renaming{oneIn: settings.CompareOneIn}
	var number int
	var stays string
	err = s.pool.QueryRow(ctx, `SELECT number, mapping, chained, `+staying+` FROM rehome.migration_plans p WHERE plan_id = $1`, plan).Scan(&number, &t.m, &t.inOrder, &stays)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, problem(ErrNotFound, "there is no migration %s; see `starter migration list`", plan)
	}
	if err != nil {
		return nil, fmt.Errorf("read the mapping of plan %s: %w", plan, interpret(err))
	}
	knots, err := s.spans(ctx, plan, "knots", 1)
	if err != nil {
		return nil, err
	}
	aside, err := s.spans(ctx, plan, "aside - "+staying+"::int8multirange", 0)
	if err != nil {
		return nil, err
	}
	relations, err := s.relations(ctx, t.table)
	if err != nil {
		return nil, fmt.Errorf("look for partitions of %s: %w", t.name(), interpret(err))
	}
	some := stays != "{}"
	args := t.args(pgx.NamedArgs{"plan": plan, "number": number, "stays": stays, "relations": relations, "contents": []string{t.m.ID, t.m.Content, t.m.Embedding}})
	m := &Mover{
		store: s, plan: plan, args: args, onward: onward, knots: knots, aside: aside,
		apply: &move{statement: t.statement(forward, everyRow, some)}, revert: &move{statement: t.statement(backward, everyRow, some), undoing: true},
		lock: lockStatement(t.table), apart: checkAtOnce,
	}
	if len(aside) > 0 {
		m.apply.aside, m.revert.aside = t.stepping(forward, some), t.stepping(backward, some)
	}
	acts, err := actsAfter(ctx, s.pool, relations, writesUpdate)
	if err != nil {
		return nil, fmt.Errorf("look for triggers of %s: %w", t.name(), interpret(err))
	}
	if acts {
		m.apply.aftermath, m.revert.aftermath = t.afterMoves(forward), t.afterMoves(backward)
	}
	return m, nil
}

// Bounds of the next batches, as a strategy sets them. An operator's throttle
// stands above them.
type Bounds struct {
	Until   int64   `json:"until,omitempty"`   // apply no row after this one, but for the rest of a knot; 0 is the end of the journal
	Batch   int     `json:"batch,omitempty"`   // rows in one transaction, likewise; 0 takes the plan's batch size
	Rate    float64 `json:"rate,omitempty"`    // rows a second at most; 0 takes the plan's
	Floor   int64   `json:"floor,omitempty"`   // revert no row up to this one, likewise
	Partial bool    `json:"partial,omitempty"` // revert rows although the plan is not being undone, but paused
	Leave   *Leave  `json:"leave,omitempty"`   // revert without the rows that cannot go back
	Gentle  bool    `json:"gentle,omitempty"`  // a batch that meets a lock gives up at once and is not tried again here
	Patient bool    `json:"patient,omitempty"` // a batch is dear to begin anew: it waits longer for a lock, whoever waits for it meanwhile
	// Together lets short batches follow each other within one step, each of them a
	// transaction, unless a rate is in force.
	Together bool `json:"-"`
}

// pace is the rate and the size in force for a batch: the throttle's, while they last.
const pace = `
	SELECT CASE WHEN throttle_until > now() THEN throttle_rate
			WHEN rate > 0 AND @rate::float8 > 0 THEN least(rate, @rate) ELSE greatest(rate, @rate) END AS rate,
		coalesce(CASE WHEN throttle_batch_until > now() THEN throttle_batch END, nullif(@batch, 0), batch_size) AS batch`

// rows of the next batch: under a rate what a second allows, so that a change
// is in force within one.
const rows = `CASE WHEN p.rate > 0 THEN least(p.batch, greatest(1, ceil(p.rate)::bigint)) ELSE p.batch END`

// goal is the last row that batches may come to.
const goal = `least(g.total, coalesce(nullif(@until::bigint, 0), g.total))`

// Apply moves the batch after the watermark to its new place, or the batches that
// go together, and returns the new watermark. When at is no longer the state of the
// plan (a pause, an abort, another attempt), nothing is done and the present state is
// returned.
func (m *Mover) Apply(ctx context.Context, at resilience.Watermark, b Bounds) (resilience.Watermark, error) {
	return m.step(ctx, at, b, m.apply, `
		UPDATE rehome.migration_progress g
		SET last = least(`+goal+`, g.last + `+rows+`),
			first_at = coalesce(g.first_at, clock_timestamp()), last_at = NULL
		FROM (`+pace+` FROM rehome.migration_progress WHERE plan_id = @plan) p
		WHERE plan_id = @plan AND last = `+reached+` AND epoch = @epoch AND wish = 'run' AND last < `+goal+` AND `+timely+`
		RETURNING `+passing(reached, "g.last")+`, g.total, g.epoch, g.wish, p.rate`)
}

// Revert moves the batch below the watermark back to its old place; see Apply.
// A plan that is not being undone goes back only when that is asked for, and it
// is paused: whoever still puts a group back when the plan goes on does nothing. What
// is listed of its rows is of the try that is over, and goes with them.
func (m *Mover) Revert(ctx context.Context, at resilience.Watermark, b Bounds) (resilience.Watermark, error) {
	return m.step(ctx, at, b, m.revert, `
		UPDATE rehome.migration_progress g
		SET last = greatest(@floor::bigint, g.last - `+rows+`)
		FROM (`+pace+` FROM rehome.migration_progress WHERE plan_id = @plan) p
		WHERE plan_id = @plan AND last = `+reached+` AND epoch = @epoch AND last > @floor AND (wish = 'undo' OR @partial AND wish = 'pause') AND `+timely+`
		RETURNING `+passing("g.last", reached)+`, g.total, g.epoch, g.wish, p.rate`)
}

// transient are the errors of a transaction that a second try mends:
// serialization failure, deadlock.
func transient(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "40001" || pg.Code == "40P01")
}

// tries of one batch that an application's writes keep interrupting, before
// the retry is left to Temporal, which backs off.
const tries = 10

// optimist is the number of tries after which a batch locks its rows before it
// looks at them: one that is large would else never be done beside writers.
const optimist = 2

// For so long the tries of a batch give way after a quarter of a second to whoever holds
// a lock, so that nobody waits for longer for rows that it had locked by then, unless one
// lasts so long that it is dear to begin anew. The last waits for two seconds: else none
// would ever be done beside an application that always holds a lock for a while.
const (
	politeFor = 10 * time.Second
	dearFrom  = time.Second
)

// politely tries a batch until no lock is in its way. A gentle one is tried once, and so is
// one that is dear to begin anew.
func (b Bounds) politely(ctx context.Context, try func(patient bool) error) error {
	if b.Gentle || b.Patient {
		return try(b.Patient && !b.Gentle)
	}
	for began, n := time.Now(), 0; time.Since(began) < politeFor; n++ {
		tried := time.Now()
		if err := try(false); TroubleOf(err) != resilience.LockTimeout {
			return err
		}
		if time.Since(tried) > dearFrom {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(resilience.RetryAfter(min(n, 2), rand.Float64())):
		}
	}
	return try(true)
}

func (m *Mover) step(ctx context.Context, at resilience.Watermark, b Bounds, move *move, advance string) (resilience.Watermark, error) {
	var next resilience.Watermark
	if move.changed != "" {
		return at, problem(ErrChanged, "%s", move.changed)
	}
	knotted := m.knotted(at, b, move.undoing)
	if !knotted {
		b = m.shortOfKnot(at, b, move.undoing)
	}
	m.args["until"], m.args["floor"], m.args["batch"], m.args["partial"], m.args["rate"] = b.Until, b.Floor, b.Batch, b.Partial, b.Rate
	m.args["gentle"], m.args["batch_lock"], m.args["onward"] = b.Gentle, batchLock, m.onward
	m.alone = !b.Together
	// What is left out because it is locked is left for good.
	b.Patient = b.Patient || knotted || b.Batch > resilience.MaxBatchSize || b.Leave != nil
	err := b.politely(ctx, func(patient bool) (err error) {
		m.args["patient"] = patient
		next, err = m.tried(ctx, at, b, knotted, move, advance)
		return err
	})
	if errors.Is(err, errMoved) {
		return m.store.Watermark(ctx, m.plan)
	}
	if err == nil && move.uncopies != nil {
		err = m.store.follow(ctx, lateness{move.uncopies, true}, at, next, &m.took)
	}
	if err != nil {
		return at, fmt.Errorf("move chunks of %s from row %d: %w", m.plan, at.Last, interpret(err))
	}
	return next, nil
}

// tried does a batch, or those that go together, and tries again what an application's
// writes interrupt.
func (m *Mover) tried(ctx context.Context, at resilience.Watermark, b Bounds, knotted bool, move *move, advance string) (next resilience.Watermark, err error) {
	together := 1
	if b.Together && at.Rate == 0 {
		together = m.couple()
	}
	for n := range tries {
		how := manner{leave: b.leaving(m.plan, at, move.undoing, m.knots), hold: n >= optimist && m.lock != "", large: b.Batch > piece, knotted: knotted, again: b.Partial}
		next, err = m.batch(ctx, at, how, together, move, advance)
		if m.done > 0 { // one that failed after these is the first of the next step
			return next, nil
		}
		together = 1
		if refused(err) {
			how.slow = true
			next, err = m.batch(ctx, at, how, together, move, advance)
		}
		if !move.undoing && ofRow(err, false) { // what is in a row decides its outcome, not the batch's
			how.leave = &leaving{plan: m.plan, knots: m.knots, most: maxClashes}
			next, err = m.batch(ctx, at, how, together, move, advance)
		}
		if !transient(err) || b.Gentle {
			break
		}
	}
	return next, err
}

// Batches follow each other for as long as onward, and not more than mostTogether:
// who waits for one of them, such as a person who pauses the plan, may have to wait for
// all, and of those that nobody waits for any more, all are still done.
const (
	onward       = 50 * time.Millisecond
	mostTogether = 16
)

// couple is how many batches go together next, by what the last ones took.
func (m *Mover) couple() int {
	if m.done == 0 {
		return 1
	}
	each := max(m.took.Time/time.Duration(m.done), 1)
	return min(max(int(m.onward/each), 1), mostTogether)
}

// piece is how many rows of a batch one statement moves at most: what it gathers
// of them stays in memory. A larger batch is several, in one transaction still.
const piece = 20_000

// manner is what is special about how a batch goes.
type manner struct {
	leave   *leaving // it goes without some of its rows
	hold    bool     // its rows are locked before they are looked at
	large   bool     // it takes more than one statement
	knotted bool     // it takes files that change places along
	again   bool     // its rows go back to be tried again
	slow    bool     // its account is looked at here, to say what is wrong with it
}

// errMoved says that the watermark is not where the caller thought.
var errMoved = errors.New("the watermark is elsewhere")
