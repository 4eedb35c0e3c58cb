package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// patience is how steps are retried: for ever, since the cause (a database
// that is down, a lock, a full disk) is a person's to mend, and often enough
// that the work goes on soon after. What no retry can mend comes back as a
// non-retryable type.
func patience() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: 500 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second}
}

// brief is for one quick statement or two.
func brief(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute,
		RetryPolicy:         patience(),
		Summary:             short(summary),
	})
}

// lengthy is for one statement over a whole table; it heartbeats by a ticker.
func (t Tuning) lengthy(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 6 * time.Hour,
		HeartbeatTimeout:    t.heartbeat(),
		RetryPolicy:         patience(),
		WaitForCancellation: true,
		Summary:             short(summary),
	})
}

// sliced is for time-sliced work, which heartbeats after each batch. A writer
// that is cancelled is waited for, so that its compensation starts after it.
func (t Tuning) sliced(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Minute,
		HeartbeatTimeout:    t.heartbeat(),
		RetryPolicy:         patience(),
		WaitForCancellation: true,
		Summary:             short(summary),
	})
}

// await waits until done, and reports whether it was before the timeout. The
// summary says in the web UI what the timer is for.
func await(ctx workflow.Context, timeout time.Duration, summary string, done func() bool) (bool, error) {
	return workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{Timeout: timeout, TimerOptions: workflow.TimerOptions{Summary: short(summary)}}, done)
}

// short is a summary as the web UI has room for it, in one line. Temporal may
// refuse one of more than 400 bytes, and a reason can be long.
func short(summary string) string {
	const most = 100
	if r := []rune(summary); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return summary
}

// onFiles sends the activities of ctx to the workers that have the roots.
func onFiles(ctx workflow.Context, installation string) workflow.Context {
	return workflow.WithTaskQueue(ctx, FilesQueue(installation))
}

func (t Tuning) heartbeat() time.Duration {
	if t.Heartbeat > 0 {
		return time.Duration(t.Heartbeat)
	}
	return 30 * time.Second
}
