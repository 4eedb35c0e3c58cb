package dev

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// process is a server we started. It ends with us, however we end.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string // its output, a file
	done chan struct{}
}

// step is a signal and how long it may take to work before the next one.
type step struct {
	signal  syscall.Signal
	patient time.Duration
}

// launch starts cmd with its output in the file log. A group of its own keeps
// a Ctrl-C in the terminal from reaching it: we stop servers in our order.
func launch(name string, cmd *exec.Cmd, log string) (*process, error) {
	// What the last start said stays readable, since people look after a crash.
	if err := os.Rename(log, log+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("put the old log of %s aside: %w", name, err)
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer func() { _ = out.Close() }() // the server has its own handle
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true

	p := &process{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The signal on the parent's death goes by thread: this one must live
		// as long as the server.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the log says why it ended
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// errEnded says that a server ended before it answered, most often because a
// port was taken between our choice and its use.
var errEnded = errors.New("it ended at once")

// await calls ready until it returns nil. It gives up when the server ends or
// ctx does.
func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("start %s: %w; %s says:\n%s", p.name, errEnded, p.log, excerpt(p.log))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to answer: %w; %s says:\n%s", p.name, err, p.log, excerpt(p.log))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends the server by the steps given, and by SIGKILL when none works.
func (p *process) stop(steps ...step) {
	for _, s := range append(steps, step{syscall.SIGKILL, time.Minute}) {
		_ = p.cmd.Process.Signal(s.signal) // an error means that it has ended
		select {
		case <-p.done:
			return
		case <-time.After(s.patient):
		}
	}
}

// excerpt returns the beginning of a log, where a start goes wrong, and its end.
func excerpt(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	const most = 12
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) > 2*most {
		lines = slices.Concat(lines[:most], []string{"…"}, lines[len(lines)-most:])
	}
	return strings.Join(lines, "\n")
}

// endLeftovers stops the processes of a stack whose owner was killed: those
// whose command line has the mark. The caller holds the lock of the stack, so
// nobody owns them.
func endLeftovers(ctx context.Context, mark string, polite step) error {
	signals := []step{polite, {syscall.SIGKILL, 10 * time.Second}}
	for _, s := range signals {
		left, err := marked(ctx, mark)
		for _, c := range left {
			if err := syscall.Kill(c.pid, s.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop process %d, left over from a killed stack (%s): %w", c.pid, c.text, err)
			}
		}
		for deadline := time.Now().Add(s.patient); err == nil && len(left) > 0 && time.Now().Before(deadline); {
			time.Sleep(100 * time.Millisecond)
			left, err = marked(ctx, mark)
		}
		if err != nil {
			return fmt.Errorf("look for servers left over from a killed stack: %w", err)
		}
		if len(left) == 0 {
			return nil
		}
	}
	return fmt.Errorf("servers left over from a killed stack do not end; look for %q in the list of processes", mark)
}

func marked(ctx context.Context, mark string) ([]commandLine, error) {
	lines, err := commandLines(ctx)
	return slices.DeleteFunc(lines, func(c commandLine) bool {
		return c.pid == os.Getpid() || !strings.Contains(c.text, mark)
	}), err
}

// mark is a name for the server of a directory, which the command line of each
// of its processes shows: by it they are found when their owner was killed.
func mark(server, dir string) string {
	return fmt.Sprintf("rehome-%s-%.6x", server, sha256.Sum256([]byte(dir)))
}

// commandLine is a running process.
type commandLine struct {
	pid  int
	text string
}
