package workflows_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/internal/dev/workertest"
	"rehome/resilience"
	"rehome/workflows"
)

// TestFault01OfTwoStartsOneWins: the other is told who owns the chunks.
func TestFault01OfTwoStartsOneWins(t *testing.T) {
	t.Parallel()
	eachWay(t, 1, func(j *journey) {
		g := j.shut(away)
		runs := map[string]client.WorkflowRun{}
		answers := make(chan string, 2)
		for _, id := range []string{"m-one", "m-two"} {
			runs[id] = j.start(workflows.MigrateID(j.installation.id, "docs", id), workflows.MigrateName(j.way.strategy), j.input(id))
			go func() {
				if runs[id].Get(context.WithoutCancel(t.Context()), nil) != nil {
					answers <- id
				} else {
					answers <- ""
				}
			}()
		}
		lost := <-answers // while the other waits at the gate
		require.NotEmpty(j, lost, "nobody was refused")
		for id := range runs {
			if id != lost {
				j.id, j.run = id, runs[id]
			}
		}
		require.ErrorContains(j, runs[lost].Get(t.Context(), nil), j.id, "the owner is named")
		g.waiting()
		g.open()
		j.thereAndBack()
	})
}

// TestFault16AnotherWorkerGoesOn: the next worker knows the run from its history
// alone, as one of a new version does.
func TestFault16AnotherWorkerGoesOn(t *testing.T) {
	t.Parallel()
	for _, w := range waysFor(16) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			j := newIdleJourney(t, w)
			g := j.shut(away)
			t.Run("the first worker", func(t *testing.T) {
				workertest.Start(t, j.pool.Config().ConnString(), j.temporal)
				j.depart()
				g.waiting()
			})
			workertest.Start(t, j.pool.Config().ConnString(), j.temporal)
			g.waiting()
			g.open()
			j.thereAndBack()
		})
	}
}

// TestFault17OrdersThatComeWhileARunIsReplacedAreNotLost: another strategy takes
// the plan over, in a run of its own, while orders come in.
func TestFault17OrdersThatComeWhileARunIsReplacedAreNotLost(t *testing.T) {
	t.Parallel()
	eachWay(t, 17, func(j *journey) {
		g := j.shut(away)
		j.depart()
		g.waiting()
		_, err := j.update(j.run, workflows.PauseUpdate, workflows.Order{Author: "ana"})
		require.NoError(j, err)
		g.open()
		next := resilience.Batch
		if j.way.strategy == resilience.Batch {
			next = resilience.Gradual
		}
		_, err = j.update(j.run, workflows.StrategyUpdate, workflows.NewStrategy{Strategy: next, Author: "ana"})
		require.NoError(j, err)
		paces, lost := 12, make(chan error, 12)
		for n := range paces {
			go func() {
				_, err := j.update(j.run, workflows.ThrottleUpdate, resilience.Pace{Rate: new(0.0), BatchSize: new(30 + n), Author: fmt.Sprint("ana ", n)})
				lost <- err
			}()
		}
		for range paces {
			require.NoError(j, <-lost)
		}
		_, err = j.update(j.run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
		require.NoError(j, err)
		j.run = j.temporal.GetWorkflow(t.Context(), j.run.GetID(), "")
		plan := j.completes()
		require.Equal(j, next, plan.Strategy)
		for n := range paces { // one that crosses the change may be recorded twice
			require.NotZero(j, j.happened(j.id, fmt.Sprint("throttled ana ", n)))
		}
	})
}

// happened counts the events of a plan, by what happened or with who did it.
func (j *journey) happened(id, what string) (n int) {
	j.Helper()
	events, err := j.store.Events(j.Context(), id)
	require.NoError(j, err)
	for _, e := range events {
		if e.What == what || e.What+" "+e.Author == what {
			n++
		}
	}
	return n
}

// TestFault27PausesAreInForceAtOnce pauses and resumes again and again while a
// batch is in work: what was in work when it paused is the last that moves.
func TestFault27PausesAreInForceAtOnce(t *testing.T) {
	t.Parallel()
	eachWay(t, 27, func(j *journey) {
		rounds := 30
		if !testing.Short() && (j.way.name == "batch" || j.way.name == "gradual") {
			rounds = 500 // pauses, and as many resumes: more than one history holds
		}
		g := j.shut(away)
		j.depart()
		g.waiting()
		for n := range rounds {
			_, err := j.update(j.run, workflows.PauseUpdate, workflows.Order{Author: "ana"})
			require.NoError(j, err, n)
			if n == 0 {
				require.Equal(j, resilience.Paused, j.plan(j.id).Status)
			}
			_, err = j.update(j.run, workflows.ResumeUpdate, workflows.Order{Author: "ben"})
			require.NoError(j, err, n)
		}
		_, err := j.update(j.run, workflows.PauseUpdate, workflows.Order{Author: "ana"})
		require.NoError(j, err)
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE ordinal = $1 AND path LIKE 'guide/%'`, middle), "nothing passed the gate")
		before := j.watermark()
		g.open()
		require.Eventually(j, func() bool { return j.number(idle) == 0 }, patience, tick)
		paused := j.watermark()
		if j.way.strategy == resilience.Batch || j.way.strategy == resilience.Gradual {
			require.LessOrEqual(j, paused-before, int64(batchOfAJourney), "no batch began after that")
		}
		_, err = j.update(j.run, workflows.PauseUpdate, workflows.Order{})
		require.ErrorContains(j, err, "paused already")
		require.Equal(j, paused, j.watermark(), "a paused plan moves nothing")
		_, err = j.update(j.run, workflows.ResumeUpdate, workflows.Order{Author: "ben"})
		require.NoError(j, err)
		j.run = j.temporal.GetWorkflow(t.Context(), j.run.GetID(), "")
		j.thereAndBack()
		require.Equal(j, rounds+1, j.happened(j.id, "paused"))
	})
}

// idle counts the sessions in which a batch runs.
const idle = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7105 AND objsubid = 2
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

func (j *journey) watermark() int64 {
	j.Helper()
	at, err := j.store.Watermark(j.Context(), j.id)
	require.NoError(j, err)
	return at.Last
}

// TestFault28CancelAnywhere cancels and aborts in the moves, while the source rows of
// a transfer leave, while switching, and while it is being undone already.
func TestFault28CancelAnywhere(t *testing.T) {
	t.Parallel()
	eachWay(t, 28, func(j *journey) {
		stops := []func(){
			func() { require.NoError(j, j.temporal.CancelWorkflow(t.Context(), j.run.GetID(), "")) },
			func() {
				_, err := j.update(j.run, workflows.AbortUpdate, workflows.Order{Author: "ana", Reason: "a test"})
				require.NoError(j, err)
			},
		}
		// In a batch, and once more while it goes back.
		inBatch := func(lock int, stop func()) {
			g := j.shut(lock)
			j.depart()
			g.waiting()
			stop()
			_ = j.temporal.CancelWorkflow(t.Context(), j.run.GetID(), "") // it may have ended
			g.open()
			j.fails()
		}
		for _, stop := range stops {
			inBatch(away, stop)

			// While switching.
			g := j.shut(away)
			j.depart()
			g.waiting()
			aliases := j.session() // planning may read them, too
			_, err := aliases.Exec(t.Context(), `LOCK TABLE rehome.version_aliases`)
			require.NoError(j, err)
			g.open()
			j.stuckAt("rehome.version_aliases")
			stop()
			require.Eventually(j, func() bool { return j.plan(j.id).Status == resilience.RollingBack }, patience, tick, "it does not wait for the switch")
			require.NoError(j, aliases.Rollback(t.Context()))
			require.NotEmpty(j, j.fails())
		}
		if !j.way.transfer {
			return
		}
		j.quiet() // copies that are written to once their rows have left stay, and take the place of the next
		for _, stop := range stops {
			inBatch(leave, stop)
		}
	})
}

// TestFault29AThrottleExpires: a pace at which it would take for ever ends when
// it was said to. What moves at once has none.
func TestFault29AThrottleExpires(t *testing.T) {
	t.Parallel()
	eachWay(t, 29, func(j *journey) {
		g := j.shut(away)
		j.depart()
		g.waiting()
		ordered := time.Now()
		_, err := j.update(j.run, workflows.ThrottleUpdate, resilience.Pace{Rate: new(0.001), Author: "ana", Expires: 4})
		atOnce := j.way.strategy == resilience.Immediate
		if atOnce {
			require.ErrorContains(j, err, "is not throttled")
		} else {
			require.NoError(j, err)
		}
		g.open()
		j.completes()
		if !atOnce {
			require.Greater(j, time.Since(ordered), 4*time.Second, "it was in force until then")
		}
		j.goesHome()
		j.returned()
	})
}

// TestFault33ACrashInTheSwitch: its connection is ended before, inside and after
// the transaction; both paths lead to the chunk, whichever side it is on.
func TestFault33ACrashInTheSwitch(t *testing.T) {
	t.Parallel()
	eachWay(t, 33, func(j *journey) {
		for _, step := range []string{"SwitchAliases", "SwitchReferences"} {
			j.faults.inject(step, fault{times: 1, err: errLost})
		}
		aliases := j.session()
		_, err := aliases.Exec(t.Context(), `LOCK TABLE rehome.version_aliases IN SHARE MODE`) // readers go on
		require.NoError(j, err)
		j.depart()
		for range 2 {
			pid := j.stuckAt("rehome.version_aliases")
			if !j.way.transfer {
				require.Equal(j, "guide/f00.md", j.resolves("guide/f00.md"), "nothing is half switched")
			}
			j.exec(`SELECT pg_terminate_backend($1, 5000)`, pid)
		}
		for _, step := range []string{"SwitchAliases", "SwitchReferences"} {
			j.faults.inject(step, fault{after: true, times: 1, err: errLost})
		}
		require.NoError(j, aliases.Rollback(t.Context()))
		j.completes()
		if !j.way.transfer {
			require.Equal(j, "manual/f00.md", j.resolves("guide/f00.md"))
			require.Equal(j, "manual/f00.md", j.resolves("manual/f00.md"))
		}
		j.goesHome()
		j.returned()
		require.Equal(j, "guide/f00.md", j.resolves("guide/f00.md"))
	})
}

// resolves asks as an application does that only reads.
func (j *journey) resolves(path string) (now string) {
	j.Helper()
	require.NoError(j, j.pool.QueryRow(j.Context(), `SELECT rehome.current_path('docs', $1)`, path).Scan(&now))
	return now
}

// TestFault34ATransactionThatIsOpenAcrossTheSwitch sees what it saw, and what it
// wrote is not lost: it stays where it was written.
func TestFault34ATransactionThatIsOpenAcrossTheSwitch(t *testing.T) {
	t.Parallel()
	eachWay(t, 34, func(j *journey) {
		open := j.session()
		_, err := open.Exec(t.Context(), `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`)
		require.NoError(j, err)
		_, err = open.Exec(t.Context(), `INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'guide/f00.md', 500, 'late')`)
		require.NoError(j, err)
		j.depart()
		j.completes()
		var seen int
		require.NoError(j, open.QueryRow(t.Context(), `SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND starts_with(path, 'guide/')`).Scan(&seen))
		require.Equal(j, travellers+1, seen)
		require.NoError(j, open.Commit(t.Context()))
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND starts_with(path, 'guide/')`))
		j.goesHome()
		j.returned()
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND path = 'guide/f00.md' AND content = 'late'`))
	})
}

// TestFault35AnUndoIsFinishedWhateverFails: each compensation fails, and loses
// its answer, and the connection of one is ended.
func TestFault35AnUndoIsFinishedWhateverFails(t *testing.T) {
	t.Parallel()
	eachWay(t, 35, func(j *journey) {
		j.faults.inject("CompleteMigration", fault{times: 1})
		for n, undo := range []string{"BeginUndo", "UndoSwitchAliases", "UndoSwitchReferences", "UnretireSlice", "RevertSlice", "EndUndo", "VerifyUndo"} {
			j.faults.inject(undo, fault{times: 2, after: n%2 == 0, err: errLost})
		}
		g := j.shut(home)
		j.depart()
		g.end()
		g.waiting()
		g.open()
		require.Equal(j, "Injected", ends(t, j.run, nil))
		j.fails()
		require.Equal(j, 1, j.happened(j.id, "rolled back"))
	})
}
