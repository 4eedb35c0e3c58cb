package activities

import (
	"context"

	"rehome/corpus"
	"rehome/resilience"
	"rehome/store"
)

// recheckPage is how many sources are looked for between two transactions.
const recheckPage = 1000

// RecheckSources looks once more, one by one, for the sources that the walk did
// not see: a file may have been moved to where the walk had been already, or a
// listing may have left it out.
func (a *Files) RecheckSources(ctx context.Context, in ScanInput) (ScanSlice, error) {
	memory, err := a.Store.Memory(ctx, in.Memory)
	if err != nil {
		return ScanSlice{}, classify("scan", err)
	}
	at, err := a.Store.ScanPosition(ctx, in.scan())
	if err != nil {
		return ScanSlice{}, classify("scan", err)
	}
	if at.Stage != store.StageRecheck {
		return ScanSlice{ScanProgress: at.Progress, Done: true}, nil
	}
	root, err := a.openTree(memory)
	if err != nil {
		return ScanSlice{}, classify("open the root", err)
	}
	defer root.Close() //nolint:errcheck // nothing was written to it
	progress, done, err := inSlice(ctx, in.Slice, func(ctx context.Context) (store.ScanProgress, bool, error) {
		suspects, err := a.Store.Suspects(ctx, in.scan(), at, recheckPage)
		if err != nil {
			return at.Progress, false, err
		}
		looks := make([]store.Look, len(suspects))
		err = beating(ctx, func(ctx context.Context) error { return lookAll(ctx, root, memory, suspects, looks) })
		if err != nil {
			return at.Progress, false, err
		}
		next, err := a.Store.RecordLooks(ctx, in.scan(), at, looks)
		if err != nil {
			return at.Progress, false, err
		}
		at = next
		return at.Progress, len(suspects) == 0, nil
	})
	return ScanSlice{ScanProgress: progress, Done: done}, outrun("look again", err)
}

// lookAll looks for each suspect. It is void when the root is another directory
// at its end than at its beginning.
func lookAll(ctx context.Context, root tree, memory resilience.Memory, suspects []store.Suspect, looks []store.Look) error {
	if err := checkSame(root, memory); err != nil {
		return err
	}
	for i, s := range suspects {
		if err := ctx.Err(); err != nil {
			return err
		}
		looks[i] = store.Look{Ordinal: s.Ordinal, Class: look(root, s), Folds: corpus.Folds(s.Path)}
	}
	return checkSame(root, memory)
}
