package workflows_test

import (
	"maps"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/resilience"
	"rehome/workflows"
)

// scenario plays a path through the workflows and returns the run to keep.
type scenario func(*installation) client.WorkflowRun

// scenarios are all paths of which a history is kept.
func scenarios() map[string]scenario {
	all := strategyScenarios()
	for _, more := range []map[string]scenario{orderScenarios(), failureScenarios(), undoScenarios(), fileScenarios()} {
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
		"migrate-paused-throttled-resumed": func(in *installation) client.WorkflowRun {
			_, run := in.movingOn()
			in.told(run, workflows.PauseUpdate, workflows.Order{Author: "ana"})
			in.told(run, workflows.ThrottleUpdate, resilience.Pace{BatchSize: 100})
			in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			return run
		},
		"migrate-strategy-changed": func(in *installation) client.WorkflowRun {
			_, run := in.movingOn()
			in.told(run, workflows.PauseUpdate, workflows.Order{Author: "ana"})
			in.told(run, workflows.StrategyUpdate, workflows.NewStrategy{Strategy: resilience.Intelligent, Author: "ana"})
			in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			return in.temporal.GetWorkflow(in.Context(), run.GetID(), "") // the other workflow's run
		},
	}
}

// told gives an order that is obeyed.
func (in *installation) told(run client.WorkflowRun, update string, order any) {
	in.Helper()
	_, err := in.update(run, update, order)
	require.NoError(in, err)
}

// failureScenarios end otherwise than was wanted.
func failureScenarios() map[string]scenario {
	return map[string]scenario{
		"migrate-refused": func(in *installation) client.WorkflowRun {
			_, run := in.migrate(resilience.Policy{}, rule("nothing", "manual"))
			return run
		},
		"migrate-compensated": func(in *installation) client.WorkflowRun {
			in.faults.inject("CompleteMigration", fault{times: 1})
			_, run := in.migrate(resilience.Policy{}, theGuide)
			return run
		},
		"migrate-group-put-back": func(in *installation) client.WorkflowRun {
			in.faults.inject("MoveSlice", fault{after: true, times: 1})
			id, run := in.migrate(resilience.Policy{OnFailure: resilience.UndoGroup, GroupSize: 25}, theGuide)
			in.pausedByItself(id, run, 1, 50, "injected")
			in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			return run
		},
		"migrate-rollback-failed": func(in *installation) client.WorkflowRun {
			in.faults.inject("SwitchAliases", fault{times: 1})
			in.faults.inject("UndoSwitchAliases", fault{times: 1})
			_, run := in.migrate(resilience.Policy{}, theGuide)
			in.skip(run, "nobody reads them")
			return run
		},
	}
}

// undoScenarios put back what was done.
func undoScenarios() map[string]scenario {
	undone := func(in *installation, id string, run client.WorkflowRun) client.WorkflowRun {
		require.Empty(in, ends(in.T, run, nil))
		_, run = in.rollback(id)
		return run
	}
	return map[string]scenario{
		"rollback-of-completed": func(in *installation) client.WorkflowRun {
			id, run := in.migrate(resilience.Policy{}, theGuide)
			return undone(in, id, run)
		},
		"rollback-of-transfer": func(in *installation) client.WorkflowRun {
			in.withArchive()
			id, run := in.transfer(resilience.Batch, 0)
			return undone(in, id, run)
		},
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
