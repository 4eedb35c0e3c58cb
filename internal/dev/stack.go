// Package dev is the embedded stack: a Postgres and a Temporal dev server that
// belong to one checkout. `worker -dev` keeps it running, the tests start parts
// of it, and every program finds it with Find.
//
// State lives in one directory, .rehome, and survives restarts. A lock that the
// kernel frees keeps two starts apart; servers end when their starter does, and
// what a kill has left over is stopped by the next start. It works on Unix.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Options say which stack to start.
type Options struct {
	Dir       string    // where state is kept, usually .rehome in the checkout
	Log       io.Writer // talk for people; nil is silence
	Ephemeral bool      // keep nothing: fast and unsafe Postgres, Temporal in memory, any ports, no web UI
	UI        bool      // a web UI all the same
	Settings  []string  // more settings for Postgres, as name=value
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = io.Discard
	}
	return o
}

// Running describes a stack that runs, as it is kept for others to find.
type Running struct {
	PID             int    `json:"pid"` // who keeps it running
	Dir             string `json:"dir"`
	DatabaseURL     string `json:"database_url"`
	TemporalAddress string `json:"temporal_address"`
	Namespace       string `json:"namespace"`
	UIAddress       string `json:"ui_address"`
}

// Stack is a stack that this process keeps running.
type Stack struct {
	Running

	postgres *Postgres
	temporal *Temporal
	lock     *os.File
}

// ErrNotRunning says that no stack runs for this checkout.
var ErrNotRunning = errors.New("no stack is running for this checkout; start one with `make dev`, or set DATABASE_URL and TEMPORAL_ADDRESS")

// Start starts the stack whose state is in opts.Dir. One process at a time has
// it; the error for the others names that process.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	opts = opts.withDefaults()
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", opts.Dir, err)
	}
	opts.Dir = dir
	// The wait is for another process that just looks whether we run.
	held, err := lock(filepath.Join(dir, lockFile), 2*time.Second)
	if errors.Is(err, errHeld) {
		pid, _ := holder(filepath.Join(dir, lockFile)) // for the message only
		return nil, fmt.Errorf("the stack in %s is run by process %s already; end that first (make stop)", dir, pid)
	}
	if err != nil {
		return nil, err
	}
	s := &Stack{lock: held}
	if err := s.start(ctx, opts); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, opts Options) error {
	s.Running = Running{PID: os.Getpid(), Dir: opts.Dir, Namespace: "default"}
	// What a killed stack has written about itself is not true any more.
	if err := os.Remove(filepath.Join(opts.Dir, runningFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the description of the last stack: %w", err)
	}
	var err error
	if s.postgres, err = StartPostgres(ctx, opts); err != nil {
		return err
	}
	if s.temporal, err = StartTemporal(ctx, opts); err != nil {
		return err
	}
	s.DatabaseURL, s.TemporalAddress, s.UIAddress = s.postgres.URL, s.temporal.Address, s.temporal.UI
	return writeJSON(filepath.Join(opts.Dir, runningFile), s.Running)
}

// Stop ends both servers in good order and lets the next start have the stack.
func (s *Stack) Stop() {
	_ = os.Remove(filepath.Join(s.Dir, runningFile)) // Find looks at the lock too
	if s.temporal != nil {
		s.temporal.Stop()
	}
	if s.postgres != nil {
		s.postgres.Stop()
	}
	_ = s.lock.Close() // frees it; the process's end would too
}

// Find returns the stack that runs for the checkout around dir: the nearest
// .rehome upward. ErrNotRunning when there is none.
func Find(dir string) (*Running, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the stack's state: %w", err)
	}
	for ; ; at = filepath.Dir(at) {
		state := filepath.Join(at, ".rehome")
		if _, err := os.Stat(filepath.Join(state, lockFile)); err == nil {
			return describe(state)
		}
		if at == filepath.Dir(at) {
			return nil, ErrNotRunning
		}
	}
}

func describe(state string) (*Running, error) {
	pid, err := holder(filepath.Join(state, lockFile))
	if err != nil {
		return nil, err
	}
	if pid == "" {
		return nil, ErrNotRunning
	}
	running := &Running{}
	err = readJSON(filepath.Join(state, runningFile), running)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the stack in %s is just starting or stopping (process %s); try again in a moment", state, pid)
	}
	if err != nil {
		return nil, err
	}
	return running, nil
}

// StopRunning ends the stack around dir, which another process keeps running,
// and returns once it is gone. ErrNotRunning when there is none.
func StopRunning(ctx context.Context, dir string) error {
	running, err := Find(dir)
	if err != nil {
		return err
	}
	if err := syscall.Kill(running.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("tell process %d, which runs the stack, to end: %w", running.PID, err)
	}
	for {
		pid, err := holder(filepath.Join(running.Dir, lockFile))
		if err != nil || pid != strconv.Itoa(running.PID) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d, which runs the stack, has not ended: %w", running.PID, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Place returns where the state of the checkout around the working directory
// is kept.
func Place() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	if root, err := moduleRoot(here); err == nil {
		here = root
	}
	return filepath.Join(here, ".rehome"), nil
}

// Prepare brings Postgres and the Temporal CLI onto this machine where they are
// missing, and starts nothing.
func Prepare(ctx context.Context, opts Options) error {
	opts = opts.withDefaults()
	as, err := unprivileged(filepath.Join(opts.Dir, "postgres"))
	if err != nil {
		return err
	}
	if _, err := opts.install().binaries(ctx, as, 0); err != nil {
		return err
	}
	_, err = temporalProgram(ctx, opts)
	return err
}
