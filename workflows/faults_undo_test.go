package workflows_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// TestFault31LegalWritesAreNoMismatch: while the last look goes through the rows
// the application moves one on, deletes one and edits many.
func TestFault31LegalWritesAreNoMismatch(t *testing.T) {
	t.Parallel()
	eachWay(t, 31, func(j *journey) {
		g := j.shut(away)
		j.depart()
		g.waiting()
		for _, step := range []string{"VerifyMigration", "RetireSlice"} {
			j.faults.inject(step, fault{times: 1, err: errLost}) // it waits a moment before it looks again
		}
		g.open()
		require.Eventually(j, func() bool { return j.watermark() >= travellers }, patience, tick)
		j.exec(`UPDATE rehome.chunks SET path = 'app.md' WHERE ordinal = 231 AND memory = 'docs'`)
		j.exec(`DELETE FROM rehome.chunks WHERE ordinal = 232`)
		j.completes()
		j.accounted(j.id)
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE ordinal = 231 AND path = 'app.md'`), "what the application did stays done")
		require.Zero(j, j.number(`SELECT count(*) FROM rehome.chunks WHERE ordinal = 232`))
		j.goesHome()
		j.returned(231, 232)
	})
}

// TestFault32AForeignWriteToTheTargetIsFound and left alone, also by the undo.
func TestFault32AForeignWriteToTheTargetIsFound(t *testing.T) {
	t.Parallel()
	eachWay(t, 32, func(j *journey) {
		memory, path := "docs", "manual/f03.md"
		if j.way.transfer {
			memory, path = "archive", "guide/f03.md"
		}
		g := j.shut(away)
		j.depart()
		g.waiting()
		j.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ($1, $2, 900, 'foreign')`, memory, path)
		g.open()
		j.completes()
		foreign := func() int {
			return j.number(`SELECT count(*) FROM rehome.chunks WHERE memory = $1 AND path = $2 AND ordinal = 900 AND content = 'foreign'`, memory, path)
		}
		require.Equal(j, 1, foreign())
		require.Equal(j, 1, j.happened(j.id, "foreign"), "it is reported")
		j.goesHome()
		j.returned()
		require.Equal(j, 1, foreign())
	})
}

// TestFault36AnUndoKeepsWhatWasWrittenSince: chunks that were edited, deleted or
// moved on since, a new one, and one whose old place is taken. What was edited in
// the copies of a transfer comes home with the chunk.
func TestFault36AnUndoKeepsWhatWasWrittenSince(t *testing.T) {
	t.Parallel()
	eachWay(t, 36, func(j *journey) {
		j.exec(`CREATE UNIQUE INDEX ON rehome.chunks (memory, path, ordinal)`)
		j.depart()
		j.completes()
		memory, path := "docs", "manual/f00.md"
		if j.way.transfer {
			memory, path = "archive", "guide/f00.md"
		}
		j.exec(`UPDATE rehome.chunks SET content = 'edit 1000000' WHERE ordinal = 231`)
		j.exec(`DELETE FROM rehome.chunks WHERE ordinal = 232`)
		j.exec(`UPDATE rehome.chunks SET path = 'app.md' WHERE ordinal = 233`)
		j.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ($1, $2, 900, 'new at the new place'), ('docs', 'guide/used/f11.md', 234, 'took the old place')`, memory, path)
		plan := j.goesHome()
		require.EqualValues(j, travellers, plan.Moves)
		outcomes := j.accounted(plan.ID)
		require.Equal(j, 1, outcomes[resilience.Vanished])
		require.NotZero(j, outcomes[resilience.Clashed])
		if j.way.transfer {
			require.NotZero(j, outcomes[resilience.Edited])
			require.Equal(j, []int{233, 234, 900}, j.ordinals(`SELECT ordinal FROM rehome.chunks WHERE memory = 'archive' AND ordinal > $1 ORDER BY 1`, steady), "only what could not come home stays")
			require.Equal(j, []int{231}, j.ordinals(`SELECT ordinal FROM rehome.chunks WHERE memory = 'docs' AND content = 'edit 1000000' ORDER BY 1`))
		}
		for what, want := range map[string]int{"edit 1000000": 1, "new at the new place": 1, "took the old place": 1} {
			require.Equal(j, want, j.number(`SELECT count(*) FROM rehome.chunks WHERE content = $1`, what), what)
		}
		require.Equal(j, 1, j.number(`SELECT count(*) FROM rehome.chunks WHERE ordinal = 233 AND path = 'app.md'`))
		j.returned(231, 232, 233, 234)
	})
}

func (j *journey) ordinals(query string, args ...any) []int {
	j.Helper()
	rows, err := j.pool.Query(j.Context(), query, args...)
	require.NoError(j, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(j, err)
	return all
}

// TestFault37AnUndoIsDoneOnceAndUndone: a second undo is refused, and the undo of
// an undo moves the chunks there again.
func TestFault37AnUndoIsDoneOnceAndUndone(t *testing.T) {
	t.Parallel()
	eachWay(t, 37, func(j *journey) {
		j.depart()
		j.completes()
		j.quiet()
		there := j.everything()
		undo := j.goesHome()
		j.returned()
		_, again := j.rollback(j.id)
		require.Equal(j, activities.Conflict, ends(j.T, again, nil), "it is undone already")
		j.returned()
		var plan resilience.Plan
		run := j.undoneBy("m-again", undo.ID)
		require.Empty(j, ends(j.T, run, &plan))
		require.Equal(j, resilience.Completed, plan.Status)
		require.Equal(j, there, j.everything())
		j.accounted(plan.ID)
	})
}

// undoneBy starts the undo of a migration by a plan of another name than rollback gives it.
func (j *journey) undoneBy(plan, migration string) client.WorkflowRun {
	j.Helper()
	return j.start(workflows.RollbackID(j.installation.id, "docs", plan), workflows.RollbackName, workflows.RollbackInput{
		Origin: activities.Origin{Installation: j.installation.id}, Memory: "docs", Migration: migration, Undo: plan, BatchSize: 10, Tuning: quick(),
	})
}

// TestFault37AnUndoAfterItsWindowIsRefused and changes nothing; a longer window
// opens it again.
func TestFault37AnUndoAfterItsWindowIsRefused(t *testing.T) {
	t.Parallel()
	eachWay(t, 37, func(j *journey) {
		j.depart()
		j.completes()
		j.exec(`UPDATE rehome.migration_plans SET finished_at = finished_at - interval '8 days' WHERE plan_id = $1`, j.id)
		j.quiet()
		there := j.everything()
		_, late := j.rollback(j.id)
		require.Equal(j, activities.Refused, ends(j.T, late, nil))
		require.Equal(j, there, j.everything())
		j.exec(`INSERT INTO rehome.settings (key, value) VALUES ('undo_window', '30d')`)
		j.goesHome()
		j.returned()
	})
}

// everything says where each chunk is and what it says.
func (j *journey) everything() (all string) {
	j.Helper()
	require.NoError(j, j.pool.QueryRow(j.Context(), `
		SELECT string_agg(concat_ws('|', memory, path, ordinal, content, embedding), E'\n' ORDER BY memory, ordinal) FROM rehome.chunks`).Scan(&all))
	return all
}

// TestFault38ACompletionIsDoneOnce: there is nothing to finalize, since nothing is
// dropped; a plan whose completion is heard of twice is completed once.
func TestFault38ACompletionIsDoneOnce(t *testing.T) {
	t.Parallel()
	eachWay(t, 38, func(j *journey) {
		j.faults.inject("CompleteMigration", fault{after: true, times: 2, err: errLost})
		j.depart()
		j.completes()
		require.Equal(j, 1, j.happened(j.id, "completed"))
		require.NoError(j, j.store.Complete(t.Context(), j.id), "a third time is none")
		require.Equal(j, 1, j.happened(j.id, "completed"))
		j.goesHome()
		j.returned()
		require.Error(j, j.store.Complete(t.Context(), j.id), "it was undone")
	})
}
