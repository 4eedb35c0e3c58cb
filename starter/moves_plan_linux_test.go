package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev"
	"rehome/resilience"
)

// mostOfPrograms is how much memory each program may take in MiB. They are built
// without the race detector, whatever the test is built with.
const mostOfPrograms = 128

// TestManyMovesArePlannedWithinTheirMemory gives both programs a long list of moves,
// each of a chunk with a path of its own, and looks at the most memory that they ever
// had. A million take four minutes in all on two cores that do other things too, and
// then the starter had 43 MiB and the worker 39 MiB.
func TestManyMovesArePlannedWithinTheirMemory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bin := buildPrograms(t)
	worker := b.startWorker(filepath.Join(bin, "worker"))
	b.memory("default")
	lines := &million{line: resilience.MaxMoves - 300_000} // the last ones only
	if testing.Short() {
		lines.line = resilience.MaxMoves - 5000
	}
	first, moves := lines.line+1, int64(resilience.MaxMoves-lines.line)
	b.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content)
		SELECT 'default', format('guide/section %s/page %s.md', i % 1000, i), 1, 'text ' || i FROM generate_series($1::int, $2::int) i`, first, resilience.MaxMoves)
	list, err := os.Create(filepath.Join(t.TempDir(), "moves.csv"))
	require.NoError(t, err)
	_, err = io.Copy(list, lines)
	require.NoError(t, err)
	require.NoError(t, list.Close())

	began := time.Now()
	program := exec.CommandContext(t.Context(), filepath.Join(bin, "starter"), "migrate", "--moves", list.Name(), "--plan-only", "--json")
	program.Env = append(b.env.Environ(), "HOME="+t.TempDir())
	out, err := program.Output()
	require.NoError(t, err, "%s", out)
	took := time.Since(began)
	var plan resilience.Plan
	require.NoError(t, json.Unmarshal(out, &plan), "%s", out)
	require.Equal(t, resilience.AwaitingApproval, plan.Status)
	require.Zero(t, plan.Conflicts)
	require.Equal(t, moves, plan.Moves)
	var journalled, targets int64
	require.NoError(t, b.pool.QueryRow(t.Context(), `
		SELECT count(DISTINCT m.chunk_id), count(DISTINCT m.new_path)
		FROM rehome.migration_moves m JOIN rehome.migration_plans p ON m.plan = p.number WHERE p.plan_id = $1`, plan.ID).Scan(&journalled, &targets))
	require.Equal(t, []int64{moves, moves}, []int64{journalled, targets}, "each chunk goes to a place of its own")

	// Of the starter it counts what this test had when it started it, too: it is no less.
	starter := program.ProcessState.SysUsage().(*syscall.Rusage).Maxrss // KiB
	t.Logf("%d moves were planned in %s; at most the starter had %d MiB and the worker %d MiB", moves, took.Round(time.Millisecond), starter>>10, peak(t, worker)>>10)
	require.Less(t, starter>>10, int64(mostOfPrograms))
	require.Less(t, peak(t, worker)>>10, int64(mostOfPrograms))
	b.ok("migration", "abort", plan.ID)
}

// buildPrograms builds what people run, and returns where it is.
func buildPrograms(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir+string(filepath.Separator), "rehome/worker", "rehome/starter").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}

// startWorker runs the worker as a process of its own until the test ends, and
// returns when it takes work.
func (b *bundle) startWorker(program string) *dev.Child {
	b.t.Helper()
	cmd := exec.Command(program, "-listen", "127.0.0.1:0")
	cmd.Env = append(b.env.Environ(), "HOME="+b.t.TempDir())
	worker, err := dev.StartChild(cmd, filepath.Join(b.t.TempDir(), "worker.log"))
	require.NoError(b.t, err)
	b.t.Cleanup(func() { worker.Stop(10 * time.Second) })
	b.memory("empty")
	require.Eventually(b.t, func() bool { return b.run("ingest", "--memory", "empty").code == exitDone }, time.Minute, 100*time.Millisecond, "%s", worker.Says())
	return worker
}

var peakResident = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`)

// peak is the most memory that a process has had in RAM, in KiB.
func peak(t testing.TB, p *dev.Child) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	require.NoError(t, err)
	found := peakResident.FindSubmatch(status)
	require.NotNil(t, found, "%s", status)
	kilobytes, err := strconv.ParseInt(string(found[1]), 10, 64)
	require.NoError(t, err)
	return kilobytes
}
