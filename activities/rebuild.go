package activities

import (
	"context"

	"rehome/resilience"
)

// IndexInput names a plan, as it was when the order was given.
type IndexInput struct {
	PlanInput
	Epoch   int64    `json:"epoch"`
	Methods []string `json:"methods,omitempty"` // access methods of the indexes; empty: those of vectors
}

// TakeIndexes takes the vector indexes of a plan's table away, for as long as
// its rows move, and returns their names.
func (a *Database) TakeIndexes(ctx context.Context, in IndexInput) ([]string, error) {
	methods := in.Methods
	if len(methods) == 0 {
		methods = resilience.VectorMethods()
	}
	names, err := a.Store.TakeIndexes(ctx, in.Migration, in.Epoch, methods)
	return names, classify("take the vector indexes away", err)
}

// BuildIndexes builds the indexes again that a plan took away, and returns how
// many there were.
func (a *Database) BuildIndexes(ctx context.Context, in PlanInput) (int, error) {
	var built int
	err := beating(ctx, func(ctx context.Context) (err error) {
		built, err = a.Store.BuildIndexes(ctx, in.Migration)
		return err
	})
	return built, classify("build the indexes again", err)
}
