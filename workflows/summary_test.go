package workflows_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	"rehome/resilience"
	"rehome/workflows"
)

// TestALongReasonIsShortenedInSummaries: a reason may be long, and is in the
// summaries of what follows from it; Temporal may refuse those of more than 400
// bytes. All that is waited for has one.
func TestALongReasonIsShortenedInSummaries(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/a.md", 500)
	id, run := in.migrate(slowly(), rule("guide", "manual"))
	in.moving(id)
	order := workflows.Order{Author: "ana", Reason: strings.Repeat("über ", 400)}
	for _, update := range []string{workflows.PauseUpdate, workflows.ResumeUpdate, workflows.AbortUpdate} {
		_, err := in.update(run, update, order)
		require.NoError(t, err, update)
	}
	require.Equal(t, workflows.Aborted, ends(t, run, nil))
	plan := in.plan(id)
	require.Equal(t, resilience.RolledBack, plan.Status)
	require.Contains(t, plan.Reason, order.Reason, "the plan keeps it whole")

	var said []string
	for h := in.temporal.GetWorkflowHistory(t.Context(), run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); h.HasNext(); {
		event, err := h.Next()
		require.NoError(t, err)
		payload := event.GetUserMetadata().GetSummary()
		if t := event.GetEventType(); t == enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED || t == enums.EVENT_TYPE_TIMER_STARTED {
			require.NotNil(in, payload, event)
		}
		if payload != nil {
			var summary string
			require.NoError(t, converter.GetDefaultDataConverter().FromPayload(payload, &summary))
			require.LessOrEqual(t, len(summary), 400)
			said = append(said, summary)
		}
	}
	all := strings.Join(said, "\n")
	for _, start := range []string{"Pause, for ana: über über", "Go on, for ana: über", "Put everything back, for ana: über", "Turn the plan round: aborted by ana: über"} {
		require.Contains(t, all, start)
	}
}
