package dev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// errHeld says that another process has the lock.
var errHeld = errors.New("in use")

// lock takes the lock file at path for this process, waiting as long as given.
// The kernel frees it when the process ends, however it ends; our children do
// not inherit it.
func lock(path string, wait time.Duration) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make a place for the lock: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			_ = file.Close() // nothing was written
			return nil, fmt.Errorf("%w: %s (%w)", errHeld, path, err)
		}
	}
	if err := errors.Join(file.Truncate(0), writeAt0(file, fmt.Sprintf("%d\n", os.Getpid()))); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("sign the lock %s: %w", path, err)
	}
	return file, nil
}

func writeAt0(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// holder returns who has the lock at path, as its process id, or "" when nobody
// has it.
func holder(path string) (string, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look who runs the stack: %w", err)
	}
	defer func() { _ = file.Close() }() // only read; gives the probe's lock back
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil {
		return "", nil
	}
	pid, readErr := os.ReadFile(path)
	if readErr != nil {
		return "", fmt.Errorf("look who runs the stack: %w", readErr)
	}
	return strings.TrimSpace(string(pid)), nil
}
