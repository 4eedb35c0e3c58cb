package workflows_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	workflowpb "go.temporal.io/api/workflow/v1"

	"rehome/internal/dev/devtest"
	"rehome/internal/dev/workertest"
	"rehome/resilience"
	"rehome/workflows"
)

var errLost = errors.New("the answer was lost")

func TestFault10AnAnswerThatIsLostMovesNothingTwice(t *testing.T) {
	t.Parallel()
	eachWay(t, 10, func(j *journey) {
		j.counts()
		for _, step := range []string{"MoveSlice", "SweepMigration", "SwitchAliases", "SwitchReferences", "RetireSlice", "CompleteMigration"} {
			j.faults.inject(step, fault{after: true, times: 2, err: errLost})
		}
		j.depart()
		j.completes()
		j.countedOnce()
		j.goesHome()
		j.returned()
	})
}

// counts has every row counted that gets to its new place, or that leaves its memory
// when its copy is there.
func (j *journey) counts() {
	j.Helper()
	j.exec(`CREATE TABLE public.passed (what text, ordinal int)`)
	j.exec(`CREATE FUNCTION public.count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.passed VALUES (TG_OP, CASE TG_OP WHEN 'DELETE' THEN OLD.ordinal ELSE NEW.ordinal END); RETURN NULL; END $$`)
	passes := []string{`UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.path <> OLD.path)`}
	if j.way.transfer {
		passes = []string{`INSERT ON rehome.chunks FOR EACH ROW WHEN (NEW.memory = 'archive')`, `DELETE ON rehome.chunks FOR EACH ROW WHEN (OLD.memory = 'docs')`}
	}
	for n, passing := range passes {
		j.exec(fmt.Sprintf(`CREATE TRIGGER count_%d AFTER %s EXECUTE FUNCTION public.count_it()`, n, passing))
	}
}

// countedOnce checks that every row got there once, and left once.
func (j *journey) countedOnce() {
	j.Helper()
	want := travellers * len(j.way.halts())
	require.Equal(j, []int{want, want}, []int{j.number(`SELECT count(*) FROM public.passed`), j.number(`SELECT count(DISTINCT (what, ordinal)) FROM public.passed`)})
}

// TestFault11ACommitThatIsCutMovesNothingTwice: each step loses the answer to its COMMIT,
// and one that moves rows a COMMIT on its way to Postgres first.
func TestFault11ACommitThatIsCutMovesNothingTwice(t *testing.T) {
	t.Parallel()
	for _, w := range waysFor(11) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			j := newIdleJourney(t, w)
			j.counts()
			cut := devtest.CutCommits(t, j.pool.Config().ConnString())
			workertest.Start(t, cut.URL, j.temporal, j.faults)
			j.cuts(cut, 1, "PlanMigration", "BeginMigration", "SweepMigration", "SwitchAliases", "SwitchReferences", "CompleteMigration")
			j.cuts(cut, 2, "MoveSlice", "RetireSlice")
			j.depart()
			j.completes()
			j.countedOnce()
			j.cuts(cut, 2, "MoveSlice", "RetireSlice")
			j.goesHome()
			j.returned()
			require.Empty(t, cut.Take(), "the last step committed nothing")
		})
	}
}

// cuts has the first COMMIT cut of so many attempts at each step, of the last of them
// after it was done.
func (j *journey) cuts(cut *devtest.Cutter, attempts int, steps ...string) {
	j.Helper()
	for _, step := range steps {
		j.faults.inject(step, fault{times: attempts, meets: func(left int) {
			if unmet := cut.Take(); unmet != "" {
				j.saw("a cut", fmt.Errorf("the step before %s committed nothing that could be cut %s", step, unmet))
			}
			cut.Arm([]devtest.Cut{devtest.AfterCommit, devtest.BeforeCommit}[left])
		}})
	}
}

func TestFault12AConnectionThatIsEndedIsTriedAgain(t *testing.T) {
	t.Parallel()
	eachWay(t, 12, func(j *journey) {
		j.stopped(func(g *gate) {
			for range 2 {
				g.end()
			}
		})
		j.thereAndBack()
	})
}

func TestFault18WhatIsWrittenWhileARowMovesIsKept(t *testing.T) {
	t.Parallel()
	eachWay(t, 18, func(j *journey) {
		j.exec(`UPDATE rehome.chunks SET content = 'edit 1000001' WHERE ordinal = 221`)
		edit := 1000001
		write := func() string { edit++; return fmt.Sprint("edit ", edit) }
		var last string
		j.stopped(func(*gate) {
			last = write()
			j.exec(`UPDATE rehome.chunks SET content = $1 WHERE ordinal IN (89, 222) AND memory = 'docs'`, last)
		})
		j.completes()
		since := write()
		j.exec(`UPDATE rehome.chunks SET content = $1 WHERE ordinal = 223`, since)
		j.goesHome()
		j.returned()
		for row, want := range map[int]string{221: "edit 1000001", 222: last, 223: since} {
			require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE ordinal = $1 AND content = $2`, row, want), want)
		}
	})
}

func TestFault19RowsThatAreDeletedOrPutBackAreAccountedFor(t *testing.T) {
	t.Parallel()
	eachWay(t, 19, func(j *journey) {
		g := j.shut(away)
		j.depart()
		g.waiting()
		j.exec(`DELETE FROM rehome.chunks WHERE ordinal IN (231, 232) AND memory = 'docs'`)
		j.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'guide/used/f11.md', 232, 'edit 1')`)
		planned, outcomes := travellers+1, map[resilience.Outcome]int{resilience.Vanished: 2}
		if !j.way.transfer {
			if j.watermark() > 0 { // one that has moved is made anew, with its id: it goes there once more
				j.exec(fmt.Sprintf(`DO $$ DECLARE r rehome.chunks; BEGIN
					DELETE FROM rehome.chunks WHERE ordinal = %d RETURNING * INTO r; r.path = 'guide/f00.md'; INSERT INTO rehome.chunks OVERRIDING SYSTEM VALUE SELECT r.*; END $$`, remade))
				planned, outcomes[resilience.Drifted] = planned+1, 1
			}
			j.faults.inject("VerifyMigration", fault{times: 1, meets: func(int) { // and one is put back when all have moved
				j.exec(`UPDATE rehome.chunks SET path = 'guide/used/f11.md' WHERE ordinal = 233`)
			}})
			planned, outcomes[resilience.Drifted] = planned+1, outcomes[resilience.Drifted]+1
		}
		g.open()
		plan := j.completes()
		require.EqualValues(j, planned, plan.Moves)
		require.Equal(j, outcomes, j.accounted(j.id))
		require.Zero(j, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND starts_with(path, 'guide/')`))
		j.goesHome()
		require.Equal(j, travellers-1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND starts_with(path, 'guide/')`))
		j.returned(231, 232)
	})
}

func TestFault20ARowThatIsCommittedLateIsTakenAlong(t *testing.T) {
	t.Parallel()
	eachWay(t, 20, func(j *journey) {
		late := j.session()
		_, err := late.Exec(t.Context(), `INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'guide/f00.md', 500, 'late')`)
		require.NoError(j, err)
		j.exec(`UPDATE rehome.chunks SET ordinal = ordinal WHERE ordinal = 1`) // later ones are committed before it
		g := j.shut(away)
		j.depart()
		g.waiting()
		require.NoError(j, late.Commit(t.Context()))
		g.open()
		plan := j.completes()
		require.EqualValues(j, travellers+1, plan.Moved)
		require.Zero(j, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND starts_with(path, 'guide/')`))
		j.goesHome()
		j.returned()
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND path = 'guide/f00.md' AND content = 'late'`))
	})
}

// TestFault21ALockHolderIsWaitedFor: the batch gives up its own locks again and
// again, so that others wait for it for a moment only.
func TestFault21ALockHolderIsWaitedFor(t *testing.T) {
	t.Parallel()
	eachWay(t, 21, func(j *journey) {
		const most = 3 * time.Second // 250 ms, on a busy machine
		j.stopped(func(g *gate) {
			for range 2 {
				began := time.Now()
				j.exec(`UPDATE rehome.chunks SET embedding = embedding WHERE ordinal = $1 AND memory = 'docs'`, middle-1)
				require.Less(j, time.Since(began), most)
				g.waiting()
			}
		})
		j.thereAndBack()
	})
}

// TestFault22ADeadlockLosesNothing: the batch waits for the gate, and its keeper for the
// batch, which is the one that the server ends.
func TestFault22ADeadlockLosesNothing(t *testing.T) {
	t.Parallel()
	for _, w := range waysFor(22) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			j := newIdleJourney(t, w)
			// The server looks before the batch gives up by itself.
			j.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = %L', current_database(), '200ms'); END $$`)
			workertest.Start(t, j.pool.Config().ConnString(), j.temporal, j.faults)
			j.stopped(func(g *gate) {
				for range 10 { // the server looks once: the keeper may have come too late
					g.wantsWhatTheBatchHas()
					if j.deadlocks() > 0 {
						return
					}
					g.waiting()
				}
			})
			require.Eventually(j, func() bool { return j.deadlocks() > 0 }, wait, tick)
			j.thereAndBack()
		})
	}
}

func (j *journey) deadlocks() int {
	j.Helper()
	return j.number(`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)
}

// wantsWhatTheBatchHas lets the keeper of the gate lock all rows but the one that waits
// there, for a moment. It is patient.
func (g *gate) wantsWhatTheBatchHas() {
	g.j.Helper()
	enough := errors.New("enough")
	err := pgx.BeginFunc(g.j.Context(), g.tx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(g.j.Context(), `SET LOCAL deadlock_timeout = '1h'`); err != nil {
			return err
		}
		if _, err := tx.Exec(g.j.Context(), `UPDATE rehome.chunks SET content = content WHERE ordinal <> $1 AND ordinal <= $2 AND memory = 'docs'`, middle, travellers); err != nil {
			return err
		}
		return enough
	})
	require.ErrorIs(g.j, err, enough)
}

func TestFault23APlaceThatIsTakenMeanwhileIsAConflict(t *testing.T) {
	t.Parallel()
	eachWay(t, 23, func(j *journey) {
		j.exec(`CREATE UNIQUE INDEX ON rehome.chunks (memory, path, ordinal)`)
		g := j.shut(away)
		j.depart()
		g.waiting()
		memory, path := "docs", "manual/used/f12.md"
		if j.way.transfer {
			memory, path = "archive", "guide/used/f12.md"
		}
		j.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ($1, $2, 240, 'it came first')`, memory, path)
		g.open()
		j.completes()
		require.Equal(j, map[resilience.Outcome]int{resilience.Clashed: 1}, j.accounted(j.id))
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND path = 'guide/used/f12.md' AND ordinal = 240`), "the row that came second stays")
		j.goesHome()
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = $1 AND path = $2 AND content = 'it came first'`, memory, path))
		j.exec(`DELETE FROM rehome.chunks WHERE content = 'it came first'`)
		j.returned()
	})
}

// TestFault24ABatchThatCannotBeDoneIsWaitedOut: it is tried again and again, says why,
// and goes on when the server can do it.
func TestFault24ABatchThatCannotBeDoneIsWaitedOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trouble string // what the row meets
		says    string
		eases   bool // gradual goes on with fewer rows at once, as far as it gets
	}{
		"the disk is full":           {`RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'`, "No space left on device", false},
		"a statement is out of time": {`PERFORM pg_sleep(60)`, "statement timeout", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachWay(t, 24, func(j *journey) {
				j.exec(`CREATE TABLE public.server (troubled bool); INSERT INTO public.server VALUES (true); CREATE SEQUENCE public.tries`)
				j.exec(`CREATE FUNCTION public.trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					IF (SELECT troubled FROM public.server) THEN PERFORM nextval('public.tries'); ` + c.trouble + `; END IF; RETURN NEW; END $$`)
				j.exec(fmt.Sprintf(`CREATE TRIGGER trouble BEFORE %s ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = %d) EXECUTE FUNCTION public.trouble()`, j.way.write(), middle))
				// A statement of a batch has a minute, which is too long for a test.
				j.exec(`CREATE FUNCTION public.hurry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					IF (SELECT troubled FROM public.server) THEN PERFORM set_config('statement_timeout', '500ms', true); END IF; RETURN NEW; END $$`)
				j.exec(`CREATE TRIGGER hurry BEFORE UPDATE ON rehome.migration_progress FOR EACH ROW EXECUTE FUNCTION public.hurry()`)
				j.departs(func(in *workflows.MigrateInput) {
					if j.way.strategy == resilience.Gradual {
						in.Policy.BatchSize = 0 // what was asked for bounds it from the start
					}
				})
				switch {
				case c.eases && j.way.strategy == resilience.Gradual:
					require.Eventually(j, func() bool {
						return slices.Contains(j.progress(j.run).Facts, workflows.Fact{Name: "Batch size", Value: "20"})
					}, patience, 5*tick)
				case c.eases && j.way.gentle(): // its slices end before it is called a failure
				default:
					require.Eventually(j, func() bool { return j.failsNow(c.says) }, patience, 5*tick)
				}
				require.Eventually(j, func() bool { return j.number(`SELECT last_value FROM public.tries`) > 2 }, patience, 5*tick)
				require.Equal(j, resilience.Executing, j.plan(j.id).Status, "nothing was undone")
				require.Less(j, j.watermark(), int64(travellers), "and the row is not passed over")
				j.undisturbed()
				j.exec(`UPDATE public.server SET troubled = false`)
				j.thereAndBack()
			})
		})
	}
}

// failsNow reports whether the last try of a step failed, and said so.
func (j *journey) failsNow(says string) bool {
	j.Helper()
	d, err := j.temporal.DescribeWorkflowExecution(j.Context(), j.run.GetID(), "")
	require.NoError(j, err)
	return slices.ContainsFunc(d.GetPendingActivities(), func(a *workflowpb.PendingActivityInfo) bool {
		return strings.Contains(a.GetLastFailure().GetMessage(), says)
	})
}

func TestFault26ABadRowStaysBehindAlone(t *testing.T) {
	t.Parallel()
	eachWay(t, 26, func(j *journey) {
		j.exec(`CREATE FUNCTION public.poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'this one is cursed'; END $$`)
		cursed := "NEW.ordinal = 233"
		if !j.way.transfer { // an edit is none of ours
			cursed += " AND NEW.path <> OLD.path"
		}
		j.exec(fmt.Sprintf(`CREATE TRIGGER poison BEFORE %s ON rehome.chunks FOR EACH ROW WHEN (%s) EXECUTE FUNCTION public.poison()`, j.way.write(), cursed))
		j.depart()
		j.completes()
		require.Equal(j, map[resilience.Outcome]int{resilience.Clashed: 1}, j.accounted(j.id))
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND starts_with(path, 'guide/')`))
		j.goesHome()
		j.returned()
	})
}

// TestFault26AGiantMovesAsAnyOther: so does an embedding with numbers that are none.
func TestFault26AGiantMovesAsAnyOther(t *testing.T) {
	t.Parallel()
	megabytes := 50
	if testing.Short() {
		megabytes = 2
	}
	eachWay(t, 26, func(j *journey) {
		j.exec(`UPDATE rehome.chunks SET embedding = ARRAY['NaN', 'Infinity', NULL]::real[] WHERE ordinal = 235`)
		j.exec(`UPDATE rehome.chunks SET content = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, $1 * 1024 * 1024 / 32) n) WHERE ordinal = 234`, megabytes) // which does not get smaller
		texts := func() string {
			var all string
			require.NoError(j, j.pool.QueryRow(j.Context(), `SELECT string_agg(concat_ws('|', md5(content), length(content), embedding), ' ' ORDER BY ordinal) FROM rehome.chunks WHERE ordinal IN (234, 235)`).Scan(&all))
			return all
		}
		before := texts()
		j.began = j.identities()
		j.depart()
		require.EqualValues(j, travellers, j.completes().Moved)
		require.Equal(j, before, texts())
		j.goesHome()
		require.Equal(j, before, texts())
		j.returned()
	})
}

// TestFault30AChangeOnTheWayIsFound: a trigger changes a chunk as it moves. It is
// found before anybody is led there, and everything goes back.
func TestFault30AChangeOnTheWayIsFound(t *testing.T) {
	t.Parallel()
	eachWay(t, 30, func(j *journey) {
		j.exec(`CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.embedding[1] = NEW.embedding[1] + 1; RETURN NEW; END $$`)
		j.exec(`CREATE TRIGGER meddle BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = 200 AND NEW.path LIKE 'manual/%' AND OLD.path LIKE 'guide/%') EXECUTE FUNCTION public.meddle()`)
		j.exec(`CREATE TRIGGER meddle_copy BEFORE INSERT ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = 200 AND NEW.memory = 'archive') EXECUTE FUNCTION public.meddle()`)
		j.depart()
		require.Contains(j, j.fails(), "rows")
	})
}
