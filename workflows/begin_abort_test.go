package workflows_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"rehome/resilience"
	"rehome/workflows"
)

// answered takes the answer to an order.
func answered(t *testing.T, take func(resilience.Status)) *testsuite.TestUpdateCallback {
	return &testsuite.TestUpdateCallback{
		OnAccept: func() {},
		OnReject: func(err error) { t.Errorf("turned down: %s", err) },
		OnComplete: func(answer any, err error) {
			if a, ok := answer.(workflows.Answer); ok && err == nil {
				take(a.Status)
			} else {
				t.Errorf("answered %v, %v", answer, err)
			}
		},
	}
}

// TestAnAbortWhileAPlanBeginsIsAnsweredAsItEnds, whichever of them comes first: no chunk
// has moved, and no index is dropped once the order was answered.
func TestAnAbortWhileAPlanBeginsIsAnsweredAsItEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step     string
		last     bool // what the step does it has done when the order comes
		answer   resilience.Status
		end      resilience.Status
		ordinary bool // a plan that drops no index
	}{
		"while it joins the queue":   {step: "QueueMigration", answer: resilience.Cancelled, end: resilience.Cancelled},
		"while it takes a slot":      {step: "TakeSlot", answer: resilience.Cancelled, end: resilience.Cancelled},
		"before it begins":           {step: "BeginMigration", answer: resilience.Cancelled, end: resilience.Cancelled},
		"before an ordinary begins":  {step: "BeginMigration", answer: resilience.Cancelled, end: resilience.Cancelled, ordinary: true},
		"after it began":             {step: "BeginMigration", last: true, answer: resilience.RollingBack, end: resilience.RolledBack},
		"after an ordinary began":    {step: "BeginMigration", last: true, answer: resilience.RollingBack, end: resilience.RolledBack, ordinary: true},
		"before its indexes go away": {step: "TakeIndexes", answer: resilience.RollingBack, end: resilience.RolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, k := kept(t, course{rebuild: !c.ordinary})
			var answer resilience.Status
			told, begun := make(chan struct{}), make(chan struct{})
			abort := func() {
				env.UpdateWorkflow(workflows.AbortUpdate, "abort", answered(t, func(s resilience.Status) {
					answer = s
					close(told)
				}), workflows.Order{Author: "ana", Reason: "why not"})
			}
			if c.step == "BeginMigration" {
				k.begins = func(begin func()) {
					if c.last {
						begin()
					}
					abort()
					<-told
					if !c.last { // an attempt that heard of nothing
						begin()
					}
					close(begun)
				}
			} else {
				close(begun)
				env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
					if info.ActivityType.Name == c.step {
						abort()
					}
				})
			}
			in := planned()
			in.Approve, in.Policy.Way = true, k.plan.Way
			env.ExecuteWorkflow(batch(), in)
			require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana: why not")
			<-begun
			ran := k.did()
			require.Equal(t, c.answer, answer, "%v", ran)
			require.Equal(t, c.end, k.status, "%v", ran)
			require.NotContains(t, ran, "MoveSlice")
			require.False(t, k.away)
			if c.step != "TakeIndexes" {
				require.NotContains(t, ran, "TakeIndexes")
			}
		})
	}
}

// TestAnAbortBeforeTheIndexesGoAwayLeavesThem in Postgres, where the plan has begun.
func TestAnAbortBeforeTheIndexesGoAwayLeavesThem(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 20)
	in.withVectorIndex()
	var answer workflows.Answer
	in.faults.inject("TakeIndexes", fault{times: 1, meets: func(int) {
		run := in.temporal.GetWorkflow(t.Context(), workflows.MigrateID(in.id, "docs", "m-1"), "")
		answer, _ = in.update(run, workflows.AbortUpdate, workflows.Order{Author: "ana"})
	}})
	require.Equal(t, workflows.Aborted, ends(t, in.rebuilding(), nil))
	require.Equal(t, resilience.RollingBack, answer.Status)
	require.Equal(t, resilience.RolledBack, in.plan("m-1").Status)
	require.Zero(t, in.number(`SELECT count(*) FROM rehome.migration_indexes`), "none was taken away")
	require.Equal(t, 20, in.count("guide"))
}
