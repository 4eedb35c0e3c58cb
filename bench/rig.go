package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/log"

	"rehome/internal/dev"
	"rehome/resilience"
	"rehome/store"
)

// postgresSettings are those of a server that does bulk work and keeps what it
// is given. Vacuum and checkpoints happen between measurements: in one of them
// they would be the luck of the clock.
var postgresSettings = []string{
	"fsync=on", "shared_buffers=1GB", "max_wal_size=16GB", "min_wal_size=2GB", "checkpoint_timeout=1h", "autovacuum=off",
}

var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// rig is what all is measured on: a fresh stack, a worker process beside it,
// and the command line.
type rig struct {
	scale
	dir    string // for what lives as long as the rig
	stack  *dev.Stack
	worker *dev.Child
	pool   *pgxpool.Pool
	data   *store.Store
	talk   io.Writer
	warm   map[string]bool // kinds of work that it has done
}

func newRig(ctx context.Context, size scale, talk io.Writer) (_ *rig, err error) {
	r := &rig{scale: size, talk: talk, warm: map[string]bool{}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.dir, err = os.MkdirTemp("", "rehome-bench-"); err != nil {
		return nil, fmt.Errorf("make a directory for the benchmark: %w", err)
	}
	// As root Postgres runs as somebody else, who has to pass.
	if err := os.Chmod(r.dir, 0o711); err != nil {
		return nil, fmt.Errorf("open the directory for the benchmark: %w", err)
	}
	if r.stack, err = dev.Start(ctx, dev.Options{Dir: filepath.Join(r.dir, "stack"), Log: talk, Settings: postgresSettings}); err != nil {
		return nil, err
	}
	if r.pool, err = pgxpool.New(ctx, r.stack.DatabaseURL); err != nil {
		return nil, fmt.Errorf("prepare connections to Postgres: %w", err)
	}
	r.data = store.New(r.pool)
	if err := r.data.Migrate(ctx); err != nil {
		return nil, err
	}
	return r, r.startWorker(ctx)
}

// startWorker builds both programs, starts the worker and waits until it works.
func (r *rig) startWorker(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", r.dir+string(filepath.Separator), "rehome/worker", "rehome/starter")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	cmd := exec.Command(filepath.Join(r.dir, "worker"), "-listen", "127.0.0.1:0")
	cmd.Env = r.environment()
	var err error
	if r.worker, err = dev.StartChild(cmd, filepath.Join(r.dir, "worker.log")); err != nil {
		return err
	}
	if err := r.addMemory(ctx, "empty"); err != nil {
		return err
	}
	return r.awaitWorker(ctx)
}

// awaitWorker gives the command line work until a worker takes it. It warms
// both up, too.
func (r *rig) awaitWorker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := r.starter(ctx, nil, "ingest", "--memory", "empty")
		if err == nil {
			return nil
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != unreachable {
			return err
		}
		select {
		case <-r.worker.Done():
			return fmt.Errorf("the worker has ended: %s", r.worker.Says())
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// unreachable is the exit code of a command that finds no server or worker.
const unreachable = 6

// environment is all that the programs see: no profile or database of the user's.
func (r *rig) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir,
		"DATABASE_URL=" + r.stack.DatabaseURL, "TEMPORAL_ADDRESS=" + r.stack.TemporalAddress,
	}
}

// addMemory adds a builtin memory over an empty root.
func (r *rig) addMemory(ctx context.Context, name string) error {
	return r.add(ctx, resilience.Memory{Name: name, Builtin: true, Mapping: resilience.BuiltinMapping(name)})
}

// addMapped adds a memory over a table.
func (r *rig) addMapped(ctx context.Context, name string, m resilience.Mapping) error {
	return r.add(ctx, resilience.Memory{Name: name, Mapping: m})
}

func (r *rig) add(ctx context.Context, m resilience.Memory) error {
	m.Root = r.root(m.Name)
	if err := os.MkdirAll(m.Root, 0o755); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	return r.data.AddMemory(ctx, m)
}

func (r *rig) root(memory string) string { return filepath.Join(r.dir, "roots", memory) }

// starter runs a command, reads its JSON into result unless that is nil, and
// returns how long it took from its start to its exit.
func (r *rig) starter(ctx context.Context, result any, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(r.dir, "starter"), append(slices.Clone(args), "--json")...)
	cmd.Env, cmd.Dir = r.environment(), r.dir
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if err != nil {
		return took, fmt.Errorf("starter %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(talk.String()))
	}
	if result == nil {
		return took, nil
	}
	if err := json.Unmarshal(out.Bytes(), result); err != nil {
		return took, fmt.Errorf("read what starter %s says: %w: %s", strings.Join(args, " "), err, out.String())
	}
	return took, nil
}

// completed runs a command that carries out a plan, and refuses any other end.
func (r *rig) completed(ctx context.Context, args ...string) (resilience.Plan, time.Duration, error) {
	var plan resilience.Plan
	took, err := r.starter(ctx, &plan, args...)
	if err == nil && plan.Status != resilience.Completed {
		err = fmt.Errorf("migration %s is %s: %s", plan.ID, plan.Status, plan.Reason)
	}
	return plan, took, err
}

// exec runs statements one by one.
func (r *rig) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := r.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func (r *rig) say(format string, values ...any) { _, _ = fmt.Fprintf(r.talk, format+"\n", values...) }

// close ends what the rig has started and removes all that it kept.
func (r *rig) close() {
	if r.worker != nil {
		r.worker.Stop(10 * time.Second)
	}
	if r.pool != nil {
		r.pool.Close()
	}
	if r.stack != nil {
		r.stack.Stop()
	}
	if r.dir != "" {
		_ = os.RemoveAll(r.dir) // in a temporary directory
	}
}
