package workflows

import (
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
)

// verify looks at every row once more before anybody is led to the new paths. A
// mismatch ends the run, and the saga puts everything back. A transfer compares
// its copies in their batch, and when it retires what they were made of; before it switches,
// and before that, it looks for chunks of others among them. One that goes back looks whether
// every chunk came home, and what is left in the target has an outcome.
func (m *migration) verify(ctx workflow.Context) error {
	summary, words := "Look at every moved chunk once more", "Looking at every moved chunk once more"
	switch {
	case m.carrying == nil:
	case m.carrying.Back:
		if workflow.GetVersion(ctx, undoVerified, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
			return nil
		}
		summary, words = lookHome, lookingHome
	case m.carrying.SoakUntil.IsZero() && workflow.GetVersion(ctx, foreignFirst, workflow.DefaultVersion, 1) == workflow.DefaultVersion:
		return nil
	default:
		summary, words = "Look for chunks of others among the copies", "Looking for chunks of others among the copies"
	}
	return m.lookAtAll(ctx, summary, words, database.VerifyMigration, &resilience.Verified{})
}

// swept reports whether nobody looks for late chunks any more: rounds are over, and, of a
// transfer, those after the soak.
func (m *migration) swept() bool {
	return m.sweeps == maxSweeps && m.phase != undoing && (m.carrying == nil || !m.carrying.SoakUntil.IsZero())
}

// foreignFirst is the change by which chunks of others among the copies are looked for
// before anybody is led there, and not only when the soak is over.
const foreignFirst = "foreign-first"

// undoVerified is the change by which all rows are looked at once more when they have
// gone back.
const undoVerified = "undo-verified"

const (
	lookHome    = "Look whether every chunk is home and its copy gone"
	lookingHome = "Looking whether every chunk is home and its copy gone"
)

// verifyUndo is verify for a plan that its own saga took back. What is left of a transfer
// for no reason, and a journal that lacks rows, keep it from being closed until a person
// has mended that. The chunks of a transfer that went back, and whose saga made its
// copies again, were compared when they left.
func (m *migration) verifyUndo(ctx workflow.Context) error {
	if m.carrying != nil && m.carrying.Back || workflow.GetVersion(ctx, undoVerified, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	summary, words := lookHome, lookingHome
	if m.carrying == nil {
		summary, words = "Look whether every chunk is back", "Looking whether every chunk is back"
	}
	err := m.lookAtAll(ctx, summary, words, database.VerifyUndo, &m.home)
	m.unseen = err != nil
	return err
}

// lookAtAll goes through all rows after at, slice by slice.
func (m *migration) lookAtAll(ctx workflow.Context, summary, words string, look any, at *resilience.Verified) error {
	options := m.in.Tuning.sliced(ctx, summary)
	if m.phase == undoing {
		options = m.undoing(options)
	}
	for !at.Done {
		if m.abandoned() {
			return m.abortion()
		}
		m.progress.set(ctx, Progress{Phase: words, Done: at.Last, Total: at.Total, Unit: "chunks"})
		in := activities.VerifyInput{Origin: m.in.Origin, Migration: m.in.Migration, Slice: m.in.Tuning.Slice, At: *at, Late: m.swept()}
		var next resilience.Verified
		err := workflow.ExecuteActivity(options, look, in).Get(ctx, &next)
		switch {
		case err != nil && m.abandoned(): // it is looked at no more
			return m.abortion()
		case err != nil:
			return err
		}
		*at = next
		if m.phase == undoing && !at.Done {
			if err := m.afresh(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
