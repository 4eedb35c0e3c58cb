package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

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
	rate := float64(rows) / 4
	for n, fault := range []struct {
		name string
		do   func()
	}{
		{"09-worker-killed", r.killWorker},
		{"13-postgres-crashes", r.killPostgres},
		{"14-worker-frozen", r.freezeWorker},
		{"15-temporal-killed", r.killTemporal},
	} {
		id := "m-" + fault.name
		if !testing.Short() || n%2 == 0 {
			r.migrate(id, resilience.Batch, "a", "b", rate)
			r.inside(id)
			fault.do()
			require.Equal(t, resilience.Completed, r.ends(id).Status, fault.name)
			r.conserved("b")
			r.migrate(id+"-home", resilience.Immediate, "b", "a", 0)
			require.Equal(t, resilience.Completed, r.ends(id+"-home").Status, fault.name)
		}
		if !testing.Short() || n%2 == 1 {
			id += "-aborted"
			r.migrate(id, resilience.Batch, "a", "c", rate)
			r.inside(id)
			r.abort(id)
			fault.do()
			require.Equal(t, resilience.RolledBack, r.ends(id).Status, fault.name)
		}
		r.conserved("a")
	}
	r.quiet()
	r.conserved("a")
	require.NotZero(t, r.reads.Load())
	require.NotZero(t, r.writes.Load())
}
