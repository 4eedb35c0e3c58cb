// Command prepare brings onto this machine what the embedded stack needs and
// has not: Postgres and the Temporal CLI. Tests start after it, so that their
// time limits need not cover an installation.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"rehome/internal/dev"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	dir, err := dev.Place()
	if err == nil {
		err = dev.Prepare(ctx, dev.Options{Dir: dir, Log: os.Stderr})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the signal handler ends with the process
	}
}
