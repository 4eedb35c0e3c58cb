package resilience_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// TestLegalMoves walks every pair of statuses and compares it with the picture
// of the design.
func TestLegalMoves(t *testing.T) {
	t.Parallel()
	legal := map[resilience.Status]string{
		resilience.Pending:          "awaiting_approval queued cancelled",
		resilience.AwaitingApproval: "queued cancelled",
		resilience.Queued:           "awaiting_approval executing cancelled",
		resilience.Executing:        "paused completed rolling_back",
		resilience.Paused:           "executing rolling_back",
		resilience.Completed:        "rolled_back",
		resilience.RollingBack:      "rolled_back failed",
		resilience.RolledBack:       "",
		resilience.Failed:           "rolling_back",
		resilience.Cancelled:        "",
	}
	require.Len(t, legal, len(resilience.Statuses()))
	for _, from := range resilience.Statuses() {
		var may string
		for _, to := range resilience.Statuses() {
			require.Equal(t, from.CanBecome(to), slices.Contains(to.Before(), from), "%s to %s", from, to)
			if from.CanBecome(to) {
				if may != "" {
					may += " "
				}
				may += string(to)
			}
		}
		require.Equal(t, legal[from], may, "from %s", from)
	}
}

// TestAnEndedPlanOwnsNothing: from a status in which a plan has ended no status
// that is live can be reached.
func TestAnEndedPlanOwnsNothing(t *testing.T) {
	t.Parallel()
	for _, from := range resilience.Statuses() {
		for _, to := range resilience.Statuses() {
			if from.Ended() && from.CanBecome(to) {
				require.False(t, to.Live(), "%s to %s", from, to)
			}
		}
		require.False(t, from.Ended() && from.Live(), from)
	}
	require.NotContains(t, resilience.LiveStatuses(), resilience.AwaitingApproval)
	require.Contains(t, resilience.OpenStatuses(), resilience.AwaitingApproval)
	require.Contains(t, resilience.LiveStatuses(), resilience.Failed)
}

// TestOnItsWay: of every other status a person wants to know why.
func TestOnItsWay(t *testing.T) {
	t.Parallel()
	var on []resilience.Status
	for _, s := range resilience.Statuses() {
		if s.OnItsWay() {
			on = append(on, s)
		}
	}
	require.ElementsMatch(t, []resilience.Status{resilience.Pending, resilience.Queued, resilience.Executing, resilience.Completed}, on)
}

func TestPaceIsChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range []resilience.Pace{{}, {Expires: 60}, {Rate: new(-1.0)}, {BatchSize: new(-1)}, {BatchSize: new(resilience.MaxBatchSize + 1)}} {
		require.Error(t, bad.Check(), bad)
	}
	require.NoError(t, resilience.Pace{Rate: new(0.5), BatchSize: new(1)}.Check())
}
