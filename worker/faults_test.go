package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// travel is how the chunks go: by a strategy, or to the other memory.
type travel struct {
	strategy resilience.Strategy
	transfer bool
}

func (w travel) String() string {
	if w.transfer {
		return "transfer"
	}
	return string(w.strategy)
}

// travels are all ways; immediate has one batch, which most of the time is over
// before anything can be killed.
func travels() []travel {
	return []travel{{resilience.Batch, false}, {resilience.Batch, true}, {resilience.Intelligent, false}, {resilience.Gradual, false}}
}

// TestFaultsOfProcesses lets each server fail in the middle of a migration, and
// of its undo: 13 is Postgres, 14 a worker that wakes up from the dead, 15
// Temporal, 9 a worker that is killed.
func TestFaultsOfProcesses(t *testing.T) {
	t.Parallel()
	rows := 20_000
	if testing.Short() {
		rows = 3_000
	}
	r := newRig(t, rows)
	for n, fault := range []struct {
		name string
		do   func()
	}{
		{"09-worker-killed", r.killWorker},
		{"13-postgres-crashes", r.killPostgres},
		{"14-worker-frozen", r.freezeWorker},
		{"15-temporal-killed", r.killTemporal},
	} {
		for m, way := range travels() {
			if testing.Short() && m != n {
				continue
			}
			id := "m-" + fault.name + "-" + way.String()
			if !testing.Short() || n%2 == 0 {
				r.survives(id, way, fault.do)
			}
			if !testing.Short() || n%2 == 1 {
				r.turnsBack(id+"-aborted", way, fault.do)
			}
		}
	}
	r.quiet()
	r.conserved("a")
	require.NotZero(t, r.reads.Load())
	require.NotZero(t, r.writes.Load())
}

// survives lets a fault happen in the middle of a migration, and moves the
// chunks home again.
func (r *rig) survives(id string, way travel, fault func()) {
	r.Helper()
	r.departs(id, way)
	r.inside(id)
	fault()
	plan := r.ends(id)
	require.Equal(r, resilience.Completed, plan.Status, "%s: %s", id, plan.Reason)
	require.EqualValues(r, r.rows, plan.Moved, id)
	if way.transfer {
		r.conserved("a")
		r.departs(id+"-home", way)
	} else {
		r.conserved("b")
		r.migrate(id+"-home", resilience.Immediate, "b", "a", 0)
	}
	require.Equal(r, resilience.Completed, r.ends(id+"-home").Status, id)
	r.conserved("a")
}

// turnsBack lets a fault happen while a migration that was aborted goes back.
func (r *rig) turnsBack(id string, way travel, fault func()) {
	r.Helper()
	r.departs(id, way)
	r.inside(id)
	r.abort(id)
	fault()
	require.Equal(r, resilience.RolledBack, r.ends(id).Status, id)
	r.conserved("a")
}

// departs starts a migration that takes four seconds and more: from a to b, or
// from the memory the chunks are in to the other one.
func (r *rig) departs(id string, way travel) {
	r.Helper()
	rate := float64(r.rows) / 4
	if !way.transfer {
		r.migrate(id, way.strategy, "a", "b", rate)
		return
	}
	from, to := r.memory(), "archive"
	if from == to {
		to = "docs"
	}
	in := r.ordered(id, rate)
	soak := resilience.Seconds(0)
	in.Memory, in.TransferOrder = from, resilience.TransferOrder{To: to, Soak: &soak}
	r.start(id, way.strategy, in)
}
