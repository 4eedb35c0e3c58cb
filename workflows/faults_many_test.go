package workflows_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// chunksEach is how many chunks lie in the directory of each of many plans.
const chunksEach = 5

// TestManyMigrationsShareTwoSlots starts 100 plans at once, each for a directory
// of its own: all complete, two at a time, first come first served, and no slot
// is left taken.
func TestManyMigrationsShareTwoSlots(t *testing.T) {
	t.Parallel()
	plans := 100
	if testing.Short() {
		plans = 10
	}
	in := newInstallation(t)
	in.exec(`INSERT INTO rehome.settings (key, value) VALUES ('max_concurrent_migrations', '2')`)
	in.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
		SELECT 'docs', 'd' || d || '/f.md', i, 'text ' || i || ' of ' || d, ARRAY[d, i]::real[]
		FROM generate_series(1, $1::int) d, generate_series(1, $2::int) i`, plans, chunksEach)
	before := in.bodies()
	runs := in.all(plans)
	require.Eventually(t, func() bool {
		return in.number(`SELECT count(*) FROM rehome.migration_plans WHERE status = 'completed'`) == plans
	}, 20*time.Minute, 100*tick)
	for n, run := range runs {
		var plan resilience.Plan
		require.Empty(t, ends(t, run, &plan), "plan %d", n+1)
		require.Equal(t, resilience.Completed, plan.Status)
		require.EqualValues(t, chunksEach, plan.Moved)
	}
	in.servedInTurn(plans, 2)
	require.Zero(t, in.number(`SELECT count(*) FROM rehome.migration_slots`), "slots that nobody gave back")
	require.Equal(t, before, in.bodies())
	require.Equal(t, plans*chunksEach, in.number(`
		SELECT count(*) FROM rehome.chunks WHERE path = 'moved/d' || embedding[1]::int || '/f.md'`))
}

// all starts so many plans at once, by all strategies in turn.
func (in *installation) all(plans int) []client.WorkflowRun {
	in.Helper()
	strategies := resilience.Strategies()
	if testing.Short() { // gradual waits for a server that other tests load
		strategies = slices.DeleteFunc(strategies, func(s resilience.Strategy) bool { return s == resilience.Gradual })
	}
	runs, errs := make([]client.WorkflowRun, plans), make([]error, plans)
	var started sync.WaitGroup
	for n := range plans {
		started.Go(func() {
			policy := resilience.Policy{BatchSize: 2}
			if strategies[n%len(strategies)] == resilience.Immediate { // which has none
				policy.BatchSize = 0
			}
			id, dir := fmt.Sprintf("m-%d", n+1), fmt.Sprintf("d%d", n+1)
			options := client.StartWorkflowOptions{ID: workflows.MigrateID(in.id, "docs", id), TaskQueue: workflows.TaskQueue(in.id)}
			runs[n], errs[n] = in.temporal.ExecuteWorkflow(in.Context(), options, workflows.MigrateName(strategies[n%len(strategies)]), workflows.MigrateInput{
				Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: id, Approve: true,
				Renames: []resilience.RenameRule{rule(dir, "moved/"+dir)}, Policy: policy, Tuning: quick(),
			})
		})
	}
	started.Wait()
	for _, err := range errs {
		require.NoError(in, err)
	}
	return runs
}

// servedInTurn checks that a plan began only when fewer than slots of those that
// had come before it were still there.
func (in *installation) servedInTurn(plans, slots int) {
	in.Helper()
	rows, err := in.pool.Query(in.Context(), `
		WITH plan AS (
			SELECT p.plan_id, p.queued_at, p.number, min(e.at) FILTER (WHERE e.event = 'started') AS started, min(e.at) FILTER (WHERE e.event = 'completed') AS completed
			FROM rehome.migration_plans p JOIN rehome.migration_events e USING (plan_id) GROUP BY 1)
		SELECT (SELECT count(*) FROM plan b WHERE (b.queued_at, b.number) < (p.queued_at, p.number) AND b.completed > p.started),
			(SELECT count(*) FROM plan b WHERE b.plan_id <> p.plan_id AND p.started BETWEEN b.started AND b.completed)
		FROM plan p`)
	require.NoError(in, err)
	type standing struct{ Before, Beside int }
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[standing])
	require.NoError(in, err)
	require.Len(in, all, plans)
	for _, s := range all {
		require.Less(in, s.Before, slots, "it overtook others")
		require.Less(in, s.Beside, slots, "too many were at work")
	}
}

// bodies is what no migration changes of the chunks, in an order of its own.
func (in *installation) bodies() (sum string) {
	in.Helper()
	require.NoError(in, in.pool.QueryRow(in.Context(), `
		SELECT md5(string_agg(concat_ws('|', id, memory, ordinal, content, embedding, created_at), E'\n' ORDER BY id)) FROM rehome.chunks`).Scan(&sum))
	return sum
}
