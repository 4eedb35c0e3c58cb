package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"rehome/corpus"
	"rehome/resilience"
	"rehome/store"
)

// ScanInput orders a step of a scan that its owner has claimed.
type ScanInput struct {
	Origin
	Owner
	Memory string                `json:"memory"`
	ScanID string                `json:"scan_id"`
	Policy resilience.ScanPolicy `json:"policy"`
	Listed store.Listed          `json:"listed,omitzero"` // what has to be found, once it is known
	Slice  Slice                 `json:"slice,omitzero"`
}

func (in ScanInput) scan() store.Scan {
	return store.Scan{ID: in.ScanID, Memory: in.Memory, WorkflowID: in.WorkflowID, RunID: in.RunID}
}

// ScanSlice says how far a scan has come.
type ScanSlice struct {
	store.ScanProgress
	Done bool `json:"done"` // with this stage
}

// What is recorded of a walk at once: enough that a transaction costs little
// beside its rows, and at least once a second, so that little is read twice.
const (
	walkNames = 5000
	walkDirs  = 1000
	walkTime  = time.Second
)

// errPause ends a walk whose slice is over.
var errPause = errors.New("the slice is over")

// WalkTree records what stands in the root, directory by directory, until the
// slice is over or the tree is. Each batch is recorded only if the root still
// is what was opened.
func (a *Files) WalkTree(ctx context.Context, in ScanInput) (ScanSlice, error) {
	memory, err := a.Store.Memory(ctx, in.Memory)
	if err != nil {
		return ScanSlice{}, classify("scan", err)
	}
	at, err := a.Store.ScanPosition(ctx, in.scan())
	if err != nil {
		return ScanSlice{}, classify("scan", err)
	}
	if at.Stage != store.StageWalk {
		return ScanSlice{ScanProgress: at.Progress, Done: true}, nil
	}
	root, err := a.openTree(memory)
	if err != nil {
		return ScanSlice{}, classify("open the root", err)
	}
	defer root.Close() //nolint:errcheck // nothing was written to it
	device, _ := root.Identity()
	at.Progress.Device = fmt.Sprint(device)
	w := walk{store: a.Store, memory: memory, in: in, root: root, at: at}
	err = beating(ctx, w.slice)
	if errors.Is(err, errPause) {
		return ScanSlice{ScanProgress: w.at.Progress}, nil
	}
	return ScanSlice{ScanProgress: w.at.Progress, Done: err == nil}, outrun("walk "+memory.Root, err)
}

// walk is one slice of a walk.
type walk struct {
	store  *store.Store
	memory resilience.Memory
	in     ScanInput
	root   tree
	at     store.ScanPosition
	seen   store.Walked
	since  time.Time // when something was recorded last
}

// slice walks on. It returns nil at the end of the tree, errPause before.
func (w *walk) slice(ctx context.Context) error {
	end := time.Now().Add(w.in.Slice.length())
	w.since = time.Now()
	err := w.root.Walk(ctx, w.at.At, func(dir corpus.Listing) error {
		if err := w.checkEmpty(dir); err != nil {
			return err
		}
		w.add(dir)
		if len(w.seen.Files) < walkNames && len(w.seen.Dirs) < walkDirs && time.Since(w.since) < walkTime && time.Now().Before(end) {
			return nil
		}
		if err := w.record(ctx, false); err != nil {
			return err
		}
		select {
		case <-activity.GetWorkerStopChannel(ctx):
			return errPause
		default:
		}
		if time.Now().After(end) {
			return errPause
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.record(ctx, true)
}

// checkEmpty refuses a root with nothing in it while there is something to find.
func (w *walk) checkEmpty(dir corpus.Listing) error {
	names := len(dir.Entries)
	for _, e := range dir.Entries {
		if e.Raw == resilience.MarkerFile {
			names--
		}
	}
	if dir.Dir != "." || dir.Err != nil || names > 0 || w.in.Listed.Sources == 0 || w.in.Policy.AcceptShrinkage {
		return nil
	}
	return refused("%s", resilience.Refusal(w.memory.Name, w.memory.Root, "it is empty",
		fmt.Sprintf("all %d files of its %d chunks", w.in.Listed.Sources, w.in.Listed.Chunks)))
}

func (w *walk) add(dir corpus.Listing) {
	d := store.WalkedDir{Key: dir.Dir}
	if dir.Err != nil {
		d.Error, d.Mount = dir.Err.Error(), errors.Is(dir.Err, corpus.ErrOtherDevice)
	}
	w.seen.Dirs = append(w.seen.Dirs, d)
	for _, e := range dir.Entries {
		key := e.Key
		if e.Unkeyed {
			key = ""
		}
		w.seen.Files = append(w.seen.Files, store.WalkedFile{
			Key: key, Fold: corpus.Fold(e.Raw), Raw: e.Raw, Kind: string(e.Kind), Size: e.Size, ModTime: e.ModTime,
		})
	}
}

func (w *walk) record(ctx context.Context, over bool) error {
	if err := checkSame(w.root, w.memory); err != nil {
		return err
	}
	next, err := w.store.RecordWalk(ctx, w.in.scan(), w.at, w.seen, over)
	if err != nil {
		return err
	}
	w.at, w.since = next, time.Now()
	w.seen.Dirs, w.seen.Files = w.seen.Dirs[:0], w.seen.Files[:0]
	activity.RecordHeartbeat(ctx, w.at.Progress)
	return nil
}
