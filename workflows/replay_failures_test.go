package workflows_test

import (
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

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
		"migrate-returned": func(in *installation) client.WorkflowRun { // a row is back when all are looked at
			in.faults.inject("VerifyMigration", fault{times: 1, meets: func(int) {
				in.exec(`UPDATE rehome.chunks SET path = 'guide/a.md' WHERE memory = 'docs' AND ordinal = 7`)
			}})
			_, run := in.migrate(resilience.Policy{}, theGuide)
			return run
		},
		"migrate-returned-undone": func(in *installation) client.WorkflowRun { // and was, when nobody took it along
			in.faults.inject("VerifyMigration", fault{times: 1, err: errReturned})
			_, run := in.migrate(resilience.Policy{}, theGuide)
			return run
		},
		"migrate-left-late": func(in *installation) client.WorkflowRun { // a person goes on after the look, and after the switch
			in.faults.inject("VerifyMigration", fault{times: 1})
			in.faults.inject("SwitchAliases", fault{times: 1})
			id, run := in.migrate(resilience.Policy{OnFailure: resilience.Stop}, theGuide)
			for n := 1; n <= 2; n++ {
				in.pausedByItself(id, run, n, 60, "injected")
				in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			}
			return run
		},
		"migrate-left-late-undone": func(in *installation) client.WorkflowRun { // and did not, when policies held for batches alone
			in.faults.inject("VerifyMigration", fault{times: 1})
			id, run := in.migrate(resilience.Policy{OnFailure: resilience.Stop}, theGuide)
			require.Eventually(in, func() bool {
				return in.number(`SELECT count(*) FROM rehome.migration_plans WHERE plan_id = $1 AND status IN ('rolled_back', 'paused')`, id) == 1
			}, wait, tick)
			_, _ = in.update(run, workflows.AbortUpdate, workflows.Order{Author: "ana"}) // as it is played today
			return run
		},
		"migrate-switched": func(in *installation) client.WorkflowRun { // goes on after the switch, by another strategy
			in.faults.inject("CompleteMigration", fault{times: 1})
			id, run := in.migrate(resilience.Policy{OnFailure: resilience.Stop}, theGuide)
			in.pausedByItself(id, run, 1, 60, "injected")
			return in.continued(run)
		},
		"transfer-retires-on":        retiresOn,
		"transfer-retires-on-before": retiresOn, // and copied nothing more, when it took the one for the other
		"migrate-group-put-back": func(in *installation) client.WorkflowRun {
			in.faults.inject("MoveSlice", fault{after: true, times: 1})
			id, run := in.migrate(resilience.Policy{OnFailure: resilience.UndoGroup, GroupSize: 25}, theGuide)
			in.pausedByItself(id, run, 1, 50, "injected")
			in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
			return run
		},
		"migrate-stuck": func(in *installation) client.WorkflowRun {
			in.faults.inject("SwitchAliases", fault{times: 1})
			in.faults.inject("RevertSlice", fault{times: 1})
			_, run := in.migrate(resilience.Policy{}, theGuide)
			require.Eventually(in, func() bool {
				_, err := in.update(run, workflows.RetryUpdate, workflows.Order{Author: "ana"})
				return err == nil
			}, wait, tick)
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

// retiresOn is a transfer that goes on with its last step by another strategy.
func retiresOn(in *installation) client.WorkflowRun { return in.continued(in.failsToRetire()) }

// failsToRetire is a transfer that has paused in its last step.
func (in *installation) failsToRetire() client.WorkflowRun {
	in.Helper()
	in.withArchive()
	in.faults.inject("RetireSlice", fault{times: 1})
	soak := resilience.Seconds(0)
	run := in.start(workflows.MigrateID(in.id, "docs", "t-1"), workflows.MigrateName(resilience.Batch), workflows.MigrateInput{
		Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: "t-1", Approve: true, Tuning: quick(),
		TransferOrder: resilience.TransferOrder{To: "archive", Prefix: "guide", Soak: &soak}, Policy: resilience.Policy{BatchSize: 10, OnFailure: resilience.Stop},
	})
	require.Eventually(in, func() bool { return in.progress(run).Phase == "Paused" }, wait, tick)
	return run
}

// continued lets a paused run go on by another strategy, in the run that it returns.
func (in *installation) continued(run client.WorkflowRun) client.WorkflowRun {
	in.Helper()
	in.told(run, workflows.StrategyUpdate, workflows.NewStrategy{Strategy: resilience.Intelligent, Author: "ana"})
	var next string
	require.Eventually(in, func() bool {
		d, err := in.temporal.DescribeWorkflow(in.Context(), run.GetID(), "")
		if err == nil {
			next = d.WorkflowExecution.RunID
		}
		return err == nil && next != run.GetRunID()
	}, wait, tick)
	in.told(run, workflows.ResumeUpdate, workflows.Order{Author: "ana"})
	return in.temporal.GetWorkflow(in.Context(), run.GetID(), next)
}
