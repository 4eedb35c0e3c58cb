package dev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// oldestPostgres is the oldest major version that still gets fixes.
const oldestPostgres = 14

// usualPlaces are where packages put Postgres without putting it on PATH.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // Red Hat, by postgresql.org
	"/usr/libexec/postgresql*",  // Alpine
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin", // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// install is how Postgres gets onto this machine: what is there, what a package
// manager brings, what can be downloaded.
type install struct {
	places   []string // patterns, after PATH
	download string   // where a downloaded Postgres is kept
	log      io.Writer
}

func (o Options) install() install {
	return install{places: usualPlaces, download: filepath.Join(cacheDir(o.Dir), "postgres"), log: o.Log}
}

// binaries returns a directory with Postgres' programs that the account may
// run. major is the version that made the data, 0 when there is none yet.
func (i install) binaries(ctx context.Context, as account, major int) (string, error) {
	if dir := i.find(ctx, as, major); dir != "" {
		return dir, nil
	}
	// One process at a time: the tests of several packages start together.
	held, err := lock(i.download+".lock", 20*time.Minute)
	if err != nil {
		return "", fmt.Errorf("install Postgres: %w", err)
	}
	defer func() { _ = held.Close() }()
	if dir := i.find(ctx, as, major); dir != "" {
		return dir, nil
	}
	aptErr := i.apt(ctx)
	if dir := i.find(ctx, as, major); dir != "" {
		return dir, nil
	}
	fetchErr := i.fetch(major)
	if dir := i.find(ctx, as, major); dir != "" {
		return dir, nil
	}
	wanted := fmt.Sprintf("%d or newer", oldestPostgres)
	if major != 0 {
		wanted = fmt.Sprintf("%d, which made the data that is kept here,", major)
	}
	return "", fmt.Errorf(`there is no Postgres %s on this machine, and it could not be brought here: %w; %w.
Three ways on:
  install it      with the package manager (apt-get install postgresql, brew install postgresql)
  DATABASE_URL    set it to a Postgres you have, and TEMPORAL_ADDRESS to a Temporal
  docker compose up`, wanted, cmp.Or(aptErr, errors.New("apt-get brought none")), cmp.Or(fetchErr, errors.New("the download has none")))
}

// find looks on PATH, in the usual places and at what was downloaded before.
func (i install) find(ctx context.Context, as account, major int) string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		// Beside the real file are initdb and the rest; beside a link need not.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	var usual []string
	for _, pattern := range append(slices.Clone(i.places), filepath.Join(i.download, "*", "bin")) {
		found, _ := filepath.Glob(pattern) // only a bad pattern is an error
		usual = append(usual, found...)
	}
	versions := map[string]int{}
	for _, dir := range append(dirs, usual...) {
		versions[dir] = version(ctx, dir)
	}
	slices.SortStableFunc(usual, func(a, b string) int { return cmp.Compare(versions[b], versions[a]) })
	for _, dir := range append(dirs, usual...) {
		fits := versions[dir] >= oldestPostgres
		if major != 0 {
			fits = versions[dir] == major
		}
		if fits && as.reaches(filepath.Join(dir, "postgres")) {
			return dir
		}
	}
	return ""
}

var versionNumber = regexp.MustCompile(`\d+`)

// version returns the major version of the Postgres in dir, or 0 when there is
// none that could serve.
func version(ctx context.Context, dir string) int {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	major, err := strconv.Atoi(versionNumber.FindString(string(out)))
	if err != nil {
		return 0
	}
	return major
}

// apt installs the distribution's Postgres, where that needs no password.
func (i install) apt(ctx context.Context) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("there is no apt-get")
	}
	var sudo []string
	if os.Geteuid() != 0 {
		sudo = []string{"sudo", "-n"}
		if err := exec.CommandContext(ctx, "sudo", "-n", "true").Run(); err != nil {
			return errors.New("apt-get needs root or a sudo without password")
		}
	}
	_, _ = fmt.Fprintln(i.log, "Postgres is not on this machine: apt-get install postgresql")
	var err error
	// Old package lists name files that are gone, so a failure is tried again
	// with new ones.
	for _, args := range [][]string{{"install"}, {"update"}, {"install"}} {
		line := slices.Concat(sudo, []string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"}, args)
		if args[0] == "install" {
			line = append(line, "-y", "--no-install-recommends", "postgresql")
		}
		var out []byte
		out, err = exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput()
		if err == nil && args[0] == "install" {
			return nil
		}
		if err != nil {
			err = fmt.Errorf("apt-get %s: %w: %s", args[0], err, lastLine(out))
		}
	}
	return err
}

func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out))
	return text[strings.LastIndex(text, "\n")+1:]
}

// downloads are the versions that the library knows the files of.
var downloads = map[int]embeddedpostgres.PostgresVersion{
	14: embeddedpostgres.V14, 15: embeddedpostgres.V15, 16: embeddedpostgres.V16,
	17: embeddedpostgres.V17, 18: embeddedpostgres.V18,
}

// fetch downloads Postgres. The library does that only as part of a start, so a
// throwaway server is started and ended; as root its start fails, after the
// files have come, since Postgres refuses root.
func (i install) fetch(major int) error {
	postgres, ok := downloads[cmp.Or(major, 17)]
	if !ok {
		return fmt.Errorf("there is no download of Postgres %d", major)
	}
	_, _ = fmt.Fprintf(i.log, "Downloading Postgres %s\n", postgres)
	tmp, err := os.MkdirTemp("", "rehome-download-")
	if err != nil {
		return fmt.Errorf("make a directory for the download: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	port, err := freePort()
	if err != nil {
		return err
	}
	unpacked := filepath.Join(tmp, "unpacked")
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(postgres).Port(uint32(port)).
		BinariesPath(unpacked).CachePath(tmp).
		RuntimePath(filepath.Join(tmp, "run")).DataPath(filepath.Join(tmp, "data")).
		Logger(io.Discard))
	startErr := server.Start()
	if startErr == nil {
		startErr = server.Stop()
	}
	if _, err := os.Stat(filepath.Join(unpacked, "bin", "initdb")); err != nil {
		return fmt.Errorf("download Postgres %s: %w", postgres, cmp.Or(startErr, err))
	}
	return keepDownload(unpacked, filepath.Join(i.download, string(postgres)))
}

// keepDownload puts the files where others may read them too, in one step.
func keepDownload(from, to string) error {
	if err := os.MkdirAll(to+".new", 0o755); err != nil {
		return fmt.Errorf("keep the downloaded Postgres: %w", err)
	}
	err := errors.Join(os.RemoveAll(to+".new"), os.CopyFS(to+".new", os.DirFS(from)), os.RemoveAll(to), os.Rename(to+".new", to))
	if err != nil {
		return fmt.Errorf("keep the downloaded Postgres: %w", err)
	}
	return nil
}

// cacheDir is for what is the same in every checkout. As root it is one that
// the unprivileged account can read. fallback is for who has none.
func cacheDir(fallback string) string {
	dir := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		if dir, err = os.UserCacheDir(); err != nil {
			return fallback
		}
	}
	dir = filepath.Join(dir, "rehome")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fallback
	}
	return dir
}
