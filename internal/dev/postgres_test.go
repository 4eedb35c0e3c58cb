package dev_test

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev"
)

// leaveMark writes what a later start must still find.
func leaveMark(t *testing.T, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), `CREATE TABLE mark AS SELECT 7 AS n`)
	require.NoError(t, err)
}

func TestPostgresAsksForThePassword(t *testing.T) {
	t.Parallel()
	p := postgres(t, openDir(t), t.Output())
	_, err := pgx.Connect(t.Context(), strings.Replace(p.URL, "rehome:", "rehome:x", 1))
	require.ErrorContains(t, err, "password authentication failed")
}

func TestPostgresKilledRecovers(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	p := postgres(t, dir, t.Output())
	leaveMark(t, p.URL)
	require.NoError(t, syscall.Kill(p.PID(), syscall.SIGKILL))
	next := postgres(t, dir, t.Output())
	require.Equal(t, 7, query[int](t, next.URL, marks))
}

func TestPostgresHalfMadeIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	half := filepath.Join(dir, "postgres", "data.new")
	require.NoError(t, os.MkdirAll(half, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("15\n"), 0o644))
	require.Equal(t, 1, query[int](t, postgres(t, dir, t.Output()).URL, `SELECT 1`))
}

// Ordinary users are what we are ourselves, unless we are root.
func TestPostgresAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	cmd := exec.Command(os.Args[0])
	if os.Geteuid() == 0 {
		const nobody = 65534
		require.NoError(t, os.Chown(dir, nobody, nobody))
		cmd = exec.Command(programFor(t, dir))
		cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=/tmp"}
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	address := child(t, cmd, "postgres", filepath.Join(dir, ".rehome"))
	require.Equal(t, "UTF8", query[string](t, address, `SHOW server_encoding`))
}

// programFor copies the test binary to where another user can run it.
func programFor(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(dir, "program")
	// Not by ourselves: a child that another test forks just then would hold the
	// file open for writing, and the kernel would not run it.
	require.NoError(t, exec.Command("cp", os.Args[0], program).Run())
	return program
}

// A checkout under /root: the user Postgres runs as may not get there. Who is
// not root has no such trouble, and the data stays in the checkout.
func TestPostgresWhereOthersMayNotEnter(t *testing.T) {
	t.Parallel()
	closed := t.TempDir()
	require.NoError(t, os.Chmod(closed, 0o700))
	var said strings.Builder
	p := postgres(t, filepath.Join(closed, ".rehome"), &said)
	data := query[string](t, p.URL, `SHOW data_directory`)
	if os.Geteuid() == 0 {
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(filepath.Dir(data))) })
		require.NotContains(t, data, closed)
		require.Contains(t, said.String(), "may not enter "+closed)
	} else {
		require.Contains(t, data, closed)
	}
	info, err := os.Stat(closed)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "the user's permissions are left alone")
	leaveMark(t, p.URL)
	p.Stop()
	require.Equal(t, 7, query[int](t, postgres(t, filepath.Join(closed, ".rehome"), t.Output()).URL, marks))
}

func TestPostgresDataOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	data := filepath.Join(dir, "postgres", "data")
	require.NoError(t, os.MkdirAll(data, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("9\n"), 0o644))
	_, err := dev.StartPostgres(t.Context(), dev.Options{Dir: dir, Log: t.Output()})
	require.ErrorContains(t, err, "there is no Postgres 9, which made the data that is kept here")
}

func TestDatabaseURLIsLoopbackOnly(t *testing.T) {
	t.Parallel()
	p := postgres(t, openDir(t), t.Output())
	u, err := url.Parse(p.URL)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", u.Hostname())
	require.Equal(t, "127.0.0.1", query[string](t, p.URL, `SHOW listen_addresses`))
	require.Empty(t, query[string](t, p.URL, `SHOW unix_socket_directories`))
}

func TestTemporalVersion(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{
		"temporal version 1.5.0 (Server 1.29.0, UI 2.40.0)":     true,
		"temporal version 1.10.2 (Server 1.31.0, UI 2.49.0)":    true,
		"temporal version 2.0.0 (Server 2.0.0, UI 3.0.0)":       true,
		"temporal version 1.4.1 (Server 1.28.0, UI 2.39.0)":     false,
		"temporal version 0.0.0-DEV (Server 1.29.1, UI 2.42.1)": false,
		"something else": false,
	} {
		require.Equal(t, want, dev.NewEnough(answer), answer)
	}
}
