package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"rehome/internal/queues"
	"rehome/workflows"
)

// drainTime is how long activities may take to end: a slice ends with the batch it
// is at, nearly always within that, and a container gets 30 s or more before it is
// killed. What is cut off is tried again.
const drainTime = 25 * time.Second

// workerOptions are those of each of the two workers, which share the pool. An
// activity that waits for a connection does not heartbeat, so both together run
// fewer activities than there are connections.
func workerOptions(connections int32, failed chan<- error) worker.Options {
	return worker.Options{
		MaxConcurrentActivityExecutionSize:      max(1, int(connections)/3),
		MaxConcurrentLocalActivityExecutionSize: max(1, int(connections)/4),
		WorkerStopTimeout:                       drainTime,
		StickyScheduleToStartTimeout:            2 * time.Second, // a killed worker's workflows wait so long before another gets them
		MaxHeartbeatThrottleInterval:            time.Second,     // by a heartbeat a step learns that it was cancelled
		OnFatalError:                            func(err error) { failed <- err },
	}
}

// identity is what the web UI shows of who did a step.
func identity(serving string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s:%d %s", host, os.Getpid(), strings.Replace(serving, "all", "main+files", 1))
}

// start starts the workers for the queues named.
func start(service queues.Service, serving string) ([]worker.Worker, error) {
	var started []worker.Worker
	for queue, make := range map[string]func() worker.Worker{"main": service.Main, "files": service.Files} {
		if serving != "all" && serving != queue {
			continue
		}
		w := make()
		if err := w.Start(); err != nil {
			for _, w := range started {
				w.Stop()
			}
			return nil, fmt.Errorf("start the %s worker: %w", queue, err)
		}
		started = append(started, w)
	}
	return started, nil
}

// checks asks both servers at once: one that hangs must not make the other look
// bad.
func checks(service queues.Service) func(context.Context) map[string]error {
	return func(ctx context.Context) map[string]error {
		var postgres, engine error
		var asking sync.WaitGroup
		asking.Go(func() { postgres = service.Store.CheckSchema(ctx) })
		asking.Go(func() { _, engine = service.Temporal.CheckHealth(ctx, &client.CheckHealthRequest{}) })
		asking.Wait()
		return map[string]error{"postgres": postgres, "temporal": engine}
	}
}

// attributes are the search attributes that workflows set.
var attributes = []temporal.SearchAttributeKeyKeyword{
	workflows.MemoryAttribute, workflows.StrategyAttribute, workflows.RiskAttribute, workflows.PhaseAttribute,
}

// registerAttributes makes the search attributes known to the namespace, in one
// request, since each costs the server a schema change. A worker that may not
// do that goes on: an operator may have done it.
func registerAttributes(ctx context.Context, c client.Client, namespace string, logger *slog.Logger) {
	request := &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: map[string]enumspb.IndexedValueType{}}
	for _, key := range attributes {
		request.SearchAttributes[key.GetName()] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	_, err := c.OperatorService().AddSearchAttributes(ctx, request)
	if _, exists := errors.AsType[*serviceerror.AlreadyExists](err); err == nil || exists {
		return
	}
	logger.Warn("search attributes are not registered, and workflows that set them will wait; register them by `temporal operator search-attribute create --type Keyword` with --name RehomeMemory, RehomeStrategy, RehomeRisk and RehomePhase",
		"namespace", namespace, "reason", err.Error())
}
