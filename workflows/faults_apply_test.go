package workflows_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

var errLost = errors.New("the answer was lost")

func TestFault10AnAnswerThatIsLostMovesNothingTwice(t *testing.T) {
	t.Parallel()
	eachWay(t, 10, func(j *journey) {
		j.exec(`CREATE TABLE public.moved (ordinal int)`)
		j.exec(`CREATE FUNCTION public.count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.moved VALUES (NEW.ordinal); RETURN NEW; END $$`)
		j.exec(`CREATE TRIGGER count_it AFTER UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.path <> OLD.path) EXECUTE FUNCTION public.count_it()`)
		for _, step := range []string{"MoveSlice", "SweepMigration", "SwitchAliases", "SwitchReferences", "RetireSlice", "CompleteMigration"} {
			j.faults.inject(step, fault{after: true, times: 2, err: errLost})
		}
		j.depart()
		j.completes()
		if !j.way.transfer {
			require.Equal(j, travellers, j.number(`SELECT count(*) FROM public.moved`))
			require.Equal(j, travellers, j.number(`SELECT count(DISTINCT ordinal) FROM public.moved`))
		}
		j.goesHome()
		j.returned()
	})
}

func TestFault12AConnectionThatIsEndedIsTriedAgain(t *testing.T) {
	t.Parallel()
	eachWay(t, 12, func(j *journey) {
		g := j.shut(away)
		j.depart()
		for range 2 {
			pid := g.waiting()
			j.exec(`SELECT pg_terminate_backend($1, 5000)`, pid)
		}
		g.open()
		j.thereAndBack()
	})
}

func TestFault18WhatIsWrittenWhileARowMovesIsKept(t *testing.T) {
	t.Parallel()
	eachWay(t, 18, func(j *journey) {
		j.exec(`UPDATE rehome.chunks SET content = 'edit 1000001' WHERE ordinal = 221`)
		g := j.shut(away)
		j.depart()
		g.waiting()
		j.exec(`UPDATE rehome.chunks SET content = 'edit 1000002' WHERE ordinal IN (89, 222) AND memory = 'docs'`)
		g.open()
		j.completes()
		j.exec(`UPDATE rehome.chunks SET content = 'edit 1000003' WHERE ordinal = 223`)
		j.goesHome()
		j.returned()
		for row, want := range map[int]string{221: "edit 1000001", 222: "edit 1000002", 223: "edit 1000003"} {
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
		j.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'guide/f11.md', 232, 'edit 1')`)
		g.open()
		plan := j.completes()
		require.EqualValues(j, travellers+1, plan.Moves)
		require.Equal(j, map[resilience.Outcome]int{resilience.Vanished: 2}, j.accounted(j.id))
		require.Zero(j, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND starts_with(path, 'guide/')`))
		j.goesHome()
		require.Equal(j, travellers-1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND starts_with(path, 'guide/')`))
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
		g := j.shut(away)
		j.depart()
		g.waiting()
		most := 6 * time.Second // 2 s, on a busy machine
		if j.way.strategy == resilience.Gradual || j.way.strategy == resilience.Intelligent {
			most = 3 * time.Second // 250 ms
		}
		for range 2 {
			began := time.Now()
			j.exec(`UPDATE rehome.chunks SET embedding = embedding WHERE ordinal = $1 AND memory = 'docs'`, middle-1)
			require.Less(j, time.Since(began), most)
			g.waiting()
		}
		g.open()
		j.thereAndBack()
	})
}

func TestFault22ADeadlockLosesNothing(t *testing.T) {
	t.Parallel()
	eachWay(t, 22, func(j *journey) {
		g := j.shut(away)
		j.depart()
		g.waiting()
		// The batch waits for the gate, and now its keeper for the batch.
		_, err := g.tx.Exec(t.Context(), `UPDATE rehome.chunks SET content = 'edit 1000000' WHERE ordinal = $1 AND memory = 'docs'`, middle-1)
		if err != nil {
			require.ErrorContains(j, err, "deadlock")
			g.open()
		} else {
			require.NoError(j, g.tx.Commit(t.Context()))
		}
		j.completes()
		if err == nil {
			require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE ordinal = $1 AND substr(content, 6)::bigint > 0`, middle-1))
		}
		j.goesHome()
		j.returned()
	})
}

func TestFault23APlaceThatIsTakenMeanwhileIsAConflict(t *testing.T) {
	t.Parallel()
	eachWay(t, 23, func(j *journey) {
		j.exec(`CREATE UNIQUE INDEX ON rehome.chunks (memory, path, ordinal)`)
		g := j.shut(away)
		j.depart()
		g.waiting()
		memory, path := "docs", "manual/f12.md"
		if j.way.transfer {
			memory, path = "archive", "guide/f12.md"
		}
		j.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ($1, $2, 240, 'it came first')`, memory, path)
		g.open()
		j.completes()
		require.Equal(j, map[resilience.Outcome]int{resilience.Clashed: 1}, j.accounted(j.id))
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND path = 'guide/f12.md' AND ordinal = 240`), "the row that came second stays")
		j.goesHome()
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = $1 AND path = $2 AND content = 'it came first'`, memory, path))
		j.exec(`DELETE FROM rehome.chunks WHERE content = 'it came first'`)
		j.returned()
	})
}

// TestFault24AFullDiskIsWaitedOut: the run stands still, says why, and goes on
// when there is room again.
func TestFault24AFullDiskIsWaitedOut(t *testing.T) {
	t.Parallel()
	eachWay(t, 24, func(j *journey) {
		j.exec(`CREATE TABLE public.disk (full_up bool); INSERT INTO public.disk VALUES (true)`)
		j.exec(`CREATE FUNCTION public.disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF (SELECT full_up FROM public.disk) THEN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END IF; RETURN NEW; END $$`)
		j.exec(fmt.Sprintf(`CREATE TRIGGER disk_full BEFORE %s ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = 90) EXECUTE FUNCTION public.disk_full()`, j.way.write()))
		j.depart()
		require.Eventually(j, func() bool {
			d, err := j.temporal.DescribeWorkflowExecution(t.Context(), j.run.GetID(), "")
			require.NoError(j, err)
			for _, a := range d.GetPendingActivities() {
				if strings.Contains(a.GetLastFailure().GetMessage(), "No space left on device") {
					return true
				}
			}
			return false
		}, patience, 5*tick)
		require.Equal(j, resilience.Executing, j.plan(j.id).Status, "nothing was undone")
		j.undisturbed()
		j.exec(`UPDATE public.disk SET full_up = false`)
		j.thereAndBack()
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
