package corpus

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rehome/resilience"
)

// EntryKind says what stands at a name.
type EntryKind string

// The kinds.
const (
	File     EntryKind = "file"
	Dir      EntryKind = "dir"
	Symlink  EntryKind = "symlink"
	Excluded EntryKind = "excluded" // a version control system's own data, or ours: not part of the sources
	Other    EntryKind = "other"    // a device, a socket, a FIFO, or a name that could not be looked at
)

// excluded are names that hold no sources, but copies of them and state of programs.
var excluded = []string{".git", ".hg", ".svn", ".jj", ".rehome", resilience.MarkerFile}

// Entry is one name of a directory.
type Entry struct {
	Key     string // canonical path from the root; empty when Unkeyed
	Raw     string // path from the root as the file system spells it
	Kind    EntryKind
	Size    int64
	ModTime time.Time
	Unkeyed bool // the name cannot be a key: see Key
	Twin    bool // another name of the directory has the same key
}

// Listing is one directory, whole, sorted by key; or the reason why it, and all
// below it, was not read.
type Listing struct {
	Dir     string // key; "." is the root
	RawDir  string
	Entries []Entry // none when Err is set
	Err     error
}

// What keeps a directory from being read, apart from the system's errors.
var (
	ErrOtherDevice = errors.New("another file system is mounted here")
	ErrTwins       = errors.New("several names here are the same but for Unicode normalisation")
)

// namesAtOnce bounds what one read of a directory holds.
const namesAtOnce = 4096

// place is a directory that is still to be visited.
type place struct {
	key, raw string
	err      error // why it is not to be read
}

// Walk visits the directories of the tree, a directory before those in it, and
// siblings by key. Each is read whole before visit sees it. An error of one
// directory goes into its listing and ends nothing but the way down there; the
// error of visit ends the walk.
//
// With after, the key of a directory, the walk goes on behind it. Directories
// on the way to it are read again; they are visited again only if that fails
// now.
func (r *Root) Walk(ctx context.Context, after string, visit func(Listing) error) error {
	pending := []place{{key: ".", raw: "."}}
	for len(pending) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		visited := after != "" && walkOrder(at.key, after) <= 0
		if visited && !leadsTo(at.key, after) {
			continue
		}
		listing := Listing{Dir: at.key, RawDir: at.raw, Err: at.err}
		if at.err == nil {
			listing.Entries, listing.Err = r.list(at.raw)
		}
		failsNow := at.err == nil && listing.Err != nil
		if !visited || failsNow {
			if err := visit(listing); err != nil {
				return err
			}
		}
		below := subdirectories(listing.Entries)
		slices.Reverse(below) // the first is taken next
		pending = append(pending, below...)
	}
	return nil
}

// subdirectories lists the directories to visit next, in order. Of those whose
// keys are the same none is read: it could not be said whose file is whose.
func subdirectories(entries []Entry) []place {
	var below []place
	for _, e := range entries {
		at := place{key: e.Key, raw: e.Raw}
		if e.Twin {
			at.err = ErrTwins
		}
		again := len(below) > 0 && below[len(below)-1].key == e.Key
		if e.Kind == Dir && !e.Unkeyed && !again {
			below = append(below, at)
		}
	}
	return below
}

// list reads one directory to its end and looks at each name in it. A name
// that cannot be looked at is still there, as Other.
func (r *Root) list(raw string) ([]Entry, error) {
	dir, err := r.open(raw, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // nothing was written to it
	if err := r.onDevice(dir); err != nil {
		return nil, err
	}
	var entries []Entry
	for {
		names, err := r.sys.names(dir, namesAtOnce)
		for _, name := range names {
			e := newEntry(path.Join(raw, name))
			_ = r.fill(&e, dir, name) // the listing has seen the name; that is enough to be alive
			entries = append(entries, e)
		}
		if errors.Is(err, io.EOF) {
			return sorted(entries), nil
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read directory", Path: raw, Err: err}
		}
	}
}

// onDevice refuses a directory that belongs to another file system: it may be
// absent tomorrow, and nothing here would tell.
func (r *Root) onDevice(dir *os.File) error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(int(dir.Fd()), &st) }); err != nil {
		return &fs.PathError{Op: "stat", Path: dir.Name(), Err: err}
	}
	if uint64(st.Dev) != r.device {
		return &fs.PathError{Op: "read directory", Path: dir.Name(), Err: ErrOtherDevice}
	}
	return nil
}

func newEntry(raw string) Entry {
	key, ok := Key(raw)
	return Entry{Key: key, Raw: raw, Kind: Other, Unkeyed: !ok}
}

// sorted brings entries into order and marks those that share their key.
func sorted(entries []Entry) []Entry {
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Raw, b.Raw))
	})
	for i := 1; i < len(entries); i++ {
		if a, b := &entries[i-1], &entries[i]; a.Key == b.Key && !a.Unkeyed {
			a.Twin, b.Twin = true, true
		}
	}
	return entries
}
