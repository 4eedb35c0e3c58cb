package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
)

// planTables record that a migration was asked for, also when it is refused.
var planTables = []string{
	"migration_plans", "migration_conflicts", "migration_renames", "migration_paths", "migration_runs",
	"migration_progress", "migration_exceptions", "migration_events",
}

// bad is a command line that cannot be right.
type bad struct {
	args string // split at spaces; ␀ and ␊ stand for NUL and line feed, ␢ for an argument that is empty
	code int
	says string
}

// badInput is what no command takes.
var badInput = []bad{
	{"bogus", exitUsage, `unknown command "bogus"`},
	{"migrate --bogus", exitUsage, "unknown flag: --bogus"},
	{"migration", exitUsage, "want one of the verbs list, show"},
	{"migration bogus", exitUsage, "want one of the verbs list, show"},
	{"migration show", exitUsage, "starter migration show: want ID, got 0 arguments; see `starter migration show --help`"},
	{"resolve a b", exitUsage, "starter resolve: want PATH, got 2 arguments"},
	{"scan --memory nope", exitNotFound, `there is no memory "nope"; there is default`},
	{"scan --memory No!", exitUsage, `memory name "No!": want`},
	{"memory remove nope", exitNotFound, `there is no memory "nope"`},
	{"resolve ../a.md", exitUsage, "has a .. in it"},
	{"resolve a␀.md", exitUsage, "NUL"},
	{"resolve a␊.md", exitUsage, "line break"},
	{"resolve a\xff.md", exitUsage, "not valid UTF-8"},
	{"resolve /etc/passwd", exitUsage, "is absolute"},
	{"resolve " + strings.Repeat("x/", 2000), exitUsage, "bytes long"},
	{"resolve " + strings.Repeat("x", 4000), exitUsage, "bytes"},
	{"resolve ␢", exitUsage, "is empty"},
	{"alias add a.md", exitUsage, "want OLD NEW, got 1 argument;"},
	{"alias add a.md a.md", exitUsage, "leads to itself"},
	{"alias add a a/b", exitUsage, "into itself"},
	{"alias add a ../b", exitUsage, "has a .. in it"},
	{"alias add a b --meta nonsense", exitUsage, "want KEY=VALUE"},
	{"alias remove a.md", exitNotFound, "has no alias for a.md"},
	{"alias history a.md", exitNotFound, "has no alias for a.md"},
	{"alias list --limit 0", exitUsage, "want a whole number of 1 and more"},
	{"migrate", exitUsage, "no rename given"},
	{"migrate --rename guide=b --moves -", exitUsage, "none of the others can be"},
	{"migrate --moves -", exitUsage, "standard input has no moves"},
	{"migrate --moves nowhere.csv", exitUsage, "--moves: open nowhere.csv: no such file"},
	{"migrate --moves /", exitUsage, "is a directory"},
	{"migrate --moves - --memory nope", exitNotFound, `there is no memory "nope"`},
	{"migrate --rename guide=b --plan-only --approve", exitUsage, "none of the others can be"},
	{"migrate --rename guide=b --on-failure shrug", exitUsage, `failure policy "shrug"`},
	{"migrate --rename guide=b --group-size -1 --on-failure undo_group", exitUsage, "group size -1"},
	{"migrate --rename guide=b --group-size 10", exitUsage, "only the failure policy undo_group has groups"},
	{"migrate --rename guide=b --hours 22:00-06:00", exitUsage, "only the strategy gradual waits for hours"},
	{"migrate --rename guide=b --strategy gradual --hours night", exitUsage, "night"},
	{"migrate --rename guide=b --strategy immediate --rate 10", exitUsage, "keeps to no rate"},
	{"migrate --rename guide=b --strategy immediate --batch-size 10", exitUsage, "of whatever size"},
	{"migrate --rename guide=b --rate +Inf", exitUsage, "rate +Inf"},
	{"migrate --rename guide", exitUsage, "want OLD=NEW"},
	{"migrate --rename guide=guide", exitUsage, "the old and the new path are the same"},
	{"migrate --rename guide=guide/sub", exitUsage, "cannot move into itself"},
	{"migrate --rename guide=../guide", exitUsage, "has a .. in it"},
	{"migrate --rename guide=a␀", exitUsage, "NUL"},
	{"migrate --rename guide=a\xff", exitUsage, "not valid UTF-8"},
	{"migrate --rename guide=b --rename guide=c", exitUsage, "renamed twice"},
	{"migrate --rename guide=b --rename other.md=b", exitUsage, "both renamed to b"},
	{"migrate --rename guide=b --rate -1", exitUsage, "rate -1"},
	{"migrate --rename guide=b --rate NaN", exitUsage, "rate NaN"},
	{"migrate --rename guide=b --rate fast", exitUsage, `invalid argument "fast"`},
	{"migrate --rename guide=b --batch-size 1000000", exitUsage, "batch size 1000000"},
	{"migrate --rename guide=b --strategy teleport", exitUsage, `strategy "teleport"`},
	{"migration show m-0", exitNotFound, "there is no migration m-0"},
	{"migration pause m-0", exitNotFound, "there is no migration m-0"},
	{"migration throttle m-0", exitUsage, "at least one of the flags"},
	{"migration throttle m-0 --rate -2", exitUsage, "rate -2"},
	{"migration rollback m-0", exitNotFound, "there is no migration m-0"},
	{"scan --accept-shrinkage docs", exitRefused, "the memory is called default"},
	{"cleanup --grace 0", exitRefused, "repeat the memory's name"},
	{"cleanup --grace 0 --confirm docs", exitRefused, "the memory is called default"},
	{"cleanup --grace 1h --confirm default", exitUsage, "only 0 can be asked for"},
	{"cleanup --max 0", exitUsage, "want a whole number of 1 and more"},
	{"orphans show 1", exitNotFound, "is not an orphan"},
	{"orphans hold 999999", exitNotFound, "has no chunk 999999"},
	{"orphans unhold 1", exitNotFound, "is not held"},
	{"quarantine restore", exitUsage, "nothing named to restore"},
	{"quarantine restore x", exitUsage, `id "x"`},
	{"quarantine restore 7", exitNotFound, "holds nothing of that"},
	{"quarantine list --reason boredom", exitUsage, `--reason "boredom"`},
	{"ingest --max-file-bytes -1", exitUsage, "--max-file-bytes -1"},
}

// TestBadInput gives commands what they must refuse: each ends with its exit
// code and one line that says what is wrong, and no row anywhere has changed.
func TestBadInput(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default", "guide/a.md", "other.md")
	b.chunks("default", 2, "guide/a.md", "other.md", "café.md")
	before := b.checksum()
	for _, c := range badInput {
		b.refuses(c)
		require.Equal(t, before, b.checksum(), c.args)
	}
	for _, c := range []bad{
		{"migrate --rename guide/a.md=other.md", exitConflict, "target is taken"},
		{"migrate --rename nothing=b", exitNotFound, "no chunk at or under nothing"},
	} {
		memories := b.checksum(planTables...)
		b.refuses(c)
		require.Equal(t, memories, b.checksum(planTables...), c.args)
	}
}

// refuses runs a command that must end with a code and one line, in both forms.
func (b *bundle) refuses(c bad) {
	b.t.Helper()
	var args []string
	for arg := range strings.SplitSeq(c.args, " ") {
		args = append(args, strings.NewReplacer("␀", "\x00", "␊", "\n", "␢", "").Replace(arg))
	}
	began := time.Now()
	a := b.run(args...)
	require.Equal(b.t, c.code, a.code, "%s: %s", c.args, a.err)
	require.Contains(b.t, a.err, c.says, c.args)
	require.Empty(b.t, a.out, c.args)
	lines := strings.Split(strings.TrimSpace(a.err), "\n")
	require.True(b.t, strings.HasPrefix(lines[len(lines)-1], "starter: "), a.err)
	require.Less(b.t, time.Since(began), 20*time.Second, c.args)
}

func TestErrorsAsJSON(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.run("resolve", "../a", "--json", "--memory", "x")
	require.Equal(t, exitNotFound, a.code)
	require.JSONEq(t, `{"error":"there is no memory \"x\", nor any other; add one with `+"`starter memory add default --root DIR`"+`","code":4}`, a.err)
	a = b.run("bogus", "--json")
	require.Equal(t, exitUsage, a.code)
	require.Contains(t, a.err, `"code":2}`)
}

func TestDecomposedPathIsNormalised(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 1, "café.md")
	b.ok("migrate", "--rename", "cafe\u0301.md=thé.md")
	require.Equal(t, "thé.md\n", b.ok("resolve", "cafe\u0301.md").out)
}

// TestServersAway looks for servers where they are not, or not as they should be.
func TestServersAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.memory("default")
	b.chunks("default", 1, "a.md")
	before := b.checksum()
	migrate := "migrate --rename a.md=b.md"
	for _, c := range []struct {
		key, value string
		bad
	}{
		{"TEMPORAL_ADDRESS", "127.0.0.1:9", bad{migrate, exitUnreachable, "cannot reach Temporal at 127.0.0.1:9"}},
		{"TEMPORAL_NAMESPACE", "nowhere", bad{migrate, exitUnreachable, "no namespace nowhere"}},
		{"TEMPORAL_PROFILE", "nowhere", bad{migrate, exitUsage, "unable to find profile nowhere"}},
		{"DATABASE_URL", "postgres://nobody@127.0.0.1:9/x", bad{migrate, exitUnreachable, "cannot reach Postgres"}},
		{"DATABASE_URL", "postgres://[", bad{migrate, exitUsage, "correct DATABASE_URL"}},
		{"DATABASE_URL", devtest.EmptyDatabase(t), bad{migrate, exitRefused, "start a worker, which installs it"}},
		{"DATABASE_URL", b.poorRole(), bad{migrate, exitRefused, "permission denied"}},
		{"TEMPORAL_UI_URL", "", bad{migrate, exitUnreachable, "no worker polls task queue"}},
		{"TEMPORAL_UI_URL", "", bad{"scan", exitUnreachable, "start one with `worker` or `make dev`"}},
	} {
		other := *b
		other.env = maps.Clone(b.env)
		other.env[c.key] = c.value
		other.refuses(c.bad)
		require.Equal(t, before, b.checksum(), c.value)
	}
	nothing := *b
	nothing.env = environment{"TEMPORAL_CONFIG_FILE": b.env["TEMPORAL_CONFIG_FILE"]}
	nothing.refuses(bad{migrate, exitUnreachable, "start one with `make dev`"})
}

// poorRole is the database's URL for a role that may do nothing in it.
func (b *bundle) poorRole() string {
	b.t.Helper()
	name := fmt.Sprintf("poor_%d", time.Now().UnixNano())
	b.exec(`CREATE ROLE ` + name + ` LOGIN PASSWORD 'poor'`)
	b.t.Cleanup(func() {
		_, err := b.pool.Exec(context.Background(), `DROP ROLE `+name)
		require.NoError(b.t, err)
	})
	address, err := url.Parse(b.env["DATABASE_URL"])
	require.NoError(b.t, err)
	address.User = url.UserPassword(name, "poor")
	return address.String()
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`UPDATE rehome.schema_version SET version = version + 1`)
	b.refuses(bad{"memory list", exitRefused, "newer than the"})
}
