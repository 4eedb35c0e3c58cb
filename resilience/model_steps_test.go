package resilience_test

import (
	"fmt"

	"rehome/resilience"
)

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
		for _, to := range []place{atOld, atNew, elsewhere, gone} {
			if to == atNew && r.is != atOld || to == atOld && r.is != atNew {
				continue
			}
			next := w
			next.writes--
			next.rows[i].is, next.rows[i].placed, next.rows[i].should = to, true, to
			next.rows[i].back = to == atOld && !w.looked
			yield(fmt.Sprintf("the application puts row %d at %d", i+1, to), next)
		}
	}
}

// attempts lets what is in flight have its effect, or come to grief.
func (m *model) attempts(w world, yield func(string, world)) {
	if w.live.act != idle {
		after := w
		after.live = attempt{}
		m.attempt(w.live, after, after, yield)
	}
	if w.told.act != idle {
		done := w
		done.told = attempt{}
		m.attempt(w.told, done, w, yield) // which is tried again
	}
	if w.zombie.act != idle {
		next := w
		next.zombie = attempt{}
		yield("the attempt that was given up dies", next)
		m.effect(&next, w.zombie, false)
		yield(fmt.Sprintf("%s, given up, is done", w.zombie), next)
	}
}

// attempt yields what becomes of one: done is the world when it is heard of, lost
// the world when it is not.
func (m *model) attempt(a attempt, done, lost world, yield func(string, world)) {
	m.effect(&done, a, true)
	yield(fmt.Sprintf("%s is done", a), done)
	if lost.faults == 0 {
		return
	}
	lost.faults--
	yield(fmt.Sprintf("%s crashes", a), lost)
	unknown := lost
	m.effect(&unknown, a, false)
	yield(fmt.Sprintf("%s is done and its answer is lost", a), unknown)
	if lost.zombie.act == idle {
		lost.zombie = a
		yield(fmt.Sprintf("%s is given up and goes on", a), lost)
	}
}

func (a attempt) String() string {
	what := []string{
		"", "begin", "apply", "revert", "put the group back", "look at all rows", "switch", "complete",
		"pause", "resume", "cancel the plan", "turn round", "put the aliases back", "end the undo",
	}[a.act]
	if a.act.moves() {
		what += fmt.Sprintf(" from row %d in epoch %d", a.last, a.epoch)
	}
	return what
}

// moves reports whether it is a batch.
func (a act) moves() bool { return a == apply || a == revert || a == partly }

// become is store.become.
func (m *model) become(w *world, next resilience.Status) bool {
	if w.status == next {
		return !m.holds(byAgain, false)
	}
	if !m.holds(byTable, w.status.CanBecome(next)) {
		return false
	}
	w.status = next
	return true
}

// effect is the transaction of an attempt, and, of one that is heard of, what the
// run makes of it.
func (m *model) effect(w *world, a attempt, live bool) {
	switch ok := m.transact(w, a); {
	case !live:
	case ok:
		w.heard(a)
	default:
		m.refused(w, a)
	}
}

// transact reports whether an attempt was not refused. One that is changes nothing.
func (m *model) transact(w *world, a attempt) bool {
	switch a.act {
	case begin:
		return m.become(w, resilience.Executing)
	case apply:
		m.batch(w, a, m.holds(byWish, w.wish == resilience.WishRun) && w.last < modelRows, 1)
	case revert:
		m.batch(w, a, m.holds(byWish, w.wish == resilience.WishUndo) && w.last > 0, -1)
	case partly:
		m.batch(w, a, m.holds(byWish, w.wish == resilience.WishPause) && w.last > 0, -1)
	case verify:
		return m.verify(w)
	case alias:
		if !m.holds(byStatus, w.status == resilience.Executing) {
			return false
		}
		w.switched = true
	case complete:
		return w.last == modelRows && m.become(w, resilience.Completed)
	case pause:
		return m.order(w, resilience.Paused, resilience.WishPause)
	case resume:
		return m.order(w, resilience.Executing, resilience.WishRun)
	case drop:
		return m.become(w, resilience.Cancelled)
	case turn:
		if !m.become(w, resilience.RollingBack) {
			return false
		}
		if m.holds(byTurn, w.wish != resilience.WishUndo) {
			w.epoch, w.wish = w.epoch+1, resilience.WishUndo
		}
	case unalias:
		if !m.holds(byUndo, w.status == resilience.RollingBack) {
			return false
		}
		w.switched = false
	case end:
		return m.holds(byBottom, w.last == 0) && m.become(w, resilience.RolledBack)
	}
	return true
}

// order is store.wish.
func (m *model) order(w *world, next resilience.Status, wish resilience.Wish) bool {
	if !m.become(w, next) {
		return false
	}
	if m.holds(byRound, w.wish != resilience.WishUndo) {
		w.wish = wish
	}
	return true
}

// verify is store.Verify.
func (m *model) verify(w *world) bool {
	if !m.holds(byEnd, w.last == modelRows) {
		return false
	}
	for i, r := range w.rows {
		if r.is == atOld && !r.except && !m.holds(byBack, false) {
			return false
		}
		if r.is != atNew && !r.except { // the application took it from there
			w.rows[i].except, w.rows[i].moves = true, 0
		}
	}
	return true
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
			if r.is, r.moves = to, r.moves+way; r.should == atOld { // what is put at the old path is taken along
				r.placed, r.back = false, false
			}
		case way > 0:
			r.except = true
		default: // it moved, and the application took it from there
			r.moves = 0
		}
	}
}

// heard is what the run, or whoever waits for an order, does after an attempt.
func (w *world) heard(a attempt) {
	switch a.act {
	case begin:
		w.phase = inMoves
	case apply:
		w.arrived = w.arrived || w.last == modelRows && w.wish == resilience.WishRun
	case partly:
		if w.last == 0 { // Forget
			for i := range w.rows {
				w.rows[i].except = false
			}
			w.phase, w.paused = inMoves, true
		}
	case verify:
		w.verified, w.looked = true, true
	case alias:
		w.phase = inCompletion
	case complete, drop, end:
		w.phase = ended
	case pause:
		if w.paused = w.phase != inHalt; !w.paused { // nobody resumes it before the group is back
			w.phase = inGroup
		}
	case resume:
		w.paused, w.arrived, w.verified = false, false, false // it looks again
	case turn:
		if w.phase == turning {
			w.phase, w.backs, w.mine = inUndo, false, w.epoch
		}
	case unalias:
		w.backs = true
	}
}

// refused is what the run does after an attempt that no retry mends.
func (m *model) refused(w *world, a attempt) {
	switch a.act {
	case pause, resume: // whoever gave the order is told
	case alias, complete:
		if w.paused = w.status == resilience.Paused && !m.holds(byHeed, false); !w.paused {
			w.phase = turning
		}
	case verify:
		w.phase, w.asked = turning, true
	case turn:
		if w.phase == turning { // it is over already
			w.phase = ended
		}
	case unalias, end:
		m.wrong = "an undo cannot go on: " + a.String()
	default:
		w.phase = turning
	}
}

// run is what the workflow does next.
func (m *model) run(w world, yield func(string, world)) {
	order := func(a act) {
		next := w
		next.live.act = a
		if a.moves() {
			next.live = attempt{act: a, last: w.last, epoch: w.mine}
		}
		yield("the run orders "+next.live.String(), next)
	}
	switch w.phase {
	case inQueue:
		order(begin)
	case inMoves:
		m.move(w, order, yield)
	case inHalt:
		order(pause)
	case inGroup:
		order(partly)
	case inSwitch:
		if !w.paused {
			order(alias)
		}
	case inCompletion:
		if !w.paused {
			order(complete)
		}
	case givingUp:
		order(drop)
	case turning:
		order(turn)
	case inUndo:
		switch {
		case !w.backs:
			order(unalias)
		case w.last > 0 && w.epoch != w.mine:
			m.wrong = "an undo is fenced off"
			yield("nothing moves", w)
		case w.last > 0:
			order(revert)
		default:
			order(end)
		}
	}
}

// move is what the run does while it moves rows.
func (m *model) move(w world, order func(act), yield func(string, world)) {
	next := w
	switch {
	case w.asked || w.epoch != w.mine:
		next.phase = turning
		yield("the run finds the plan turned round", next)
	case w.arrived && !w.verified && !m.holds(byVerifier, false):
		order(verify)
	case w.arrived:
		if m.holds(byPause, !w.paused && w.told.act == idle) {
			next.phase = inSwitch
			yield("the run goes on to the aliases", next)
		}
	case !w.paused:
		order(apply)
		if w.fails > 0 && w.last > 0 {
			next.phase, next.fails = inHalt, w.fails-1
			yield("a batch fails for good", next)
		}
	}
}

// operator pauses, resumes, aborts and cancels.
func (m *model) operator(w world, yield func(string, world)) {
	tell := func(a act, what string) {
		next := w
		next.told.act = a
		if a == pause {
			next.pauses--
		}
		next.asked = w.asked || a == turn
		yield(what, next)
	}
	if w.told.act == idle && !w.asked {
		if w.phase == inMoves && !w.paused && w.pauses > 0 {
			tell(pause, "a person pauses it")
		}
		if w.phase < turning && w.paused {
			tell(resume, "a person resumes it")
		}
		if w.phase == inMoves {
			tell(turn, "a person aborts it")
		}
	}
	if w.phase >= givingUp || w.live.act != idle && w.zombie.act != idle {
		return
	}
	next := w
	next.asked = true
	if next.live.act != idle {
		next.zombie, next.live = next.live, attempt{} // whoever waits for it, it may go on
	}
	next.phase = turning
	if w.phase == inQueue {
		next.phase = givingUp
	}
	yield("a person cancels it", next)
}
