package workflows_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// voice is a person's who speaks to the run that a plan has now, and hears.
type voice struct {
	*testing.T
	env    *testsuite.TestWorkflowEnvironment
	said   int
	answer resilience.Status // to an abort
}

// orders are what a person may say at any moment.
var orders = map[string]func(*voice, course){
	"Cancel": func(v *voice, _ course) { v.env.CancelWorkflow() },
	"Abort": func(v *voice, _ course) {
		v.say(workflows.AbortUpdate, workflows.Order{Author: "ana"}, func(s resilience.Status) { v.answer = s })
	},
	"PauseAndResume": func(v *voice, _ course) {
		v.pause(v.resume)
	},
	"Throttle": func(v *voice, _ course) {
		v.say(workflows.ThrottleUpdate, resilience.Pace{BatchSize: new(5), Author: "ana"}, nil)
	},
	"Change": func(v *voice, c course) { // while it is queued; else it pauses for that
		next := workflows.NewStrategy{Strategy: resilience.Gradual, Author: "ana"}
		if c.strategy == resilience.Gradual {
			next.Strategy = resilience.Batch
		}
		v.say(workflows.StrategyUpdate, next, func(answer resilience.Status) {
			if answer == resilience.Queued {
				return
			}
			v.pause(func() {
				v.say(workflows.StrategyUpdate, next, func(resilience.Status) { v.resume() })
			})
		})
	},
}

// obeyed is what an order does at least while chunks move.
var obeyed = map[string][]string{
	"Cancel": {"BeginUndo"}, "Abort": {"BeginUndo"}, "Throttle": {"ThrottleMigration"},
	"PauseAndResume": {"PauseMigration", "ResumeMigration"}, "Change": {"PauseMigration", "ChangeStrategy", "ResumeMigration"},
}

// say gives an order, which may be obeyed or turned down: both are legal. What comes then
// is given its answer, empty where there is none.
func (v *voice) say(update string, order any, then func(resilience.Status)) {
	v.said++
	if then == nil {
		then = func(resilience.Status) {}
	}
	v.env.UpdateWorkflow(update, fmt.Sprint(update, v.said), &testsuite.TestUpdateCallback{
		OnAccept: func() {},
		OnReject: func(error) { then("") },
		OnComplete: func(answer any, _ error) {
			a, _ := answer.(workflows.Answer)
			then(a.Status)
		},
	}, order)
}

func (v *voice) pause(then func()) {
	v.say(workflows.PauseUpdate, workflows.Order{Author: "ana"}, func(resilience.Status) { then() })
}

func (v *voice) resume() { v.say(workflows.ResumeUpdate, workflows.Order{Author: "ana"}, nil) }

// resumes has a run that continues another go on in an hour, should that have been paused.
func (v *voice) resumes(run int) {
	if run > 0 {
		v.env.RegisterDelayedCallback(v.resume, time.Hour)
	}
}

// approves says yes to the plan after a while.
func (v *voice) approves(after time.Duration) {
	v.env.RegisterDelayedCallback(func() {
		v.say(workflows.ApproveUpdate, workflows.Approval{Hash: "h1", Author: "ana"}, nil)
	}, after)
}

// ThrottleMigration is refused by nobody.
func (k *keeper) ThrottleMigration(context.Context, activities.ThrottleInput) error {
	return k.do("ThrottleMigration")
}
