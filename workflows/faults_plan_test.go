package workflows_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// What strikes between a plan and its start, and what forges its journal.

// asked starts a run that waits for somebody's yes.
func (j *journey) asked() {
	j.Helper()
	j.departs(func(in *workflows.MigrateInput) { in.PlanOnly, in.Approve = true, false })
	j.become(j.id, resilience.AwaitingApproval)
}

// approved is somebody's yes to the plan as it is.
func (j *journey) approved(by string) {
	j.Helper()
	_, err := j.update(j.run, workflows.ApproveUpdate, workflows.Approval{Hash: j.plan(j.id).Hash, Author: by})
	require.NoError(j, err)
}

// askedAgain waits until the run asks once more, for a reason.
func (j *journey) askedAgain(why string) {
	j.Helper()
	require.Eventually(j, func() bool { return j.happened(j.id, "awaiting approval") == 2 }, patience, tick)
	require.Contains(j, j.plan(j.id).Reason, why)
}

// TestFault04WhatChangesBeforeTheStartAsksAgain: chunks came and went while the plan
// waited for a yes. With another it takes along what came.
func TestFault04WhatChangesBeforeTheStartAsksAgain(t *testing.T) {
	t.Parallel()
	eachWay(t, 4, func(j *journey) {
		j.asked()
		j.exec(`DELETE FROM rehome.chunks WHERE ordinal BETWEEN 231 AND 235`)
		j.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'guide/f00.md', 500, 'it came')`)
		j.approved("ana")
		j.askedAgain("5 of its 240 chunks")
		j.approved("ben")
		plan := j.completes()
		require.EqualValues(j, travellers-5+1, plan.Moved)
		require.Equal(j, map[resilience.Outcome]int{resilience.Vanished: 5}, j.accounted(j.id))
		j.goesHome()
		j.returned(231, 232, 233, 234, 235)
	})
}

// TestFault05AnApprovalThatIsForgedOrOldIsNotFollowed: nothing moves by one.
func TestFault05AnApprovalThatIsForgedOrOldIsNotFollowed(t *testing.T) {
	t.Parallel()
	eachWay(t, 5, func(j *journey) {
		j.exec(`CREATE FUNCTION public.aged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.approved_at = NEW.approved_at - interval '25 hours'; RETURN NEW; END $$`)
		j.exec(`CREATE TRIGGER aged BEFORE UPDATE OF approved_at ON rehome.migration_plans FOR EACH ROW WHEN (NEW.approved_by = 'old') EXECUTE FUNCTION public.aged()`)
		j.asked()
		_, err := j.update(j.run, workflows.ApproveUpdate, workflows.Approval{Hash: "forged", Author: "eve"})
		require.ErrorContains(j, err, "plan hash")
		j.approved("old")
		j.askedAgain("older than")
		require.Zero(j, j.watermark())
		j.approved("ana")
		j.thereAndBack()
	})
}

// TestFault37AnUndoFollowsNoForgedJournal, by whatever strategy the chunks went: it
// moves nothing before the journal is what it was.
func TestFault37AnUndoFollowsNoForgedJournal(t *testing.T) {
	t.Parallel()
	eachWay(t, 37, func(j *journey) {
		j.depart()
		j.completes()
		j.quiet()
		there := j.everything()
		j.exec(`UPDATE rehome.migration_paths SET old_path = replace(old_path, 'guide', 'evil')`)
		forged := j.undoneBy("m-forged", j.id)
		require.Equal(j, activities.Verify, ends(j.T, forged, nil))
		require.Equal(j, there, j.everything())
		j.exec(`UPDATE rehome.migration_paths SET old_path = replace(old_path, 'evil', 'guide')`)
		j.goesHome()
		j.returned()
	})
}
