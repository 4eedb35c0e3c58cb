package workflows_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/workflows"
)

// What people do to the table in the middle of a run. Like any statement that
// wants the table for itself it gets it when the batch at the gate gives up.

// TestAColumnIsAddedInTheMiddle: of a rename that is nobody's business, and what is written
// to it stays with its chunk. The copies of a transfer have no such column, so it pauses
// until that is gone again.
func TestAColumnIsAddedInTheMiddle(t *testing.T) {
	t.Parallel()
	eachWay(t, 40, func(j *journey) {
		j.getsAColumn()
		j.exec(`UPDATE rehome.chunks SET extra = ordinal WHERE ordinal IN (1, 239)`) // one has moved, unless all move at once; one has not
		extra := func() int {
			return j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND ordinal <= $1 AND extra = CASE WHEN ordinal IN (1, 239) THEN ordinal ELSE 7 END`, travellers)
		}
		if j.way.transfer {
			j.waitsForItsTable()
			require.Equal(j, travellers, extra(), "all are at home still")
			j.exec(`ALTER TABLE rehome.chunks DROP extra`)
			j.told(j.run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			j.thereAndBack()
			return
		}
		j.completes()
		require.Equal(j, travellers, extra())
		j.goesHome()
		j.returned()
		require.Equal(j, travellers, extra())
	})
}

// TestATransferWhoseTableGotAColumnIsAborted: nothing keeps it from going back, and what was
// written to the column stays with its chunk.
func TestATransferWhoseTableGotAColumnIsAborted(t *testing.T) {
	t.Parallel()
	ways := slices.DeleteFunc(waysFor(41), func(w way) bool { return !w.transfer })
	if len(ways) == 0 {
		ways = []way{{name: "transfer", strategy: resilience.Batch, transfer: true}}
	}
	eachOf(t, ways, func(j *journey) {
		j.getsAColumn()
		j.exec(`UPDATE rehome.chunks SET extra = ordinal WHERE memory = 'docs'`)
		j.waitsForItsTable()
		j.told(j.run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
		require.Contains(j, j.fails(), "aborted by ana")
		require.Equal(j, travellers, j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND extra = ordinal AND ordinal <= $1`, travellers))
	})
}

// getsAColumn departs, and adds a column in the middle.
func (j *journey) getsAColumn() {
	j.Helper()
	g := j.shut(away)
	j.depart()
	g.waiting()
	j.exec(`ALTER TABLE rehome.chunks ADD extra int NOT NULL DEFAULT 7`)
	g.open()
}

// waitsForItsTable waits until a transfer has paused by itself, since a column was added.
func (j *journey) waitsForItsTable() {
	j.Helper()
	require.Eventually(j, func() bool { return j.progress(j.run).Phase == "Paused" }, patience, tick)
	plan := j.plan(j.id)
	require.Equal(j, resilience.Paused, plan.Status)
	require.Equal(j, `a batch failed: migration `+j.id+` was planned before column "extra" of table rehome.chunks was added; put the table back as it was, then resume or abort`, plan.Reason)
	j.undisturbed()
}

// TestThePathColumnIsRenamedInTheMiddle: the plan pauses where it is, and says what is
// missing. When it is there again, a person lets it go on.
func TestThePathColumnIsRenamedInTheMiddle(t *testing.T) {
	t.Parallel()
	eachWay(t, 40, func(j *journey) {
		j.losesItsColumn()
		j.exec(`ALTER TABLE rehome.chunks RENAME source TO path`)
		j.told(j.run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
		j.thereAndBack()
	})
}

// TestAPlanWithoutItsColumnIsAborted: the way back fails for good, too. It says what is
// missing and waits until it is there.
func TestAPlanWithoutItsColumnIsAborted(t *testing.T) {
	t.Parallel()
	eachWay(t, 40, func(j *journey) {
		moved := j.losesItsColumn()
		j.told(j.run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
		if moved == 0 { // there is nothing to bring back
			require.Eventually(j, func() bool { return j.plan(j.id).Status == resilience.RolledBack }, patience, 5*tick)
		} else {
			require.Eventually(j, func() bool {
				p := j.progress(j.run)
				return strings.HasPrefix(p.Phase, "Stuck: it cannot move the chunks back") && strings.Contains(p.Phase, "does not exist") && j.happened(j.id, "stuck") > 0
			}, patience, 5*tick)
			require.Equal(j, resilience.RollingBack, j.plan(j.id).Status)
			require.Equal(j, moved, j.watermark(), "nothing moves")
		}
		j.undisturbed()
		j.exec(`ALTER TABLE rehome.chunks RENAME source TO path`)
		_, _ = j.update(j.run, workflows.RetryUpdate, workflows.Order{Author: "ana"}) // it may have gone on by itself
		require.Contains(j, j.fails(), "aborted by ana")
	})
}

// losesItsColumn departs, and takes the column of the paths away in the middle. The plan
// has paused then, with so many rows moved.
func (j *journey) losesItsColumn() (moved int64) {
	j.Helper()
	g := j.shut(away)
	j.depart()
	g.waiting()
	j.exec(`ALTER TABLE rehome.chunks RENAME path TO source`)
	moved = j.watermark()
	g.open()
	j.pausedByItself(j.id, j.run, 1, int(moved), "path")
	require.Regexp(j, "does not exist|was dropped or renamed", j.plan(j.id).Reason, "a batch of a transfer meets that, or the next slice sees it")
	require.Contains(j, j.plan(j.id).Reason, "; put the table back as it was, then resume or abort")
	j.undisturbed()
	return moved
}
