package workflows_test

import (
	"sync"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/workflows"
)

// beginScenarios are aborted while they begin, or have just begun.
func beginScenarios() map[string]scenario {
	return map[string]scenario{
		"migrate-aborted-answered": func(in *installation) client.WorkflowRun { // which goes back when that was answered
			_, run := in.movingOn()
			in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
			return run
		},
		"migrate-begin-stopped": func(in *installation) client.WorkflowRun {
			run, look := in.beginning()
			in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
			require.Equal(in, resilience.Cancelled, in.plan("m-1").Status, "at once")
			require.Equal(in, workflows.Aborted, ends(in.T, run, nil), "while its look goes on")
			look()
			require.Zero(in, in.number(`SELECT count(*) FROM rehome.migration_indexes`), "none was taken away")
			return run
		},
		"migrate-begin-aborted": func(in *installation) client.WorkflowRun { // the history is from before an abort stopped it; another would prove nothing
			run, look := in.beginning()
			in.told(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
			look()
			return run
		},
	}
}

// beginning is a migration that rebuilds an index, and that looks at its journal before
// it begins until it is let go.
func (in *installation) beginning() (run client.WorkflowRun, letGo func()) {
	in.Helper()
	in.withVectorIndex()
	journal := in.session()
	letGo = sync.OnceFunc(func() { require.NoError(in, journal.Rollback(in.Context())) })
	in.faults.inject("BeginMigration", fault{times: 1, meets: func(int) {
		_, err := journal.Exec(in.Context(), `LOCK TABLE rehome.migration_runs`)
		require.NoError(in, err)
	}})
	run = in.rebuilding()
	in.stuckAt("rehome.migration_runs")
	return run, letGo
}

// withVectorIndex gives the chunks an index that a plan may take away.
func (in *installation) withVectorIndex() {
	in.Helper()
	devtest.StandInForPgvector(in.T, in.pool)
	in.exec(`CREATE INDEX near ON rehome.chunks USING hnsw (id public.near_ops)`)
}

// rebuilding is a migration that does.
func (in *installation) rebuilding() client.WorkflowRun {
	in.Helper()
	return in.start(workflows.MigrateID(in.id, "docs", "m-1"), workflows.MigrateName(resilience.Intelligent), workflows.MigrateInput{
		Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: "m-1", Renames: []resilience.RenameRule{theGuide},
		Policy: resilience.Policy{Way: resilience.Rebuild}, Approve: true, Tuning: quick(),
	})
}
