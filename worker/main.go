// Command worker runs rehome's workflows and activities.
//
// It connects to Postgres by DATABASE_URL or PG*, and to Temporal by its
// configuration file and TEMPORAL_*; what these do not name is that of the stack
// which `worker -dev` keeps running for this checkout. It waits for both
// servers, brings schema rehome up to date, serves /healthz, /readyz and
// /metrics, and on SIGTERM finishes what it has begun.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"rehome/internal/dev"
)

// Exit codes, as far as they are not those of the command line.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitInterrupted = 130
)

// manageable is how much memory, in bytes, the worker takes for what it works with before
// it tidies up more often: with its program it is to keep to 128 MiB.
const manageable = 72 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" { // whoever sets that knows better
		debug.SetMemoryLimit(manageable)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, out, talk io.Writer) int {
	settings, err := parse(args, talk)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return exitUsage
	}
	logger := slog.New(slog.NewJSONHandler(talk, nil))
	ctx, cancel := untilSignal(context.Background(), logger)
	defer cancel()
	switch {
	case settings.stop:
		err = stop(ctx, out)
	case settings.dev:
		err = serveDev(ctx, settings, out, logger)
	default:
		err = serve(ctx, settings, logger)
	}
	if err == nil {
		return 0
	}
	logger.Error("the worker ends", "reason", err.Error())
	if permanent(err) {
		return exitRefused
	}
	return exitFailed
}

// settings are the flags.
type settings struct {
	dev, stop bool
	listen    string
	queues    string
}

func parse(args []string, talk io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	flags.SetOutput(talk)
	flags.BoolVar(&s.dev, "dev", false, "bring an own Postgres and Temporal, kept in .rehome; ends with this process")
	flags.BoolVar(&s.stop, "stop", false, "end the worker -dev that runs for this checkout")
	flags.StringVar(&s.listen, "listen", "127.0.0.1:9464", "address for /healthz, /readyz and /metrics")
	flags.StringVar(&s.queues, "queues", "all", "what to serve: all, main (workflows and database work), or files (work that reads a root; only where the roots are)")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("worker takes no arguments, and was given %q; see worker -help", flags.Args())
	case s.queues != "all" && s.queues != "main" && s.queues != "files":
		err = fmt.Errorf("-queues %s: it is all, main or files", s.queues)
	case s.dev && s.stop:
		err = errors.New("-dev starts and -stop ends; give one of them")
	}
	if err != nil {
		_, _ = fmt.Fprintln(talk, err)
	}
	return s, err
}

// untilSignal returns a context that ends at the first SIGTERM or SIGINT. A
// second one ends the process at once.
func untilSignal(ctx context.Context, logger *slog.Logger) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		first := <-signals
		logger.Info("draining: what has begun is finished, nothing new is taken; a second signal ends at once", "signal", first.String())
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, cancel
}

// stop ends the stack of this checkout and its worker.
func stop(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // longer than a drain and a checkpoint
	defer cancel()
	err := dev.StopRunning(ctx, ".")
	if errors.Is(err, dev.ErrNotRunning) {
		_, _ = fmt.Fprintln(out, "Nothing runs for this checkout")
		return nil
	}
	if err == nil {
		_, _ = fmt.Fprintln(out, "Stopped")
	}
	return err
}
