// Command starter is the command line of rehome: it starts workflows, waits
// for them, and shows and changes what is kept in Postgres.
//
// There is one file per command. Results go to stdout, talk to stderr; every
// command can give its result as JSON. What a command refuses it refuses before
// it has changed anything.
package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/temporal"

	"rehome/activities"
	"rehome/store"
	"rehome/workflows"
)

// process is what a command gets from its surroundings; tests give their own.
type process struct {
	in       io.Reader
	out, err io.Writer
	env      envconfig.EnvLookup
	dir      string // where the search for a development stack begins

	// Of the demo, which runs commands in its own process.
	seen   func(result any) // gets each result as it is, before it is written
	tuning workflows.Tuning // of migrations
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(execute(ctx, process{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: envconfig.EnvLookupOS, dir: "."}, os.Args[1:]))
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, p process, args []string) int {
	s := &session{process: p}
	defer s.close()
	command, err := newRoot(s, args).ExecuteContextC(ctx)
	if err != nil && !s.running { // cobra's own: an unknown command, flag or argument
		err = fail(exitUsage, "%v; see `%s --help`", err, command.CommandPath())
	}
	code := exitCode(err)
	if code == exitDone {
		return code
	}
	if ctx.Err() != nil {
		code = exitInterrupted
	}
	s.json = s.json || slices.Contains(args, "--json") // not parsed when the flags are wrong
	s.complain(err, code)
	return code
}

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitNotFound    = 4
	exitConflict    = 5
	exitUnreachable = 6
	exitInterrupted = 130
)

// failure is an error of the command line itself, which knows its exit code.
type failure struct {
	code  int
	cause error
}

func (f *failure) Error() string { return f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

// exitCode is the one place where an error becomes an exit code.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if own, ok := errors.AsType[*failure](err); ok {
		return own.code
	}
	app, _ := errors.AsType[*temporal.ApplicationError](err)
	is := func(kind error, typ string) bool {
		return app != nil && app.Type() == typ || errors.Is(err, kind)
	}
	switch {
	case is(store.ErrInvalid, activities.Invalid), app == nil && errors.Is(err, store.ErrUnfit):
		return exitUsage // a mapping that does not fit when it is typed; in a run the table has changed
	case is(store.ErrRefused, activities.Refused), is(store.ErrRights, activities.Rights), is(store.ErrSchema, activities.Schema):
		return exitRefused
	case is(store.ErrNotFound, activities.NotFound):
		return exitNotFound
	case is(store.ErrConflict, activities.Conflict):
		return exitConflict
	case app == nil && unreachable(err):
		return exitUnreachable
	}
	return exitFailed
}

// unreachable reports whether a server did not answer, at the start or in the middle.
func unreachable(err error) bool {
	if errors.Is(err, store.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	if _, ok := errors.AsType[*net.OpError](err); ok { // not net.Error, which the errno of a missing file is too
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*serviceerror.Unavailable](err); ok {
		return true
	}
	_, ok := errors.AsType[*serviceerror.DeadlineExceeded](err)
	return ok
}
