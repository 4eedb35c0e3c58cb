// Package activities holds the effects that workflows order, one verb per file.
//
// Each activity can be run again from any point: what it has done is recorded
// in the transaction that did it. Long ones are time-sliced: they work through
// as many batches as fit in a slice, heartbeat after each, and return.
package activities

import (
	"time"

	"go.temporal.io/sdk/client"

	"rehome/store"
)

// Database holds the activities that need Postgres only.
type Database struct {
	Store    *store.Store
	Temporal client.Client // to ask whether the run behind a claim is still open

	lookEvery time.Duration // of slices that mind the server's health; 0: lookEvery
}

// Files holds the activities that read a memory's root. Only workers that have
// the roots serve them.
type Files struct {
	Store    *store.Store
	Temporal client.Client

	open func(dir string) (tree, error) // nil: corpus.OpenRoot
}

// Origin names the installation an input was made for. Every activity input
// embeds it, so that a worker on another database refuses the work.
type Origin struct {
	Installation string `json:"installation"`
}

// From returns the installation the input was made for.
func (o Origin) From() string { return o.Installation }
