// Package devtest gives tests a real Postgres and a real Temporal: one of each
// per test binary, started when a test first asks, ended with the process.
//
// A test gets a database of its own, cloned from a template, and with it an
// installation of its own, so task queues and workflow ids of tests that share
// a Temporal never meet.
package devtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rehome/internal/dev"
)

// startTime is for servers: the first use on a machine may install or build.
const startTime = 20 * time.Minute

// servers are what this test binary has started.
type servers struct {
	dir      string
	lock     *os.File // held while we live, so that others know whose directory is left over
	postgres *dev.Postgres
	temporal *dev.Temporal
}

var (
	shared  servers
	counter atomic.Int64
)

// Main runs the tests and then stops what they started. Use it as TestMain.
// Without it servers end with the process too, but their directory is left for
// the next test binary to remove.
func Main(m *testing.M) {
	code := m.Run()
	shared.stop()
	os.Exit(code)
}

func (s *servers) stop() {
	if s.temporal != nil {
		s.temporal.Stop()
	}
	if s.postgres != nil {
		s.postgres.Stop()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // in a temporary directory
	}
}

// directory makes the directory of this test binary, and removes those of
// binaries that were killed.
var directory = sync.OnceValues(func() (string, error) {
	sweep(os.TempDir())
	dir, err := os.MkdirTemp("", "rehome-test-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the tests' servers: %w", err)
	}
	// As root Postgres runs as somebody else, who has to pass.
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", fmt.Errorf("open the directory for the tests' servers: %w", err)
	}
	if shared.lock, err = takeLock(dir); err != nil {
		return "", fmt.Errorf("lock the directory for the tests' servers: %w", err)
	}
	shared.dir = dir
	return dir, nil
})

func takeLock(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "alive"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func sweep(tmp string) {
	dirs, _ := filepath.Glob(filepath.Join(tmp, "rehome-test-*")) // only a bad pattern is an error
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue // just made: its owner may not have the lock yet
		}
		if file, err := takeLock(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = file.Close()
		}
	}
}

var postgres = sync.OnceValues(func() (*dev.Postgres, error) {
	dir, err := directory()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	shared.postgres, err = dev.StartPostgres(ctx, dev.Options{Dir: dir, Log: os.Stderr, Ephemeral: true})
	return shared.postgres, err
})

var temporal = sync.OnceValues(func() (*dev.Temporal, error) {
	dir, err := directory()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	shared.temporal, err = dev.StartTemporal(ctx, dev.Options{Dir: dir, Log: os.Stderr, Ephemeral: true})
	return shared.temporal, err
})
