package workflows_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"rehome/workflows"
)

// recordVariable tells TestRecordHistories to record anew. Record from code
// that has been released, or is about to be, never from a branch whose
// workflows the replay is to judge: a fixture recorded from changed code proves
// nothing about the runs that are open in production.
const recordVariable = "REHOME_RECORD_HISTORIES"

const histories = "testdata/replay"

// TestRecordedHistoriesReplay runs today's workflows over histories of real
// runs, one for each path. A difference in the order or the kind of commands
// fails it: such a change needs workflow.GetVersion.
func TestRecordedHistoriesReplay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(histories + "/*.json")
	require.NoError(t, err)
	require.Len(t, files, len(scenarios()), "one history for each scenario; %s=1 go test ./workflows -run TestRecordHistories/NAME makes one", recordVariable)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.Open(file)
			require.NoError(t, err)
			defer func() { _ = text.Close() }()
			recorded, err := client.HistoryFromJSON(text, client.HistoryJSONOptions{})
			require.NoError(t, err)
			require.NoError(t, replay(recorded))
		})
	}
}

// TestRecordHistories plays every scenario against a real server, in the quick form
// every third, and, when it is asked to, keeps the histories.
func TestRecordHistories(t *testing.T) {
	t.Parallel()
	keep := os.Getenv(recordVariable) != ""
	all := scenarios()
	for n, name := range slices.Sorted(maps.Keys(all)) {
		if testing.Short() && n%3 != 0 {
			continue
		}
		play := all[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newInstallation(t)
			in.fill("guide/a.md", 60)
			run := play(in)
			id := run.GetRunID()          // before it is followed by the next
			_ = run.Get(t.Context(), nil) // some scenarios are meant to fail
			recorded := in.history(run.GetID(), id)
			text, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(recorded) // before the replay writes into it
			require.NoError(t, err)
			require.NoError(t, replay(recorded), "a run of today replays today")
			if keep {
				host, err := os.Hostname()
				require.NoError(t, err)
				text = bytes.ReplaceAll(text, []byte("@"+host+"@"), []byte("@recorder@"))
				require.NoError(t, os.WriteFile(filepath.Join(histories, name+".json"), text, 0o644))
			}
		})
	}
}

// replay runs today's workflows over a history, as the run that it is of: one that was
// reset has another id than it began with, and goes by that.
func replay(h *history.History) error {
	var options worker.ReplayWorkflowHistoryOptions
	for _, e := range h.Events {
		if failed := e.GetWorkflowTaskFailedEventAttributes(); failed.GetCause() == enums.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW {
			options.OriginalExecution.RunID = failed.NewRunId
		}
	}
	replayer := worker.NewWorkflowReplayer()
	workflows.Register(replayer)
	return replayer.ReplayWorkflowHistoryWithOptions(nil, h, options)
}

func (in *installation) history(workflow, run string) *history.History {
	in.Helper()
	events := in.temporal.GetWorkflowHistory(in.Context(), workflow, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	whole := &history.History{}
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(in, err)
		whole.Events = append(whole.Events, event)
	}
	return whole
}
