package dev

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// role owns the database of the same name.
const role = "rehome"

// Postgres is a running Postgres of ours. initdb and postgres are run directly
// and not by pg_ctl or the embedded-postgres library, which both let go of the
// server: it has to end when we are killed, and as root it has to run as
// somebody else. The library only downloads.
type Postgres struct {
	URL string // of database rehome, as a superuser

	process *process
	opts    Options
	home    string
}

// StartPostgres starts a Postgres on 127.0.0.1 with its data in opts.Dir. It
// answers when this returns. The caller holds the lock of opts.Dir, or nobody
// else knows that directory.
func StartPostgres(ctx context.Context, opts Options) (*Postgres, error) {
	opts = opts.withDefaults()
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a place for the stack's state: %w", err)
	}
	kept, err := readKept(opts.Dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(opts.Dir, "postgres")
	as, err := unprivileged(filepath.Join(data, "data"))
	if err != nil {
		return nil, err
	}
	p := &Postgres{opts: opts}
	if p.home, err = as.home(data); err != nil {
		return nil, err
	}
	if p.home != data {
		_, _ = fmt.Fprintf(opts.Log, "Postgres runs as user id %d, who may not enter %s; its data is in %s\n", as.uid, opts.Dir, p.home)
	}
	major := dataVersion(p.data())
	bin, err := opts.install().binaries(ctx, as, major)
	if err != nil {
		return nil, err
	}
	kept.Password = cmp.Or(kept.Password, rand.Text())
	if err := kept.write(opts); err != nil {
		return nil, err
	}
	if major == 0 {
		if err := p.initialize(ctx, bin, as, kept.Password); err != nil {
			return nil, err
		}
	}
	if err := p.clear(ctx); err != nil {
		return nil, err
	}
	if err := p.start(ctx, bin, as, &kept); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Postgres) data() string { return filepath.Join(p.home, "data") }

func (p *Postgres) mark() string { return mark("postgres", p.home) }

// dataVersion returns the major version that made the data, 0 when there is none.
func dataVersion(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return 0
	}
	major, _ := strconv.Atoi(strings.TrimSpace(string(text))) // unreadable is as good as absent
	return major
}

// initialize makes the data directory beside its place and moves it there when
// it is complete, so that a kill in the middle leaves nothing half made.
func (p *Postgres) initialize(ctx context.Context, bin string, as account, password string) error {
	half, secret := p.data()+".new", filepath.Join(p.home, "password")
	if err := os.RemoveAll(half); err != nil {
		return fmt.Errorf("remove a half-made database: %w", err)
	}
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		return fmt.Errorf("write the database's password: %w", err)
	}
	defer func() { _ = os.Remove(secret) }()
	if as.other {
		if err := os.Chown(secret, int(as.uid), int(as.gid)); err != nil {
			return fmt.Errorf("hand the database's password over: %w", err)
		}
	}
	// The C locale exists everywhere. Syncing 40 MB is for those who keep them.
	args := []string{"-D", half, "-U", role, "--pwfile", secret, "--encoding=UTF8", "--locale=C"}
	if p.opts.Ephemeral {
		// Tests connect a lot, and SCRAM costs a client much time under the race detector.
		args = append(args, "-A", "password", "--no-sync")
	} else {
		args = append(args, "-A", "scram-sha-256")
	}
	cmd := p.command(ctx, filepath.Join(bin, "initdb"), as, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the database by %s: %w\n%s", cmd, err, out)
	}
	if err := os.Rename(half, p.data()); err != nil {
		return fmt.Errorf("put the new database in its place: %w", err)
	}
	return nil
}

func (p *Postgres) command(ctx context.Context, program string, as account, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = p.home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "LC_ALL=C"} // no PG* of the user's
	cmd.SysProcAttr = as.attributes()
	return cmd
}

// clear ends what a killed stack has left, and the pid file with it when that
// number is another program's by now; Postgres would take it for a live server.
func (p *Postgres) clear(ctx context.Context) error {
	if err := endLeftovers(ctx, p.mark(), step{syscall.SIGINT, time.Minute}); err != nil {
		return err
	}
	file := filepath.Join(p.data(), "postmaster.pid")
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the pid file of Postgres: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	running, err := commandLines(ctx)
	if err != nil {
		return fmt.Errorf("look whether Postgres runs: %w", err)
	}
	for _, c := range running {
		if strconv.Itoa(c.pid) == first && strings.Contains(c.text, p.data()) {
			return fmt.Errorf("process %d (%s) uses the data in %s and is not of this stack; stop it", c.pid, c.text, p.data())
		}
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("remove the pid file of a Postgres that is gone: %w", err)
	}
	return nil
}

// start runs the server, with another port when the first does not do.
func (p *Postgres) start(ctx context.Context, bin string, as account, kept *kept) error {
	var err error
	for range 3 {
		preferred := kept.PostgresPort
		if preferred == 0 && !p.opts.Ephemeral {
			preferred = 5433
		}
		if kept.PostgresPort, err = choosePort(preferred, "Postgres", p.opts.Log); err != nil {
			return err
		}
		if err = p.run(ctx, bin, as, *kept); err == nil {
			return kept.write(p.opts)
		}
		if !errors.Is(err, errEnded) {
			return err
		}
	}
	return err
}

func (p *Postgres) run(ctx context.Context, bin string, as account, kept kept) error {
	args := []string{
		"-D", p.data(), "-p", strconv.Itoa(kept.PostgresPort),
		"-c", "cluster_name=" + p.mark(),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", // Debian's default is writable by few, and a path of ours may be too long
		"-c", "max_connections=200",
		"-c", "shared_buffers=128MB",
		"-c", "max_wal_size=2GB", // a bulk migration should not wait for checkpoints
	}
	death := syscall.SIGINT // fast shutdown
	if p.opts.Ephemeral {
		death = syscall.SIGQUIT // nothing is kept, so nothing is written
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off", "-c", "autovacuum_naptime=10min")
	}
	for _, setting := range p.opts.Settings {
		args = append(args, "-c", setting) // the last one of a name counts
	}
	cmd := p.command(context.WithoutCancel(ctx), filepath.Join(bin, "postgres"), as, args...)
	endWithUs(cmd.SysProcAttr, death)
	var err error
	if p.process, err = launch("Postgres", cmd, filepath.Join(p.opts.Dir, "postgres.log")); err != nil {
		return err
	}
	p.URL = (&url.URL{
		Scheme: "postgres", User: url.UserPassword(role, kept.Password),
		Host: "127.0.0.1:" + strconv.Itoa(kept.PostgresPort), Path: role, RawQuery: "sslmode=disable",
	}).String()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // crash recovery of a large database takes its time
	defer cancel()
	if err := p.process.await(ctx, p.makeDatabase); err != nil {
		p.Stop()
		return err
	}
	return nil
}

// makeDatabase creates database rehome when it is not there. It fails as long
// as the server does not answer.
func (p *Postgres) makeDatabase(ctx context.Context) error {
	config, err := pgx.ParseConfig(p.URL)
	if err != nil {
		return fmt.Errorf("read our own database URL: %w", err)
	}
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, role).Scan(&exists); err != nil {
		return fmt.Errorf("look for database %s: %w", role, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE rehome`); err != nil {
		return fmt.Errorf("create database %s: %w", role, err)
	}
	return nil
}

// PID returns the server's process id.
func (p *Postgres) PID() int { return p.process.cmd.Process.Pid }

// Stop ends the server: in good order, or at once when nothing is kept.
func (p *Postgres) Stop() {
	if p.opts.Ephemeral {
		p.process.stop(step{syscall.SIGQUIT, 10 * time.Second})
		_ = os.RemoveAll(p.home) // a leftover in a temporary directory hurts nobody
		return
	}
	p.process.stop(step{syscall.SIGINT, time.Minute}, step{syscall.SIGQUIT, 10 * time.Second})
}
