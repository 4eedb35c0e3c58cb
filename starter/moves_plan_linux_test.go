package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev"
	"rehome/resilience"
)

// mostOfPrograms is how much memory each program may take in MiB. They are built
// without the race detector, whatever the test is built with.
const mostOfPrograms = 128

// TestAMillionMovesArePlannedWithinTheirMemory gives both programs a list of as many
// moves as there may be, each of a chunk with a path of its own, and looks at the most
// memory that they ever had. That takes two minutes on two cores.
func TestAMillionMovesArePlannedWithinTheirMemory(t *testing.T) {
	t.Parallel()
	for name, swaps := range map[string]bool{"apart": false, "that change places": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plansAMillion(t, swaps)
		})
	}
}

func plansAMillion(t *testing.T, swaps bool) {
	b := setup(t)
	bin := buildPrograms(t)
	worker := b.startWorker(filepath.Join(bin, "worker"))
	b.memory("default")
	b.exec(`CREATE UNIQUE INDEX one_place ON rehome.chunks (memory, path, ordinal)`)
	lines := &million{swaps: swaps}
	if testing.Short() {
		lines.line = resilience.MaxMoves - 5000 // the last ones only
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
	var out, talk bytes.Buffer
	program.Stdout, program.Stderr = &out, &talk
	starter := runAndWatch(t, program)
	require.Equal(t, exitDone, program.ProcessState.ExitCode(), talk.String())
	took := time.Since(began)
	var plan resilience.Plan
	require.NoError(t, json.Unmarshal(out.Bytes(), &plan), out.String())
	require.Equal(t, resilience.AwaitingApproval, plan.Status)
	require.Zero(t, plan.Conflicts)
	require.Equal(t, moves, plan.Moves)
	if swaps {
		require.Equal(t, moves, plan.Tied)
	}
	var journalled, targets int64
	require.NoError(t, b.pool.QueryRow(t.Context(), `
		SELECT count(DISTINCT m.chunk_id), count(DISTINCT m.new_path)
		FROM rehome.migration_moves m JOIN rehome.migration_plans p ON m.plan = p.number WHERE p.plan_id = $1`, plan.ID).Scan(&journalled, &targets))
	require.Equal(t, []int64{moves, moves}, []int64{journalled, targets}, "each chunk goes to a place of its own")

	most := peak(worker.PID())
	t.Logf("%d moves were planned in %s; at most the starter had %d MiB and the worker %d MiB", moves, took.Round(time.Millisecond), starter>>10, most>>10)
	for _, program := range []int64{starter, most} {
		require.Positive(t, program)
		require.Less(t, program>>10, int64(mostOfPrograms))
	}
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

// peak is the most memory that a process that lives has had in RAM, in KiB; 0 when
// it has ended.
func peak(pid int) (kilobytes int64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if found := peakResident.FindSubmatch(status); found != nil {
		kilobytes, _ = strconv.ParseInt(string(found[1]), 10, 64) // digits by the expression
	}
	return kilobytes
}

// runAndWatch runs a program to its end and returns its peak, which is as of some
// milliseconds before. What the system says after the end will not do: it counts
// what the process that started the program had then.
func runAndWatch(t testing.TB, program *exec.Cmd) (most int64) {
	t.Helper()
	require.NoError(t, program.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = program.Wait() // its code is looked at
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return most
		case <-tick.C:
			most = max(most, peak(program.Process.Pid))
		}
	}
}
