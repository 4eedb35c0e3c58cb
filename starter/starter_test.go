package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"rehome/internal/dev/devtest"
	"rehome/internal/dev/workertest"
	"rehome/resilience"
	"rehome/store"
)

// asProgram in the environment makes the test binary be the program.
const asProgram = "STARTER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	devtest.Main(m)
}

// environment is what a test lets a command see of the process's.
type environment map[string]string

func (e environment) LookupEnv(key string) (string, bool) {
	value, ok := e[key]
	return value, ok
}

func (e environment) Environ() []string {
	var all []string
	for key, value := range e {
		all = append(all, key+"="+value)
	}
	return all
}

// bundle is one installation: a database and a Temporal, and commands run there.
type bundle struct {
	t    testing.TB
	pool *pgxpool.Pool
	env  environment
}

func setup(t testing.TB) *bundle {
	t.Helper()
	database := devtest.Database(t)
	return &bundle{
		t: t, pool: devtest.Connect(t, database),
		env: environment{
			"DATABASE_URL": database, "TEMPORAL_ADDRESS": devtest.TemporalAddress(t), "TEMPORAL_UI_URL": "http://ui.test",
			"TEMPORAL_CONFIG_FILE": filepath.Join(t.TempDir(), "none.toml"),
		},
	}
}

// serve runs a worker for the installation until the test ends.
func (b *bundle) serve() *bundle {
	b.t.Helper()
	temporal, err := client.Dial(client.Options{HostPort: b.env["TEMPORAL_ADDRESS"], Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	require.NoError(b.t, err)
	b.t.Cleanup(temporal.Close)
	workertest.Start(b.t, b.env["DATABASE_URL"], temporal)
	return b
}

// answer is how a command ended.
type answer struct {
	code     int
	out, err string
}

func (b *bundle) run(args ...string) answer { return b.runIn(b.t.Context(), args...) }

func (b *bundle) runIn(ctx context.Context, args ...string) answer {
	var out, err bytes.Buffer
	code := execute(ctx, process{in: strings.NewReader(""), out: &out, err: &err, env: b.env, dir: b.t.TempDir()}, args)
	return answer{code, out.String(), err.String()}
}

// ok runs a command that must be done.
func (b *bundle) ok(args ...string) answer {
	b.t.Helper()
	a := b.run(args...)
	require.Equal(b.t, exitDone, a.code, "%s\n%s", strings.Join(args, " "), a.err)
	return a
}

// result runs a command that must be done and reads its JSON.
func (b *bundle) result(into any, args ...string) {
	b.t.Helper()
	a := b.ok(append(args, "--json")...)
	require.NoError(b.t, json.Unmarshal([]byte(a.out), into), a.out)
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	_, err := b.pool.Exec(b.t.Context(), sql, args...)
	require.NoError(b.t, err)
}

// rootWith makes a root with files; a name that ends in a slash is a directory.
func rootWith(t testing.TB, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if !strings.HasSuffix(name, "/") {
			require.NoError(t, os.WriteFile(path, []byte("# "+name+"\n"), 0o644))
		}
	}
	return root
}

// chunks fills the builtin table of a memory: n chunks for each path.
func (b *bundle) chunks(memory string, n int, paths ...string) {
	b.t.Helper()
	for _, path := range paths {
		b.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
			SELECT $1, $2, i, 'text ' || i || ' of ' || $2, ARRAY[i, 0.5]::real[] FROM generate_series(1, $3) i`, memory, path, n)
	}
}

// checksum covers every row of schema rehome, the tables named apart, and of
// every table of schema public.
func (b *bundle) checksum(but ...string) string {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), `
		SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
		WHERE schemaname IN ('rehome', 'public', 'rehome_quarantine') AND tablename <> ALL ($1) ORDER BY 1`, append([]string{}, but...))
	require.NoError(b.t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b.t, err)
	var sums strings.Builder
	for _, table := range tables {
		var sum *string
		err := b.pool.QueryRow(b.t.Context(), fmt.Sprintf(`SELECT md5(string_agg(t::text, E'\n' ORDER BY t::text)) FROM %s t`, table)).Scan(&sum)
		require.NoError(b.t, err)
		empty := ""
		fmt.Fprintln(&sums, table, *cmp.Or(sum, &empty))
	}
	return sums.String()
}

// memory adds a builtin memory over a root of its own.
func (b *bundle) memory(name string, files ...string) string {
	b.t.Helper()
	root := rootWith(b.t, files...)
	data := store.New(b.pool)
	require.NoError(b.t, data.AddMemory(b.t.Context(), resilience.Memory{Name: name, Root: root, Builtin: true, Mapping: resilience.BuiltinMapping(name)}))
	return root
}
