package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/workflowservice/v1"

	"rehome/internal/dev"
	"rehome/workflows"
)

// stage is what the demo plays on: a stack, a database of its own in it, and a
// worker process.
type stage struct {
	running  dev.Running
	own      bool // we started the stack, and end it
	stack    *dev.Stack
	database string
	lock     *pgx.Conn // holds the demo's lock
	env      demoEnvironment
	worker   *dev.Child
	session  *session // for what the demo itself asks; nil until the worker is ready
}

// demoEnvironment is all that the commands and the worker of the demo see of
// the environment: a profile or a database of the user's must not be used.
type demoEnvironment map[string]string

func (e demoEnvironment) LookupEnv(key string) (string, bool) {
	value, ok := e[key]
	return value, ok
}

func (e demoEnvironment) Environ() []string {
	all := make([]string, 0, len(e))
	for key, value := range e {
		all = append(all, key+"="+value)
	}
	return all
}

// openStage starts the stack, or takes the one that runs, and makes the
// database afresh.
func openStage(ctx context.Context, talk io.Writer) (_ *stage, err error) {
	g := &stage{}
	defer func() {
		if err != nil {
			g.close(false)
		}
	}()
	running, err := dev.Find(".")
	switch {
	case err == nil:
		g.running = *running
		fmt.Fprintf(talk, "The stack of this checkout runs already; the demo uses it\n")
	case !errors.Is(err, dev.ErrNotRunning):
		return nil, err
	default:
		fmt.Fprintf(talk, "Starting Postgres and Temporal\n")
		place, err := dev.Place()
		if err != nil {
			return nil, err
		}
		if g.stack, err = dev.Start(ctx, dev.Options{Dir: place, Log: talk}); err != nil {
			return nil, err
		}
		g.running, g.own = g.stack.Running, true
	}
	if err := g.makeDatabase(ctx); err != nil {
		return nil, err
	}
	g.env = demoEnvironment{
		"PATH": os.Getenv("PATH"), "HOME": os.Getenv("HOME"),
		"DATABASE_URL":     g.database,
		"TEMPORAL_ADDRESS": g.running.TemporalAddress, "TEMPORAL_NAMESPACE": g.running.Namespace,
		"TEMPORAL_UI_URL":      g.running.UIAddress,
		"TEMPORAL_CONFIG_FILE": filepath.Join(g.running.Dir, "none.toml"),
	}
	return g, g.startWorker(ctx)
}

// makeDatabase drops what the last demo left and begins anew. One demo at a
// time: its lock lives as long as the connection.
func (g *stage) makeDatabase(ctx context.Context) error {
	const name = "rehome_demo"
	var err error
	if g.lock, err = pgx.Connect(ctx, g.running.DatabaseURL); err != nil {
		return fmt.Errorf("connect to the stack's Postgres: %w", err)
	}
	var free bool
	if err := g.lock.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtext($1))`, name).Scan(&free); err != nil {
		return fmt.Errorf("take the demo's lock: %w", err)
	}
	if !free {
		return fail(exitConflict, "another demo is running on this stack; wait for it to end")
	}
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + name + " WITH (FORCE)", "CREATE DATABASE " + name} {
		if _, err := g.lock.Exec(ctx, statement); err != nil {
			return fmt.Errorf("make the demo's database afresh: %w", err)
		}
	}
	address, err := url.Parse(g.running.DatabaseURL)
	if err != nil {
		return fmt.Errorf("read the address of the stack's Postgres: %w", err)
	}
	address.Path = "/" + name
	g.database = address.String()
	return nil
}

// startWorker starts a worker process, the program beside this one, and returns
// when it takes work.
func (g *stage) startWorker(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the worker beside this program: %w", err)
	}
	program := filepath.Join(filepath.Dir(self), "worker")
	if _, err := os.Stat(program); err != nil {
		return fail(exitNotFound, "there is no worker beside this program: %w; build both with `make build`", err)
	}
	cmd := exec.Command(program, "-listen", "127.0.0.1:0")
	cmd.Env = g.env.Environ()
	if g.worker, err = dev.StartChild(cmd, filepath.Join(g.running.Dir, "demo-worker.log")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := g.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-g.worker.Done():
			return fmt.Errorf("the worker ended at once; it says:\n%s", g.worker.Says())
		case <-ctx.Done():
			return fmt.Errorf("wait for the worker to take work: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ready asks what every command asks before it starts a workflow.
func (g *stage) ready(ctx context.Context) error {
	s := &session{process: process{env: g.env}}
	_, err := s.store(ctx)
	if err == nil {
		err = s.trouble(ctx)
	}
	if err != nil {
		s.close()
		return err
	}
	if g.session != nil {
		g.session.close()
	}
	g.session = s
	return nil
}

// link is the address in the web UI of the last run of a workflow.
func (g *stage) link(ctx context.Context, id string) (string, error) {
	run, err := g.session.engine.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return "", fmt.Errorf("look up %s in Temporal: %w", id, err)
	}
	return g.session.link(id, run.GetWorkflowExecutionInfo().GetExecution().GetRunId()), nil
}

// close ends what was started. Runs that a failure left open are terminated:
// nobody will serve their queues again.
func (g *stage) close(failed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if g.session != nil {
		if failed {
			g.terminate(ctx)
		}
		g.session.close()
	}
	if g.worker != nil {
		g.worker.Stop(5 * time.Second)
	}
	if g.lock != nil {
		_ = g.lock.Close(ctx) // the end of the process would free the lock too
	}
	if g.own {
		g.stack.Stop()
	}
}

// terminate is a last courtesy: the error that ended the demo is what people
// should see, so its own errors are not shown.
func (g *stage) terminate(ctx context.Context) {
	engine := g.session.engine
	open, err := engine.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf(`ExecutionStatus = "Running" AND TaskQueue = %q`, workflows.TaskQueue(g.session.site.installation)),
	})
	if err != nil {
		return
	}
	for _, run := range open.GetExecutions() {
		_ = engine.TerminateWorkflow(ctx, run.GetExecution().GetWorkflowId(), run.GetExecution().GetRunId(), "the demo has ended")
	}
}
