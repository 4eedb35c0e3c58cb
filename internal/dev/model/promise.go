package model

import (
	"fmt"

	"rehome/resilience"
)

// effect is the transaction of an attempt, and reports whether it was not refused.
func (m *Model) effect(w *world, a Attempt) bool {
	before := w.Database
	after, ok := m.transact(before, a)
	if broken := breach(before, a, after); broken != "" {
		m.wrong = broken + ": " + a.String()
	}
	w.Database = after
	w.note(before)
	return ok
}

// breach says what a transaction did that none may, empty when it did nothing such.
func breach(before Database, a Attempt, after Database) string {
	switch {
	case before == after:
		return ""
	case before.Status.Ended():
		return "a plan that has ended was changed"
	case before.Last != after.Last && before.Epoch != a.Epoch:
		return "an attempt of an older epoch wrote"
	case before.Last < after.Last && before.Status == resilience.Paused:
		return "rows moved during a pause"
	}
	return ""
}

// note keeps account of what a transaction did to the rows.
func (w *world) note(before Database) {
	for i := range w.rows {
		was, is, r := before.Rows[i], w.Rows[i], &w.rows[i]
		returned := w.Last <= int8(i) && int8(i) < before.Last
		switch moved := is.Is != was.Is; {
		case moved && is.Is == AtNew:
			r.moves++
		case moved:
			r.moves--
		case is.Is != AtNew && (returned || is != was): // if it moved, the application took it from there
			r.moves = 0
		}
		if is.Is != was.Is && r.should == AtOld { // what is put at the old path is taken along
			r.placed, r.back = false, false
		}
	}
}

// promise says what is broken at an end, empty when nothing is.
func promise(w world) string {
	switch w.Status {
	case resilience.Completed:
		if !w.Switched {
			return "completed, and its aliases are not switched"
		}
		for i, r := range w.rows {
			has := w.Rows[i]
			if (r.moves == 1) == has.Skipped || r.moves > 1 {
				return fmt.Sprintf("completed, and row %d moved %d times, exception %v", i+1, r.moves, has.Skipped)
			}
			if has.Left {
				return fmt.Sprintf("completed, and row %d is listed as not moved back", i+1)
			}
			if r.back {
				return fmt.Sprintf("completed, and row %d was back where it came from", i+1)
			}
			if want := r.belongs(AtNew); has.Is != want {
				return fmt.Sprintf("completed, and row %d is at %d, not %d", i+1, has.Is, want)
			}
		}
	case resilience.RolledBack, resilience.Cancelled:
		if w.Switched {
			return string(w.Status) + ", and its aliases are switched"
		}
		if !w.asked {
			return string(w.Status) + ", and nobody wanted it"
		}
		for i, r := range w.rows {
			if want := r.belongs(AtOld); w.Rows[i].Is != want {
				return fmt.Sprintf("%s, and row %d is at %d, not %d", w.Status, i+1, w.Rows[i].Is, want)
			}
		}
	default:
		return "ended as " + string(w.Status)
	}
	return ""
}

// belongs is where a row has to be: where the application put it, if it did.
func (r row) belongs(otherwise Place) Place {
	if r.placed {
		return r.should
	}
	return otherwise
}
