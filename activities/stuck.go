package activities

import "context"

// NoteInput is something that happened to a plan.
type NoteInput struct {
	PlanInput
	What string `json:"what"`
}

// What NoteMigration records of an undo.
const (
	Stuck   = "stuck"   // a step of it fails again and again
	Retried = "retried" // a person had it tried at once
	Skipped = "skipped" // a person had it go on without
	GoesOn  = "goes on" // it is not stuck any more
)

// NoteMigration records what happened to a plan, for people to see.
func (a *Database) NoteMigration(ctx context.Context, in NoteInput) error {
	return classify("note", a.Store.Note(ctx, in.Migration, in.What, in.Author, in.Reason))
}
