package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// ward is an actor whose server can be unwell.
type ward struct {
	*actor
	now     func() time.Time // of the workflow
	cost    float64          // ms of server time of one row
	unwell  func(look int) []resilience.GateName
	near    func(look int) bool                     // a signal is near its limit
	ends    func(slice int) *resilience.HealthCheck // the look with which a slice ends
	looks   int
	asked   []activities.HealthInput
	slices  []activities.SliceInput
	vacuums []time.Time
}

// MoveSlice moves a slice within its bounds and says what it cost.
func (w *ward) MoveSlice(_ context.Context, in activities.SliceInput) (at resilience.Watermark, err error) {
	err = w.do("MoveSlice", func() {
		w.slices = append(w.slices, in)
		from := w.at.Last
		if w.at.Wish == resilience.WishRun {
			until := w.at.Total
			if in.Until > 0 {
				until = in.Until
			}
			w.at.Last = min(w.at.Last+w.slice, until)
		}
		at = w.at
		rows := w.at.Last - from
		at.Pulse = &resilience.Pulse{Batches: 1, Rows: rows, ActiveMS: w.cost * float64(rows), P95MS: 40, Servo: *in.Servo}
		if w.ends != nil {
			at.Check = w.ends(len(w.slices))
		}
	})
	return at, err
}

// CheckHealth says what the test wants of the server.
func (w *ward) CheckHealth(_ context.Context, in activities.HealthInput) (check resilience.HealthCheck, err error) {
	err = w.do("CheckHealth", func() {
		w.looks++
		w.asked = append(w.asked, in)
		gates := []resilience.Gate{{Name: resilience.ReplicaGate, State: resilience.GateNotAvailable, Detail: "no replica is attached"}}
		if w.near != nil && w.near(w.looks) {
			gates = append(gates, resilience.Gate{Name: resilience.WALGate, State: resilience.GateNear})
		}
		if w.unwell != nil {
			for _, name := range w.unwell(w.looks) {
				gates = append(gates, resilience.Gate{Name: name, State: resilience.GateShut, Detail: "it is " + string(name), Since: w.now()})
			}
		}
		hours, err := resilience.ParseHours(in.Hours)
		if err != nil {
			panic(err)
		}
		if !hours.Open(w.now()) {
			gates = append(gates, resilience.Gate{Name: resilience.HoursGate, State: resilience.GateShut, Detail: "at night"})
			check.Opens = hours.Next(w.now())
		}
		check.At, check.Health = w.now(), in.Before
		check.Health.Baseline.ProbeMS = 7
		check.Health.Gates = gates
		check.Shut = resilience.Shut(gates)
	})
	return check, err
}

// VacuumTable notes when.
func (w *ward) VacuumTable(context.Context, activities.PlanInput) error {
	return w.do("VacuumTable", func() { w.vacuums = append(w.vacuums, w.now()) })
}

// ReadMigration returns the plan.
func (w *ward) ReadMigration(context.Context, activities.PlanInput) (resilience.Plan, error) {
	return w.plan, w.do("ReadMigration")
}

// gradual is a rehearsal of a gradual migration of 100,000 rows, at 1,000 a
// slice and 1 ms a row.
func gradual(t *testing.T) (*testsuite.TestWorkflowEnvironment, *ward) {
	t.Helper()
	env := silent().NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.SetStartTime(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	w := &ward{
		actor: &actor{fails: map[string]error{}, slice: 1000, at: resilience.Watermark{Total: 100_000, Epoch: 1, Wish: resilience.WishRun}},
		now:   env.Now, cost: 1,
	}
	w.plan = resilience.Plan{Hash: "h1", Moves: 100_000, Bytes: 400_000_000}
	workflows.Register(env)
	env.RegisterActivity(w)
	return env, w
}

func gradually() string { return workflows.MigrateName(resilience.Gradual) }

func TestGradualClimbsItsStages(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	began := env.Now()
	env.ExecuteWorkflow(gradually(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 100_000, w.at.Last)
	var ends []int64
	for _, s := range w.slices {
		if len(ends) == 0 || ends[len(ends)-1] != s.Until {
			ends = append(ends, s.Until)
		}
	}
	require.Equal(t, []int64{100, 1000, 5000, 25_000, 50_000, 0}, ends)
	require.Len(t, w.slices, w.looks, "a look before each slice")
	// 5 soaks of 40 s, a tenth of the work with its rests, for which the clock of
	// the test stands still.
	require.InDelta(t, 5*40, env.Now().Sub(began).Seconds(), 5)
	for _, s := range w.slices {
		require.InDelta(t, resilience.GradualNice, s.Nice, 0)
	}
	require.NotNil(t, w.asked[1].Pulse, "the look after a slice knows what it cost")
	require.InDelta(t, 7, w.asked[5].Before.Baseline.ProbeMS, 0)
}

func TestASmallPlanEndsSoon(t *testing.T) {
	t.Parallel()
	env, w := gradual(t)
	w.at.Total, w.cost = 3000, 0.02
	began := env.Now()
	env.ExecuteWorkflow(gradually(), planned())
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 3000, w.at.Last)
	require.Less(t, env.Now().Sub(began), 2*time.Second)
}

// TestABatchSizeThatWasAskedForIsTheMost: that of the settings is none.
func TestABatchSizeThatWasAskedForIsTheMost(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		env, w := gradual(t)
		w.at.Total, w.cost = 3000, 0.02
		w.plan.Policy = resilience.Policy{BatchSize: 7, Sized: asked}
		env.ExecuteWorkflow(gradually(), planned())
		require.NoError(t, env.GetWorkflowError())
		most := resilience.GradualAim.Most
		if asked {
			most = 7
		}
		for _, s := range w.slices {
			require.Equal(t, most, s.Servo.Most)
			require.LessOrEqual(t, s.Servo.Size, most)
			require.LessOrEqual(t, s.Servo.Least, most)
		}
	}
}

// TestItRunsForDaysInManyRuns goes through more than 50 runs, each in a history
// of its own, with orders in between, and loses nothing.
func TestItRunsForDaysInManyRuns(t *testing.T) {
	t.Parallel()
	in := planned()
	at := resilience.Watermark{Total: 100_000, Epoch: 1, Wish: resilience.WishRun}
	moved, runs, pauses, crossed := int64(0), 0, 0, 0
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	var worked float64
	for {
		env, w := gradual(t)
		env.SetStartTime(now)
		env.SetContinueAsNewSuggested(true)
		w.at, w.cost = at, 100 // nearly 3 hours of work, 11 with its pauses
		if w.unwell = nil; runs%7 == 3 {
			w.unwell = func(look int) []resilience.GateName {
				if look == 1 {
					return []resilience.GateName{resilience.ReplicaGate}
				}
				return nil
			}
		}
		if runs%5 == 2 { // an order while this run works, which the next has to know of
			env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
				if info.ActivityType.Name == "MoveSlice" {
					pauses++
					env.UpdateWorkflowNoRejection(workflows.PauseUpdate, "pause", t, workflows.Order{Author: "ana"})
				}
			})
		}
		if in.Resume != nil && in.Resume.Paused {
			crossed++
			env.RegisterDelayedCallback(func() {
				require.NotContains(t, w.did(), "MoveSlice", "it is paused still")
				env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{Author: "ana"})
			}, 24*time.Hour)
		}
		env.ExecuteWorkflow(gradually(), in)
		moved += w.at.Last - at.Last
		at, now = w.at, env.Now()
		runs++
		var again *workflow.ContinueAsNewError
		if err := env.GetWorkflowError(); err == nil {
			break
		} else {
			require.ErrorAs(t, err, &again)
		}
		in = workflows.MigrateInput{}
		require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))
		require.Equal(t, in.Resume.Paused, at.Wish == resilience.WishPause, "what a person wants crosses")
		require.GreaterOrEqual(t, in.Resume.Climb.WorkMS, worked)
		worked = in.Resume.Climb.WorkMS
		require.Less(t, runs, 1000)
	}
	require.Greater(t, runs, 50)
	require.Positive(t, crossed)
	require.Equal(t, pauses, crossed, "no order was lost")
	require.EqualValues(t, 100_000, moved)
	require.Equal(t, at.Total, at.Last)
	require.Greater(t, now.Sub(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)), 48*time.Hour)
}
