package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"go.temporal.io/sdk/temporal"
	"golang.org/x/sys/unix"

	"rehome/corpus"
	"rehome/resilience"
	"rehome/store"
)

// tree is what scans and cleanups need of a root. Tests put faults in its place.
type tree interface {
	Walk(ctx context.Context, after string, visit func(corpus.Listing) error) error
	Stat(raw string) (corpus.Entry, error)
	ReadText(raw string, limit int64) (corpus.Text, error)
	Same() (bool, error)
	Identity() (device, inode uint64)
	Close() error
}

// openTree opens the root of a memory and makes sure, as far as the root itself
// tells, that it is the memory's: an unmounted or wrong one would make every
// source look gone.
func (a *Files) openTree(memory resilience.Memory) (tree, error) {
	open := a.open
	if open == nil {
		open = func(dir string) (tree, error) { return corpus.OpenRoot(dir) }
	}
	root, err := open(memory.Root)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOTDIR):
		return nil, refused("the root of memory %s cannot be read: %v; mount it, or give the worker the right to read it. Nothing was changed: without its root every chunk would look like an orphan", memory.Name, err)
	case err != nil:
		return nil, err // later may do
	}
	if err := checkMarker(root, memory); err != nil {
		_ = root.Close() // nothing was written to it
		return nil, err
	}
	return root, nil
}

func checkMarker(root tree, memory resilience.Memory) error {
	if memory.Marker == "" {
		return nil
	}
	text, err := root.ReadText(resilience.MarkerFile, 1024)
	switch {
	case err != nil:
		return refused("the root %s of memory %s has no readable marker file %s (%v); the memory's tree is not mounted there. Mount it; nothing was changed: without its files every chunk would look like an orphan",
			memory.Root, memory.Name, resilience.MarkerFile, err)
	case strings.TrimSpace(text.Content) != memory.Marker:
		return refused("the root %s holds the marker %q and memory %s has %q: another tree is mounted there. Mount the right one; nothing was changed",
			memory.Root, strings.TrimSpace(text.Content), memory.Name, memory.Marker)
	}
	return nil
}

// checkSame refuses when the path of the root does not lead to the directory
// any more that was read: what was seen since the last check is void.
func checkSame(root tree, memory resilience.Memory) error {
	same, err := root.Same()
	switch {
	case err != nil:
		return refused("the root %s of memory %s went away while it was read: %v; mount it and try again. What was seen of it was thrown away", memory.Root, memory.Name, err)
	case !same:
		return refused("the root %s of memory %s was replaced while it was read: something else is mounted there now. What was seen of it was thrown away; try again with the right tree", memory.Root, memory.Name)
	}
	return nil
}

// look searches a source under all its spellings. Only when the file system
// says of each that there is no such file, is it missing.
func look(root tree, s store.Suspect) resilience.Class {
	class := resilience.ClassMissing
	seen := map[string]bool{}
	for _, raw := range s.Spellings {
		if seen[string(raw)] {
			continue
		}
		seen[string(raw)] = true
		entry, err := root.Stat(string(raw))
		switch {
		case err == nil && entry.Kind != corpus.Dir:
			return resilience.ClassAlive
		case !errors.Is(err, fs.ErrNotExist):
			class = resilience.ClassUnknown
		}
	}
	return class
}

func refused(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), Refused, nil)
}

// outrun is classify for work under a claim: when another attempt of the same
// step was here, the next one goes on from where that came to.
func outrun(op string, err error) error {
	if errors.Is(err, store.ErrOutrun) {
		return fmt.Errorf("%s: %s", op, err.Error()) // not Fenced, which would end the run
	}
	return classify(op, err)
}
