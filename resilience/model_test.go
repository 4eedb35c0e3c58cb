package resilience_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// The model is a migration of five rows in two batches, with all that may
// happen to it: an application that writes, attempts that are lost, given up
// while they still run, or whose answer never comes, a pause, a batch that fails
// and is put back, a cancel at any moment. Statuses change by the real table of
// legal moves; the guards are those of the statements of store.Mover, and of the
// steps around it.

const (
	modelRows  = 5
	modelBatch = 3
)

// guard is one of the rules that keep a migration right. The model is explored
// with all of them, and with some left out, to see that it can tell.
type guard string

const (
	byWatermark guard = "a batch begins where the watermark is"
	byEpoch     guard = "a batch is of the epoch"
	byWish      guard = "a batch goes the way that is wished for"
	byPlace     guard = "only rows at the journalled path move"
	bySkipped   guard = "what did not move does not move back"
	byStatus    guard = "aliases switch only while the plan works"
	byPause     guard = "a run does not go past a pause"
)

type place uint8

const (
	atOld place = iota
	atNew
	elsewhere
	gone
)

type modelRow struct {
	is     place
	placed bool  // by the application, and where:
	should place // where it left it
	moves  int8  // forward less back
	except bool  // listed as not moved
}

// act is what an attempt of an activity is about to do.
type act uint8

const (
	idle act = iota
	begin
	apply
	revert
	partly // put the group in work back
	alias
	complete
)

type attempt struct {
	act         act
	last, epoch int8 // as it read them
}

type modelPhase uint8

const (
	inQueue modelPhase = iota
	inMoves
	inGroup // a batch failed: its group goes back
	inSwitch
	inCompletion
	turning
	inUndo
	ended
)

// world is one state. It is compared as a whole.
type world struct {
	status      resilience.Status
	wish        resilience.Wish
	last, epoch int8
	rows        [modelRows]modelRow
	switched    bool

	phase          modelPhase
	mine           int8 // epoch with which the run orders slices
	arrived        bool // it was told that all rows are passed
	paused         bool
	asked          bool // somebody wanted it undone
	backs          bool // aliases were put back in this undo
	live, zombie   attempt
	writes, faults int8 // that may still happen
	pauses, fails  int8
}

type model struct {
	without []guard
	start   world
	states  []world
	from    []int
	by      []string
	seen    map[world]bool
	wrong   string // what a transition did that must not be
}

func (m *model) holds(g guard, condition bool) bool {
	return condition || slices.Contains(m.without, g)
}

func newModel(writes, pauses int8, without ...guard) *model {
	return &model{without: without, start: world{
		status: resilience.Queued, wish: resilience.WishRun, epoch: 1, mine: 1,
		writes: writes, faults: 2, pauses: pauses, fails: pauses,
	}}
}

// explore walks every state that can be reached, and returns the way to the
// first that breaks a promise, empty when none does.
func (m *model) explore() []string {
	m.seen = map[world]bool{m.start: true}
	m.states, m.from, m.by = []world{m.start}, []int{-1}, []string{""}
	for at := 0; at < len(m.states); at++ {
		w := m.states[at]
		if w.phase == ended && w.live.act == idle {
			if broken := promise(w); broken != "" {
				return m.way(at, broken)
			}
		}
		stuck := true
		m.each(w, func(what string, next world) {
			stuck = false
			if m.wrong == "" && !m.seen[next] {
				m.seen[next] = true
				m.states, m.from, m.by = append(m.states, next), append(m.from, at), append(m.by, what)
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

func (m *model) way(at int, last string) []string {
	way := []string{last}
	for ; at > 0; at = m.from[at] {
		way = append(way, m.by[at])
	}
	slices.Reverse(way)
	return way
}

// promise says what is broken at an end, empty when nothing is.
func promise(w world) string {
	switch w.status {
	case resilience.Completed:
		if !w.switched {
			return "completed, and its aliases are not switched"
		}
		for i, r := range w.rows {
			if (r.moves == 1) == r.except || r.moves > 1 {
				return fmt.Sprintf("completed, and row %d moved %d times, exception %v", i+1, r.moves, r.except)
			}
			if want := r.left(atNew); r.is != want {
				return fmt.Sprintf("completed, and row %d is at %d, not %d", i+1, r.is, want)
			}
		}
	case resilience.RolledBack, resilience.Cancelled:
		if w.switched {
			return string(w.status) + ", and its aliases are switched"
		}
		if !w.asked {
			return string(w.status) + ", and nobody wanted it"
		}
		for i, r := range w.rows {
			if want := r.left(atOld); r.is != want {
				return fmt.Sprintf("%s, and row %d is at %d, not %d", w.status, i+1, r.is, want)
			}
		}
	default:
		return "ended as " + string(w.status)
	}
	return ""
}

// left is where a row has to be: where the application put it, if it did.
func (r modelRow) left(otherwise place) place {
	if r.placed {
		return r.should
	}
	return otherwise
}

// each yields what may happen next.
func (m *model) each(w world, yield func(string, world)) {
	m.application(w, yield)
	m.attempts(w, yield)
	if w.live.act == idle {
		m.run(w, yield)
	}
	m.operator(w, yield)
}

func (m *model) application(w world, yield func(string, world)) {
	if w.writes == 0 {
		return
	}
	for i, r := range w.rows {
		if r.placed {
			continue
		}
		for _, to := range []place{atNew, elsewhere, gone} {
			if to == atNew && r.is != atOld {
				continue
			}
			next := w
			next.writes--
			next.rows[i].is, next.rows[i].placed, next.rows[i].should = to, true, to
			yield(fmt.Sprintf("the application puts row %d at %d", i+1, to), next)
		}
	}
}

// attempts lets the activities in flight have their effect, or come to grief.
func (m *model) attempts(w world, yield func(string, world)) {
	if w.live.act != idle {
		done := w
		done.live = attempt{}
		m.effect(&done, w.live, true)
		yield(fmt.Sprintf("%s is done", w.live), done)
		if w.faults > 0 {
			lost := w
			lost.live, lost.faults = attempt{}, w.faults-1
			yield(fmt.Sprintf("%s crashes", w.live), lost)
			unknown := lost
			m.effect(&unknown, w.live, false)
			yield(fmt.Sprintf("%s is done and its answer is lost", w.live), unknown)
			if w.zombie.act == idle {
				lost.zombie = w.live
				yield(fmt.Sprintf("%s is given up and goes on", w.live), lost)
			}
		}
	}
	if w.zombie.act != idle {
		next := w
		next.zombie = attempt{}
		yield("the attempt that was given up dies", next)
		m.effect(&next, w.zombie, false)
		yield(fmt.Sprintf("%s, given up, is done", w.zombie), next)
	}
}

func (a attempt) String() string {
	return fmt.Sprintf("%s from row %d in epoch %d", []string{"", "begin", "apply", "revert", "put the group back", "switch", "complete"}[a.act], a.last, a.epoch)
}

// become is store.become.
func (w *world) become(next resilience.Status) bool {
	if w.status != next && !w.status.CanBecome(next) {
		return false
	}
	w.status = next
	return true
}

// effect is the transaction of an attempt. Only a live one is heard of.
func (m *model) effect(w *world, a attempt, live bool) {
	ok := true
	switch a.act {
	case begin:
		if ok = w.become(resilience.Executing); ok && live {
			w.phase = inMoves
		}
	case apply:
		m.batch(w, a, m.holds(byWish, w.wish == resilience.WishRun) && w.last < modelRows, 1)
		w.arrived = w.arrived || live && w.last == modelRows && w.wish == resilience.WishRun
	case revert:
		m.batch(w, a, m.holds(byWish, w.wish == resilience.WishUndo) && w.last > 0, -1)
	case partly:
		m.batch(w, a, m.holds(byWish, w.wish == resilience.WishPause) && w.last > 0, -1)
		if live && w.last == 0 { // Forget
			for i := range w.rows {
				w.rows[i].except = false
			}
			w.phase, w.paused = inMoves, true
		}
	case alias:
		if ok = m.holds(byStatus, w.status == resilience.Executing); ok {
			w.switched = true
		}
		if ok && live {
			w.phase = inCompletion
		}
	case complete:
		if ok = w.last == modelRows && w.become(resilience.Completed); ok && live {
			w.phase = ended
		}
	}
	if !ok && live {
		w.phase = turning
	}
}

// batch is store.Mover.batch, forward (1) or back (-1).
func (m *model) batch(w *world, a attempt, wished bool, way int8) {
	if !wished || !m.holds(byWatermark, w.last == a.last) || !m.holds(byEpoch, w.epoch == a.epoch) {
		return
	}
	switch {
	case a.epoch != w.epoch:
		m.wrong = "an attempt of an older epoch wrote: " + a.String()
	case way > 0 && w.status == resilience.Paused:
		m.wrong = "rows moved during a pause: " + a.String()
	}
	from, to, low, high := atOld, atNew, a.last, min(w.last+modelBatch, modelRows)
	if w.last = high; way < 0 {
		from, to, low, high = atNew, atOld, max(a.last-modelBatch, 0), a.last
		w.last = low
	}
	for i := low; i < high; i++ {
		r := &w.rows[i]
		switch {
		case way < 0 && r.except && !m.holds(bySkipped, false):
		case r.is != gone && m.holds(byPlace, r.is == from):
			r.is, r.moves = to, r.moves+way
		case way > 0:
			r.except = true
		default: // it moved, and the application took it from there
			r.moves = 0
		}
	}
}

func (w *world) pause() {
	if w.become(resilience.Paused) && w.wish != resilience.WishUndo {
		w.wish, w.paused = resilience.WishPause, true
	}
}

// run is what the workflow does next.
func (m *model) run(w world, yield func(string, world)) {
	order := func(a act) {
		next := w
		next.live = attempt{act: a, last: w.last, epoch: w.epoch}
		yield("the run orders "+next.live.String(), next)
	}
	switch w.phase {
	case inQueue:
		order(begin)
	case inMoves:
		if w.epoch != w.mine {
			next := w
			next.phase = turning
			yield("the run finds the plan turned round", next)
			return
		}
		if !w.paused && !w.arrived {
			order(apply)
		}
		if w.arrived && m.holds(byPause, !w.paused) {
			next := w
			next.phase = inSwitch
			yield("the run goes on to the aliases", next)
		}
		if !w.paused && !w.arrived && w.fails > 0 && w.last > 0 {
			next := w
			next.pause()
			next.phase, next.fails, next.paused = inGroup, w.fails-1, false // nobody resumes it before the group is back
			yield("a batch fails for good", next)
		}
	case inGroup:
		order(partly)
	case inSwitch:
		order(alias)
	case inCompletion:
		order(complete)
	case turning:
		next := w
		next.phase = ended
		if next.become(resilience.RollingBack) {
			next.phase, next.backs = inUndo, false
			if next.wish != resilience.WishUndo {
				next.epoch, next.wish = next.epoch+1, resilience.WishUndo
			}
			next.mine = next.epoch
		}
		yield("the run turns the plan round", next)
	case inUndo:
		m.undo(w, order, yield)
	}
}

func (m *model) undo(w world, order func(act), yield func(string, world)) {
	next := w
	switch {
	case !w.backs:
		next.backs, next.switched = true, false
		yield("the run puts the aliases back", next)
	case w.last > 0:
		order(revert)
	case next.become(resilience.RolledBack):
		next.phase = ended
		yield("the run closes the plan", next)
	}
}

// operator pauses, resumes and cancels.
func (m *model) operator(w world, yield func(string, world)) {
	next := w
	switch {
	case w.phase == inMoves && !w.paused && w.pauses > 0 && w.status.CanBecome(resilience.Paused):
		next.pauses--
		next.pause()
		yield("a person pauses it", next)
	case w.paused && w.phase == inMoves:
		if next.become(resilience.Executing) {
			next.wish, next.paused, next.arrived = resilience.WishRun, false, false // it looks again
			yield("a person resumes it", next)
		}
	}
	if w.phase >= turning || w.live.act != idle && w.zombie.act != idle {
		return
	}
	next = w
	next.asked = true
	if next.live.act != idle {
		next.zombie, next.live = next.live, attempt{} // whoever waits for it, it may go on
	}
	next.phase = turning
	if w.phase == inQueue && next.become(resilience.Cancelled) {
		next.phase = ended
	}
	yield("a person cancels it", next)
}

// TestModel explores every way a migration can go.
func TestModel(t *testing.T) {
	t.Parallel()
	writes := int8(2)
	if testing.Short() {
		writes = 1
	}
	m := newModel(writes, 1)
	require.Empty(t, m.explore(), "a way to a broken promise")
	ends := map[resilience.Status]int{}
	for _, w := range m.states {
		if w.phase == ended {
			ends[w.status]++
		}
	}
	t.Logf("%d states; ends: %v", len(m.states), ends)
	for _, end := range []resilience.Status{resilience.Completed, resilience.RolledBack, resilience.Cancelled} {
		require.NotZero(t, ends[end], end)
	}
}

// TestModelNeedsEachGuard leaves guards out: the model finds what goes wrong.
func TestModelNeedsEachGuard(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pauses  int8
		without []guard
		breaks  string // the promise; empty: none
	}{
		{1, []guard{byWatermark}, "completed, and row 1 moved 1 times, exception true"},
		{1, []guard{byWish}, "rows moved during a pause"},
		{1, []guard{byPlace}, "rolled_back, and row 1 is at 0, not 1"},
		{1, []guard{bySkipped}, "rolled_back, and row 1 is at 0, not 1"},
		{1, []guard{byStatus}, "rolled_back, and its aliases are switched"},
		{1, []guard{byPause}, "rolled_back, and nobody wanted it"},
		// The epoch and the wish each keep an old attempt from writing.
		{0, []guard{byWish}, ""},
		{0, []guard{byEpoch}, ""},
		{0, []guard{byWish, byEpoch}, "an attempt of an older epoch wrote"},
	} {
		t.Run(fmt.Sprint(c.without, c.pauses), func(t *testing.T) {
			t.Parallel()
			way := newModel(1, c.pauses, c.without...).explore()
			if c.breaks == "" {
				require.Empty(t, way)
				return
			}
			require.NotEmpty(t, way, "nothing breaks without: %s", c.without)
			require.Contains(t, way[len(way)-1], c.breaks, strings.Join(way, "\n"))
		})
	}
}
