package resilience_test

import (
	"testing"

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

func TestAnUndoGoesAsItsPlanWent(t *testing.T) {
	t.Parallel()
	asked := resilience.Policy{BatchSize: 7, Rate: 10, OnFailure: resilience.UndoGroup, GroupSize: 5, Way: resilience.Rebuild, Hours: "22:00-06:00", Author: "ana"}
	for by, want := range map[resilience.Strategy]resilience.Policy{
		resilience.Immediate:   {BatchSize: 7},
		resilience.Batch:       {BatchSize: 7, Rate: 10},
		resilience.Gradual:     {BatchSize: 7, Rate: 10, Hours: "22:00-06:00"},
		resilience.Intelligent: {BatchSize: 7, Rate: 10},
	} {
		require.Equal(t, want, asked.ToUndo(by), by)
	}
}
