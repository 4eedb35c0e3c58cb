package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"rehome/workflows"
)

const (
	// patience is how long a server may take to answer before it counts as down.
	patience = 4 * time.Second
	// gone is how long after its last poll a worker counts as gone: a poll that
	// finds nothing lasts a minute.
	gone = 75 * time.Second
	// settling is how long a worker that just started may take to its first poll.
	settling = 3 * time.Second
	// glance is how often a wait looks at the progress and at the workers.
	glance = 500 * time.Millisecond
)

// task is a workflow that a command starts.
type task struct {
	id, name  string // workflow id and registered name
	memory    string
	input     any
	summary   string // one line, for the web UI
	details   string // Markdown, for the web UI
	files     bool   // it needs a worker that has the roots
	strategy  string // of a migration, as is
	migration string
	look      string // the command that shows its state later
	// goOn is asked from time to time whether there is something to wait for; a
	// failure ends the wait, not the run. It may be nil.
	goOn func(ctx context.Context) error
}

func (t task) attributes() temporal.SearchAttributes {
	attributes := []temporal.SearchAttributeUpdate{workflows.MemoryAttribute.ValueSet(t.memory)}
	if t.strategy != "" {
		attributes = append(attributes, workflows.StrategyAttribute.ValueSet(t.strategy))
	}
	return temporal.NewSearchAttributes(attributes...)
}

// start starts a workflow and prints its id and link. It starts nothing when no
// worker would take it up, or when the id is taken.
func (s *session) start(ctx context.Context, t task) (client.WorkflowRun, error) {
	engine, err := s.temporal(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.checkWorkers(ctx, t.files); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	run, err := engine.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                                       t.id,
		TaskQueue:                                workflows.TaskQueue(s.site.installation),
		WorkflowIDConflictPolicy:                 enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		StaticSummary:                            t.summary,
		StaticDetails:                            t.details,
		TypedSearchAttributes:                    t.attributes(),
	}, t.name, t.input)
	if taken, ok := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); ok {
		return nil, fail(exitConflict, "%s is already running (run %s)%s; wait for it to end", t.id, taken.RunId, s.at(t.id, taken.RunId))
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", t.id, err)
	}
	s.say("started %s%s", t.id, s.at(t.id, run.GetRunID()))
	return run, nil
}

// detached is the result of a command that did not wait.
type detached struct {
	Migration  string `json:"migration_id,omitempty"`
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	Link       string `json:"link,omitempty"`
}

// perform starts a workflow and waits for its result. With detach it returns
// as soon as the workflow runs, and finished is false.
func (s *session) perform(ctx context.Context, t task, detach bool, result any) (finished bool, err error) {
	run, err := s.start(ctx, t)
	if err != nil {
		return false, err
	}
	return s.follow(ctx, t, run, detach, result)
}

// follow is the rest of perform, for a workflow that runs.
func (s *session) follow(ctx context.Context, t task, run client.WorkflowRun, detach bool, result any) (finished bool, err error) {
	if detach {
		left := detached{t.migration, t.id, run.GetRunID(), s.link(t.id, run.GetRunID())}
		return false, s.show(left, func(w io.Writer) { row(w, "it goes on by itself; see `"+t.look+"`") })
	}
	return true, s.wait(ctx, t, run, result)
}

// wait waits for the end of a run and shows its progress meanwhile.
func (s *session) wait(ctx context.Context, t task, run client.WorkflowRun, result any) error {
	watched, stop := context.WithCancelCause(ctx)
	unwatched := make(chan struct{})
	go func() {
		defer close(unwatched)
		s.watch(watched, t, run, stop)
	}()
	err := run.Get(watched, result)
	stop(nil)
	<-unwatched
	if ctx.Err() != nil {
		return s.interrupted(context.WithoutCancel(ctx), t, run)
	}
	if lost, ok := errors.AsType[*failure](context.Cause(watched)); ok {
		return lost
	}
	return s.ended(t, run, err)
}

// watch shows the progress of a run until ctx ends. It stops the wait when that
// is in vain: no worker is left, or Temporal does not answer any more.
func (s *session) watch(ctx context.Context, t task, run client.WorkflowRun, stop context.CancelCauseFunc) {
	d := s.display()
	defer d.close()
	tick := time.NewTicker(glance)
	defer tick.Stop()
	answered := time.Now()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d.update(ctx, t, run)
		if t.goOn != nil {
			if err := t.goOn(ctx); err != nil {
				stop(err)
			}
		}
		if n%10 != 0 {
			continue
		}
		err := s.checkWorkers(ctx, t.files)
		_, lost := errors.AsType[*failure](err)
		switch {
		case err == nil:
			answered = time.Now()
		case lost || time.Since(answered) > 3*patience:
			stop(fail(exitUnreachable, "%w; %s waits and goes on when that is mended; see `%s`", err, t.id, t.look))
		}
	}
}

// ended makes of the way in which a run ended an error for people.
func (s *session) ended(t task, run client.WorkflowRun, err error) error {
	if err == nil {
		return nil
	}
	at := s.at(t.id, run.GetRunID())
	if _, ok := errors.AsType[*temporal.TerminatedError](err); ok {
		return fail(exitFailed, "%s was terminated%s", t.id, at)
	}
	if _, ok := errors.AsType[*temporal.CanceledError](err); ok {
		return fail(exitFailed, "%s was cancelled%s", t.id, at)
	}
	if code := exitCode(err); code != exitFailed {
		return err // its own words say what to do
	}
	return fail(exitFailed, "%s failed: %s; look at it%s, or see `%s`", t.id, message(err), at, t.look)
}

// checkWorkers looks for workers that poll the queues a workflow needs. One
// that is missing may have just started, so it is looked for a little longer.
func (s *session) checkWorkers(ctx context.Context, files bool) error {
	queue := workflows.TaskQueue(s.site.installation)
	needed := []polled{
		{queue, enums.TASK_QUEUE_TYPE_WORKFLOW},
		{queue, enums.TASK_QUEUE_TYPE_ACTIVITY},
		{workflows.FilesQueue(s.site.installation), enums.TASK_QUEUE_TYPE_ACTIVITY},
	}
	if !files {
		needed = needed[:2]
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for settled := time.Now().Add(settling); len(needed) > 0; {
		alive, err := s.polls(ctx, needed[0])
		switch {
		case err != nil:
			return err
		case alive:
			needed = needed[1:]
			continue
		case time.Now().After(settled):
			return fail(exitUnreachable, "no worker polls task queue %s of namespace %s; start one with `worker` or `make dev`", needed[0].queue, s.site.namespace)
		}
		select {
		case <-ctx.Done():
			return s.engineError(ctx.Err())
		case <-time.After(settling / 30):
		}
	}
	return nil
}

// polled is a queue that a worker takes tasks of a kind from.
type polled struct {
	queue string
	kind  enums.TaskQueueType
}

// polls says whether a worker polls a queue.
func (s *session) polls(ctx context.Context, q polled) (bool, error) {
	described, err := s.engine.DescribeTaskQueue(ctx, q.queue, q.kind)
	if err != nil {
		return false, s.engineError(err)
	}
	return slices.ContainsFunc(described.GetPollers(), func(p *taskqueue.PollerInfo) bool {
		return time.Since(p.GetLastAccessTime().AsTime()) < gone
	}), nil
}
