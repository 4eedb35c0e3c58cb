package model

import (
	"fmt"

	"rehome/resilience"
)

// Rows are in the plan, and Batch of them go in one transaction: rows 1 to 3 together,
// and 4 and 5.
const (
	Rows  = 5
	Batch = 3
)

// Place is where a row is.
type Place uint8

// The places.
const (
	AtOld Place = iota
	AtNew
	Elsewhere
	Gone
)

// Row is what the database has of one row of the plan.
type Row struct {
	Is      Place
	Skipped bool // listed as not moved
	Left    bool // listed as not moved back
}

// Database is what the database has of the plan.
type Database struct {
	Status   resilience.Status
	Wish     resilience.Wish
	Last     int8 // the watermark
	Epoch    int8
	Turned   int8 // the watermark when the plan was turned round; 0 before
	Rows     [Rows]Row
	Switched bool // the aliases lead to the new path
}

// Act is what an attempt of an activity, or of an order, is about to do.
type Act uint8

// The acts, by the store's names for them.
const (
	None Act = iota
	Begin
	Apply
	Revert
	PutBack // Revert of the group in work, which is to be tried again
	Verify
	Switch
	Complete
	Pause
	Resume
	CancelPlan
	BeginUndo
	UndoSwitch
	VerifyUndo
	EndUndo
)

// String says what is done.
func (a Act) String() string {
	return []string{
		"nothing", "begin", "apply", "revert", "put the group back", "look at all rows",
		"switch", "complete", "pause", "resume", "cancel the plan", "turn round", "put the aliases back",
		"look whether all are back", "end the undo",
	}[a]
}

// Attempt is one try of an act, with the watermark and the epoch that it goes by.
type Attempt struct {
	Act         Act
	Last, Epoch int8
}

// marked says whether an act goes by a watermark.
func (a Act) marked() bool { return a == Apply || a == Revert || a == PutBack }

// String says what is tried, and from where.
func (a Attempt) String() string {
	if !a.Act.marked() {
		return a.Act.String()
	}
	return fmt.Sprintf("%s from row %d in epoch %d", a.Act, a.Last, a.Epoch)
}

// Transaction is an attempt that came to the database, and what it made of it. One that
// was refused changed nothing.
type Transaction struct {
	Attempt
	Refused       bool
	Before, After Database
}

// transact does what the store's statements do, and says whether they refuse.
func (m *Model) transact(before Database, a Attempt) (Database, bool) {
	after := before
	if !m.do(&after, a) {
		return before, false
	}
	return after, true
}

func (m *Model) do(d *Database, a Attempt) bool {
	switch a.Act {
	case None:
	case Begin:
		return m.become(d, resilience.Executing)
	case Apply:
		m.batch(d, a, m.holds(ByWish, d.Wish == resilience.WishRun) && d.Last < Rows, true)
	case Revert:
		m.batch(d, a, m.holds(ByWish, d.Wish == resilience.WishUndo) && d.Last > 0, false)
	case PutBack:
		if m.batch(d, a, m.holds(ByWish, d.Wish != resilience.WishRun) && d.Last > 0, false) && !m.holds(ByAnew, false) {
			d.forget()
		}
	case Verify:
		return m.verify(d)
	case Switch:
		return m.switchTo(d, true, m.holds(ByStatus, d.Status == resilience.Executing))
	case Complete:
		return d.Last == Rows && m.become(d, resilience.Completed)
	case Pause:
		return m.order(d, resilience.Paused, resilience.WishPause)
	case Resume:
		return m.order(d, resilience.Executing, resilience.WishRun)
	case CancelPlan:
		return m.become(d, resilience.Cancelled)
	case BeginUndo:
		return m.turn(d)
	case UndoSwitch:
		return m.switchTo(d, false, m.holds(ByUndo, d.Status == resilience.RollingBack))
	case VerifyUndo:
		return m.verifyUndo(d)
	case EndUndo:
		return m.holds(ByBottom, d.Last == 0) && m.become(d, resilience.RolledBack)
	}
	return true
}

// become changes the status as the table of legal moves allows.
func (m *Model) become(d *Database, next resilience.Status) bool {
	if d.Status == next {
		return !m.holds(ByAgain, false)
	}
	if !m.holds(ByTable, d.Status.CanBecome(next)) {
		return false
	}
	d.Status = next
	return true
}

// order changes status and wish.
func (m *Model) order(d *Database, next resilience.Status, wish resilience.Wish) bool {
	if !m.become(d, next) {
		return false
	}
	if m.holds(ByRound, d.Wish != resilience.WishUndo) {
		d.Wish = wish
	}
	return true
}

func (m *Model) turn(d *Database) bool {
	if !m.become(d, resilience.RollingBack) {
		return false
	}
	if m.holds(ByTurn, d.Wish != resilience.WishUndo) {
		d.Epoch, d.Wish, d.Turned = d.Epoch+1, resilience.WishUndo, d.Last
	}
	return true
}

func (m *Model) switchTo(d *Database, switched, allowed bool) bool {
	if allowed {
		d.Switched = switched
	}
	return allowed
}

// batch moves rows from one place to the other, lists those that are not there, and
// reports whether it may.
func (m *Model) batch(d *Database, a Attempt, wished, forward bool) bool {
	if !wished || !m.holds(ByWatermark, d.Last == a.Last) || !m.holds(ByEpoch, d.Epoch == a.Epoch) {
		return false
	}
	from, to, low, high := AtOld, AtNew, a.Last, min(d.Last+Batch, Rows)
	if d.Last = high; !forward {
		from, to, low, high = AtNew, AtOld, max(a.Last-Batch, 0), a.Last
		d.Last = low
	}
	for i := low; i < high; i++ {
		r := &d.Rows[i]
		switch {
		case !forward && r.Skipped && !m.holds(BySkipped, false):
		case r.Is != Gone && m.holds(ByPlace, r.Is == from):
			r.Is = to
		case forward:
			r.Skipped = true
		default:
			r.Left = true
		}
	}
	return true
}

// forget drops what is listed of rows that are to be tried again.
func (d *Database) forget() {
	for i := d.Last; i < Rows; i++ {
		d.Rows[i].Skipped, d.Rows[i].Left = false, false
	}
}

// verify lists the rows that the application took from their new place, and refuses
// when one is back where it came from.
func (m *Model) verify(d *Database) bool {
	works := d.Status == resilience.Executing || d.Status == resilience.Paused
	if !m.holds(ByEnd, d.Last == Rows) || !m.holds(ByHold, works) {
		return false
	}
	for i := range d.Rows {
		switch r := &d.Rows[i]; {
		case r.Skipped || r.Is == AtNew:
		case r.Is == AtOld && !m.holds(ByBack, false):
			return false
		default:
			r.Skipped = true
		}
	}
	return true
}

// verifyUndo lists the rows that are not back, of those that the plan had come to.
func (m *Model) verifyUndo(d *Database) bool {
	switch {
	case d.Last != 0:
		return false
	case d.Turned == 0:
		return true
	case !m.holds(ByHold, d.Status == resilience.RollingBack):
		return false
	}
	for i := range d.Turned {
		if r := &d.Rows[i]; r.Is != AtOld && !r.Skipped {
			r.Left = true
		}
	}
	return true
}
