package model

import "math/rand/v2"

// event is what happens, to an attempt or by itself.
type event struct {
	of      Attempt
	what    string
	done    bool // the attempt came to the database
	refused bool // which did not take it
}

// String says what happens.
func (e event) String() string {
	if e.of.Act == None {
		return e.what
	}
	return e.of.String() + e.what
}

// transaction is what an event does to the database.
func (e event) transaction(before, after world) Transaction {
	t := Transaction{Refused: e.refused, Before: before.Database, After: after.Database}
	if e.done {
		t.Attempt = e.of
	}
	return t
}

// Transactions explores the model, and lists all the transactions that happen in it, each
// once. A pair of rows that always goes together is seen in one order. In each state of
// the database every act is tried besides, in this epoch and in another, also where the
// application wrote once more to a row that is listed: a guard may stand behind others,
// which keep everybody from coming to it.
func (m *Model) Transactions() []Transaction {
	var all []Transaction
	known, begun := map[Transaction]bool{}, map[Database]bool{}
	add := func(t Transaction) {
		if !known[t] {
			known[t] = true
			all = append(all, t)
		}
	}
	m.explore(func(before world, e event, after world) {
		if e.done {
			add(e.transaction(before, after))
		}
		if begun[before.Database] {
			return
		}
		for _, d := range before.rewritten() {
			if !begun[d] {
				begun[d] = true
				m.everything(d, add)
			}
		}
	})
	return all
}

// rewritten is a state, and those in which a row that is listed is at another place.
func (d Database) rewritten() []Database {
	all := []Database{d}
	for i, r := range d.Rows {
		for to := AtOld; to <= Gone && (r.Skipped || r.Left); to++ {
			next := d
			next.Rows[i].Is = to
			all = append(all, next)
		}
	}
	return all
}

// everything tries every act.
func (m *Model) everything(d Database, add func(Transaction)) {
	for act := Begin; act <= EndUndo; act++ {
		tries := []Attempt{{Act: act}}
		if act.marked() {
			tries = []Attempt{{act, d.Last, d.Epoch}, {act, d.Last, 3 - d.Epoch}}
		}
		for _, a := range tries {
			after, ok := m.transact(d, a)
			add(Transaction{a, !ok, d, after})
		}
	}
}

// Step is one of a walk: a transaction, or something else that happens. What changes the
// database without an act is a write of the application.
type Step struct {
	What string
	Transaction
}

// Walk goes one way at random, until nothing can happen any more, and says which promise
// was broken on it, empty when none was. One time in three something happens that need
// not: else the plan would seldom get far.
func (m *Model) Walk(chance *rand.Rand) (steps []Step, broken string) {
	for w := m.start; ; {
		var goesOn, mayBe []walked
		m.each(w, func(e event, next world) {
			way := walked{Step{e.String(), e.transaction(w, next)}, next}
			if next.left != w.left || next.asked != w.asked {
				mayBe = append(mayBe, way)
			} else {
				goesOn = append(goesOn, way)
			}
		})
		ways := goesOn
		if len(ways) == 0 || len(mayBe) > 0 && chance.IntN(3) == 0 {
			ways = mayBe
		}
		if m.wrong != "" {
			return steps, m.wrong
		}
		if len(ways) == 0 {
			return steps, promise(w)
		}
		way := ways[chance.IntN(len(ways))]
		steps, w = append(steps, way.Step), way.to
	}
}

// walked is a step, and where it leads.
type walked struct {
	Step
	to world
}
