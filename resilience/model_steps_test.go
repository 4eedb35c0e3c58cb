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
