package workflows_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/internal/dev/devtest"
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
				in.goesBack(id, run, start)
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

// lateCause is why what comes after the batches fails.
type lateCause struct {
	meets       string // the activity before which it comes
	cause, mend string
	reason      string
	policy      resilience.Policy
	transfer    bool
}

func lateCauses() map[string]lateCause {
	refuse := func(table, when string) string {
		return fmt.Sprintf(`CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON rehome.%s FOR EACH ROW %s EXECUTE FUNCTION public.refuse()`, table, when)
	}
	return map[string]lateCause{
		"TheSweep": {
			meets: "SweepMigration", cause: `ALTER TABLE rehome.chunks RENAME path TO source`, mend: `ALTER TABLE rehome.chunks RENAME source TO path`,
			reason: "the look at all chunks failed: ", // whatever the policy
		},
		"TheLook": {
			meets: "VerifyMigration", cause: `WITH gone AS (DELETE FROM rehome.migration_runs WHERE last = (SELECT max(last) FROM rehome.migration_runs) RETURNING *) INSERT INTO public.kept SELECT * FROM gone`,
			mend: `INSERT INTO rehome.migration_runs SELECT * FROM public.kept; TRUNCATE public.kept`, reason: "the look at all chunks failed: ", policy: resilience.Policy{OnFailure: resilience.UndoGroup},
		},
		"TheIndexes": {
			meets: "BuildIndexes", cause: `UPDATE rehome.migration_indexes SET definition = replace(definition, 'near_ops', 'far_ops')`, mend: `UPDATE rehome.migration_indexes SET definition = replace(definition, 'far_ops', 'near_ops')`,
			reason: "a step failed: ", policy: resilience.Policy{OnFailure: resilience.Stop, Way: resilience.Rebuild},
		},
		"TheSwitch": {
			meets: "SwitchAliases", cause: refuse("version_aliases", ""), mend: `DROP TRIGGER refuse ON rehome.version_aliases`,
			reason: "a step failed: ", policy: resilience.Policy{OnFailure: resilience.Stop},
		},
		"TheEnd": {
			meets: "CompleteMigration", cause: refuse("migration_plans", "WHEN (NEW.status = 'completed')"), mend: `DROP TRIGGER refuse ON rehome.migration_plans`,
			reason: "a step failed: ", policy: resilience.Policy{OnFailure: resilience.UndoGroup},
		},
		"TheReferences": {
			meets: "SwitchReferences", cause: refuse("chunk_references", "WHEN (NEW.memory = 'archive')"), mend: `DROP TRIGGER refuse ON rehome.chunk_references`,
			reason: "a step failed: ", policy: resilience.Policy{OnFailure: resilience.Stop}, transfer: true,
		},
		"TheEndOfATransfer": {
			meets: "CompleteMigration", cause: refuse("migration_plans", "WHEN (NEW.status = 'completed')"), mend: `DROP TRIGGER refuse ON rehome.migration_plans`,
			reason: "a step failed: ", policy: resilience.Policy{OnFailure: resilience.Stop}, transfer: true,
		},
	}
}

// meetsLate starts a migration that meets the cause.
func (in *installation) meetsLate(c lateCause) client.WorkflowRun {
	in.Helper()
	if c.policy.Way == resilience.Rebuild {
		devtest.StandInForPgvector(in.T, in.pool)
		in.exec(`CREATE INDEX near ON rehome.chunks USING hnsw (id public.near_ops)`)
	}
	in.exec(`CREATE TABLE public.kept (LIKE rehome.migration_runs)`)
	in.exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation USING MESSAGE = 'not at this time'; END $$`)
	in.faults.inject(c.meets, fault{times: 1, meets: func(int) { in.exec(c.cause) }})
	order, strategy := planned(), resilience.Batch
	order.Origin, order.Approve, order.Policy = activities.Origin{Installation: in.id}, true, c.policy
	order.Policy.BatchSize = 20
	if c.transfer {
		soak := resilience.Seconds(0)
		order.TransferOrder = resilience.TransferOrder{To: "archive", Prefix: "guide", Soak: &soak}
	} else {
		order.Renames = []resilience.RenameRule{theGuide}
	}
	if c.policy.Way == resilience.Rebuild {
		strategy = resilience.Intelligent
	}
	return in.start(workflows.MigrateID(in.id, "docs", order.Migration), workflows.MigrateName(strategy), order)
}

// goesBack aborts a migration, after which everything is as it was.
func (in *installation) goesBack(id string, run client.WorkflowRun, start string) {
	in.Helper()
	in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
	require.Equal(in, workflows.Aborted, ends(in.T, run, nil))
	require.Equal(in, resilience.RolledBack, in.plan(id).Status)
	require.Equal(in, start, in.checksum())
}

// TestWhatIsFoundAfterTheBatchesWaitsForAPerson: the look at all chunks, or a step that
// follows the moves, fails for good, and again when a person says too early that it is to
// go on.
func TestWhatIsFoundAfterTheBatchesWaitsForAPerson(t *testing.T) {
	t.Parallel()
	for name, c := range lateCauses() {
		for _, abort := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/abort=%t", name, abort), func(t *testing.T) {
				t.Parallel()
				in := newInstallation(t)
				in.withArchive()
				in.fill("guide/a.md", 60)
				in.fill("other.md", 5)
				in.exec(`INSERT INTO rehome.chunk_references (memory, chunk_id, referrer, last_referenced_at, reference_count) SELECT memory, id::text, 'agent', now(), 1 FROM rehome.chunks WHERE ordinal = 7`)
				start := in.checksum()
				run := in.meetsLate(c)
				in.pausedByItself("m-1", run, 1, 60, c.reason)
				in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"}) // too early
				in.pausedByItself("m-1", run, 2, 60, c.reason)
				in.exec(c.mend)
				if abort {
					in.goesBack("m-1", run, start)
					return
				}
				in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
				var plan resilience.Plan
				require.Empty(t, ends(t, run, &plan))
				require.Equal(t, resilience.Completed, plan.Status)
				require.EqualValues(t, 60, plan.Moved)
				require.Zero(t, in.number(`SELECT count(*) FROM rehome.chunks WHERE memory = 'docs' AND path LIKE 'guide/%'`))
			})
		}
	}
}

// TestGroupsThatCannotBeFoundWaitForAPerson: a paused plan is to go on by intelligent, whose
// look at the chunks fails.
func TestGroupsThatCannotBeFoundWaitForAPerson(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 400)
	policy := slowly()
	policy.OnFailure = resilience.Stop
	id, run := in.migrate(policy, theGuide)
	in.moving(id)
	in.told(run, workflows.PauseUpdate, workflows.Order{Author: "ana"})
	in.faults.inject("AnalyseMigration", fault{times: 1})
	in.told(run, workflows.StrategyUpdate, workflows.NewStrategy{Strategy: resilience.Intelligent, Author: "ana"})
	resumes := func() bool {
		_, err := in.update(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
		return err == nil
	}
	require.Eventually(t, resumes, wait, tick)
	require.Eventually(t, func() bool { return in.progress(run).Phase == "Paused" }, wait, tick)
	require.Contains(t, in.plan(id).Reason, "what comes next could not be found out: injected into AnalyseMigration")
	require.Eventually(t, resumes, wait, tick)
	require.Empty(t, ends(t, in.temporal.GetWorkflow(t.Context(), run.GetID(), ""), nil))
	require.Equal(t, 400, in.count("manual"))
}

// TestWhatAppearsAfterTheSwitchStays: a plan whose end failed waits for a person, and
// meanwhile somebody writes a new file where the old one was. The run may be another by then.
func TestWhatAppearsAfterTheSwitchStays(t *testing.T) {
	t.Parallel()
	for _, next := range []resilience.Strategy{resilience.Batch, resilience.Intelligent} {
		t.Run(string(next), func(t *testing.T) {
			t.Parallel()
			in := newInstallation(t)
			in.fill("guide/a.md", 60)
			in.faults.inject("CompleteMigration", fault{times: 1})
			id, run := in.migrate(resilience.Policy{OnFailure: resilience.Stop}, rule("guide", "manual"))
			in.pausedByItself(id, run, 1, 60, "a step failed: ")
			in.fill("guide/new.md", 3)
			if next == resilience.Intelligent {
				run = in.continued(run)
			} else {
				in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			}
			require.Empty(t, ends(t, run, nil))
			require.Equal(t, 3, in.count("guide"))
			require.Equal(t, 60, in.count("manual"))
			d, err := in.temporal.DescribeWorkflow(t.Context(), run.GetID(), "")
			require.NoError(t, err)
			phase, _ := d.TypedSearchAttributes.GetKeyword(workflows.PhaseAttribute)
			require.Equal(t, "switch", phase, "not paused any more")
		})
	}
}

// TestATransferThatRetiresGoesOnWithThat in another run, and copies what came meanwhile
// neither then nor in place of it.
func TestATransferThatRetiresGoesOnWithThat(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 60)
	run := in.failsToRetire()
	in.fill("guide/new.md", 3)
	run = in.continued(run)
	var plan resilience.Plan
	require.Empty(t, ends(t, run, &plan))
	require.Equal(t, []int64{60, 60}, []int64{plan.Moves, plan.Moved})
	require.Equal(t, 3, in.of("docs"))
	require.Equal(t, 60, in.of("archive"))
}

// TestWhatKeepsComingBackWaitsForAPerson: an application puts a chunk back each time all
// are looked at. It is stopped while the plan is paused, and the chunk is taken along.
func TestWhatKeepsComingBackWaitsForAPerson(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 60)
	in.faults.inject("VerifyMigration", fault{times: 3, meets: func(int) {
		in.exec(`UPDATE rehome.chunks SET path = 'guide/a.md' WHERE memory = 'docs' AND ordinal = 7`)
	}})
	id, run := in.migrate(resilience.Policy{OnFailure: resilience.Stop}, rule("guide", "manual"))
	in.pausedByItself(id, run, 1, 62, "the look at all chunks failed: ")
	require.Equal(t, 1, in.count("guide"))
	in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
	require.Empty(t, ends(t, run, nil))
	require.Zero(t, in.count("guide"))
}

// changes is the body of a trigger that makes another text of what it moves.
const changes = `BEGIN NEW.content = NEW.content || '!'; RETURN NEW; END`

// pausedByItself waits until a plan has paused itself for the nth time, with so
// many rows at their new place, and for a reason that everybody is told.
func (in *installation) pausedByItself(id string, run client.WorkflowRun, n, moved int, reason string) {
	in.Helper()
	const pauses = `SELECT count(*) FROM rehome.migration_events WHERE plan_id = $1 AND event = 'paused' AND strpos(detail, ' failed: ') > 0 AND strpos(detail, $2) > 0`
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
