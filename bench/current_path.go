package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// lookups is the mix of paths that an application asks for: ten in all. :n is
// a random number below that of the paths.
var lookups = []struct {
	path  string
	share int
}{
	{`'docs/old/section-' || :n / 50 || '/page-' || :n || '.md'`, 5}, // has an alias
	{`'docs/new/section-' || :n / 50 || '/page-' || :n || '.md'`, 4}, // is a living file
	{`'docs/never/page-' || :n || '.md'`, 1},                         // was never heard of
}

var currentPathNotes = []string{
	"By hand a path is looked up by primary key in a table of the old and the new paths. Of ten paths " +
		"asked for, five have an alias, four are living files, and one was never heard of.",
}

// currentPath asks where files are now. By hand that is a look-up by primary
// key in a table of the old and the new paths. Statements are prepared, as
// drivers do it.
func currentPath(ctx context.Context, r *rig) ([]row, error) {
	f := figure{fmt.Sprintf("rehome.current_path among %d aliases and %d files", r.paths, r.paths), perSecond, atLeast(0.7)}
	b := &asking{rig: r, memory: "asked"}
	if err := b.fill(ctx); err != nil {
		return nil, fmt.Errorf("fill the memory: %w", err)
	}
	if _, err := os.Stat(b.program); errors.Is(err, os.ErrNotExist) {
		return []row{{figure: f, skipped: "there is no pgbench beside this Postgres"}}, nil
	}
	return contest{
		reset: func(ctx context.Context) error { return r.exec(ctx, `CHECKPOINT`) },
		plain: func(ctx context.Context) (float64, error) {
			return b.pgbench(ctx, `SELECT current FROM paths WHERE path = %s`)
		},
		ours: []side{{figures: []figure{f}, run: func(ctx context.Context) ([]float64, error) {
			rate, err := b.pgbench(ctx, `SELECT rehome.current_path('`+b.memory+`', %s)`)
			return []float64{rate}, err
		}}},
	}.run(ctx, r)
}

type asking struct {
	*rig
	memory  string
	program string // pgbench, beside the server's own programs
}

// fill makes a file at each new path, and an alias to it from the old one.
func (b *asking) fill(ctx context.Context) error {
	if err := b.addMemory(ctx, b.memory); err != nil {
		return err
	}
	err := b.exec(ctx,
		fmt.Sprintf(`CREATE TABLE moves AS SELECT 'docs/old/' || page AS old, 'docs/new/' || page AS new
			FROM generate_series(0, %d) n, LATERAL (SELECT 'section-' || n / 50 || '/page-' || n || '.md' AS page) p`, b.paths-1),
		`INSERT INTO rehome.files (memory, path, raw_path, size, mtime) SELECT '`+b.memory+`', new, convert_to(new, 'UTF8'), 0, now() FROM moves`,
		`INSERT INTO rehome.version_aliases (memory, original_path, current_path) SELECT '`+b.memory+`', old, new FROM moves`,
		`CREATE TABLE paths (path text COLLATE "C" PRIMARY KEY, current text COLLATE "C" NOT NULL)`,
		`INSERT INTO paths SELECT old, new FROM moves UNION ALL SELECT new, new FROM moves`,
		`VACUUM ANALYZE`)
	if err != nil {
		return err
	}
	var dir string
	if err := b.pool.QueryRow(ctx, `SELECT setting FROM pg_config WHERE name = 'BINDIR'`).Scan(&dir); err != nil {
		return err
	}
	b.program = filepath.Join(dir, "pgbench")
	return nil
}

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// pgbench runs a statement for each path of the mix and returns how many there
// were in a second.
func (b *asking) pgbench(ctx context.Context, statement string) (float64, error) {
	clients := strconv.Itoa(runtime.NumCPU())
	args := []string{
		"--no-vacuum", "--protocol=prepared", "--random-seed=1", "--client=" + clients, "--jobs=" + clients,
		fmt.Sprintf("--time=%.0f", b.scale.pgbench.Seconds()),
	}
	for i, l := range lookups {
		script := filepath.Join(b.dir, fmt.Sprintf("lookup-%d.sql", i))
		text := fmt.Sprintf("\\set n random(0, %d)\n"+statement+";\n", b.paths-1, l.path)
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			return 0, fmt.Errorf("write a script for pgbench: %w", err)
		}
		args = append(args, fmt.Sprintf("--file=%s@%d", script, l.share))
	}
	config, err := pgx.ParseConfig(b.stack.DatabaseURL)
	if err != nil {
		return 0, fmt.Errorf("read our own database URL: %w", err)
	}
	cmd := exec.CommandContext(ctx, b.program, args...)
	cmd.Env = []string{
		"PGHOST=" + config.Host, "PGPORT=" + strconv.Itoa(int(config.Port)), "PGUSER=" + config.User,
		"PGPASSWORD=" + config.Password, "PGDATABASE=" + config.Database, "LC_ALL=C",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	found := tps.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench does not say how fast it was:\n%s", out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
