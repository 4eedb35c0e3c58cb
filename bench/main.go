// Command bench measures rehome against the same work done by hand, on a
// Postgres and a Temporal of its own. It prints a table and writes it to
// bench/RESULTS.md. It exits 1 when an aim is missed.
//
// Each measured thing starts from the same physical state; what is compared
// runs in the same round, in an order that alternates from one to the next; the
// ratio is the median of the rounds' ratios. More work to measure is one more
// entry in benchmarks.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// results is where the table of everything is kept.
var results = filepath.Join("bench", "RESULTS.md")

// benchmark is one kind of work. It brings its own data.
type benchmark struct {
	name  string
	notes []string // for the readers of the table
	run   func(context.Context, *rig) ([]row, error)
}

// benchmarks run in this order.
var benchmarks = slices.Concat([]benchmark{
	{"rename", renameNotes, rename},
	{"rename_many", nil, renameMany},
	{"rename_list", renameListNotes, renameList},
	{"transfer", transferNotes, transfer},
	{"transfer_many", nil, transferMany},
	{"ingest", ingestNotes, ingest},
	{"current_path", currentPathNotes, currentPath},
}, onShapes(), []benchmark{
	{"gradual", gradualNotes, gradual},
	{"estimates", estimatesNotes, estimates},
})

// scale is how much is measured.
type scale struct {
	rounds      int
	warmUps     int           // rounds before them that do not count
	chunks      int           // rows with text and embedding
	smallChunks int           // rows with little text
	source      string        // the part of Go's source tree that is ingested
	paths       int           // aliases, and files of the catalogue
	pgbench     time.Duration // of one run
	share       float64       // of the rows that a benchmark names itself
	judged      bool          // a missed aim counts
}

var (
	full = scale{
		rounds: 3, warmUps: 1, chunks: 100_000, smallChunks: 1_000_000, source: ".",
		paths: 100_000, pgbench: 10 * time.Second, share: 1, judged: true,
	}
	quick = scale{rounds: 1, chunks: 2_000, smallChunks: 3_000, source: "net", paths: 2_000, pgbench: time.Second, share: 0.02}
)

// part of a number of rows.
func (s scale) part(rows int) int { return int(s.share * float64(rows)) }

// errMissed says that rehome was slower than it has to be.
var errMissed = errors.New("an aim was missed")

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2) // the flag package has said why
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, out, talk io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(talk)
	small := flags.Bool("quick", false, "try everything with small counts; aims are not judged")
	file := flags.String("out", "", "file for the table; "+results+" without -quick, none with it")
	only := flags.String("only", "", "measure some alone, with commas between them: "+names(benchmarks))
	if err := flags.Parse(args); err != nil {
		return cmp.Or(map[bool]error{true: err}[errors.Is(err, flag.ErrHelp)], errUsage)
	}
	chosen := choose(*only)
	if flags.NArg() > 0 || *only != "" && len(chosen) != strings.Count(*only, ",")+1 {
		_, _ = fmt.Fprintf(talk, "bench takes no arguments, and -only takes some of %s; see -help\n", names(benchmarks))
		return errUsage
	}
	size := full
	if *small {
		size = quick
	} else {
		*file = cmp.Or(*file, results)
	}
	missed := false
	err = measure(ctx, size, chosen, talk, func(s section) error {
		missed = missed || s.missed()
		_, _ = io.WriteString(out, s.markdown()+"\n")
		return s.keep(*file)
	})
	if err == nil && size.judged && missed {
		return errMissed
	}
	return err
}

// keep writes a section into the file, if there is to be one, as soon as it has
// been measured: what was measured before an interrupt stays.
func (s section) keep(file string) error {
	if file == "" {
		return nil
	}
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read earlier results: %w", err)
	}
	sections := sectionsOf(string(before))
	sections[s.name] = strings.TrimSpace(s.markdown())
	if err := os.WriteFile(file, []byte(document(sections)), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// choose returns the benchmarks that are named, all when none is.
func choose(named string) []benchmark {
	if named == "" {
		return benchmarks
	}
	var chosen []benchmark
	for _, b := range benchmarks {
		if slices.Contains(strings.Split(named, ","), b.name) {
			chosen = append(chosen, b)
		}
	}
	return chosen
}

func names(of []benchmark) string {
	all := make([]string, len(of))
	for i, b := range of {
		all[i] = b.name
	}
	return strings.Join(all, ", ")
}

// measure runs benchmarks on a rig that lives as long as they do, and gives away
// what each has found.
func measure(ctx context.Context, size scale, chosen []benchmark, talk io.Writer, found func(section) error) error {
	r, err := newRig(ctx, size, talk)
	if err != nil {
		return err
	}
	defer r.close()
	on, err := describeMachine(ctx, r)
	if err != nil {
		return err
	}
	for _, b := range chosen {
		r.say("%s", b.name)
		rows, err := b.run(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if err := found(section{b, size, on, rows}); err != nil {
			return err
		}
	}
	return nil
}
