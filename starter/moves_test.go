package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// feed runs a command that reads text from standard input.
func (b *bundle) feed(text io.Reader, args ...string) answer {
	b.t.Helper()
	var out, err bytes.Buffer
	code := execute(b.t.Context(), process{in: text, out: &out, err: &err, env: b.env, dir: b.t.TempDir()}, args)
	return answer{code, out.String(), err.String()}
}

func TestMovesFromAFileAndFromStandardInput(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 2, "guide/a.md", "guide/b.md", "c.md")
	file := filepath.Join(t.TempDir(), "moves.csv")
	require.NoError(t, os.WriteFile(file, []byte("source,target\r\nguide/a.md,guide/b.md\r\nguide/b.md,guide/a.md\r\n"), 0o600))
	var plan resilience.Plan
	b.result(&plan, "migrate", "--moves", file)
	require.Equal(t, resilience.Completed, plan.Status)
	require.EqualValues(t, 4, plan.Moved)

	a := b.feed(strings.NewReader(`{"source":"c.md","target":"d.md"}`+"\n"), "migrate", "--moves", "-", "--json")
	require.Equal(t, exitDone, a.code, a.err)
	require.NoError(t, json.Unmarshal([]byte(a.out), &plan))
	require.EqualValues(t, 2, plan.Moved)
	b.staged(0)
}

// staged counts the renames that wait for their plan.
func (b *bundle) staged(want int) {
	b.t.Helper()
	var n int
	require.NoError(b.t, b.pool.QueryRow(b.t.Context(), `SELECT count(*) FROM rehome.migration_staged`).Scan(&n))
	require.Equal(b.t, want, n)
}

func TestBadMovesStartNothing(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 1, "a.md")
	before := b.checksum()
	text := "a.md,b.md\nx.md\ny.md,b.md\n" + strings.Repeat("../up,down\n", 30) + "a.md,c.md\n"
	a := b.feed(strings.NewReader(text), "migrate", "--moves", "-")
	require.Equal(t, exitUsage, a.code)
	require.Empty(t, a.out)
	lines := strings.Split(strings.TrimSpace(a.err), "\n")
	require.Len(t, lines, 22, a.err)
	require.Contains(t, lines[0], "standard input: line 2: want two fields")
	require.Contains(t, lines[1], `standard input: line 4: source: path "../up" has a .. in it`)
	require.Equal(t, "standard input: and 13 more, on lines 3, 23 to 34", lines[20])
	require.Contains(t, lines[21], "standard input has 33 bad lines, see above; nothing was started")

	a = b.feed(strings.NewReader("a.md,b.md\ny.md,b.md\na.md,c.md\n"), "migrate", "--moves", "-")
	require.Equal(t, exitUsage, a.code)
	require.Contains(t, a.err, "line 2: two are renamed to b.md, the first on line 1\n")
	require.Contains(t, a.err, "line 3: a.md is renamed twice, first on line 1\n")
	require.Equal(t, before, b.checksum())
}

// TestMovesThatDoNotStartAreForgotten: no worker is there to take them.
func TestMovesThatDoNotStartAreForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.memory("default")
	a := b.feed(strings.NewReader("a.md,b.md\n"), "migrate", "--moves", "-")
	require.Equal(t, exitUnreachable, a.code, a.err)
	b.staged(0)
}

func TestPlanOnlyShowsThePlanAndWaits(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 3, "a.md")
	var plan resilience.Plan
	b.result(&plan, "migrate", "--rename", "a.md=b.md", "--plan-only", "--strategy", "immediate", "--on-failure", "undo_group", "--group-size", "7")
	require.Equal(t, resilience.AwaitingApproval, plan.Status)
	require.EqualValues(t, 3, plan.Moves)
	require.Zero(t, plan.Moved)
	require.Equal(t, resilience.Immediate, plan.Strategy)
	require.Equal(t, resilience.UndoGroup, plan.Policy.OnFailure)
	require.EqualValues(t, 7, plan.Policy.GroupSize)
	b.ok("migration", "abort", plan.ID)
	b.await(plan.ID, "cancelled")
}

func TestConflictsAreShown(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 1, "a.md", "b.md", "c.md")
	a := b.run("migrate", "--rename", "a.md=b.md", "--rename", "c.md=B.MD", "--rename", "none=some")
	require.Equal(t, exitConflict, a.code, a.err)
	require.Contains(t, a.err, "there is no chunk at or under none")
	var id string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT plan_id FROM rehome.migration_plans`).Scan(&id))
	require.Contains(t, a.err, "see `starter migration show "+id+"`")
	shown := b.has("migration show "+id, "conflicts conflict_list[].kind conflict_list[].source conflict_list[].target conflict_list[].detail")
	require.EqualValues(t, 3, shown["conflicts"])
	text := b.ok("migration", "show", id).out
	require.Regexp(t, `(?m)^conflict +a\.md cannot go to b\.md: the target is taken, there already are chunks of b\.md \(target_taken\)$`, text)
	require.Regexp(t, `(?m)^conflict +c\.md cannot go to B\.MD: it is b\.md but for case or Unicode form \(lookalike\)$`, text)
}

// TestConflictsOfATransferAreShown, also when it is only to be planned.
func TestConflictsOfATransferAreShown(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.memory("archive")
	b.chunks("default", 1, "a.md", "c.md")
	b.chunks("archive", 1, "a.md", "C.MD")
	a := b.run("migrate", "--to-memory", "archive", "--plan-only")
	require.Equal(t, exitConflict, a.code, a.err)
	require.Contains(t, a.err, "a.md cannot go to the other memory: the target is taken, there already are chunks of a.md")
	var id string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT plan_id FROM rehome.migration_plans`).Scan(&id))
	require.Contains(t, a.err, "see `starter migration show "+id+"`")
	require.EqualValues(t, 2, b.has("migration show "+id, "conflict_list[].kind conflict_list[].source conflict_list[].target conflict_list[].detail")["conflicts"])
	text := b.ok("migration", "show", id).out
	require.Regexp(t, `(?m)^conflict +a\.md cannot go to the other memory: .* \(target_taken\)$`, text)
	require.Regexp(t, `(?m)^conflict +c\.md cannot go to the other memory: it is C\.MD but for case or Unicode form \(lookalike\)$`, text)
}

func TestChunksThatStayedBehindAreShown(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 1, "a.md", "b.md")
	b.exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$`)
	b.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (old.path = 'b.md') EXECUTE FUNCTION public.refuse()`)
	b.ok("migrate", "--rename", "a.md=c.md", "--rename", "b.md=d.md")
	var id string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT plan_id FROM rehome.migration_plans`).Scan(&id))
	b.has("migration show "+id, "exceptions[].chunk_id exceptions[].outcome exceptions[].detail")
	text := b.ok("migration", "show", id).out
	require.Regexp(t, `(?m)^exception +chunk [0-9]+: conflict: not this one$`, text)
	require.NotContains(t, text, "more; --json")
	require.NotContains(t, text, "and more;")
}

func TestAllChunksThatStayedBehindAreShownToWhoWantsThem(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 5, "a.md")
	b.exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$`)
	b.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON rehome.chunks FOR EACH ROW WHEN (old.ordinal % 2 = 0) EXECUTE FUNCTION public.refuse()`)
	b.ok("migrate", "--rename", "a.md=c.md")
	var id string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT plan_id FROM rehome.migration_plans`).Scan(&id))
	all := b.ok("migration", "show", id, "--exceptions", "0").out
	stayed := strings.Count(all, "not this one")
	require.GreaterOrEqual(t, stayed, 2)
	require.NotContains(t, all, "and more;")
	one := b.ok("migration", "show", id, "--exceptions", "1").out
	require.Equal(t, 1, strings.Count(one, "not this one"))
	require.Regexp(t, `(?m)^exception +and more; --exceptions 0 lists all$`, one)
	require.Equal(t, true, b.has("migration show "+id+" --exceptions 1", "exceptions[].chunk_id")["exceptions_cut"])
}

func TestStrategiesAreCompleted(t *testing.T) {
	t.Parallel()
	b := &bundle{t: t}
	require.Equal(t, "immediate\nbatch\ngradual\nintelligent\n", strings.Split(b.ok("__complete", "migrate", "--strategy", "").out, ":")[0])
	require.Equal(t, "undo_all\nstop\nundo_group\n", strings.Split(b.ok("__complete", "migrate", "--on-failure", "").out, ":")[0])
}

// TestMovesAreRefusedAfterAllWereLookedAt gives the program as many moves as there may
// be, of which one has a source.
func TestMovesAreRefusedAfterAllWereLookedAt(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 1, "guide/section 1/page 1.md")
	lines := &million{}
	if testing.Short() {
		lines.line = resilience.MaxMoves - 5000 // the last ones only
		b.exec(`UPDATE rehome.chunks SET path = 'guide/section 1/page 999001.md'`)
	}
	renames := resilience.MaxMoves - lines.line
	program := exec.CommandContext(t.Context(), os.Args[0], "migrate", "--moves", "-")
	program.Env = append(b.env.Environ(), asProgram+"=1", "HOME="+t.TempDir())
	program.Stdin = lines
	out, err := program.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, exitNotFound, program.ProcessState.ExitCode(), string(out))
	require.Contains(t, string(out), fmt.Sprintf("and %d more", renames-1-3))
	b.staged(0)
}
