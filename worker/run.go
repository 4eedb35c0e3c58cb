package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"go.temporal.io/sdk/client"

	"rehome/internal/dev"
	"rehome/internal/queues"
	"rehome/store"
)

// serve runs a worker on the servers that the environment names.
func serve(ctx context.Context, s settings, logger *slog.Logger) error {
	where, err := fromEnvironment(logger)
	if err != nil {
		return err
	}
	listener, err := listen(ctx, s.listen, false)
	if err != nil {
		return err
	}
	return work(ctx, where, s.queues, listener, logger)
}

// serveDev runs a worker on a stack of its own, and ends the stack after it.
func serveDev(ctx context.Context, s settings, out io.Writer, logger *slog.Logger) error {
	dir, err := dev.Place()
	if err != nil {
		return err
	}
	stack, err := dev.Start(ctx, dev.Options{Dir: dir, Log: out})
	if err != nil {
		return asked(ctx, err)
	}
	defer stack.Stop()
	listener, err := listen(ctx, s.listen, true)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, `The stack is running; its state is kept in %s
  Temporal web UI  %s
  Temporal         %s
  Postgres         %s
  Metrics          http://%s/metrics
End it with Ctrl-C or make stop
`, stack.Dir, stack.UIAddress, stack.TemporalAddress, stack.DatabaseURL, listener.Addr())
	where := addresses{
		database: stack.DatabaseURL,
		temporal: client.Options{HostPort: stack.TemporalAddress, Namespace: stack.Namespace},
	}
	return work(ctx, where, s.queues, listener, logger)
}

// work connects, serves until ctx ends or the worker fails, and drains.
func work(ctx context.Context, where addresses, serving string, listener net.Listener, logger *slog.Logger) error {
	registry, handler, err := newMetrics(logger)
	if err != nil {
		return err
	}
	ready := &readiness{}
	ready.not("waiting for Postgres and Temporal")
	defer serveHTTP(listener, ready, registry, logger)()
	logger.Info("serving probes and metrics", "address", listener.Addr().String())

	pool, err := where.openPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	observePool(registry, pool)
	installation, err := preparePostgres(ctx, pool, logger)
	if err != nil {
		return asked(ctx, err)
	}
	where.temporal.Identity = identity(serving)
	temporal, err := where.dialTemporal(ctx, handler, logger)
	if err != nil {
		return asked(ctx, err)
	}
	defer temporal.Close()
	registerAttributes(ctx, temporal, where.temporal.Namespace, logger)

	failed := make(chan error, 2)
	service := queues.Service{
		Installation: installation, Store: store.New(pool), Temporal: temporal,
		Options: workerOptions(pool.Config().MaxConns, failed),
	}
	started, err := start(service, serving)
	if err != nil {
		return err
	}
	ready.by(checks(service))
	logger.Info("serving", "installation", installation, "queues", serving)
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("the worker cannot go on: %w", err)
	}
	ready.not("draining")
	var draining sync.WaitGroup
	for _, w := range started {
		draining.Go(w.Stop)
	}
	draining.Wait()
	logger.Info("drained")
	return err
}

// asked drops an error that comes of the end we were asked for.
func asked(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
