package activities

import (
	"context"
	"errors"
	"path"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"rehome/corpus"
	"rehome/store"
)

// A batch ends when it has so many files or so much text: enough that a
// transaction costs little beside its rows, little enough that two batches in
// memory do not count and that a heartbeat comes several times a second.
const (
	batchFiles = 512
	batchBytes = 8 << 20
	batchDirs  = 512
)

// Reasons for which a name in the tree is left out, beside those of corpus.
const (
	skippedLink      corpus.Reason = "symlink"
	skippedExcluded  corpus.Reason = "excluded"             // a version control system's own data
	skippedUnkeyed   corpus.Reason = "unrepresentable_name" // not UTF-8, control characters, too long
	skippedTwin      corpus.Reason = "conflict"             // equal to its neighbour but for Unicode normalisation
	skippedMount     corpus.Reason = "other_file_system"
	skippedDirectory corpus.Reason = "unreadable_directory"
)

// ingestCursor is a place in a walk.
type ingestCursor struct {
	dir  string // the last directory that is done
	file string // the last file that is done of the directory after it; "" for none
}

// No key holds a line break.
func (c ingestCursor) String() string { return c.dir + "\n" + c.file }

func parseIngestCursor(s string) ingestCursor {
	dir, file, _ := strings.Cut(s, "\n")
	return ingestCursor{dir, file}
}

// readBatch is a number of files, read and split, with what was left out.
type readBatch struct {
	files   []store.File
	skipped []corpus.Reason
	cursor  ingestCursor // behind it
}

// readingAhead reads the next batches while the last is being stored.
type readingAhead struct {
	batches chan *readBatch
	cancel  context.CancelFunc
	err     error // valid once batches is closed
}

func readAhead(ctx context.Context, root *corpus.Root, from ingestCursor, limit int64) *readingAhead {
	ctx, cancel := context.WithCancel(ctx)
	ahead := &readingAhead{batches: make(chan *readBatch), cancel: cancel}
	go func() {
		defer close(ahead.batches)
		r := reader{root: root, limit: limit, from: from, cursor: from, batches: ahead.batches}
		ahead.err = r.run(ctx)
	}()
	return ahead
}

// next returns the next batch, nil at the end of the tree. It calls alive from
// time to time while it waits.
func (ahead *readingAhead) next(ctx context.Context, alive func()) (*readBatch, error) {
	tick := time.NewTicker(time.Second) // a slow file system may keep a batch for long
	defer tick.Stop()
	for {
		select {
		case batch, more := <-ahead.batches:
			if !more {
				return nil, ahead.err
			}
			return batch, nil
		case <-tick.C:
			alive()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// stop ends the reading and waits for it, so that the root can be closed.
func (ahead *readingAhead) stop() {
	ahead.cancel()
	for range ahead.batches {
	}
}

// reader turns a walk into batches.
type reader struct {
	root    *corpus.Root
	limit   int64
	from    ingestCursor // where it began
	batches chan<- *readBatch

	// What the next batch has so far.
	cursor  ingestCursor
	pending []corpus.Entry
	bytes   int64
	dirs    int
	skipped []corpus.Reason
}

func (r *reader) run(ctx context.Context) error {
	err := r.root.Walk(ctx, r.from.dir, func(dir corpus.Listing) error { return r.directory(ctx, dir) })
	if err != nil {
		return err
	}
	return r.flush(ctx)
}

func (r *reader) directory(ctx context.Context, dir corpus.Listing) error {
	if dir.Err != nil && dir.Dir == "." {
		return dir.Err // nothing was read: not a result
	}
	if dir.Err != nil {
		r.skipped = append(r.skipped, directoryReason(dir.Err))
		if strings.HasPrefix(r.cursor.dir, dir.Dir+"/") {
			return nil // it was read once, on the way to where we are
		}
	}
	resumed := r.from.file != "" && path.Dir(r.from.file) == dir.Dir
	for _, e := range dir.Entries {
		if resumed && e.Key <= r.from.file {
			continue
		}
		if err := r.entry(ctx, e); err != nil {
			return err
		}
	}
	r.cursor = ingestCursor{dir: dir.Dir}
	// Also directories without files are progress.
	if r.dirs++; r.dirs >= batchDirs {
		return r.flush(ctx)
	}
	return nil
}

func (r *reader) entry(ctx context.Context, e corpus.Entry) error {
	if reason := skipReason(e); reason != "" {
		r.skipped = append(r.skipped, reason)
		return nil
	}
	if e.Kind == corpus.Dir {
		return nil // has its own listing
	}
	r.pending = append(r.pending, e)
	r.bytes += min(e.Size, batchBytes)
	r.cursor.file = e.Key
	if len(r.pending) < batchFiles && r.bytes < batchBytes {
		return nil
	}
	return r.flush(ctx)
}

// flush reads the files of a batch, on all processors, and hands it over.
func (r *reader) flush(ctx context.Context) error {
	if len(r.pending) == 0 && len(r.skipped) == 0 && r.dirs == 0 {
		return nil
	}
	batch := &readBatch{cursor: r.cursor, skipped: r.skipped}
	read := make([]store.File, len(r.pending))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, e := range r.pending {
		group.Go(func() error {
			read[i] = r.read(e)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, f := range read {
		if reason := corpus.Reason(f.Skipped); reason == corpus.Vanished || reason == corpus.NotRegular {
			batch.skipped = append(batch.skipped, reason) // no file to have in the catalogue
			continue
		}
		batch.files = append(batch.files, f)
	}
	r.pending, r.bytes, r.dirs, r.skipped = nil, 0, 0, nil
	select {
	case r.batches <- batch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *reader) read(e corpus.Entry) store.File {
	file := store.File{Path: e.Key, Raw: e.Raw, Size: e.Size, ModTime: e.ModTime}
	text, err := r.root.ReadText(e.Raw, r.limit)
	if err != nil {
		reason := corpus.Unreadable
		if skip, ok := errors.AsType[*corpus.Skip](err); ok {
			reason = skip.Reason
		}
		file.Skipped = string(reason)
		return file
	}
	file.Size, file.ModTime, file.Hash = text.Size, text.ModTime, text.Hash[:]
	for _, piece := range corpus.Split(e.Key, text.Content) {
		file.Pieces = append(file.Pieces, piece.Content)
	}
	return file
}

// skipReason says why an entry is left out without a look into it.
func skipReason(e corpus.Entry) corpus.Reason {
	switch {
	case e.Kind == corpus.Excluded:
		return skippedExcluded
	case e.Unkeyed:
		return skippedUnkeyed
	case e.Kind == corpus.Symlink:
		return skippedLink
	case e.Twin && e.Kind != corpus.Dir:
		return skippedTwin
	}
	return ""
}

func directoryReason(err error) corpus.Reason {
	switch {
	case errors.Is(err, corpus.ErrTwins):
		return skippedTwin
	case errors.Is(err, corpus.ErrOtherDevice):
		return skippedMount
	default:
		return skippedDirectory
	}
}
