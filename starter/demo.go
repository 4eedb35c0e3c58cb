package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"rehome/resilience"
)

// demoMemory is what the demo calls its memory.
const demoMemory = "gosrc"

func demoCommand(s *session) *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use: "demo", Short: "Show the main job on a copy of Go's source tree, and check every claim", Args: cobra.NoArgs,
		Long: `Show the main job on a copy of Go's source tree, on a real Postgres and a real
Temporal: the stack of this checkout, which is started unless "make dev" runs
it, with a database and a worker of the demo's own. What is shown is what the
commands printed; what is claimed is read from the database. The demo ends with
exit code 1 at the first claim that does not hold.

Afterwards the stack is stopped, and "make dev" brings it back with what the
demo did. --keep leaves it running until Ctrl-C.`,
		Example: "  starter demo\n  starter demo --keep",
		RunE:    s.do(func(ctx context.Context, _ []string) error { return s.demo(ctx, keep) }),
	}
	c.Flags().BoolVar(&keep, "keep", false, "keep stack, worker and tree until Ctrl-C")
	return c
}

// demo is one demonstration.
type demo struct {
	talk  *session  // whose terminal it is
	out   io.Writer // where it is told
	tree  tree
	done  reorganisation
	stage *stage
	sql   *pgx.Conn
	err   error // of the first question to the database that had no answer

	held   int             // claims so far
	before string          // checksum before the migration that loses its worker
	killed resilience.Plan // that migration
	runs   []demoRun
	rows   []demoRow
}

// demoStep is a step, and what it proves when all its claims hold.
type demoStep struct {
	title, proves string
	do            func(*demo, context.Context) (figures string, err error)
}

// demoSteps is the demo, in order.
func demoSteps() []demoStep {
	return []demoStep{
		{"Begin", "the root is a real tree of other people's files", (*demo).begin},
		{"Ingest", "what is in the files is in the chunks", (*demo).ingest},
		{"Embed", "embeddings are the application's business", (*demo).embed},
		{"Reorganise", "people do this every day", (*demo).reorganise},
		{"Scan", "what is missing is found, nothing is removed", (*demo).firstScan},
		{"Migrate", "moved chunks keep row, text and embedding", (*demo).migrate},
		{"Resolve", "old paths lead to the files", (*demo).resolve},
		{"Scan again", "moved files are at home, deleted ones missing", (*demo).secondScan},
		{"Clean up", "exactly the chunks of deleted files leave", (*demo).cleanup},
		{"Restore", "what comes back is byte for byte what left", (*demo).restore},
		{"Ingest again", "an edit costs the chunks around it", (*demo).reingest},
		{"Kill", "a killed worker loses and doubles nothing", (*demo).kill},
		{"Roll back", "the table is what it was, byte for byte", (*demo).rollback},
		{"Scan at last", "memory and tree agree", (*demo).lastScan},
	}
}

// demoRow is a line of the table at the end.
type demoRow struct {
	Step    int     `json:"step"`
	Title   string  `json:"title"`
	Figures string  `json:"figures"`
	Seconds float64 `json:"seconds"`
	Proves  string  `json:"proves"`
}

// demoRun is a workflow to look at.
type demoRun struct {
	What string `json:"what"`
	Link string `json:"link"`
}

// demoResult is what a demo leaves.
type demoResult struct {
	Steps       []demoRow `json:"steps"`
	Claims      int       `json:"claims"`
	Seconds     float64   `json:"seconds"`
	Runs        []demoRun `json:"runs"`
	UI          string    `json:"ui"`
	DatabaseURL string    `json:"database_url"`
}

func (s *session) demo(ctx context.Context, keep bool) (err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "rehome-demo-")
	if err != nil {
		return fmt.Errorf("make a place for the source tree: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a copy in a temporary directory
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	d := &demo{talk: s, out: s.out, tree: tree{filepath.Join(dir, "src")}}
	if s.json {
		d.out = s.err
	}
	if d.stage, err = openStage(ctx, d.out); err != nil {
		return err
	}
	defer func() { d.stage.close(err != nil) }()
	if d.sql, err = pgx.Connect(ctx, d.stage.database); err != nil {
		return fmt.Errorf("connect to the demo's database: %w", err)
	}
	defer func() { _ = d.sql.Close(context.WithoutCancel(ctx)) }() // nothing is under way on it
	if err := d.play(ctx); err != nil {
		return err
	}
	result := demoResult{d.rows, d.held, time.Since(began).Seconds(), d.runs, d.stage.running.UIAddress, d.stage.database}
	if err := s.show(result, func(w io.Writer) { d.curtain(w, result, keep) }); err != nil || !keep {
		return err
	}
	<-ctx.Done()
	return nil
}

// play does the steps in order and stops at the first that does not hold.
func (d *demo) play(ctx context.Context) error {
	for i, step := range demoSteps() {
		fmt.Fprintf(d.out, "\n%d. %s\n", i+1, step.title)
		began := time.Now()
		figures, err := step.do(d, ctx)
		if d.err != nil && err == nil {
			err = d.err
		}
		if ctx.Err() != nil {
			return fail(exitInterrupted, "the demo was interrupted in step %d", i+1)
		}
		if err != nil {
			return fail(exitFailed, "step %d of the demo, %s: %w", i+1, step.title, err)
		}
		d.rows = append(d.rows, demoRow{i + 1, step.title, figures, time.Since(began).Seconds(), step.proves})
	}
	return nil
}

// curtain writes what was shown, and where to look at it.
func (d *demo) curtain(w io.Writer, r demoResult, keep bool) {
	fmt.Fprintf(w, "\nAll %d claims hold, in %.0f s.\n\n", r.Claims, r.Seconds)
	row(w, "", "STEP", "TIME", "FIGURES", "PROVES")
	for _, s := range r.Steps {
		row(w, s.Step, s.Title, fmt.Sprintf("%.1f s", s.Seconds), s.Figures, s.Proves)
	}
	fmt.Fprintln(w, "\nIn the Temporal web UI:")
	for _, run := range r.Runs {
		fmt.Fprintf(w, "  %s\n    %s\n", run.What, run.Link)
	}
	fmt.Fprintf(w, "In Postgres:\n  psql '%s'\n", r.DatabaseURL)
	switch {
	case keep:
		fmt.Fprintln(w, "Everything stays up until you press Ctrl-C.")
	case d.stage.own:
		fmt.Fprintln(w, "The stack is stopped now. `make dev` brings it back; then the links open.")
	}
}
