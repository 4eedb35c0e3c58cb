package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/workflows"
)

// single lets one migration work at a time.
func (b *bundle) single() *bundle {
	b.t.Helper()
	b.exec(`INSERT INTO rehome.settings (key, value) VALUES ('max_concurrent_migrations', '1')`)
	return b
}

// planned makes a plan that waits for approval, and returns its id.
func (b *bundle) planned(flags ...string) (id string, shown answer) {
	b.t.Helper()
	b.memory("default")
	b.chunks("default", 200, "guide/a.md", "other.md")
	shown = b.ok(append([]string{"migrate", "--rename", "guide=handbook", "--plan-only"}, flags...)...)
	require.NoError(b.t, b.pool.QueryRow(b.t.Context(), `SELECT plan_id FROM rehome.migration_plans`).Scan(&id))
	return id, shown
}

func TestAPlanIsShownAndApproved(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id, shown := b.planned()
	var plan map[string]any
	b.result(&plan, "migration", "show", id)
	hash := plan["plan_hash"].(string)
	require.Equal(t, "awaiting_approval", plan["status"])
	for _, part := range []string{id, "awaiting_approval", hash, "risk"} {
		require.Contains(t, shown.out, part)
	}
	for _, way := range []string{"starter migration approve " + id, "starter migration abort " + id, "http://ui.test/"} {
		require.Contains(t, shown.err, way)
	}
	b.refuses(bad{"migration approve " + id + " --hash 0000", exitConflict, "is " + hash + `, not "0000"`})
	b.refuses(bad{"migration pause " + id, exitConflict, "awaiting approval; there is nothing to pause"})

	approved := b.ok("migration", "approve", id)
	require.Contains(t, approved.err, "approved: 200 chunks by strategy batch, risk ")
	require.Contains(t, approved.err, "plan hash "+hash)
	b.await(id, "completed")
	b.refuses(bad{"migration approve " + id, exitConflict, "is completed; there is nothing to approve"})
	require.Contains(t, b.ok("migration", "show", id).out, "approved by "+author()+": "+hash)

	run, err := devtest.Temporal(t).DescribeWorkflow(t.Context(), plan["workflow_id"].(string), "")
	require.NoError(t, err)
	for key, want := range map[temporal.SearchAttributeKeyKeyword]string{
		workflows.MemoryAttribute: "default", workflows.StrategyAttribute: "batch", workflows.PhaseAttribute: "switch", // the last one
		workflows.RiskAttribute: plan["risk"].(map[string]any)["level"].(string),
	} {
		value, _ := run.TypedSearchAttributes.GetKeyword(key)
		require.Equal(t, want, value, key.GetName())
	}
}

// TestAPlanIsApprovedBySomebodyElse, where the setting wants that.
func TestAPlanIsApprovedBySomebodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.exec(`INSERT INTO rehome.settings (key, value) VALUES ('approve_by_another', 'true')`)
	id, _ := b.planned()
	b.refuses(bad{"migration approve " + id, exitRefused, author() + " may not approve migration " + id + ": " + author() + " ordered it, and the setting approve_by_another wants the yes of somebody else"})
	var plan resilience.Plan
	b.result(&plan, "migration", "show", id)
	require.Equal(t, resilience.AwaitingApproval, plan.Status)
	require.Nil(t, plan.Approval)
	_, err := devtest.Temporal(t).UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: plan.WorkflowID, UpdateName: workflows.ApproveUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{workflows.Approval{Hash: plan.Hash, Author: "ben"}},
	})
	require.NoError(t, err)
	b.await(id, "completed")
	require.Contains(t, b.ok("migration", "show", id).out, "approved by ben: "+plan.Hash)
}

func TestAPlanThatWaitsIsDropped(t *testing.T) {
	t.Parallel()
	for name, verb := range map[string]string{"Abort": "abort", "Rollback": "rollback", "RollbackOfATerminatedOne": "rollback"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t).serve()
			id, _ := b.planned()
			if name == "RollbackOfATerminatedOne" {
				var workflow string
				require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT workflow_id FROM rehome.migration_plans`).Scan(&workflow))
				require.NoError(t, devtest.Temporal(t).TerminateWorkflow(t.Context(), workflow, "", "test"))
			}
			require.Equal(t, "cancelled", b.has("migration "+verb+" "+id, "status")["status"])
			require.Contains(t, b.ok("migration", "show", id).out, "cancelled by "+author())
			var slots int
			require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.migration_slots`).Scan(&slots))
			require.Zero(t, slots)
		})
	}
}

// TestAWaitSaysForWhom: a migration in the queue says who is at work, keeps
// waiting, and stops to wait for a person when the table has changed meanwhile.
func TestAWaitSaysForWhom(t *testing.T) {
	t.Parallel()
	b := setup(t).serve().single()
	first := b.slow()
	talk, ended := newSpy("waits in the queue: "+first+" at work"), make(chan answer, 1)
	go func() {
		var out strings.Builder
		p := process{in: strings.NewReader(""), out: &out, err: talk, env: b.env, dir: "."}
		code := execute(t.Context(), p, strings.Fields("migrate --rename other.md=elsewhere.md"))
		ended <- answer{code, out.String(), talk.String()}
	}()
	talk.wait(t)
	var second string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT plan_id FROM rehome.migration_plans WHERE status = 'queued'`).Scan(&second))
	require.Contains(t, b.ok("migration", "show", second).out, "waits for")
	var shown struct {
		Waits resilience.Wait `json:"waits_for"`
	}
	b.result(&shown, "migration", "show", second)
	require.Equal(t, resilience.Wait{AtWork: []string{first}}, shown.Waits)
	b.exec(`DELETE FROM rehome.chunks WHERE path = 'other.md' AND ordinal <= 50`)
	b.ok("migration", "abort", first)
	select {
	case a := <-ended:
		require.Equal(t, exitRefused, a.code, a.err)
		require.Contains(t, a.out, "awaiting_approval")
		require.Contains(t, a.err, "50 of its 200 chunks are no longer where they were planned")
		require.Contains(t, a.err, "starter migration approve "+second)
	case <-time.After(time.Minute):
		require.Fail(t, "it still waits", talk.String())
	}
	b.ok("migration", "approve", second)
	b.await(second, "completed")
}

func TestResumeSaysThatItWaits(t *testing.T) {
	t.Parallel()
	b := setup(t).serve().single()
	first := b.slow()
	b.ok("migration", "pause", first, "--reason", "a busy hour")
	var second detached
	b.result(&second, "migrate", "--rename", "other.md=elsewhere.md", "--rate", "1", "--batch-size", "1", "--detach")
	b.await(second.Migration, "executing")
	resumed := b.ok("migration", "resume", first)
	require.Contains(t, resumed.out, "paused")
	require.Contains(t, resumed.err, "migration "+first+" waits in the queue: "+second.Migration+" at work; it goes on by itself")
	b.ok("migration", "abort", second.Migration)
	b.await(first, "executing")
	shown := b.ok("migration", "show", first).out
	for _, event := range []string{"paused by " + author() + ": a busy hour", "resume asked by " + author(), "resumed by " + author()} {
		require.Contains(t, shown, event)
	}
	b.ok("migration", "abort", first)
}

func TestAnotherStrategyAndAPaceForAWhile(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id := b.slow()
	b.refuses(bad{"migration strategy " + id + " immediate", exitConflict, "its strategy can be changed while it is queued or paused"})
	b.refuses(bad{"migration strategy " + id + " magic", exitUsage, "want one of"})
	b.refuses(bad{"migration throttle " + id + " --rate 5 --for -1h", exitUsage, "want how long"})
	b.ok("migration", "throttle", id, "--rate", "1000", "--for", "2h")
	var left float64
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT extract(epoch FROM throttle_until - now()) FROM rehome.migration_progress`).Scan(&left))
	require.InDelta(t, 7200, left, 60)
	b.ok("migration", "throttle", id, "--rate", "1")
	require.Regexp(t, `throttled +1 rows a second, 20 rows a batch, for good`, b.ok("migration", "throttle", id, "--batch-size", "20").out)
	require.Regexp(t, `throttled +1 rows a second, for good`, b.ok("migration", "throttle", id, "--batch-size", "0").out)
	b.ok("migration", "pause", id)
	b.refuses(bad{"migration strategy " + id + " immediate", exitRefused, "rate 1: the strategy immediate moves all in one transaction"})
	b.ok("migration", "throttle", id, "--rate", "0")
	changed := b.has("migration strategy "+id+" immediate --approve", "strategy")
	require.Equal(t, "immediate", changed["strategy"])
	require.Equal(t, "paused", changed["status"])
	b.refuses(bad{"migration strategy " + id + " immediate", exitConflict, "immediate already"})
	b.refuses(bad{"migration throttle " + id + " --rate 5", exitRefused, "migration " + id + " is not throttled"})
	b.ok("migration", "resume", id)
	b.await(id, "completed")
	shown := b.ok("migration", "show", id).out
	for _, event := range []string{"throttled by " + author() + ": 1000 rows a second, for 2h0m0s", "strategy changed by " + author() + ": from batch to immediate", "with the change of strategy"} {
		require.Contains(t, shown, event)
	}
}

// TestAnApprovalWithTheOrderIsNoted: who approves a plan beforehand is named, as
// those are who approve it afterwards.
func TestAnApprovalWithTheOrderIsNoted(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 20, "guide/a.md", "other.md")
	var plan, plain shownPlan
	b.result(&plan.Plan, "migrate", "--rename", "guide=handbook", "--approve")
	b.result(&plan, "migration", "show", plan.ID)
	require.Equal(t, author(), plan.Approval.By)
	require.Equal(t, plan.Hash, plan.Approval.Hash)
	var said []string
	for _, e := range plan.Events {
		if e.What == "approved" {
			require.Equal(t, author(), e.Author)
			require.WithinDuration(t, plan.CreatedAt, e.At, time.Minute)
			said = append(said, e.Detail)
		}
	}
	require.Equal(t, []string{plan.Hash + ", with the order"}, said)

	b.result(&plain.Plan, "migrate", "--rename", "other.md=elsewhere.md")
	b.result(&plain, "migration", "show", plain.ID)
	require.Nil(t, plain.Approval)
	for _, e := range plain.Events {
		require.NotEqual(t, "approved", e.What)
	}
}
