package workflows_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/workflows"
)

// What people do to the table in the middle of a run. Like any statement that
// wants the table for itself it gets it when the batch at the gate gives up.

// TestAColumnIsAddedInTheMiddle: that is nobody's business, and what is written to
// it stays with its chunk.
func TestAColumnIsAddedInTheMiddle(t *testing.T) {
	t.Parallel()
	eachWay(t, 40, func(j *journey) {
		g := j.shut(away)
		j.depart()
		g.waiting()
		j.exec(`ALTER TABLE rehome.chunks ADD extra int NOT NULL DEFAULT 7`)
		j.exec(`UPDATE rehome.chunks SET extra = ordinal WHERE ordinal IN (1, 239)`) // one has moved, unless all move at once; one has not
		extra := func(memory string) int {
			return j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = $1 AND ordinal <= $2 AND extra = CASE WHEN ordinal IN (1, 239) THEN ordinal ELSE 7 END`, memory, travellers)
		}
		g.open()
		j.completes()
		if !j.way.transfer { // it was planned without that column
			require.Equal(j, travellers, extra("docs"))
		}
		j.goesHome()
		j.returned()
		require.Equal(j, travellers, extra("docs"))
	})
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
	j.pausedByItself(j.id, j.run, 1, int(moved), "does not exist")
	require.Contains(j, j.plan(j.id).Reason, "put back what is missing and resume, or abort")
	j.undisturbed()
	return moved
}
