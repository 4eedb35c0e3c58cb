package activities

import "go.temporal.io/sdk/worker"

// Register adds the activities that need Postgres only. Their names are those
// of the methods; they are in histories: never renamed.
func Register(r worker.ActivityRegistry, a *Database) { r.RegisterActivity(a) }

// RegisterFiles adds the activities that read a memory's root.
func RegisterFiles(r worker.ActivityRegistry, a *Files) { r.RegisterActivity(a) }
