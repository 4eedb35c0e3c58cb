package workflows_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// A run that is terminated in the web UI compensates nothing. `migration rollback`
// finishes what it left, wherever that is.

func (j *journey) terminate(run client.WorkflowRun) {
	j.Helper()
	require.NoError(j, j.temporal.TerminateWorkflow(j.Context(), run.GetID(), "", "a test"))
	require.Error(j, run.Get(j.Context(), nil))
}

// seen reports whether a reader has looked.
func (j *journey) seen() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.reads > 0
}

// back rolls a migration back, and makes another plan for that where one is needed.
func (j *journey) back(id, undo string) client.WorkflowRun {
	j.Helper()
	return j.start(workflows.RollbackID(j.installation.id, "docs", id), workflows.RollbackName, workflows.RollbackInput{
		Origin: activities.Origin{Installation: j.installation.id}, Memory: "docs", Migration: id, Undo: undo, BatchSize: 10, Tuning: quick(),
	})
}

// taken is the end of a rollback that needs no plan of its own.
func (j *journey) taken(id string, run client.WorkflowRun) {
	j.Helper()
	require.Empty(j, ends(j.T, run, nil))
	require.Equal(j, resilience.RolledBack, j.plan(id).Status)
	kept := j.number(`SELECT count(*) FROM (SELECT FROM rehome.chunks WHERE ordinal <= $1 GROUP BY ordinal HAVING count(*) > 1) twice`, steady)
	require.LessOrEqual(j, kept, j.number(`SELECT count(*) FROM rehome.migration_exceptions WHERE plan_id = $1 AND outcome = 'conflict'`, id), "what is in both memories is listed")
	j.intact(kept)
}

func transfers(ways []way) []way {
	return slices.DeleteFunc(slices.Clone(ways), func(w way) bool { return !w.transfer })
}

// TestTerminatedOnItsWay: while rows go there, and while those of a transfer leave.
func TestTerminatedOnItsWay(t *testing.T) {
	t.Parallel()
	for lock, ways := range map[int][]way{away: waysFor(2), leave: transfers(waysFor(3))} {
		t.Run(map[int]string{away: "Moving", leave: "Leaving"}[lock], func(t *testing.T) {
			t.Parallel()
			eachOf(t, ways, func(j *journey) {
				g := j.shut(lock)
				j.depart()
				g.waiting()
				j.terminate(j.run)
				g.open()
				j.taken(j.id, j.back(j.id, "unused"))
				j.returned()
			})
		})
	}
}

// TestTerminatedWhileItSoaks: everything stands in both memories, and references lead
// to the copies.
func TestTerminatedWhileItSoaks(t *testing.T) {
	t.Parallel()
	eachOf(t, transfers(waysFor(4)), func(j *journey) {
		soak := resilience.Seconds(3600)
		in := j.input("m-1")
		in.TransferOrder.Soak = &soak
		j.id = "m-1"
		j.run = j.start(workflows.MigrateID(j.installation.id, "docs", j.id), workflows.MigrateName(j.way.strategy), in)
		require.Eventually(j, func() bool {
			return j.number(`SELECT count(*) FROM rehome.chunk_references WHERE memory = 'archive' AND referrer LIKE 'agent %'`) == steady/10
		}, patience, tick)
		j.terminate(j.run)
		j.taken(j.id, j.back(j.id, "unused"))
		j.returned()
	})
}

// TestTerminatedWhileItGoesBack, aborted: the rollback goes on with that. A gentle batch
// gives way before the row has gone there.
func TestTerminatedWhileItGoesBack(t *testing.T) {
	t.Parallel()
	ways := slices.DeleteFunc(waysFor(8), way.gentle)
	eachOf(t, ways, func(j *journey) {
		if !j.way.transfer { // an edit of a row would have the batch begin anew, and find itself turned round
			require.Eventually(j, j.seen, patience, tick)
			j.quiet()
		}
		j.exec(`ALTER FUNCTION public.gate() SET lock_timeout = '1min'`) // the batch is to be in flight when the abort comes
		there, back := j.shut(away), j.shut(home)
		j.depart()
		there.waiting()
		aborted := make(chan struct{})
		go func() {
			defer close(aborted) // answered or not
			_, _ = j.temporal.UpdateWorkflow(context.WithoutCancel(j.Context()), updateOf(j.run.GetID(), workflows.AbortUpdate, workflows.Order{Author: "ana"}))
		}()
		require.Eventually(j, func() bool { // for the batch in flight
			return j.number(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%epoch = epoch + 1%'`) > 0
		}, patience, tick)
		there.open()
		back.waiting()
		j.terminate(j.run)
		<-aborted
		back.open()
		j.taken(j.id, j.back(j.id, "unused"))
		j.returned()
	})
}

// TestATerminatedUndoIsTakenBackAndDoneAnew: what undoes a migration that had completed
// is a plan of its own, which a rollback takes back as any other.
func TestATerminatedUndoIsTakenBackAndDoneAnew(t *testing.T) {
	t.Parallel()
	eachWay(t, 9, func(j *journey) {
		j.depart()
		j.completes()
		g := j.shut(home)
		undo, undone := j.rollback(j.id)
		g.waiting()
		j.terminate(undone)
		g.open()
		j.taken(undo, j.back(undo, "unused"))
		require.Equal(j, resilience.Completed, j.plan(j.id).Status)
		var plan resilience.Plan
		require.Empty(j, ends(j.T, j.back(j.id, "m-again"), &plan))
		require.Equal(j, resilience.Completed, plan.Status)
		require.Equal(j, resilience.RolledBack, j.plan(j.id).Status)
		j.intact(j.copiesKept(plan.Conflicts))
		j.returned()
	})
}
