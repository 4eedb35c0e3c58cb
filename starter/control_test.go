package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"rehome/internal/dev"
	"rehome/internal/dev/devtest"
	"rehome/workflows"
)

// slow starts a migration that would take long, and returns its id once it moves.
func (b *bundle) slow() string {
	b.t.Helper()
	b.memory("default")
	b.chunks("default", 200, "guide/a.md", "other.md")
	var left detached
	b.result(&left, "migrate", "--rename", "guide=handbook", "--rate", "1", "--batch-size", "1", "--detach")
	require.NotEmpty(b.t, left.WorkflowID)
	require.NotEmpty(b.t, left.Link)
	b.await(left.Migration, "executing")
	b.arrive(1) // its run knows, too, that it is queued no more
	return left.Migration
}

func (b *bundle) await(id, status string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		var have string
		err := b.pool.QueryRow(b.t.Context(), `SELECT status FROM rehome.migration_plans WHERE plan_id = $1`, id).Scan(&have)
		return err == nil && have == status
	}, 30*time.Second, 20*time.Millisecond, status)
}

func TestSteerAMigration(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id := b.slow()
	b.refuses(bad{"migrate --rename guide/a.md=elsewhere.md", exitConflict, "is being moved by migration " + id})
	b.refuses(bad{"memory remove default", exitRefused, "is in use"})
	b.refuses(bad{"migration resume " + id, exitConflict, "is not paused"})
	require.Equal(t, "paused", b.has("migration pause "+id+"", "status")["status"])
	b.refuses(bad{"migration pause " + id, exitConflict, "is paused already"})
	require.Equal(t, "executing", b.has("migration resume "+id, "status")["status"])
	b.has("migration throttle "+id+" --rate 0 --batch-size 1000", "migration_id")
	b.await(id, "completed")
	b.refuses(bad{"migration abort " + id, exitConflict, "is completed; there is nothing to abort"})
	shown := b.ok("migration", "show", id).out
	for _, event := range []string{"created", "started", "paused", "resumed", "throttled"} {
		require.Contains(t, shown, event)
	}
}

// update sends an order to a migration by Temporal's own command line, as its web UI's
// form does, and returns the answer.
func (b *bundle) update(id, name, input string) string {
	b.t.Helper()
	run := b.has("migration show "+id, "workflow_id")["workflow_id"].(string)
	out, err := devtest.TemporalCommand(b.t, "workflow", "update", "execute", "--workflow-id", run, "--name", name, "--input", input, "--output", "json").CombinedOutput()
	if err != nil {
		return "refused: " + string(out)
	}
	return string(out)
}

func TestTemporalsOwnCommandLineSteersAMigration(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id := b.slow()
	require.Contains(t, b.update(id, "pause", `{"author": "ana", "reason": "a busy hour"}`), `"paused"`)
	b.await(id, "paused")
	require.Contains(t, b.update(id, "pause", `{"author": "ana"}`), "is paused already")
	require.Contains(t, b.update(id, "resume", `{"author": "ana"}`), `"executing"`)
	require.NotContains(t, b.update(id, "throttle", `{"author": "ana", "rate": 0, "batch_size": 1000}`), "refused")
	b.await(id, "completed")
	shown := b.ok("migration", "show", id).out
	for _, event := range []string{"paused by ana: a busy hour", "resumed by ana", "throttled by ana"} {
		require.Contains(t, shown, event)
	}
}

func TestTemporalsOwnCommandLineApprovesAndAborts(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id, _ := b.planned("--rate", "1", "--batch-size", "1")
	hash := b.has("migration show "+id, "plan_hash")["plan_hash"].(string)
	require.Contains(t, b.update(id, "approve", `{"plan_hash": "0000", "author": "ana"}`), "is "+hash)
	require.NotContains(t, b.update(id, "approve", fmt.Sprintf(`{"plan_hash": %q, "author": "ana"}`, hash)), "refused")
	b.await(id, "executing")
	require.NotContains(t, b.update(id, "pause", `{"author": "ana"}`), "refused")
	b.await(id, "paused")
	require.Contains(t, b.update(id, "strategy", `{"strategy": "fast", "author": "ana"}`), "refused")
	require.NotContains(t, b.update(id, "strategy", `{"strategy": "gradual", "author": "ana"}`), "refused")
	require.NotContains(t, b.update(id, "abort", `{"author": "ana", "reason": "another plan"}`), "refused")
	b.await(id, "rolled_back")
	shown := b.ok("migration", "show", id).out
	for _, event := range []string{"approved by ana: " + hash, "paused by ana", "gradual", "rolling back by ana: another plan"} {
		require.Contains(t, shown, event)
	}
	run, err := devtest.Temporal(t).DescribeWorkflow(t.Context(), b.has("migration show "+id, "workflow_id")["workflow_id"].(string), "")
	require.NoError(t, err)
	strategy, _ := run.TypedSearchAttributes.GetKeyword(workflows.StrategyAttribute)
	require.Equal(t, "gradual", strategy, "it is found by what it has become")
}

func TestAbortPutsEverythingBack(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"abort", "rollback"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			b := setup(t).serve()
			id := b.slow()
			b.arrive(1)
			require.Equal(t, "rolled_back", b.has("migration "+verb+" "+id, "status")["status"])
			var left int
			require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.chunks WHERE path LIKE 'handbook/%'`).Scan(&left))
			require.Zero(t, left)
			b.refuses(bad{"migration rollback " + id, exitConflict, "is rolled_back; there is nothing to undo"})
		})
	}
}

// TestWhatGoesBackIsHurried, by its own run and, when that was terminated, by the rollback.
func TestWhatGoesBackIsHurried(t *testing.T) {
	t.Parallel()
	for verb, terminated := range map[string]bool{"abort": false, "rollback": true} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			b := setup(t).serve()
			id := b.slow()
			b.arrive(3)
			if terminated {
				run := b.has("migration show "+id, "workflow_id")["workflow_id"].(string)
				require.NoError(t, devtest.Temporal(t).TerminateWorkflow(t.Context(), run, "", "test"))
				b.refuses(bad{"migration throttle " + id + " --rate 0", exitConflict, "its workflow is closed; bring it back to its start with `starter migration rollback " + id})
			}
			b.exec(`UPDATE rehome.migration_progress SET rate = 0.001`) // a quarter of an hour a chunk
			b.ok("migration", verb, id, "--detach")
			b.await(id, "rolling_back")
			require.Equal(t, "rolling_back", b.has("migration throttle "+id+" --rate 0", "status")["status"])
			b.await(id, "rolled_back")
			b.refuses(bad{"migration throttle " + id + " --rate 0", exitConflict, "is rolled_back; there is nothing to throttle"})
		})
	}
}

// TestRollbackOfATerminatedMigration brings back what nobody else would.
func TestRollbackOfATerminatedMigration(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id := b.slow()
	var plan map[string]any
	b.result(&plan, "migration", "show", id)
	temporal := devtest.Temporal(t)
	require.NoError(t, temporal.TerminateWorkflow(t.Context(), plan["workflow_id"].(string), "", "test"))
	b.refuses(bad{"migration pause " + id, exitConflict, "its workflow is closed; bring it back to its start with `starter migration rollback " + id})
	require.Equal(t, "rolled_back", b.has("migration rollback "+id, "status")["status"])
}

// TestScanRunsOnce names the run that is in the way.
func TestScanRunsOnce(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default", "a.md")
	var installation string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT id FROM rehome.installation`).Scan(&installation))
	temporal := devtest.Temporal(t)
	// A run that no worker takes up keeps the id.
	_, err := temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: installation + "/scan/default", TaskQueue: "nobody-polls-this"}, "orphan-scan")
	require.NoError(t, err)
	b.refuses(bad{"scan", exitConflict, installation + "/scan/default is already running (run "})
	require.NoError(t, temporal.TerminateWorkflow(t.Context(), installation+"/scan/default", "", "test"))
	b.ok("scan")
}

// TestInterruptLeavesTheWorkflowRunning runs the program itself and sends it
// what Ctrl-C sends.
func TestInterruptLeavesTheWorkflowRunning(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 100, "guide/a.md")
	said := b.interrupt("started", "migrate", "--rename", "guide=handbook", "--rate", "1", "--batch-size", "1")
	require.Regexp(t, "^interrupted; (\\S+) goes on at http://ui.test/\\S+; see `starter migration show m-\\S+`$", said)

	id := strings.Fields(said)[1]
	described, err := devtest.Temporal(t).DescribeWorkflowExecution(t.Context(), id, "")
	require.NoError(t, err)
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, described.GetWorkflowExecutionInfo().GetStatus())
	migration := id[strings.LastIndex(id, "/")+1:]
	b.await(migration, "executing")
	b.ok("migration", "abort", migration)
}

// interrupt runs the program until it has said a word, sends it what Ctrl-C
// sends, and returns what it says then.
func (b *bundle) interrupt(word string, args ...string) string {
	b.t.Helper()
	self, err := os.Executable()
	require.NoError(b.t, err)
	c := exec.CommandContext(b.t.Context(), self, append(args, "--json")...)
	c.Env = append(append(os.Environ(), b.env.Environ()...), asProgram+"=yes")
	talk := newSpy(word)
	c.Stderr = talk
	require.NoError(b.t, c.Start())
	talk.wait(b.t)
	require.NoError(b.t, c.Process.Signal(os.Interrupt))
	require.Error(b.t, c.Wait())
	require.Equal(b.t, exitInterrupted, c.ProcessState.ExitCode(), talk.String())
	lines := strings.Split(strings.TrimSpace(talk.String()), "\n")
	var said struct {
		Error string
		Code  int
	}
	require.NoError(b.t, json.Unmarshal([]byte(lines[len(lines)-1]), &said))
	require.Equal(b.t, exitInterrupted, said.Code)
	return said.Error
}

// TestInterruptLeavesAPlanInTheQueue: it says for whom the plan waits, and the
// plan goes on when its turn comes.
func TestInterruptLeavesAPlanInTheQueue(t *testing.T) {
	t.Parallel()
	b := setup(t).serve().single()
	first := b.slow()
	said := b.interrupt("waits in the queue", "migrate", "--rename", "other.md=elsewhere.md")
	var second string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT plan_id FROM rehome.migration_plans WHERE status = 'queued'`).Scan(&second))
	require.Contains(t, said, "interrupted; migration "+second+" waits in the queue: "+first+" at work, and goes on by itself at http://ui.test/")
	require.Contains(t, said, "see `starter migration show "+second+"`, or drop it with `starter migration abort "+second+"`")
	b.ok("migration", "abort", first)
	b.await(second, "completed")
}

// TestInterruptLeavesAPlanThatWaitsForAPerson: it says what that person can do.
func TestInterruptLeavesAPlanThatWaitsForAPerson(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	id, _ := b.planned()
	s := &session{process: process{err: &bytes.Buffer{}, env: b.env, dir: "."}}
	t.Cleanup(s.close)
	plan, err := s.plan(t.Context(), id)
	require.NoError(t, err)
	engine, err := s.temporal(t.Context())
	require.NoError(t, err)
	waiting := task{id: plan.WorkflowID, migration: id, look: "starter migration show " + id}
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	err = s.wait(interrupted, waiting, engine.GetWorkflow(t.Context(), plan.WorkflowID, plan.RunID), nil)
	require.Equal(t, exitInterrupted, exitCode(err))
	require.ErrorContains(t, err, "interrupted; migration "+id+" waits for an approval at http://ui.test/")
	require.ErrorContains(t, err, "`starter migration approve "+id+"` lets it begin, `starter migration abort "+id+"` drops it")
	b.ok("migration", "approve", id)
	b.await(id, "completed")
}

// TestTemporalGoesAwayInTheMiddle stops the server under a command that waits.
func TestTemporalGoesAwayInTheMiddle(t *testing.T) {
	t.Parallel()
	server, err := dev.StartTemporal(t.Context(), dev.Options{Dir: t.TempDir(), Ephemeral: true})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	b := setup(t)
	b.env["TEMPORAL_ADDRESS"] = server.Address
	b.serve()
	b.memory("default")
	b.chunks("default", 100, "guide/a.md")
	talk := newSpy("started")
	ended := make(chan int)
	go func() {
		p := process{in: strings.NewReader(""), out: &bytes.Buffer{}, err: talk, env: b.env, dir: "."}
		ended <- execute(context.WithoutCancel(t.Context()), p, strings.Fields("migrate --rename guide=handbook --rate 1 --batch-size 1"))
	}()
	talk.wait(t)
	server.Stop()
	select {
	case code := <-ended:
		require.Equal(t, exitUnreachable, code, talk.String())
		require.Contains(t, talk.String(), "waits and goes on when that is mended")
	case <-time.After(time.Minute):
		require.Fail(t, "the command still waits", talk.String())
	}
}

// spy is a stderr that tells when a word was written to it.
type spy struct {
	mu   sync.Mutex
	text bytes.Buffer
	word string
	seen chan struct{}
}

func newSpy(word string) *spy { return &spy{word: word, seen: make(chan struct{}, 1)} }

func (s *spy) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(string(p), s.word) {
		select {
		case s.seen <- struct{}{}:
		default:
		}
	}
	return s.text.Write(p)
}

func (s *spy) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *spy) wait(t testing.TB) {
	t.Helper()
	select {
	case <-s.seen:
	case <-time.After(time.Minute):
		require.Fail(t, "not said: "+s.word, s.String())
	}
}
