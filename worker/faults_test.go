package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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
		return string(w.strategy) + "-transfer"
	}
	return string(w.strategy)
}

// everyTravel is by each strategy, within a memory and to another.
func everyTravel() (ways []travel) {
	for _, strategy := range resilience.Strategies() {
		ways = append(ways, travel{strategy, false}, travel{strategy, true})
	}
	return ways
}

// TestFault13CrashesOfAllProcesses lets each server fail in the middle of a migration, and
// of its undo: 13 is Postgres, 14 a worker that wakes up from the dead, 15
// Temporal, 9 a worker that is killed, 24 a session of Postgres for want of memory.
func TestFault13CrashesOfAllProcesses(t *testing.T) {
	t.Parallel()
	for name, transfer := range map[string]bool{"renames": false, "transfers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faultsOfProcesses(t, transfer)
		})
	}
}

// faultsOfProcesses are tried on the strategies of many batches, and on that of one,
// which is over before anything can be killed, unless it is held open. In the quick form
// renames and transfers take turns, and each fault strikes one strategy.
func faultsOfProcesses(t *testing.T, transfer bool) {
	rows := 20_000
	if transfer {
		rows = 8_000 // each is written, compared and taken away
	}
	if testing.Short() {
		rows = 3_000
	}
	r := newRig(t, rows)
	for n, fault := range []struct {
		name    string
		do      func()
		commits bool // what is struck is not needed to commit a batch
	}{
		{"09-worker-killed", r.killWorker, false},
		{"13-postgres-crashes", r.killPostgres, false},
		{"14-worker-frozen", r.freezeWorker, false},
		{"15-temporal-killed", r.killTemporal, true},
		{"24-backend-killed", r.killBackend, false},
	} {
		undone := n%2 == 1
		if testing.Short() && undone != transfer {
			continue
		}
		for m, strategy := range []resilience.Strategy{resilience.Batch, resilience.Intelligent, resilience.Immediate, resilience.Gradual} {
			if testing.Short() && m != n/2 {
				continue
			}
			way := travel{strategy, transfer}
			id := "m-" + fault.name + "-" + way.String()
			survives := func() { r.survives(id, way, fault.do) }
			turnsBack := func() {
				far := r.inside
				if transfer && (n+m)%2 == 1 {
					far = r.leaving
				}
				r.turnsBack(id+"-aborted", way, far, fault.do)
			}
			if strategy == resilience.Immediate {
				survives = func() { r.insideOneBatch(id, way, fault.do, fault.commits) }
				turnsBack = func() { r.turnsBackInOneBatch(id+"-aborted", way, fault.do) }
			}
			if !testing.Short() || !undone {
				survives()
			}
			if !testing.Short() || undone {
				turnsBack()
			}
		}
	}
	r.quiet()
	r.conserved("a")
	require.NotZero(t, r.reads.Load())
	require.NotZero(t, r.writes.Load())
}

// TestFault15TemporalIsAwayForTwoMinutes: without it a worker ends what it has in its
// hands, and does no more, nor gives up; the application notices nothing.
func TestFault15TemporalIsAwayForTwoMinutes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("two minutes are what it is about; in the quick form TestFault13CrashesOfAllProcesses has Temporal away for a moment")
	}
	for _, way := range everyTravel() {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 8_000)
			id := "m-" + way.String()
			served := func() {
				before := r.reads.Load()
				<-time.After(2 * time.Minute)
				require.Greater(t, r.reads.Load(), before)
			}
			if way.strategy == resilience.Immediate {
				r.insideOneBatch(id, way, func() { r.killTemporalFor(served) }, true)
			} else {
				r.departs(id, way, float64(r.rows)/10)
				r.inside(id)
				r.killTemporalFor(func() {
					served()
					at, err := r.store.Watermark(t.Context(), id)
					require.NoError(t, err)
					require.Less(t, at.Last, at.Total, "nobody says that more is to be done")
				})
				r.arrives(id, way)
			}
			r.worker.signal(0) // it is still there
			r.quiet()
			r.conserved("a")
		})
	}
}

// killTemporalFor kills it, and starts it again after something was done.
func (r *rig) killTemporalFor(something func()) {
	r.Helper()
	before := r.struck
	defer func() { r.struck = before }()
	r.struck = func() {
		if before != nil {
			before()
		}
		something()
	}
	r.killTemporal()
}

// survives lets a fault happen in the middle of a migration, and once more while the
// source rows of a transfer leave, and moves the chunks home again.
func (r *rig) survives(id string, way travel, fault func()) {
	r.Helper()
	r.departs(id, way, r.slowly())
	r.inside(id)
	fault()
	if way.transfer {
		r.leaving(id)
		fault()
	}
	r.arrives(id, way)
}

// arrives waits for the end of a migration, and moves the chunks home again.
func (r *rig) arrives(id string, way travel) {
	r.Helper()
	plan := r.ends(id)
	require.Equal(r, resilience.Completed, plan.Status, "%s: %s", id, plan.Reason)
	require.EqualValues(r, r.rows, plan.Moved, id)
	inGroups(r.T, r.store, id, way.strategy)
	if way.transfer {
		r.conserved("a")
		r.departs(id+"-home", travel{resilience.Immediate, true}, 0)
	} else {
		r.conserved("b")
		r.migrate(id+"-home", resilience.Immediate, "b", "a", 0)
	}
	require.Equal(r, resilience.Completed, r.ends(id+"-home").Status, id)
	r.conserved("a")
}

// turnsBack lets a fault happen while a migration that was aborted when it had come so
// far goes back.
func (r *rig) turnsBack(id string, way travel, far func(id string), fault func()) {
	r.Helper()
	r.departs(id, way, r.slowly())
	far(id)
	r.abort(id)
	fault()
	require.Equal(r, resilience.RolledBack, r.ends(id).Status, id)
	inGroups(r.T, r.store, id, way.strategy)
	r.settles(id)
	r.conserved("a")
}

// slowly is the rate at which a migration takes four seconds and more.
func (r *rig) slowly() float64 { return float64(r.rows) / 4 }

// departs starts a migration, 0 being no bound on its rate: from a to b, or from the
// memory the chunks are in to the other one.
func (r *rig) departs(id string, way travel, rate float64) {
	r.Helper()
	if !way.transfer {
		r.migrate(id, way.strategy, "a", "b", rate)
		return
	}
	in := r.ordered(id, rate)
	soak := resilience.Seconds(0)
	in.TransferOrder = resilience.TransferOrder{To: "archive", Soak: &soak}
	var dir string
	if in.Memory, dir = r.home(); in.Memory == "archive" {
		in.TransferOrder.To = "docs"
	}
	if way.strategy == resilience.Intelligent { // of a whole memory, what lies in one directory is one group
		in.TransferOrder.Prefix = dir
	}
	r.start(id, way.strategy, in)
}

// heldOpen is the advisory lock that one row of a batch waits for.
const heldOpen = 42

// openBatch starts a migration whose only batch moves or copies some of its rows and
// then waits, for as long as it takes, until it is let go.
func (r *rig) openBatch(id string, way travel) (letGo func()) {
	r.Helper()
	passing := `UPDATE ON rehome.chunks FOR EACH ROW WHEN (OLD.ordinal = %d AND OLD.path LIKE 'a/%%' AND NEW.path LIKE 'b/%%')`
	if way.transfer {
		passing = `INSERT ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = %d)`
	}
	r.tell(fmt.Sprintf(`CREATE OR REPLACE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = '50s' AS $$ BEGIN
		PERFORM pg_advisory_xact_lock_shared(%d); RETURN NEW; END $$`, heldOpen))
	r.tell(fmt.Sprintf(`CREATE OR REPLACE TRIGGER gate BEFORE `+passing+` EXECUTE FUNCTION public.gate()`, r.rows))
	holder, err := pgx.Connect(context.Background(), r.database)
	require.NoError(r, err)
	letGo = func() { _ = holder.Close(context.Background()) } // it may have gone with Postgres
	r.Cleanup(letGo)
	_, err = holder.Exec(context.Background(), `SELECT pg_advisory_lock($1)`, heldOpen)
	require.NoError(r, err)
	r.departs(id, way, 0)
	require.Eventually(r, func() bool {
		var waits bool
		err := r.pool.QueryRow(context.Background(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted)`, heldOpen).Scan(&waits)
		return err == nil && waits
	}, patience, 5*time.Millisecond)
	at, err := r.store.Watermark(context.Background(), id)
	require.NoError(r, err)
	require.Zero(r, at.Last)
	require.EqualValues(r, r.rows, at.Total)
	return letGo
}

// insideOneBatch lets a fault happen in the only batch of a migration, which goes on
// while what was struck is away. Where it can, it commits then, and nobody hears of it.
func (r *rig) insideOneBatch(id string, way travel, fault func(), commits bool) {
	r.Helper()
	letGo := r.openBatch(id, way)
	r.struck = func() {
		letGo()
		if commits {
			r.when(id, func(at resilience.Watermark) bool { return at.Last == at.Total })
		}
	}
	fault()
	r.struck = nil
	r.arrives(id, way)
	r.tell(`DROP TRIGGER gate ON rehome.chunks`)
}

// turnsBackInOneBatch aborts a migration whose only batch is open, and lets the fault
// happen then.
func (r *rig) turnsBackInOneBatch(id string, way travel, fault func()) {
	r.Helper()
	r.struck = r.openBatch(id, way)
	r.abort(id)
	fault()
	r.struck = nil
	require.Equal(r, resilience.RolledBack, r.ends(id).Status, id)
	r.tell(`DROP TRIGGER gate ON rehome.chunks`)
	r.conserved("a")
}

// tell changes what the table is like.
func (r *rig) tell(statement string) {
	r.Helper()
	r.insist("change the table", func(ctx context.Context) error {
		_, err := r.pool.Exec(ctx, statement)
		return err
	})
}
