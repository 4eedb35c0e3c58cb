package corpus

import (
	"os"

	"golang.org/x/sys/unix"
)

// Bounds of pieces, for tests.
const (
	MinPiece = minPiece
	MaxPiece = maxPiece
)

// WalkOrder is walkOrder, for tests.
func WalkOrder(a, b string) int { return walkOrder(a, b) }

// Inject lets system calls fail: fault is asked before each, with its name and
// the name or path it is about.
func (r *Root) Inject(fault func(call, name string) error) {
	works := realSystem()
	r.sys = system{
		openat: func(dir int, name string, flags int, mode uint32) (int, error) {
			if err := fault("open", name); err != nil {
				return -1, err
			}
			return works.openat(dir, name, flags, mode)
		},
		lstat: func(dir int, name string, st *unix.Stat_t) error {
			if err := fault("lstat", name); err != nil {
				return err
			}
			return works.lstat(dir, name, st)
		},
		names: func(dir *os.File, n int) ([]string, error) {
			if err := fault("read", dir.Name()); err != nil {
				return nil, err
			}
			return works.names(dir, n)
		},
	}
}

// Remount makes the root one of another file system than its directories are.
func (r *Root) Remount() { r.device++ }
