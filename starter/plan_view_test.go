package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestAPlanIsShownWithWhatItWillCost(t *testing.T) {
	t.Parallel()
	plan := resilience.Plan{
		ID: "m-1", Memory: "docs", Strategy: resilience.Batch, Status: resilience.AwaitingApproval, Hash: "abc", Moves: 25, Conflicts: 2,
		Physics:  resilience.Physics{Rows: 20_000, RowBytes: 1100, VectorIndexes: []string{"near"}, PathIndexes: []string{"by_path"}},
		Way:      resilience.Update,
		Risk:     resilience.Risk{Level: resilience.HighRisk, Score: 65, Reasons: []string{"17 points: 20,000 chunks", "20 points: vectors"}},
		Estimate: resilience.Estimate{P50MS: 38_000, P90MS: 95_000, Basis: "no run yet"},
	}
	text := func(p resilience.Plan) string {
		var b strings.Builder
		planRows(&b, p)
		return b.String()
	}
	shown := text(plan)
	for _, line := range []string{
		"conflicts\t2\n",
		"table\tabout 20000 rows of 1.1 KiB; an update indexes the embedding again in near, since the path is in by_path\n",
		"way\tupdate: rows change in place\n",
		"estimate\t38.0 s, in 9 of 10 cases within 1m35s (no run yet)\n",
		"risk\thigh, 65 of 100\n\t17 points: 20,000 chunks\n\t20 points: vectors\n",
		"approval\twanted for plan hash abc: `starter migration approve m-1`\n",
	} {
		require.Contains(t, shown, line)
	}
	for strategy, pace := range map[resilience.Strategy]string{
		resilience.Immediate: "all in one transaction", resilience.Batch: "no bound on the rate, 50 rows a batch",
		resilience.Gradual: "no bound on the rate, batches by the time they take", resilience.Intelligent: "no bound on the rate, batches by the time they take",
	} {
		require.Contains(t, text(resilience.Plan{Strategy: strategy, Policy: resilience.Policy{BatchSize: 50}}), fmt.Sprintf("strategy\t%s, %s\n", strategy, pace))
	}
	until := time.Date(2026, 11, 28, 14, 30, 0, 0, time.Local)
	plan.Throttle = &resilience.Throttle{Pace: resilience.Pace{Rate: 5}, Until: &until}
	require.Contains(t, text(plan), "throttled\t5 rows a second, until 2026-11-28 14:30:00\n")
	plan.Throttle.Until = nil
	require.Contains(t, text(plan), "throttled\t5 rows a second, for good\n")
	plan.Approval = &resilience.Approval{Hash: "abc", By: "ana"}
	require.Contains(t, text(plan), "approved\tby ana, never\n")
	plan.Approval.Hash = "of what it was before"
	require.NotContains(t, text(plan), "by ana")

	require.NotContains(t, text(resilience.Plan{ID: "m-2", Status: resilience.Pending}), "risk", "not found out yet")
	for class, physics := range map[string]resilience.Physics{
		"touches no index": {HOT: true, HOTShare: 1},
		"touches b-trees only, but for the 40 % of rows whose pages have room": {HOTShare: 0.4},
		"indexes the whole row again in words":                                 {GINIndexes: []string{"words"}},
	} {
		require.Contains(t, physicsLine(physics), class)
	}
	for _, way := range []resilience.Way{resilience.Update, resilience.Trickle, resilience.AliasOnly, resilience.Rebuild} {
		require.Contains(t, wayLine(way), string(way)+": ")
	}
}
