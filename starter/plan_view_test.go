package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// rowsOf is a plan as people see it.
func rowsOf(p resilience.Plan) string {
	var b strings.Builder
	planRows(&b, p)
	return b.String()
}

func TestAPlanIsShownWithWhatItWillCost(t *testing.T) {
	t.Parallel()
	plan := resilience.Plan{
		ID: "m-1", Memory: "docs", Strategy: resilience.Batch, Status: resilience.AwaitingApproval, Hash: "abc", Moves: 25, Conflicts: 2,
		Physics: resilience.Physics{Rows: 20_000, RowBytes: 1100, VectorIndexes: []string{"near"}, PathIndexes: []string{"by_path"}},
		Way:     resilience.Update,
		Risk:    resilience.Risk{Level: resilience.HighRisk, Score: 65, Reasons: []string{"17 points: 20,000 chunks", "20 points: vectors"}},
		Estimate: resilience.Estimate{P50MS: 38_000, P90MS: 95_000, Basis: "no run yet", Ways: []resilience.WayCost{
			{Way: resilience.Update, MS: 38_000, Note: "rows change in place", Taken: true},
			{Way: resilience.Turns, MS: 9000, Note: "few touch the indexes", Closed: "an index holds the path"},
			{Way: resilience.Rebuild, MS: 7000, Note: "search goes without its index"},
		}},
		Steps: []string{"restore the aliases", "move the chunks back"},
	}
	shown := rowsOf(plan)
	for _, line := range []string{
		"conflicts\t2\n",
		"table\tabout 20000 rows of 1.1 KiB; an update indexes the embedding again in near, since the path is in by_path\n",
		"way\tupdate: rows change in place, expected to take 38.0 s\n\tnot turns: an index holds the path\n\tor rebuild, about 7.0 s: search goes without its index\n\tfor another: abort this plan, and plan with --strategy intelligent --way WAY\nestimate\t",
		"estimate\t38.0 s, in 9 of 10 cases within 1m35s (no run yet)\n",
		"risk\thigh, 65 of 100\n\t17 points: 20,000 chunks\n\t20 points: vectors\nrollback\t1. restore the aliases\n\t2. move the chunks back\napproval",
		"approval\twanted for plan hash abc: `starter migration approve m-1`\n",
	} {
		require.Contains(t, shown, line)
	}
	for strategy, pace := range map[resilience.Strategy]string{
		resilience.Immediate: "all in one transaction", resilience.Batch: "no bound on the rate, 50 rows a batch",
		resilience.Gradual: "no bound on the rate, batches by the time they take", resilience.Intelligent: "no bound on the rate, batches by the time they take",
	} {
		require.Contains(t, rowsOf(resilience.Plan{Strategy: strategy, Policy: resilience.Policy{BatchSize: 50}}), fmt.Sprintf("strategy\t%s, %s\n", strategy, pace))
	}
	require.Contains(t, rowsOf(resilience.Plan{Strategy: resilience.Gradual, Policy: resilience.Policy{BatchSize: 20, Sized: true}}), ", batches by the time they take, of at most 20 rows\n")
	until := time.Date(2026, 11, 28, 14, 30, 0, 0, time.Local)
	plan.Throttle = &resilience.Throttle{Pace: resilience.Pace{Rate: new(5.0)}, Until: &until}
	require.Contains(t, rowsOf(plan), "throttled\t5 rows a second, until 2026-11-28 14:30:00\n")
	plan.Throttle.Until = nil
	require.Contains(t, rowsOf(plan), "throttled\t5 rows a second, for good\n")
	plan.Throttle.BatchSize = new(20)
	require.Contains(t, rowsOf(plan), "throttled\t5 rows a second, 20 rows a batch, for good\n")
	plan.Throttle.BatchUntil = &until
	require.Contains(t, rowsOf(plan), "throttled\t5 rows a second, for good; 20 rows a batch, until 2026-11-28 14:30:00\n")
	plan.Throttle.Rate = nil
	require.Contains(t, rowsOf(plan), "throttled\t20 rows a batch, until 2026-11-28 14:30:00\n")
	plan.Approval = &resilience.Approval{Hash: "abc", By: "ana"}
	require.Contains(t, rowsOf(plan), "approved\tby ana, never\n")
	plan.Approval.Hash = "of what it was before"
	require.NotContains(t, rowsOf(plan), "by ana")
	require.NotContains(t, rowsOf(resilience.Plan{ID: "m-2", Status: resilience.Pending}), "risk", "not found out yet")
}

// TestTheWaysOfAPlanAreShown, also where its groups go by several.
func TestTheWaysOfAPlanAreShown(t *testing.T) {
	t.Parallel()
	shown := rowsOf(resilience.Plan{
		Status: resilience.Completed, Strategy: resilience.Intelligent, Way: resilience.Trickle, Moves: 25, Stayed: 12,
		Risk: resilience.Risk{Level: resilience.HighRisk}, Steps: []string{"move the chunks back"},
		Estimate: resilience.Estimate{Ways: []resilience.WayCost{{Way: resilience.Trickle, MS: 1000, Taken: true}, {Way: resilience.AliasOnly, Note: "rows stay", Taken: true}, {Way: resilience.Update, MS: 900, Note: "rows change"}}},
	})
	require.Contains(t, shown, "stay\t12 chunks keep their old path; rehome.current_path answers for them\n")
	require.Contains(t, shown, "way\ttrickle: rows change in place, slowly, expected to take 1.0 s\n\tand alias_only for some groups: rows stay\n\tor update, about 900 ms: rows change\nestimate")
	require.NotContains(t, shown, "rollback", "what is over is undone by a plan of its own")
	for _, way := range resilience.Ways() {
		require.Contains(t, wayLines[way], string(way)+": ")
	}
}

// TestTheTableOfAPlanIsShown with what an update of a row touches.
func TestTheTableOfAPlanIsShown(t *testing.T) {
	t.Parallel()
	for class, physics := range map[string]resilience.Physics{
		"touches no index": {HOT: true, HOTShare: 1},
		"touches b-trees only, but for the 40 % of rows whose pages have room": {HOTShare: 0.4},
		"goes again into GIN words (without the path)":                         {GINIndexes: []string{"words"}},
		"goes again into GIN words, since the path is in by_path":              {GINIndexes: []string{"words"}, PathIndexes: []string{"words", "by_path"}},
	} {
		require.Contains(t, physicsLine(physics), class)
	}
}

// TestATransferIsShownAsOne: where to, for how long both memories have the chunks,
// and that rows are copied.
func TestATransferIsShownAsOne(t *testing.T) {
	t.Parallel()
	soak := resilience.Seconds(90)
	plan := resilience.Plan{
		Memory: "docs", Kind: resilience.Transfer, Way: resilience.Update, Risk: resilience.Risk{Level: resilience.LowRisk},
		Physics:  resilience.Physics{Rows: 10, RowBytes: 100, VectorIndexes: []string{"near"}, PathIndexes: []string{"by_path"}},
		Estimate: resilience.Estimate{Ways: []resilience.WayCost{{Way: resilience.Update, MS: 2000, Taken: true}}},
		Transfer: &resilience.Transferring{TransferOrder: resilience.TransferOrder{To: "archive", Prefix: "guide", Soak: &soak}},
	}
	require.Contains(t, rowsOf(plan), "memory\tdocs\nkind\ttransfer\ntarget\tmemory archive, for all chunks at or under guide\nsoak\t1m30s after the switch, in which both memories have the chunks\nstatus")
	require.Contains(t, rowsOf(plan), "table\tabout 10 rows of 100 B; each row that comes goes into all indexes, of which near cost most\n"+
		"way\tcopy: rows are copied to memory archive, and those of memory docs go to quarantine after the soak, expected to take 2.0 s\nestimate")
	plan.Transfer.Prefix, *plan.Transfer.Soak = "", 0
	require.Contains(t, rowsOf(plan), "target\tmemory archive, for all chunks\nsoak\tnone\n")
	plan.Transfer.Back = true
	require.Contains(t, rowsOf(plan), "kind\ttransfer, back home\ntarget\tmemory docs, from memory archive\nstatus")
	require.Contains(t, rowsOf(plan), "way\tcopy: rows come back to memory docs, and their copies in memory archive go, expected")
}

// TestGroupsAreShownWithAllThatWasDecided in their order.
func TestGroupsAreShownWithAllThatWasDecided(t *testing.T) {
	t.Parallel()
	idle := 40.5
	var b strings.Builder
	groupRows(&b, []resilience.Group{
		{
			Position: 1, Name: "d/a", Rows: 700, Strategy: resilience.Gradual, Way: resilience.Trickle, BatchSize: 24, Rate: 250, ExpectedMS: 2800, Reason: "Slowly.",
			Inputs:       resilience.Inputs{Heat: resilience.Cold, Uses: 3, IdleDays: &idle, Bytes: 70_000, IndexClass: resilience.VectorClass, TableRows: 9000, MSPerRow: 2, Basis: "2 runs"},
			Alternatives: []resilience.Alternative{{Way: resilience.Update, ExpectedMS: 1400, Why: "dearer"}, {Way: resilience.AliasOnly, ExpectedMS: 3, Why: "in use"}},
		},
		{Position: 2, Name: "d/b", Rows: 30, Strategy: resilience.Batch, Way: resilience.Update, BatchSize: 30, Reason: "Cheap.", Inputs: resilience.Inputs{Heat: resilience.Unknown, IndexClass: resilience.PlainClass, Basis: "a test"}, Course: &resilience.Course{Servo: resilience.Servo{Size: 40, TargetMS: 100}}},
	})
	require.Equal(t, "group\t1 of 2, d/a: 700 chunks by strategy gradual and way trickle, 24 in the first transaction, 250 a second, about 2.8 s\n"+
		"\tSlowly.\n"+
		"\tfrom: cold, used 3 times, last 40.5 days ago, 70,000 bytes of text, index class vector in a table of about 9,000 rows, 2 ms for an update of a row (2 runs)\n"+
		"\tnot update, about 1.4 s: dearer\n\tnot alias_only, about 3 ms: in use\n"+
		"group\t2 of 2, d/b: 30 chunks by strategy batch and way update, 30 in the first transaction, about 0 ms\n"+
		"\tCheap.\n"+
		"\tfrom: uses are not counted, 0 bytes of text, index class plain in a table of about 0 rows, 0 ms for an update of a row (a test)\n"+
		"\tnow 40 rows a batch, adapted to 100 ms\n", b.String())
}
