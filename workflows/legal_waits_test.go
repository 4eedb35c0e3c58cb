package workflows_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"rehome/resilience"
)

// lull is a state in which no activity runs: the plan waits for time to pass, or for a
// person.
type lull struct {
	words string // with which its progress begins
	begun bool   // there is something to undo
	back  bool   // it is on its way back
	in    func(course) bool
	// The plan comes there since things are so, or since this happens at its first slice.
	since func(*keeper, course)
	slice func(*voice, *keeper)
	over  func(*keeper) // lets it go on, after the order
}

// lulls are all of them.
func lulls() map[string]lull {
	has := func(step string) func(course) bool {
		return func(c course) bool {
			return slices.Contains(c.forward, step) && slices.Contains(c.forward, "MoveSlice")
		}
	}
	return map[string]lull{
		"approval": {words: "Waiting for approval: ", in: has("RequestApproval")},
		"queue":    {words: "Queued: waiting for another", in: has("TakeSlot"), since: func(k *keeper, _ course) { k.busy = 1 }},
		"server": {
			words: "Waiting for the server: ", begun: true, in: has("CheckHealth"),
			since: func(k *keeper, _ course) {
				k.shut = []resilience.Gate{{Name: resilience.WALGate, State: resilience.GateShut, Detail: "much is written"}}
			},
			over: func(k *keeper) { k.shut = nil },
		},
		"soak of a stage": {
			words: "Soaking after ", begun: true, in: func(c course) bool { return c.strategy == resilience.Gradual },
			since: func(k *keeper, _ course) { k.at.Total, k.slice = 300, 100 },
		},
		"soak of a transfer": {words: "Soaking: the chunks stand in both memories", begun: true, in: has("SwitchReferences")},
		"pause": {
			words: "Paused", begun: true, in: has("MoveSlice"),
			slice: func(v *voice, _ *keeper) { v.pause(func() {}) },
		},
		"queue after a pause": {
			words: "Resumed, and waiting for another", begun: true, in: has("MoveSlice"),
			slice: func(v *voice, k *keeper) {
				v.pause(func() {
					k.turns(func() { k.busy = 2 })
					v.resume()
				})
			},
		},
		"stuck": {
			words: "Stuck: ", begun: true, back: true, in: func(c course) bool { return c.breaks != "" },
			since: func(k *keeper, c course) { k.fails[c.breaks], k.fails["RevertSlice"] = errInjected, errInjected },
			over:  func(k *keeper) { delete(k.fails, "RevertSlice") },
		},
	}
}

// turns changes what the plan meets.
func (k *keeper) turns(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

// TestAnOrderIsSafeInEveryWait gives every order in each state in which a plan only waits.
func TestAnOrderIsSafeInEveryWait(t *testing.T) {
	t.Parallel()
	for _, c := range courses() {
		for state, w := range lulls() {
			if !w.in(c) || state == "soak of a transfer" && c.undoes {
				continue
			}
			for name := range orders {
				t.Run(fmt.Sprint(c.name, "/", state, "/", name), func(t *testing.T) {
					t.Parallel()
					legalIn(t, c, w, name)
				})
			}
		}
	}
}

func legalIn(t *testing.T, c course, w lull, name string) {
	_, k := kept(t, c)
	if w.since != nil {
		w.since(k, c)
	}
	v, given, sliced := &voice{T: t}, false, false
	look := func() {
		if given || !strings.HasPrefix(shownPhase(t, v.env), w.words) {
			return
		}
		given = true
		if w.over != nil {
			k.turns(func() { w.over(k) })
		}
		orders[name](v, c)
		v.env.RegisterDelayedCallback(v.resume, time.Hour)
	}
	_, err := inRuns(t, c, k, func(env *testsuite.TestWorkflowEnvironment, run int) {
		v.env = env
		v.resumes(run)
		env.SetOnTimerScheduledListener(func(string, time.Duration) { env.RegisterDelayedCallback(look, 1) })
		env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
			switch {
			case info.ActivityType.Name == "RequestApproval":
				v.approves(time.Hour)
			case info.ActivityType.Name == "MoveSlice" && !sliced && w.slice != nil:
				sliced = true
				w.slice(v, k)
				env.RegisterDelayedCallback(look, time.Minute) // a pause has no timer
			}
		})
	})
	require.True(t, given, "it never waited so")
	want := resilience.Completed
	switch {
	case w.back || w.begun && (name == "Cancel" || name == "Abort"):
		want = resilience.RolledBack
	case name == "Cancel" || name == "Abort":
		want = resilience.Cancelled
	}
	v.judge(c, k, name, w.back, err)
	require.Equal(t, want, k.status, "%v", k.did())
	if w.begun && !w.back { // it takes every order
		for _, step := range obeyed[name] {
			require.Contains(t, k.did(), step)
		}
	}
	if name == "Abort" && !w.back {
		require.Equal(t, want == resilience.Cancelled, v.answer == resilience.Cancelled, "answered %s", v.answer)
		require.NotEmpty(t, v.answer)
	}
}
