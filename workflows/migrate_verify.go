package workflows

import (
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
)

// verify looks at every row once more before anybody is led to the new paths. A
// mismatch ends the run, and the saga puts everything back. A transfer compares
// its copies when it retires what they were made of; before that, once all stand
// there, it looks for chunks of others among them.
func (m *migration) verify(ctx workflow.Context) error {
	summary, words := "Look at every moved chunk once more", "Looking at every moved chunk once more"
	if m.carrying != nil {
		if m.carrying.SoakUntil.IsZero() {
			return nil
		}
		summary, words = "Look for chunks of others among the copies", "Looking for chunks of others among the copies"
	}
	in := activities.VerifyInput{Origin: m.in.Origin, Migration: m.in.Migration, Slice: m.in.Tuning.Slice}
	for !in.At.Done {
		if m.aborted != nil {
			return m.abortion()
		}
		at := in.At
		m.progress.set(ctx, Progress{Phase: words, Done: at.Last, Total: at.Total, Unit: "chunks"})
		err := workflow.ExecuteActivity(m.in.Tuning.sliced(ctx, summary), database.VerifyMigration, in).Get(ctx, &at)
		if err != nil {
			return err
		}
		in.At = at
	}
	return nil
}
