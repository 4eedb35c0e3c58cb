package resilience_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy resilience.Policy
		by     resilience.Strategy
		says   string // empty: fine
	}{
		{resilience.Policy{}, resilience.Batch, ""},
		{resilience.Policy{OnFailure: resilience.Stop}, resilience.Immediate, ""},
		{resilience.Policy{OnFailure: resilience.UndoGroup, GroupSize: 500}, resilience.Batch, ""},
		{resilience.Policy{Hours: "22:00-06:00 Europe/Berlin"}, resilience.Gradual, ""},
		{resilience.Policy{Way: resilience.AliasOnly}, resilience.Intelligent, ""},
		{resilience.Policy{Way: resilience.AliasOnly}, resilience.Batch, "only the strategy intelligent chooses among ways"},
		{resilience.Policy{Way: "magic"}, resilience.Intelligent, "want one of update"},
		{resilience.Policy{Hours: "22:00-06:00"}, resilience.Batch, "only the strategy gradual waits for hours"},
		{resilience.Policy{Hours: "at night"}, resilience.Gradual, "at night"},
		{resilience.Policy{OnFailure: "shrug"}, resilience.Batch, `failure policy "shrug"`},
		{resilience.Policy{GroupSize: -1, OnFailure: resilience.UndoGroup}, resilience.Batch, "group size -1"},
		{resilience.Policy{GroupSize: 10}, resilience.Batch, "only the failure policy undo_group has groups"},
		{resilience.Policy{Rate: 10}, resilience.Immediate, "rate 10: the strategy immediate moves all in one transaction"},
		{resilience.Policy{BatchSize: 10}, resilience.Immediate, "batch size 10: the strategy immediate moves all in one transaction"},
		{resilience.Policy{Rate: 10, BatchSize: 10}, resilience.Intelligent, ""},
		{resilience.Policy{Rate: -1}, resilience.Immediate, "rate -1"},
		{resilience.Policy{Rate: -1}, resilience.Batch, "rate -1"},
		{resilience.Policy{BatchSize: -1}, resilience.Batch, "batch size -1"},
	} {
		err := c.policy.Check(c.by)
		if c.says == "" {
			require.NoError(t, err, c.policy)
		} else {
			require.ErrorContains(t, err, c.says, c.policy)
		}
	}
}

func TestAPlanKeepsWhatWasAskedOfIt(t *testing.T) {
	t.Parallel()
	later := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	throttled := func(rate float64, size int, until *time.Time) *resilience.Throttle {
		t := &resilience.Throttle{Pace: resilience.Pace{Rate: &rate}, Until: until, BatchUntil: until}
		if size > 0 {
			t.BatchSize = &size
		}
		return t
	}
	sized := &resilience.Throttle{Pace: resilience.Pace{BatchSize: new(9)}}
	hours := resilience.Policy{BatchSize: 50, Hours: "22:00-06:00"}
	rated := resilience.Policy{BatchSize: 50, Rate: 10}
	lift := "`starter migration throttle m-1 --rate 0`"
	for _, c := range []struct {
		policy   resilience.Policy
		throttle *resilience.Throttle
		next     resilience.Strategy
		says     []string // none: fine
	}{
		{resilience.Policy{BatchSize: 50}, nil, resilience.Immediate, nil},
		{rated, nil, resilience.Gradual, nil},
		{rated, nil, resilience.Immediate, []string{"m-1 stays with batch", "rate 10", lift}},
		{rated, throttled(0, 0, nil), resilience.Immediate, nil},
		{rated, throttled(0, 0, &later), resilience.Immediate, []string{"rate 10", lift}},
		{resilience.Policy{}, throttled(7, 0, &later), resilience.Immediate, []string{"rate 7", lift}},
		{resilience.Policy{}, throttled(0, 9, nil), resilience.Immediate, []string{"batch size 9", "`starter migration throttle m-1 --batch-size 0`"}},
		{resilience.Policy{}, sized, resilience.Immediate, []string{"batch size 9", "`starter migration throttle m-1 --batch-size 0`"}},
		{rated, sized, resilience.Immediate, []string{"rate 10", "`starter migration throttle m-1 --rate 0 --batch-size 0`"}},
		{resilience.Policy{}, throttled(7, 9, nil), resilience.Intelligent, nil},
		{hours, nil, resilience.Batch, []string{"only the strategy gradual waits for hours", "`starter migration abort m-1`", "plan it anew"}},
		{hours, nil, resilience.Intelligent, []string{"only the strategy gradual waits for hours"}},
		{resilience.Policy{Way: resilience.AliasOnly}, nil, resilience.Gradual, []string{"only the strategy intelligent chooses among ways", "plan it anew"}},
	} {
		err := resilience.Plan{ID: "m-1", Strategy: resilience.Batch, Policy: c.policy, Throttle: c.throttle}.CheckStrategy(c.next)
		if c.says == nil {
			require.NoError(t, err, "%+v", c)
		}
		if c.policy.Hours != "" {
			require.NoError(t, resilience.Plan{ID: "m-2", Undoes: "m-1", Policy: c.policy}.CheckStrategy(c.next), "an undo only took them over")
		}
		for _, part := range c.says {
			require.ErrorContains(t, err, part, "%+v", c)
		}
	}
}

func TestAThrottleForGoodIsPartOfThePolicy(t *testing.T) {
	t.Parallel()
	later := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	plan := resilience.Plan{Policy: resilience.Policy{Rate: 1, BatchSize: 50, Author: "ana"}}
	require.Equal(t, plan.Policy, plan.Lasting())
	plan.Throttle = &resilience.Throttle{Pace: resilience.Pace{Rate: new(0.0)}, Until: &later}
	require.Equal(t, plan.Policy, plan.Lasting(), "it comes back")
	plan.Throttle.Until = nil
	require.Equal(t, resilience.Policy{BatchSize: 50, Author: "ana"}, plan.Lasting())
	plan.Throttle.BatchSize = new(7)
	require.Equal(t, resilience.Policy{BatchSize: 7, Author: "ana"}, plan.Lasting())
	plan.Throttle.Rate, plan.Throttle.Until = nil, &later
	require.Equal(t, resilience.Policy{Rate: 1, BatchSize: 7, Author: "ana"}, plan.Lasting(), "only the size is throttled")
	plan.Throttle.BatchUntil = &later
	require.Equal(t, plan.Policy, plan.Lasting())
}

func TestImmediateIsNotThrottled(t *testing.T) {
	t.Parallel()
	require.NoError(t, resilience.Pace{Rate: new(5.0), BatchSize: new(5)}.CheckThrottle("m-1", resilience.Batch))
	require.NoError(t, resilience.Pace{Expires: 60}.CheckThrottle("m-1", resilience.Immediate), "it bounds nothing")
	for _, pace := range []resilience.Pace{{Rate: new(5.0)}, {BatchSize: new(5)}} {
		err := pace.CheckThrottle("m-1", resilience.Immediate)
		require.ErrorContains(t, err, "m-1 is not throttled")
		require.ErrorContains(t, err, "`starter migration strategy m-1 batch`")
	}
}

func TestAnUndoGoesAsItsPlanWent(t *testing.T) {
	t.Parallel()
	asked := resilience.Policy{BatchSize: 7, Sized: true, Rate: 10, OnFailure: resilience.UndoGroup, GroupSize: 5, Way: resilience.Rebuild, Hours: "22:00-06:00", Author: "ana"}
	for by, want := range map[resilience.Strategy]resilience.Policy{
		resilience.Immediate:   {BatchSize: 7, Sized: true},
		resilience.Batch:       {BatchSize: 7, Sized: true, Rate: 10},
		resilience.Gradual:     {BatchSize: 7, Sized: true, Rate: 10, Hours: "22:00-06:00"},
		resilience.Intelligent: {BatchSize: 7, Sized: true, Rate: 10},
	} {
		require.Equal(t, want, asked.ToUndo(by), by)
	}
}

// TestABatchSizeIsAskedForByAPerson: that of the settings, and of a plan to undo, is not.
func TestABatchSizeIsAskedForByAPerson(t *testing.T) {
	t.Parallel()
	settings := resilience.Settings{MigrationBatchSize: 50}
	filled := func(p resilience.Policy, undo bool) resilience.Policy {
		p.ApplyDefaults(settings, undo)
		return p
	}
	require.Equal(t, resilience.Policy{BatchSize: 50}, filled(resilience.Policy{}, false))
	require.Equal(t, resilience.Policy{BatchSize: 20, Sized: true}, filled(resilience.Policy{BatchSize: 20}, false))
	require.Equal(t, resilience.Policy{BatchSize: 20}, filled(resilience.Policy{BatchSize: 20}, true))
	require.Equal(t, resilience.Policy{BatchSize: 20, Sized: true}, filled(resilience.Policy{BatchSize: 20, Sized: true}, true))

	before, err := resilience.PlanHash("moves", resilience.Gradual, resilience.Policy{BatchSize: 20})
	require.NoError(t, err)
	now, err := resilience.PlanHash("moves", resilience.Gradual, resilience.Policy{BatchSize: 20, Sized: true})
	require.NoError(t, err)
	require.Equal(t, before, now)
}
