package workflows_test

import (
	"maps"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// scenario plays a path through the workflows and returns the run to keep.
type scenario func(*installation) client.WorkflowRun

// scenarios are all paths of which a history is kept.
func scenarios() map[string]scenario {
	all := strategyScenarios()
	for _, more := range []map[string]scenario{orderScenarios(), queueScenarios(), beginScenarios(), rebuildScenarios(), failureScenarios(), undoScenarios(), lostScenarios(), fileScenarios()} {
		maps.Copy(all, more)
	}
	return all
}

// theGuide is what the scenarios rename.
var theGuide = rule("guide", "manual")

// movingOn is a migration that has come half way.
func (in *installation) movingOn() (string, client.WorkflowRun) {
	id, run := in.migrate(slowly(), theGuide)
	in.moving(id)
	return id, run
}

// strategyScenarios go well.
func strategyScenarios() map[string]scenario {
	by := func(in *installation, strategy resilience.Strategy) client.WorkflowRun {
		_, run := in.migrateBy(strategy, resilience.Policy{}, theGuide)
		return run
	}
	return map[string]scenario{
		"migrate-completed": func(in *installation) client.WorkflowRun { return by(in, resilience.Batch) },
		"migrate-immediate": func(in *installation) client.WorkflowRun { return by(in, resilience.Immediate) },
		"migrate-gradual":   func(in *installation) client.WorkflowRun { return by(in, resilience.Gradual) },
		"migrate-gradual-looks": func(in *installation) client.WorkflowRun { // in slices that end with one
			_, run := in.migrateBy(resilience.Gradual, resilience.Policy{Rate: 40}, theGuide)
			return run
		},
		"migrate-gradual-soaks": func(in *installation) client.WorkflowRun {
			in.fill("guide/b.md", 400) // more than a canary
			tuning := quick()
			tuning.Soak = activities.Duration(time.Second)
			return in.start(workflows.MigrateID(in.id, "docs", "m-1"), workflows.MigrateName(resilience.Gradual), workflows.MigrateInput{
				Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: "m-1", Renames: []resilience.RenameRule{theGuide}, Tuning: tuning,
			})
		},
		"migrate-intelligent": func(in *installation) client.WorkflowRun { // in several groups
			in.fill("guide/cold/a.md", 600)
			in.fill("guide/hot/a.md", 700)
			in.exec(`SELECT rehome.touch('docs', (SELECT array_agg(id::text) FROM rehome.chunks WHERE path LIKE 'guide/hot/%'))`)
			return by(in, resilience.Intelligent)
		},
		"transfer": func(in *installation) client.WorkflowRun {
			in.withArchive()
			_, run := in.transfer(resilience.Batch, 0.1)
			return run
		},
		"transfer-foreign-first": func(in *installation) client.WorkflowRun { // which looks for chunks of others before it switches, too
			in.withArchive()
			_, run := in.transfer(resilience.Batch, 0.1)
			return run
		},
		"transfer-intelligent": func(in *installation) client.WorkflowRun { // with rows that leave carefully
			in.withArchive()
			in.fill("guide/hot/a.md", 700)
			in.exec(`SELECT rehome.touch('docs', (SELECT array_agg(id::text) FROM rehome.chunks WHERE path LIKE 'guide/hot/%'))`)
			_, run := in.transfer(resilience.Intelligent, 0)
			return run
		},
	}
}

// orderScenarios are told something by a person on their way.
func orderScenarios() map[string]scenario {
	return map[string]scenario{
		"migrate-cancelled": func(in *installation) client.WorkflowRun {
			_, run := in.movingOn()
			require.NoError(in, in.temporal.CancelWorkflow(in.Context(), run.GetID(), ""))
			return run
		},
		"migrate-aborted": func(in *installation) client.WorkflowRun {
			_, run := in.movingOn()
			in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
			return run
		},
		"migrate-aborted-looks": func(in *installation) client.WorkflowRun { // at all that went back
			_, run := in.movingOn()
			in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
			return run
		},
		"migrate-planning-stopped": func(in *installation) client.WorkflowRun {
			return in.abortedInThePlanning(func(id string) {
				require.Eventually(in, func() bool { return in.plan(id).Status == resilience.Cancelled }, patience, tick)
			})
		},
		"migrate-planning-aborted": func(in *installation) client.WorkflowRun { // the history is from before an abort stopped it; another would prove nothing
			return in.abortedInThePlanning(func(string) {})
		},
		"migrate-analysis-aborted": func(in *installation) client.WorkflowRun { // likewise
			return in.abortedInTheAnalysis()
		},
		"migrate-switch-stopped": func(in *installation) client.WorkflowRun {
			return in.abortedInTheSwitch(func(id string) {
				require.Eventually(in, func() bool { return in.plan(id).Status == resilience.RollingBack }, patience, tick)
			})
		},
		"migrate-switch-aborted": func(in *installation) client.WorkflowRun { // the history is from before an abort stopped it; another would prove nothing
			return in.abortedInTheSwitch(func(string) {})
		},
		"transfer-aborted": func(in *installation) client.WorkflowRun { // in its soak
			in.withArchive()
			id, run := in.transfer(resilience.Batch, 3600)
			in.soaking(id, in.of("docs"))
			in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
			return run
		},
		"migrate-paused-throttled-resumed": func(in *installation) client.WorkflowRun {
			_, run := in.movingOn()
			in.told(run, workflows.PauseUpdate, workflows.Order{Author: "ana"})
			in.told(run, workflows.ThrottleUpdate, resilience.Pace{Rate: new(0.0), BatchSize: new(100)})
			in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			return run
		},
		"migrate-paused-late": func(in *installation) client.WorkflowRun { // of which the run was not told
			in.faults.inject("SwitchAliases", fault{times: -1, err: errLost})
			id, run := in.migrate(resilience.Policy{}, theGuide)
			in.shows(run, "Letting the old paths lead to the new ones")
			require.NoError(in, in.store.Pause(in.Context(), id, "ana", "a busy hour"))
			in.faults.inject("SwitchAliases", fault{})
			in.shows(run, "Paused")
			in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			return run
		},
		"migrate-changed-first": func(in *installation) client.WorkflowRun { // while it leaves the queue
			in.faults.inject("BeginMigration", fault{times: -1, err: errLost})
			id, run := in.migrate(resilience.Policy{}, theGuide)
			require.Eventually(in, func() bool {
				plan, err := in.store.Plan(in.Context(), id)
				return err == nil && plan.Status == resilience.Queued
			}, patience, tick)
			in.told(run, workflows.StrategyUpdate, workflows.NewStrategy{Strategy: resilience.Immediate, Author: "ana", Approve: true})
			in.faults.inject("BeginMigration", fault{})
			return run
		},
		"migrate-judged-anew": func(in *installation) client.WorkflowRun { return in.changed() },
		"migrate-strategy-changed": func(in *installation) client.WorkflowRun {
			return in.temporal.GetWorkflow(in.Context(), in.changed().GetID(), "") // the other workflow's run
		},
	}
}

// abortedInThePlanning is a migration that cannot read its table until something has
// happened, given its id.
func (in *installation) abortedInThePlanning(until func(id string)) client.WorkflowRun {
	in.Helper()
	chunks := in.session()
	_, err := chunks.Exec(in.Context(), `LOCK TABLE rehome.chunks`)
	require.NoError(in, err)
	id, run := in.migrate(resilience.Policy{}, theGuide)
	in.stuckAt("rehome.chunks")
	in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
	until(id)
	require.NoError(in, chunks.Rollback(in.Context()))
	return run
}

// abortedInTheAnalysis is an intelligent migration whose look at its chunks fails until
// something has happened.
func (in *installation) abortedInTheAnalysis() client.WorkflowRun {
	in.Helper()
	in.faults.inject("AnalyseMigration", fault{times: -1, err: errLost})
	id, run := in.migrateBy(resilience.Intelligent, resilience.Policy{}, theGuide)
	require.Eventually(in, func() bool { return in.tries(run) > 1 }, patience, tick)
	require.Equal(in, resilience.Pending, in.plan(id).Status)
	in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
	in.faults.inject("AnalyseMigration", fault{})
	return run
}

// tries is how often the step in work of a run was tried.
func (in *installation) tries(run client.WorkflowRun) (attempt int32) {
	in.Helper()
	d, err := in.temporal.DescribeWorkflowExecution(in.Context(), run.GetID(), "")
	require.NoError(in, err)
	for _, a := range d.GetPendingActivities() {
		attempt = max(attempt, a.GetAttempt())
	}
	return attempt
}

// abortedInTheSwitch is a migration that waits for a lock there until something has
// happened, given its id.
func (in *installation) abortedInTheSwitch(until func(id string)) client.WorkflowRun {
	in.Helper()
	aliases := in.session()
	_, err := aliases.Exec(in.Context(), `LOCK TABLE rehome.version_aliases`)
	require.NoError(in, err)
	id, run := in.migrate(resilience.Policy{}, theGuide)
	in.shows(run, "Letting the old paths lead to the new ones")
	in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
	until(id)
	require.NoError(in, aliases.Rollback(in.Context()))
	return run
}

// changed is the run of a migration that went on by another strategy.
func (in *installation) changed() client.WorkflowRun {
	in.Helper()
	_, run := in.movingOn()
	in.told(run, workflows.PauseUpdate, workflows.Order{Author: "ana"})
	in.told(run, workflows.StrategyUpdate, workflows.NewStrategy{Strategy: resilience.Intelligent, Author: "ana"})
	in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
	return run
}

// shows waits until a run says that it does something.
func (in *installation) shows(run client.WorkflowRun, words string) {
	in.Helper()
	require.Eventually(in, func() bool { return in.progress(run).Phase == words }, wait, tick, words)
}

// inLine are two migrations of which one waits for the other, which takes long.
func (in *installation) inLine() (first, second client.WorkflowRun) {
	in.Helper()
	in.exec(`INSERT INTO rehome.settings (key, value) VALUES ('max_concurrent_migrations', '1')`)
	in.fill("other.md", 200)
	id, first := in.migrate(resilience.Policy{BatchSize: 1, Rate: 2}, rule("other.md", "moved.md"))
	in.moving(id)
	_, second = in.migrate(resilience.Policy{}, theGuide)
	in.shows(second, "Queued: waiting for another migration to end")
	return first, second
}

// queueScenarios wait for others.
func queueScenarios() map[string]scenario {
	ana := workflows.Order{Author: "ana"}
	return map[string]scenario{
		"migrate-paused-queued": func(in *installation) client.WorkflowRun {
			first, second := in.inLine()
			in.told(first, workflows.PauseUpdate, ana)
			_ = second.Get(in.Context(), nil)
			third, run := in.migrate(resilience.Policy{BatchSize: 1, Rate: 2}, rule("manual", "guide"))
			in.moving(third)
			in.told(first, workflows.ResumeUpdate, ana)
			in.shows(first, "Resumed, and waiting for another migration to end")
			in.told(run, workflows.AbortUpdate, ana)
			in.shows(first, "Moving chunks")
			in.told(first, workflows.ThrottleUpdate, resilience.Pace{Rate: new(0.0), BatchSize: new(100)})
			return first
		},
		"migrate-queued-analysis": func(in *installation) client.WorkflowRun {
			first, second := in.inLine()
			in.told(second, workflows.StrategyUpdate, workflows.NewStrategy{Strategy: resilience.Intelligent, Author: "ana"})
			require.Eventually(in, func() bool { return in.number(`SELECT count(*) FROM rehome.migration_groups`) > 0 }, wait, tick)
			in.told(first, workflows.AbortUpdate, ana)
			return in.temporal.GetWorkflow(in.Context(), second.GetID(), "") // the other workflow's run
		},
	}
}

// rebuildScenarios take a vector index away.
func rebuildScenarios() map[string]scenario {
	return map[string]scenario{
		"migrate-build-stopped": func(in *installation) client.WorkflowRun {
			in.withVectorIndex()
			builds, err := in.pool.Acquire(in.Context())
			require.NoError(in, err)
			in.Cleanup(builds.Release)
			_, err = builds.Exec(in.Context(), `SELECT pg_advisory_lock(hashtextextended('rehome indexes m-1', 0))`) // as an attempt that still builds
			require.NoError(in, err)
			run := in.rebuilding()
			in.shows(run, "Building the vector indexes again")
			in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
			require.Eventually(in, func() bool { return in.count("guide") == 60 }, wait, tick) // without it
			_, err = builds.Exec(in.Context(), `SELECT pg_advisory_unlock_all()`)
			require.NoError(in, err)
			return run
		},
	}
}

// told gives an order that is obeyed.
func (in *installation) told(run client.WorkflowRun, update string, order any) {
	in.Helper()
	_, err := in.update(run, update, order)
	require.NoError(in, err)
}

// undoScenarios put back what was done.
func undoScenarios() map[string]scenario {
	undone := func(in *installation, id string, run client.WorkflowRun) client.WorkflowRun {
		require.Empty(in, ends(in.T, run, nil))
		_, run = in.rollback(id)
		return run
	}
	transferred := func(in *installation) client.WorkflowRun {
		in.withArchive()
		id, run := in.transfer(resilience.Batch, 0)
		return undone(in, id, run)
	}
	return map[string]scenario{
		"rollback-of-completed": func(in *installation) client.WorkflowRun {
			id, run := in.migrate(resilience.Policy{}, theGuide)
			return undone(in, id, run)
		},
		"rollback-of-transfer":          transferred,
		"rollback-of-transfer-verified": transferred,
		"rollback-of-terminated": func(in *installation) client.WorkflowRun {
			id, run := in.movingOn()
			require.NoError(in, in.temporal.TerminateWorkflow(in.Context(), run.GetID(), "", "a test"))
			_, run = in.rollback(id)
			return run
		},
	}
}

// fileScenarios look at files: ingest, scan, cleanup.
func fileScenarios() map[string]scenario {
	return map[string]scenario{
		"ingest": func(in *installation) client.WorkflowRun {
			in.touch("a.md")
			return in.startIngest("docs")
		},
		"scan": func(in *installation) client.WorkflowRun {
			in.write("a.md", "guide/a.md")
			return in.startScan(workflows.ScanInput{})
		},
		"scan-refused": func(in *installation) client.WorkflowRun {
			return in.startScan(workflows.ScanInput{}) // the root is empty
		},
		"cleanup": func(in *installation) client.WorkflowRun {
			in.write("a.md", "b.md", "c.md", "guide/a.md")
			in.scan()
			in.remove("a.md")
			in.scan()
			in.scan()
			return in.startCleanup(workflows.CleanupInput{WaiveGrace: true})
		},
	}
}
