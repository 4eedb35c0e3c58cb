// Package queues puts workflows and activities on the task queues of an
// installation: the same way for the worker process and for tests.
package queues

import (
	"slices"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"rehome/activities"
	"rehome/store"
	"rehome/workflows"
)

// Service is what a worker of an installation needs.
type Service struct {
	Installation string
	Store        *store.Store
	Temporal     client.Client
	Options      worker.Options
}

// Main returns a worker for workflows and database work.
func (s Service) Main() worker.Worker {
	w := s.worker(workflows.TaskQueue(s.Installation), s.Options)
	workflows.Register(w)
	activities.Register(w, &activities.Database{Store: s.Store, Temporal: s.Temporal})
	return w
}

// Files returns a worker for work that reads a root, for machines that have it.
func (s Service) Files() worker.Worker {
	options := s.Options
	options.DisableWorkflowWorker = true
	w := s.worker(workflows.FilesQueue(s.Installation), options)
	activities.RegisterFiles(w, &activities.Files{Store: s.Store, Temporal: s.Temporal})
	return w
}

func (s Service) worker(queue string, options worker.Options) worker.Worker {
	// With aliases a workflow called by function would run under another name
	// than the one in histories.
	options.DisableRegistrationAliasing = true
	guard := []interceptor.WorkerInterceptor{&activities.Guard{Installation: s.Installation}}
	options.Interceptors = slices.Concat(guard, options.Interceptors)
	return worker.New(s.Temporal, queue, options)
}
