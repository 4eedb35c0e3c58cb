package corpus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Root is the opened root directory of a tree. What is reached through it is
// reached from that directory down, component by component and without
// following a link: os.Root would follow links that stay inside, and a
// directory that became one would then be read as another.
type Root struct {
	path   string
	dir    *os.File
	device uint64
	inode  uint64
	sys    system
}

// system is the part of the operating system a Root depends on. Tests put
// faults in its place.
type system struct {
	openat func(dir int, name string, flags int, mode uint32) (int, error)
	lstat  func(dir int, name string, st *unix.Stat_t) error
	names  func(dir *os.File, n int) ([]string, error)
}

func realSystem() system {
	return system{
		openat: unix.Openat,
		lstat: func(dir int, name string, st *unix.Stat_t) error {
			return unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW)
		},
		names: (*os.File).Readdirnames,
	}
}

// OpenRoot opens the directory at dir, which may itself be reached by links.
func OpenRoot(dir string) (*Root, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open root %s: %w", dir, err)
	}
	f, err := os.OpenFile(abs, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	r := &Root{path: abs, dir: f, sys: realSystem()}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("look at root %s: %w", abs, err), f.Close())
	}
	r.device, r.inode = uint64(st.Dev), st.Ino
	return r, nil
}

// Close ends the use of the root.
func (r *Root) Close() error { return r.dir.Close() }

// Path is the absolute path the root was opened at.
func (r *Root) Path() string { return r.path }

// Identity returns the device and the inode of the opened directory.
func (r *Root) Identity() (device, inode uint64) { return r.device, r.inode }

// Same reports whether the path of the root still leads to the directory that
// was opened: not when it was unmounted, replaced or mounted over.
func (r *Root) Same() (bool, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Stat(r.path, &st) }); err != nil {
		return false, &fs.PathError{Op: "stat", Path: r.path, Err: err}
	}
	return uint64(st.Dev) == r.device && st.Ino == r.inode, nil
}

// Stat looks at what stands at raw, a path relative to the root as the file
// system spells it, without following a link. Its error keeps the errno.
func (r *Root) Stat(raw string) (Entry, error) {
	parent, name := r.dir, raw
	if cut := strings.LastIndexByte(raw, '/'); cut >= 0 {
		dir, err := r.open(raw[:cut], unix.O_DIRECTORY)
		if err != nil {
			return Entry{}, err
		}
		defer dir.Close() //nolint:errcheck // nothing was written to it
		parent, name = dir, raw[cut+1:]
	}
	entry := newEntry(raw)
	if err := r.fill(&entry, parent, name); err != nil {
		return Entry{}, &fs.PathError{Op: "lstat", Path: raw, Err: err}
	}
	return entry, nil
}

// open opens the file or directory at raw. A component that is a link ends in
// ELOOP or ENOTDIR. A FIFO does not make it wait.
func (r *Root) open(raw string, flags int) (*os.File, error) {
	at := int(r.dir.Fd())
	components := strings.Split(raw, "/")
	for i, name := range components {
		how := unix.O_DIRECTORY
		if i == len(components)-1 {
			how = flags
		}
		var next int
		err := retry(func() (err error) {
			next, err = r.sys.openat(at, name, how|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			return err
		})
		if i > 0 {
			_ = unix.Close(at) // nothing was written to it
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: raw, Err: err}
		}
		at = next
	}
	return os.NewFile(uintptr(at), filepath.Join(r.path, raw)), nil
}

// fill completes an entry by a look at it.
func (r *Root) fill(e *Entry, dir *os.File, name string) error {
	var st unix.Stat_t
	if err := retry(func() error { return r.sys.lstat(int(dir.Fd()), name, &st) }); err != nil {
		return err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case slices.Contains(excluded, name):
		e.Kind = Excluded
	case kind == unix.S_IFREG:
		e.Kind = File
	case kind == unix.S_IFDIR:
		e.Kind = Dir
	case kind == unix.S_IFLNK:
		e.Kind = Symlink
	}
	e.Size, e.ModTime = st.Size, modTime(&st)
	return nil
}

// modTime is when a file was last written, to the microsecond, as Postgres
// keeps it. A time that no calendar holds is taken for none.
func modTime(st *unix.Stat_t) time.Time {
	t := time.Unix(st.Mtim.Unix()).Truncate(time.Microsecond)
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Unix(0, 0)
	}
	return t
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
