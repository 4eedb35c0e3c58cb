// Package model is a migration of five rows in two batches, with all that may happen to
// it: an application that writes, attempts that are lost, given up while they still run,
// or whose answer never comes, a pause, a batch that fails and is put back, an abort or a
// cancel at any moment. Each step and each order is such an attempt, and one transaction.
// It is a run that has no sweeps left: a row that is back when all are looked at has it
// undone, where one that has some would take that row along once more.
//
// Statuses change by the real table of legal moves. What a transaction makes of the
// database is told here once more, in plain Go; that the store's statements do the same
// is for the store's tests to show, by each transaction that happens.
package model

import (
	"slices"

	"rehome/resilience"
)

// Guard is one of the rules that keep a migration right. The model is explored with all
// of them, and with some left out, to see that it can tell.
type Guard string

// The guards.
const (
	ByWatermark Guard = "a batch begins where the watermark is"
	ByEpoch     Guard = "a batch is of the epoch"
	ByWish      Guard = "a batch goes the way that is wished for"
	ByPlace     Guard = "only rows at the journalled path move"
	BySkipped   Guard = "what did not move does not move back"
	ByStatus    Guard = "aliases switch only while the plan works"
	ByPause     Guard = "a run does not go past a pause"
	ByTable     Guard = "statuses change by the table of legal moves"
	ByAgain     Guard = "a step that is done already is no conflict"
	ByTurn      Guard = "a plan is turned round once"
	ByRound     Guard = "no order changes the wish of a plan that is turned round"
	ByUndo      Guard = "aliases go back only while the plan does"
	ByBottom    Guard = "an undo ends when the last row is back"
	ByVerifier  Guard = "all rows are looked at before the switch"
	ByEnd       Guard = "only a plan whose rows have all moved is looked at"
	ByHold      Guard = "rows are looked at only while the plan works, or goes back"
	ByBack      Guard = "a row that is back where it came from is no drift"
	ByHeed      Guard = "a pause that comes late is waited out"
	ByAnew      Guard = "what goes back to be tried again is not listed any more"
)

// row is what the promises are measured by, beside what the database has of a row.
type row struct {
	placed bool  // by the application, and where:
	should Place // where it left it
	moves  int8  // forward less back
	back   bool  // the application put it where it came from, before all were looked at
}

type phase uint8

const (
	inQueue phase = iota
	inMoves
	inHalt  // a batch failed: the plan is paused
	inGroup // and the group in work goes back
	inSwitch
	inCompletion
	givingUp
	turning
	inUndo
	ended
)

// world is one state. It is compared as a whole.
type world struct {
	Database
	rows [Rows]row

	phase        phase
	mine         int8 // epoch with which the run orders slices
	arrived      bool // it was told that all rows are passed
	verified     bool // and that all are where they have to be
	looked       bool // so it was once
	paused       bool
	asked        bool    // somebody wanted it undone, or the verifier found a reason
	backs, home  bool    // aliases were put back in this undo, and all rows looked at
	live, zombie Attempt // of the run
	told         Attempt // of an order; it is tried until it is done
	left         Limits
}

// Limits say how often may happen what need not.
type Limits struct {
	Writes int8 // of the application
	Faults int8 // of attempts
	Pauses int8 // by a person
	Fails  int8 // of batches, for good
}

// Model is a migration to be explored.
type Model struct {
	without []Guard
	start   world
	from    []int32 // the state before each that was found, and what happened to it
	by      []event
	ends    map[resilience.Status]int
	wrong   string // what a transition did that must not be
}

// New returns a model with all guards but some.
func New(limits Limits, without ...Guard) *Model {
	return &Model{without: without, start: world{
		Database: Database{Status: resilience.Queued, Wish: resilience.WishRun, Epoch: 1}, mine: 1, left: limits,
	}}
}

func (m *Model) holds(g Guard, condition bool) bool {
	return condition || slices.Contains(m.without, g)
}

// Explore walks every state that can be reached, and returns the way to the first that
// breaks a promise, empty when none does.
func (m *Model) Explore() []string { return m.explore(func(world, event, world) {}) }

// Ends counts the states in which an explored migration has ended, by its status.
func (m *Model) Ends() map[resilience.Status]int { return m.ends }

// States is how many were found.
func (m *Model) States() int { return len(m.from) }

// explore shows each event to whoever wants to see them.
func (m *Model) explore(see func(before world, e event, after world)) []string {
	seen := map[world]bool{m.start: true}
	m.from, m.by, m.ends = []int32{-1}, []event{{}}, map[resilience.Status]int{}
	next := []world{m.start}
	for at := int32(0); len(next) > 0; at++ {
		w := next[0]
		next = next[1:]
		if w.phase == ended {
			m.ends[w.Status]++
			if broken := promise(w); broken != "" && w.live.Act == None {
				return m.way(at, broken)
			}
		}
		stuck := true
		m.each(w, func(e event, after world) {
			stuck = false
			see(w, e, after)
			after.simplify()
			if m.wrong == "" && !seen[after] {
				seen[after] = true
				next, m.from, m.by = append(next, after), append(m.from, at), append(m.by, e)
			}
		})
		if m.wrong != "" {
			return m.way(at, m.wrong)
		}
		if stuck && w.phase != ended {
			return m.way(at, "nothing can happen any more")
		}
	}
	return nil
}

// simplify lets worlds be the same that differ in nothing that matters any more.
func (w *world) simplify() {
	// Every batch, forward or back, has both of these rows or neither.
	for _, i := range []int{0, 3} {
		if w.number(i) < w.number(i+1) {
			w.rows[i], w.rows[i+1] = w.rows[i+1], w.rows[i]
			w.Rows[i], w.Rows[i+1] = w.Rows[i+1], w.Rows[i]
		}
	}
	if w.phase >= givingUp {
		w.arrived, w.verified, w.looked, w.paused, w.left.Pauses, w.left.Fails = false, false, true, false, 0, 0
	}
	if w.Status == resilience.RollingBack || w.Status.Ended() && w.Status != resilience.Completed {
		for i := range w.rows {
			w.rows[i].moves, w.rows[i].back = 0, false
		}
	}
}

// number is another one for every row that differs.
func (w *world) number(i int) int {
	has, r := w.Rows[i], w.rows[i]
	n := (int(has.Is)*4+int(r.should))*16 + int(r.moves) + 8
	for _, is := range []bool{r.placed, has.Skipped, has.Left, r.back} {
		if n *= 2; is {
			n++
		}
	}
	return n
}

func (m *Model) way(at int32, last string) []string {
	way := []string{last}
	for ; at > 0; at = m.from[at] {
		way = append(way, m.by[at].String())
	}
	slices.Reverse(way)
	return way
}
