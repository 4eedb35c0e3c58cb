package dev

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Child is a program that ends when this process does, however that ends.
type Child struct{ process *process }

// StartChild starts a program with its output in the file log.
func StartChild(cmd *exec.Cmd, log string) (*Child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	endWithUs(cmd.SysProcAttr, syscall.SIGKILL)
	p, err := launch(filepath.Base(cmd.Path), cmd, log)
	if err != nil {
		return nil, err
	}
	return &Child{p}, nil
}

// PID returns the program's process id.
func (c *Child) PID() int { return c.process.cmd.Process.Pid }

// Done is closed when the program has ended.
func (c *Child) Done() <-chan struct{} { return c.process.done }

// Kill ends the program by SIGKILL and returns when it is gone.
func (c *Child) Kill() { c.process.stop() }

// Stop asks the program to end, and kills it when it does not within patience.
func (c *Child) Stop(patience time.Duration) { c.process.stop(step{syscall.SIGTERM, patience}) }

// Says returns the beginning and the end of what the program has written.
func (c *Child) Says() string { return excerpt(c.process.log) }
