package dev

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// kept is what one run of a stack tells the next, so that data is found again
// and addresses stay the same.
type kept struct {
	Password     string `json:"password"`
	PostgresPort int    `json:"postgres_port"`
	TemporalPort int    `json:"temporal_port"`
	UIPort       int    `json:"ui_port"`
}

const (
	keptFile    = "kept.json"
	runningFile = "stack.json"
	lockFile    = "lock"
)

func readKept(dir string) (kept, error) {
	var k kept
	err := readJSON(filepath.Join(dir, keptFile), &k)
	if errors.Is(err, os.ErrNotExist) {
		return k, nil
	}
	return k, err
}

func (k kept) write(opts Options) error {
	if opts.Ephemeral {
		return nil
	}
	return writeJSON(filepath.Join(opts.Dir, keptFile), k)
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("read the stack's state: %w; it was started by another user: go on as that user, or remove %s", err, filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("read the stack's state: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w; remove it, and %s with it, to start afresh", path, err, filepath.Dir(path))
	}
	return nil
}

// writeJSON replaces the file in one step: a kill leaves the old or the new.
func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the stack's state: %w", err)
	}
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil { // it has the password
		return fmt.Errorf("write the stack's state: %w", err)
	}
	// A sudo once in between must not lock the owner of the checkout out.
	if info, err := os.Stat(filepath.Dir(path)); err == nil && os.Geteuid() == 0 {
		owner := info.Sys().(*syscall.Stat_t)
		if err := os.Chown(path+".new", int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("write the stack's state: %w", err)
		}
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the stack's state: %w", err)
	}
	return nil
}
