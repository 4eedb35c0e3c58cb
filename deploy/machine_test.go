//go:build linux

package deploy_test

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev"
)

// imageEntrypoint is what an image runs where the service does not say.
var imageEntrypoint = map[string]types.ShellCommand{
	"temporal": {"temporal-server", "start"}, // by the image's entrypoint.sh
	"worker":   {"worker"},
}

// machine runs services of docker-compose.yml without containers: their own
// commands and settings, with the addresses and paths that containers see put
// into those of this machine.
type machine struct {
	t        *testing.T
	project  *types.Project
	bin      string // programs that the images bring, first on PATH
	postgres string // port
	temporal string // port
}

// newMachine starts a Postgres for what the image of Postgres is: empty, with
// one superuser that has the password of the settings.
func newMachine(t *testing.T) *machine {
	t.Helper()
	env := sample(t)
	env["SOURCES_DIR"] = "resilience" // seen from docker-compose.yml
	p, err := load(t, env)
	require.NoError(t, err)
	m := &machine{t: t, project: p, bin: t.TempDir(), temporal: freePort(t)}

	server, err := dev.StartPostgres(t.Context(), dev.Options{Dir: t.TempDir(), Ephemeral: true})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	address, err := url.Parse(server.URL)
	require.NoError(t, err)
	m.postgres = address.Port()
	// The embedded server's own role and database have names that the services
	// are about to use.
	address.Path = "postgres"
	m.sql(address, `DROP DATABASE rehome`, `CREATE ROLE postgres SUPERUSER LOGIN PASSWORD '`+env["POSTGRES_PASSWORD"]+`'`)
	address.User = url.UserPassword("postgres", env["POSTGRES_PASSWORD"])
	m.sql(address, `ALTER ROLE rehome RENAME TO embedded`)
	return m
}

func (m *machine) sql(address *url.URL, statements ...string) {
	m.t.Helper()
	conn, err := pgx.Connect(m.t.Context(), address.String())
	require.NoError(m.t, err)
	defer func() { _ = conn.Close(m.t.Context()) }()
	for _, statement := range statements {
		_, err := conn.Exec(m.t.Context(), statement)
		require.NoError(m.t, err)
	}
}

// native puts an address or a path that a container sees into ours.
func (m *machine) native(s types.ServiceConfig, key, value string) string {
	switch {
	case value == "postgres" && !strings.HasSuffix(key, "USER"), value == "0.0.0.0":
		return "127.0.0.1"
	case value == "5432":
		return m.postgres
	case value == "temporal:7233":
		return "127.0.0.1:" + m.temporal
	}
	for _, v := range s.Volumes {
		value = strings.ReplaceAll(value, v.Target, v.Source)
	}
	return value
}

// command is what the service's container would run; args stand for the
// command where the service leaves it to the caller or the image.
func (m *machine) command(ctx context.Context, service string, args ...string) *exec.Cmd {
	s := m.project.Services[service]
	line := slices.Concat(imageEntrypoint[service], s.Entrypoint, s.Command, args)
	for i, word := range line {
		line[i] = m.native(s, "", word)
	}
	program := line[0]
	if own := filepath.Join(m.bin, program); exists(own) {
		program = own
	}
	cmd := exec.CommandContext(ctx, program, line[1:]...)
	cmd.Env = []string{"PATH=" + m.bin + ":" + os.Getenv("PATH"), "HOME=" + m.bin, "PGPORT=" + m.postgres}
	for key, value := range s.Environment {
		cmd.Env = append(cmd.Env, key+"="+m.native(s, key, *value))
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 40 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd
}

// run runs a job to its end.
func (m *machine) run(service string, args ...string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := m.command(ctx, service, args...)
	out, err := cmd.CombinedOutput()
	require.NoError(m.t, err, "%s\n%s", cmd, out)
}

// runTwice runs a job as two `docker compose up` in a row do.
func (m *machine) runTwice(service string) {
	m.t.Helper()
	m.run(service)
	m.run(service)
}

// start starts a long-running service. The returned function ends it as docker
// does, and requires that it ended in good order.
func (m *machine) start(service string, extra map[string]string, args ...string) func() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(m.t.Context()))
	cmd := m.command(ctx, service, args...)
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		cmd.Env = append(cmd.Env, key+"="+extra[key])
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(m.t, cmd.Start())
	stop := func() error {
		cancel()
		err := cmd.Wait()
		if m.t.Failed() {
			m.t.Logf("%s said:\n%s", service, log.String()[max(0, log.Len()-5000):])
		}
		return err
	}
	stopped := false
	m.t.Cleanup(func() {
		if !stopped {
			_ = stop() // the test has failed for another reason
		}
	})
	return func() {
		m.t.Helper()
		stopped = true
		_ = stop() // says "context canceled" where the service ended well
		require.Equal(m.t, 0, cmd.ProcessState.ExitCode(), "%s did not end in good order:\n%s", service, log.String())
	}
}

// tool makes a program that tools/ pins available under the name that it has
// in the image.
func (m *machine) tool(name, modfile, pkg string) {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "go", "tool", "-modfile="+modfile, "-n", pkg)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	require.NoError(m.t, err, "%s: %s", cmd, out)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n") // downloads are said before the path
	require.NoError(m.t, os.Symlink(lines[len(lines)-1], filepath.Join(m.bin, name)))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// freePort finds one below 32768: Temporal keeps its ports as a smallint.
func freePort(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(12000))
		if listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:"+port); err == nil {
			require.NoError(t, listener.Close())
			return port
		}
	}
	require.FailNow(t, "no port between 20000 and 32000 is free")
	return ""
}
