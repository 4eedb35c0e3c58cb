package workflows_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

const (
	manyEvents = 4096 // of a history, from which on Temporal's server suggests to continue as new
	perTask    = 3    // a workflow task is scheduled, started, completed
	perStep    = 3    // so is an activity
	beginning  = 1 + perTask
)

// tally counts the events that a run would have in its history, since the test
// environment keeps none. Each answer of an activity and each timer that fires
// brings about a workflow task; where two come at once there is one less.
type tally struct {
	env    *testsuite.TestWorkflowEnvironment
	events int
}

// tallied counts from here on, and suggests what the server would.
func tallied(env *testsuite.TestWorkflowEnvironment) *tally {
	c := &tally{env: env, events: beginning}
	env.SetOnActivityStartedListener(func(*activity.Info, context.Context, converter.EncodedValues) { c.add(perStep + perTask) })
	env.SetOnTimerScheduledListener(func(string, time.Duration) { c.add(1) })
	env.SetOnTimerFiredListener(func(string) { c.add(1 + perTask) })
	env.SetOnTimerCanceledListener(func(string) { c.add(1) })
	env.OnUpsertTypedSearchAttributes(mock.Anything).Return(nil).Run(func(mock.Arguments) { c.add(1) })
	return c
}

func (c *tally) add(events int) {
	if c.events += events; c.events >= manyEvents {
		c.env.SetContinueAsNewSuggested(true)
	}
}

// TestTheTallyIsThatOfHistories: real runs have exactly as many events.
func TestTheTallyIsThatOfHistories(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"migrate-completed", "migrate-gradual"} {
		text, err := os.ReadFile(filepath.Join(histories, name+".json"))
		require.NoError(t, err)
		var recorded struct {
			Events []struct{ EventType string }
		}
		require.NoError(t, json.Unmarshal(text, &recorded))
		of := map[string]int{}
		for _, e := range recorded.Events {
			of[e.EventType]++
		}
		steps := of["EVENT_TYPE_ACTIVITY_TASK_SCHEDULED"]
		require.Positive(t, steps)
		require.Len(t, recorded.Events, beginning+steps*(perStep+perTask)+of["EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES"]+1, name)
	}
}

// TestADayOfSlicesFitsIntoItsHistories: a plan in the middle of its rows works for
// 24 hours, slice after slice, each as long as it is by itself. No run of it has
// more events than the server wants, and all of them together have no more than
// fit. The quick form works for 4 hours, and multiplies.
func TestADayOfSlicesFitsIntoItsHistories(t *testing.T) {
	t.Parallel()
	const most = 20_000 // in 24 hours
	for _, strategy := range []resilience.Strategy{resilience.Batch, resilience.Gradual} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			day := 24 * time.Hour
			if testing.Short() {
				day /= 6
			}
			in, at := planned(), resilience.Watermark{Total: 1_000_000_000, Last: 600_000_000, Epoch: 1, Wish: resilience.WishRun}
			began, all := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), 0
			now := began
			for now.Sub(began) < day {
				env, w := gradual(t)
				env.SetStartTime(now)
				w.at = at
				w.ends = func(int) *resilience.HealthCheck { return new(resilience.HealthCheck) }
				run := tallied(env)
				env.OnActivity("MoveSlice", mock.Anything, mock.Anything).After(activities.DefaultSlice).Return(func(ctx context.Context, in activities.SliceInput) (resilience.Watermark, error) {
					if in.Slice != (activities.Slice{}) {
						return resilience.Watermark{}, errInjected
					}
					if in.Servo == nil {
						return w.actor.MoveSlice(ctx, in)
					}
					return w.MoveSlice(ctx, in)
				})
				env.ExecuteWorkflow(workflows.MigrateName(strategy), in)
				var again *workflow.ContinueAsNewError
				require.ErrorAs(t, env.GetWorkflowError(), &again)
				require.LessOrEqual(t, run.events, manyEvents+perStep+perTask)
				in = workflows.MigrateInput{}
				require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))
				all += run.events + 1 // that it continues as new
				now, at = env.Now(), w.at
			}
			perDay := float64(all) * 24 / now.Sub(began).Hours()
			require.Less(t, perDay, float64(most))
			require.Greater(t, perDay, 0.8*most, "the clock of the test goes with the slices")
		})
	}
}
