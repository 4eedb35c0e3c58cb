package workflows_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// phases are those by which a rehearsed run could be filtered, one for each event.
func phases(env *testsuite.TestWorkflowEnvironment) *[]string {
	said := &[]string{}
	env.OnUpsertTypedSearchAttributes(mock.Anything).Return(nil).Run(func(args mock.Arguments) {
		if phase, ok := args.Get(0).(temporal.SearchAttributes).GetKeyword(workflows.PhaseAttribute); ok {
			*said = append(*said, phase)
		}
	})
	return said
}

// later gives a rehearsed run an order after a while.
func later(t *testing.T, env *testsuite.TestWorkflowEnvironment, after time.Duration, update string, order any) {
	t.Helper()
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflowNoRejection(update, fmt.Sprint(update, after), t, order)
	}, after)
}

// phasing is a rehearsed run, and the phases by which it could be filtered.
type phasing struct {
	play func(*testing.T) *[]string
	want []string
}

// keptFromWork are runs that go on when what keeps them has passed.
func keptFromWork() map[string]phasing {
	ana := workflows.Order{Author: "ana"}
	return map[string]phasing{
		"a queue, a pause, a queue": {func(t *testing.T) *[]string {
			env, a := rehearsal(t)
			said := phases(env)
			a.busy, a.at.Wish = 5, resilience.WishPause
			env.RegisterDelayedCallback(func() { a.busy = 5 }, time.Hour)
			later(t, env, time.Hour, workflows.ResumeUpdate, ana)
			env.ExecuteWorkflow(batch(), planned())
			require.NoError(t, env.GetWorkflowError())
			return said
		}, []string{"plan", "queued", "move", "paused", "queued", "move", "switch"}},
		"an approval, a pause, an abort": {func(t *testing.T) *[]string {
			env, a := rehearsal(t)
			said := phases(env)
			a.plan, a.at.Wish = risky(), resilience.WishPause
			later(t, env, time.Hour, workflows.ApproveUpdate, workflows.Approval{Hash: "h1", Author: "ana"})
			later(t, env, 2*time.Hour, workflows.AbortUpdate, ana)
			env.ExecuteWorkflow(batch(), planned())
			require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana")
			return said
		}, []string{"plan", "approval", "move", "paused", "undo"}},
		"a server that is unwell, and soaks": {func(t *testing.T) *[]string {
			env, w := gradual(t)
			said := phases(env)
			w.unwell = func(look int) []resilience.GateName {
				if look <= 20 {
					return []resilience.GateName{resilience.WaitersGate, resilience.DeadGate}
				}
				return nil
			}
			env.ExecuteWorkflow(gradually(), planned())
			require.NoError(t, env.GetWorkflowError())
			return said
		}, []string{"plan", "move", "waiting", "move", "soak", "move", "soak", "move", "soak", "move", "soak", "move", "soak", "move", "switch"}},
		"a pause in the soak of a transfer": {func(t *testing.T) *[]string {
			env, b := rehearseBelated(t, "")
			said := phases(env)
			b.plan.Transfer = &resilience.Transferring{}
			in, soak := planned(), resilience.Seconds(3600)
			in.TransferOrder = resilience.TransferOrder{To: "archive", Soak: &soak}
			later(t, env, 10*time.Minute, workflows.PauseUpdate, ana)
			later(t, env, 20*time.Minute, workflows.ResumeUpdate, ana)
			env.ExecuteWorkflow(batch(), in)
			require.NoError(t, env.GetWorkflowError())
			return said
		}, []string{"plan", "move", "switch", "soak", "paused", "soak", "move", "switch", "retire"}},
		"a pause that comes late": {func(t *testing.T) *[]string {
			env, _ := rehearseBelated(t, "CompleteMigration")
			said := phases(env)
			later(t, env, time.Hour, workflows.ResumeUpdate, ana)
			env.ExecuteWorkflow(batch(), planned())
			require.NoError(t, env.GetWorkflowError())
			return said
		}, []string{"plan", "move", "switch", "paused", "switch"}},
	}
}

// turned are runs that go back or go on as others.
func turned() map[string]phasing {
	ana := workflows.Order{Author: "ana"}
	return map[string]phasing{
		"an undo that is stuck": {func(t *testing.T) *[]string {
			env, a := undoOf(t, "UndoSwitchAliases", errInjected)
			said := phases(env)
			env.RegisterDelayedCallback(func() { delete(a.fails, "UndoSwitchAliases") }, time.Hour)
			env.ExecuteWorkflow(batch(), planned())
			require.ErrorContains(t, env.GetWorkflowError(), "injected")
			return said
		}, []string{"plan", "move", "switch", "undo", "stuck", "undo"}},
		"a step of an undo that is left out": {func(t *testing.T) *[]string {
			env, _ := undoOf(t, "UndoSwitchAliases", errInjected)
			said := phases(env)
			later(t, env, time.Hour, workflows.SkipUpdate, workflows.Order{Author: "ana", Reason: "nobody reads them"})
			env.ExecuteWorkflow(batch(), planned())
			require.ErrorContains(t, env.GetWorkflowError(), "left out by ana")
			return said
		}, []string{"plan", "move", "switch", "undo", "stuck", "undo"}},
		"another strategy, while it is paused": {func(t *testing.T) *[]string {
			env, a := rehearsal(t)
			a.at.Wish = resilience.WishPause
			later(t, env, time.Hour, workflows.StrategyUpdate, workflows.NewStrategy{Strategy: resilience.Immediate})
			env.ExecuteWorkflow(batch(), planned())
			var again *workflow.ContinueAsNewError
			require.ErrorAs(t, env.GetWorkflowError(), &again)
			var in workflows.MigrateInput
			require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))

			next, b := rehearsal(t)
			said := phases(next)
			b.at.Wish = resilience.WishPause
			later(t, next, time.Hour, workflows.ResumeUpdate, ana)
			next.ExecuteWorkflow(workflows.MigrateName(resilience.Immediate), in)
			require.NoError(t, next.GetWorkflowError())
			return said
		}, []string{"paused", "move", "switch"}},
		"a run from before": {func(t *testing.T) *[]string {
			env, a := rehearsal(t)
			said := phases(env)
			env.OnGetVersion("what-keeps", workflow.DefaultVersion, workflow.Version(1)).Return(workflow.DefaultVersion)
			a.busy, a.at.Wish = 5, resilience.WishPause
			later(t, env, time.Hour, workflows.ResumeUpdate, ana)
			env.ExecuteWorkflow(batch(), planned())
			require.NoError(t, env.GetWorkflowError())
			return said
		}, []string{"plan", "move", "switch"}},
	}
}

// TestRunsAreFilteredByWhatTheyDo, and by what keeps them from it: one event for
// each change, and none while it lasts.
func TestRunsAreFilteredByWhatTheyDo(t *testing.T) {
	t.Parallel()
	all := keptFromWork()
	maps.Copy(all, turned())
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, *c.play(t))
		})
	}
}

// TestThePhasesAreInTheDocs, with the filter that the test below looks with.
func TestThePhasesAreInTheDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/strategies.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "\n    "+fmt.Sprintf(byPhase, "paused")+"\n")
	_, table, _ := strings.Cut(string(page), "\n| `RehomePhase` | the migration |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var said []string
	for row := range strings.Lines(table) {
		said = append(said, strings.Split(row, "`")[1])
	}
	require.Equal(t, []string{"plan", "approval", "queued", "move", "paused", "waiting", "soak", "build", "switch", "retire", "undo", "stuck"}, said)
}

// byPhase is a filter of the web UI.
const byPhase = `RehomePhase = %q AND ExecutionStatus = "Running"`

// filtered waits until a filter of the web UI shows one run of the installation, the
// one that is wanted.
func (in *installation) filtered(phase string, want client.WorkflowRun) {
	in.Helper()
	query := fmt.Sprintf(byPhase+` AND TaskQueue = %q`, phase, workflows.TaskQueue(in.id))
	require.Eventually(in, func() bool {
		found, err := in.temporal.ListWorkflow(context.WithoutCancel(in.Context()), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		runs := found.GetExecutions()
		return err == nil && len(runs) == 1 && runs[0].GetExecution().GetWorkflowId() == want.GetID()
	}, wait, tick, "%s is not found by %s", want.GetID(), query)
}

// TestRunsAreFoundByTheirPhase on a real server, as the web UI finds them.
func TestRunsAreFoundByTheirPhase(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.exec(`INSERT INTO rehome.settings (key, value) VALUES ('max_concurrent_migrations', '1')`)
	in.fill("a.md", 200)
	in.fill("b.md", 200)
	in.fill("c.md", 20)
	slow := resilience.Policy{BatchSize: 1, Rate: 2} // it outlasts the test
	ana := workflows.Order{Author: "ana"}

	id, first := in.migrate(slow, rule("a.md", "moved/a.md"))
	in.moving(id)
	in.filtered("move", first)
	_, second := in.migrate(slow, rule("b.md", "moved/b.md"))
	in.filtered("queued", second)
	asks := in.start(workflows.MigrateID(in.id, "docs", "m-asks"), workflows.MigrateName(resilience.Batch), workflows.MigrateInput{
		Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: "m-asks", PlanOnly: true,
		Renames: []resilience.RenameRule{rule("c.md", "moved/c.md")}, Policy: slow, Tuning: quick(),
	})
	in.filtered("approval", asks)

	in.told(first, workflows.PauseUpdate, ana)
	in.filtered("paused", first)
	in.filtered("move", second) // which has its slot
	in.told(first, workflows.ResumeUpdate, ana)
	in.filtered("queued", first)
	in.told(second, workflows.AbortUpdate, ana)
	in.filtered("move", first)
	for _, run := range []client.WorkflowRun{first, asks} {
		in.told(run, workflows.AbortUpdate, ana)
		require.Equal(t, workflows.Aborted, ends(t, run, nil))
	}
}
