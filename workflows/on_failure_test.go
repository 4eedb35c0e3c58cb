package workflows_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/resilience"
	"rehome/workflows"
)

// TestAPlanThatFailsInTheMiddleWaitsForAPerson: the batch of the rows 141 to 160
// cannot succeed. The plan pauses as its policy says, with the reason, and
// again when it is told to go on too early. Then a person takes the cause away and
// it completes, or aborts it and everything is back, byte for byte.
func TestAPlanThatFailsInTheMiddleWaitsForAPerson(t *testing.T) {
	t.Parallel()
	refuses := `BEGIN RAISE 'not at this time'; END`
	for name, c := range map[string]struct {
		policy resilience.Policy
		cause  string // body of the trigger
		reason string
		waits  int // rows that stay where they went
		abort  bool
	}{
		"StopOfARefusal":      {resilience.Policy{OnFailure: resilience.Stop}, refuses, "not at this time", 140, false},
		"StopOfAChange":       {resilience.Policy{OnFailure: resilience.Stop}, changes, "rows 141 to 160", 140, true},
		"UndoGroupOfARefusal": {resilience.Policy{OnFailure: resilience.UndoGroup, GroupSize: 100}, refuses, "not at this time", 100, true},
		"UndoGroupOfAChange":  {resilience.Policy{OnFailure: resilience.UndoGroup, GroupSize: 100}, changes, "rows 141 to 160", 100, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newInstallation(t)
			in.fill("guide/a.md", 240)
			in.fill("other.md", 5)
			start, bodies := in.checksum(), in.bodies()
			in.exec(`CREATE FUNCTION public.cause() RETURNS trigger LANGUAGE plpgsql AS $$ ` + c.cause + ` $$`)
			in.exec(`CREATE TRIGGER cause BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (NEW.path = 'manual/a.md' AND OLD.ordinal BETWEEN 141 AND 160) EXECUTE FUNCTION public.cause()`)
			c.policy.BatchSize = 20
			id, run := in.migrate(c.policy, rule("guide", "manual"))
			for n := 1; n <= 2; n++ {
				in.pausedByItself(id, run, n, c.waits, c.reason)
				require.Equal(t, 240-c.waits, in.count("guide"))
				require.Equal(t, c.waits, in.number(`SELECT count(*) FROM rehome.chunks WHERE path = 'manual/a.md' AND ordinal <= $1`, c.waits), "the first of them moved, and no others")
				require.Equal(t, bodies, in.bodies())
				if n == 1 { // too early
					in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
				}
			}
			in.exec(`DROP TRIGGER cause ON rehome.chunks`)
			if c.abort {
				in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
				require.Equal(t, workflows.Aborted, ends(t, run, nil))
				require.Equal(t, resilience.RolledBack, in.plan(id).Status)
				require.Equal(t, start, in.checksum())
				return
			}
			in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			var plan resilience.Plan
			require.Empty(t, ends(t, run, &plan))
			require.Equal(t, resilience.Completed, plan.Status)
			require.Equal(t, [4]int64{240, 240, 0, 0}, [4]int64{plan.Moves, plan.Moved, plan.Drifted, plan.Vanished})
			require.Equal(t, 240, in.count("manual"))
			require.Equal(t, bodies, in.bodies())
			resolved, err := in.store.Resolve(t.Context(), "docs", "guide/a.md")
			require.NoError(t, err)
			require.Equal(t, "manual/a.md", resolved.CurrentPath)
		})
	}
}

// changes is the body of a trigger that makes another text of what it moves.
const changes = `BEGIN NEW.content = NEW.content || '!'; RETURN NEW; END`

// pausedByItself waits until a plan has paused itself for the nth time, with so
// many rows at their new place, and for a reason that everybody is told.
func (in *installation) pausedByItself(id string, run client.WorkflowRun, n, moved int, reason string) {
	in.Helper()
	const pauses = `SELECT count(*) FROM rehome.migration_events WHERE plan_id = $1 AND event = 'paused' AND strpos(detail, 'a batch failed: ') = 1 AND strpos(detail, $2) > 0`
	require.Eventually(in, func() bool { return in.number(pauses, id, reason) == n }, wait, tick)
	require.Eventually(in, func() bool { // the run has done what its policy says, and takes orders
		p := in.progress(run)
		return p.Phase == "Paused" && p.Done == int64(moved)
	}, wait, tick)
	plan := in.plan(id)
	require.Equal(in, resilience.Paused, plan.Status)
	require.Contains(in, plan.Reason, reason)
	at, err := in.store.Watermark(in.Context(), id)
	require.NoError(in, err)
	require.EqualValues(in, moved, at.Last)
}

// progress is what a run says of itself; nothing when it does not answer.
func (in *installation) progress(run client.WorkflowRun) (p workflows.Progress) {
	value, err := in.temporal.QueryWorkflow(in.Context(), run.GetID(), "", workflows.ProgressQuery)
	if err == nil {
		err = value.Get(&p)
	}
	if err != nil {
		return workflows.Progress{}
	}
	return p
}
