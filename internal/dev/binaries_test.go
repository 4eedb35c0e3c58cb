package dev_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// bare is a machine with nothing but the programs given as scripts, and no way
// to the outside.
func bare(t *testing.T, scripts map[string]string) (*exec.Cmd, string) {
	t.Helper()
	dir := openDir(t)
	path := filepath.Join(dir, "path")
	require.NoError(t, os.Mkdir(path, 0o755))
	for name, script := range scripts {
		write := exec.Command("sh", "-c", `cat >"$0" && chmod 755 "$0"`, filepath.Join(path, name)) // see programFor
		write.Stdin = strings.NewReader("#!/bin/sh\nset -e\ncd " + dir + "\n" + script)
		require.NoError(t, write.Run())
	}
	for _, name := range []string{"env", "mkdir", "chmod", "true"} {
		program, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(program, filepath.Join(path, name)))
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{"PATH=" + path, "HOME=" + dir, "HTTPS_PROXY=http://127.0.0.1:1"}
	return cmd, dir
}

const (
	sudo      = `shift; exec "$@"`
	installer = `case " $* " in *" update "*) : >updated; exit 0;; esac
[ -e updated ] || { echo "404  Not Found" >&2; exit 100; }
mkdir -p place
for program in postgres initdb; do
  printf '#!/bin/sh\necho "%s (PostgreSQL) 16.2"\n' $program >place/$program
  chmod +x place/$program
done
`
)

func TestPostgresIsInstalledWhereItIsMissing(t *testing.T) {
	t.Parallel()
	cmd, dir := bare(t, map[string]string{"apt-get": installer, "sudo": sudo})
	require.Equal(t, filepath.Join(dir, "place"), child(t, cmd, "binaries", dir))
}

func TestNoPostgresNamesTheWaysOn(t *testing.T) {
	t.Parallel()
	cmd, dir := bare(t, nil)
	message := child(t, cmd, "binaries", dir)
	for _, part := range []string{
		"error: there is no Postgres 14 or newer on this machine", "there is no apt-get", "download Postgres 17",
		"apt-get install postgresql, brew install postgresql", "DATABASE_URL", "docker compose up",
	} {
		require.Contains(t, message, part)
	}
}

func TestPostgresThatIsTooOldIsPassedOver(t *testing.T) {
	t.Parallel()
	cmd, dir := bare(t, map[string]string{
		"postgres": `echo "postgres (PostgreSQL) 9.6.1"`, "initdb": ``,
		"apt-get": `echo "E: Unable to fetch some archives" >&2; exit 100`, "sudo": sudo,
	})
	require.Contains(t, child(t, cmd, "binaries", dir), "apt-get install: exit status 100: E: Unable to fetch some archives")
}
