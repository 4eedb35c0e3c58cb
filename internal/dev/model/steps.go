package model

import (
	"fmt"

	"rehome/resilience"
)

// each yields what may happen next.
func (m *Model) each(w world, yield func(event, world)) {
	m.application(w, yield)
	m.attempts(w, yield)
	if w.live.Act == None {
		m.run(w, yield)
	}
	m.operator(w, yield)
}

func (m *Model) application(w world, yield func(event, world)) {
	if w.left.Writes == 0 {
		return
	}
	for i, r := range w.rows {
		if r.placed {
			continue
		}
		is := w.Rows[i].Is
		for _, to := range []Place{AtOld, AtNew, Elsewhere, Gone} {
			if to == AtNew && is != AtOld || to == AtOld && is != AtNew {
				continue
			}
			next := w
			next.left.Writes--
			next.Rows[i].Is = to
			next.rows[i].placed, next.rows[i].should = true, to
			next.rows[i].back = to == AtOld && !w.looked
			yield(event{what: fmt.Sprintf("the application puts row %d at %d", i+1, to)}, next)
		}
	}
}

// attempts lets what is in flight have its effect, or come to grief.
func (m *Model) attempts(w world, yield func(event, world)) {
	if w.live.Act != None {
		after := w
		after.live = Attempt{}
		m.attempt(w.live, after, after, yield)
	}
	if w.told.Act != None {
		done := w
		done.told = Attempt{}
		m.attempt(w.told, done, w, yield) // which is tried again
	}
	if w.zombie.Act != None {
		next := w
		next.zombie = Attempt{}
		yield(event{of: w.zombie, what: ", given up, dies"}, next)
		ok := m.effect(&next, w.zombie)
		yield(event{w.zombie, ", given up, is done", true, !ok}, next)
	}
}

// attempt yields what becomes of one: done is the world when it is heard of, lost
// the world when it is not.
func (m *Model) attempt(a Attempt, done, lost world, yield func(event, world)) {
	ok := m.effect(&done, a)
	if ok {
		done.heard(a)
	} else {
		m.refused(&done, a)
	}
	yield(event{a, " is done", true, !ok}, done)
	if lost.left.Faults == 0 {
		return
	}
	lost.left.Faults--
	yield(event{of: a, what: " crashes"}, lost)
	unknown := lost
	ok = m.effect(&unknown, a)
	yield(event{a, " is done and its answer is lost", true, !ok}, unknown)
	if lost.zombie.Act == None {
		lost.zombie = a
		yield(event{of: a, what: " is given up and goes on"}, lost)
	}
}

// heard is what the run, or whoever waits for an order, does after an attempt.
func (w *world) heard(a Attempt) {
	switch a.Act {
	case Begin:
		w.phase = inMoves
	case Apply:
		w.arrived = w.arrived || w.Last == Rows && w.Wish == resilience.WishRun
		w.paused = w.paused || w.Wish == resilience.WishPause && w.told.Act == None // nobody told the run
	case Verify:
		w.verified, w.looked = true, true
	case Switch:
		w.phase = inCompletion
	case Complete, CancelPlan, EndUndo:
		w.phase = ended
	case Pause:
		if w.paused = w.phase != inHalt; !w.paused { // nobody resumes it before the group is back
			w.phase = inGroup
		}
	case Resume:
		w.paused, w.arrived, w.verified = false, false, false // it looks again
	case BeginUndo:
		if w.phase == turning {
			w.phase, w.backs, w.home, w.mine = inUndo, false, false, w.Epoch
		}
	case UndoSwitch:
		w.backs = true
	case VerifyUndo:
		w.home = true
	case None, Revert, PutBack: // the watermark says it
	}
}

// refused is what the run does after an attempt that no retry mends.
func (m *Model) refused(w *world, a Attempt) {
	switch a.Act {
	case Pause, Resume: // whoever gave the order is told
		if w.phase == inHalt {
			w.phase = turning
		}
	case Switch, Complete:
		if w.paused = w.Status == resilience.Paused && !m.holds(ByHeed, false); !w.paused {
			w.phase = turning
		}
	case Verify:
		w.phase, w.asked = turning, true
	case BeginUndo:
		if w.phase == turning { // it is over already
			w.phase = ended
		}
	case UndoSwitch, VerifyUndo, EndUndo:
		m.wrong = "an undo cannot go on: " + a.String()
	case None, Begin, Apply, Revert, PutBack, CancelPlan:
		w.phase = turning
	}
}

// run is what the workflow does next.
func (m *Model) run(w world, yield func(event, world)) {
	order := func(a Act) {
		next := w
		next.live = Attempt{Act: a}
		if a.marked() {
			next.live.Last, next.live.Epoch = w.Last, w.mine
		}
		yield(event{of: next.live, what: " is ordered by the run"}, next)
	}
	switch w.phase {
	case inQueue:
		order(Begin)
	case inMoves:
		m.move(w, order, yield)
	case inHalt:
		order(Pause)
	case inGroup:
		m.putBack(w, order, yield)
	case inSwitch:
		if !w.paused {
			order(Switch)
		}
	case inCompletion:
		if !w.paused {
			order(Complete)
		}
	case givingUp:
		order(CancelPlan)
	case turning:
		order(BeginUndo)
	case inUndo:
		m.undo(w, order, yield)
	case ended:
	}
}

// move is what the run does while it moves rows.
func (m *Model) move(w world, order func(Act), yield func(event, world)) {
	next := w
	switch {
	case w.asked || w.Epoch != w.mine:
		next.phase = turning
		yield(event{what: "the run finds the plan turned round"}, next)
	case w.arrived && !w.verified && !m.holds(ByVerifier, false):
		order(Verify)
	case w.arrived:
		if m.holds(ByPause, !w.paused && w.told.Act == None) {
			next.phase = inSwitch
			yield(event{what: "the run goes on to the aliases"}, next)
		}
	case !w.paused:
		order(Apply)
		if w.left.Fails > 0 && w.Last > 0 {
			next.phase, next.left.Fails = inHalt, w.left.Fails-1
			yield(event{what: "a batch fails for good"}, next)
		}
	}
}

// putBack is what the run does while the group in work goes back. Where a resume was on
// its way, the plan goes on from where it is.
func (m *Model) putBack(w world, order func(Act), yield func(event, world)) {
	switch {
	case w.asked || w.Epoch != w.mine:
		w.phase = turning
		yield(event{what: "the run finds the plan turned round"}, w)
	case w.Last > 0 && w.Wish != resilience.WishRun:
		order(PutBack)
	default:
		w.phase, w.paused = inMoves, w.Wish == resilience.WishPause
		yield(event{what: "the group is back, or the plan goes on"}, w)
	}
}

// undo is what the run does once the plan is turned round.
func (m *Model) undo(w world, order func(Act), yield func(event, world)) {
	switch {
	case !w.backs:
		order(UndoSwitch)
	case w.Last > 0 && w.Epoch != w.mine:
		m.wrong = "an undo is fenced off"
		yield(event{what: "nothing moves"}, w)
	case w.Last > 0:
		order(Revert)
	case !w.home:
		order(VerifyUndo)
	default:
		order(EndUndo)
	}
}

// operator pauses, resumes, aborts and cancels.
func (m *Model) operator(w world, yield func(event, world)) {
	tell := func(a Act, what string) {
		next := w
		next.told.Act = a
		if a == Pause {
			next.left.Pauses--
		}
		next.asked = w.asked || a == BeginUndo
		yield(event{what: what}, next)
	}
	if w.told.Act == None && !w.asked {
		if w.phase == inMoves && !w.paused && w.left.Pauses > 0 {
			tell(Pause, "a person pauses it")
		}
		if w.phase < turning && w.paused {
			tell(Resume, "a person resumes it")
		}
		if w.phase == inMoves {
			tell(BeginUndo, "a person aborts it")
		}
	}
	if w.phase >= givingUp || w.live.Act != None && w.zombie.Act != None {
		return
	}
	next := w
	next.asked = true
	if next.live.Act != None {
		next.zombie, next.live = next.live, Attempt{} // whoever waits for it, it may go on
	}
	next.phase = turning
	if w.phase == inQueue {
		next.phase = givingUp
	}
	yield(event{what: "a person cancels it"}, next)
}
