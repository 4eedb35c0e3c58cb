package workflows_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/workflows"
)

// analyst is an actor that also looks at the journal, and notes how far and how
// each slice was to go.
type analyst struct {
	*actor
	groups []resilience.Group
	legs   []activities.SliceInput
	looks  int
	ill    int // times the server does not bear it
	limits resilience.Limits
}

func (a *analyst) CheckHealth(_ context.Context, in activities.HealthInput) (check resilience.HealthCheck, err error) {
	err = a.do("CheckHealth", func() {
		a.limits = in.Limits
		if a.ill > 0 {
			a.ill--
			check.Shut = []resilience.Gate{{Name: resilience.WaitersGate, State: resilience.GateShut, Detail: "9 sessions wait for locks"}}
		}
	})
	return check, err
}

func (a *analyst) AnalyseMigration(context.Context, activities.AnalyseInput) (found activities.Analysis, err error) {
	err = a.do("AnalyseMigration", func() {
		a.looks++
		found = activities.Analysis{Plan: a.plan, Groups: a.groups}
	})
	return found, err
}

func (a *analyst) MoveSlice(_ context.Context, in activities.SliceInput) (at resilience.Watermark, err error) {
	err = a.do("MoveSlice", func() {
		a.legs = append(a.legs, in)
		if a.at.Last = min(a.at.Last+a.slice, a.at.Total); in.Until > 0 {
			a.at.Last = min(a.at.Last, in.Until)
		}
		at = a.at
		at.Pace = "20 rows a batch"
	})
	return at, err
}

func (a *analyst) TakeIndexes(context.Context, activities.IndexInput) ([]string, error) {
	return nil, a.do("TakeIndexes")
}

func (a *analyst) BuildIndexes(context.Context, activities.PlanInput) (int, error) {
	return 1, a.do("BuildIndexes")
}

// TestAPlanThatBecameIntelligentInTheQueueIsLookedAtFirst: once it has begun, its rows
// would have to keep their order. Meanwhile its strategy stays.
func TestAPlanThatBecameIntelligentInTheQueueIsLookedAtFirst(t *testing.T) {
	t.Parallel()
	env, base := rehearsal(t)
	a := &analyst{actor: base, groups: []resilience.Group{{Position: 1, Name: "all", Until: 30, Rows: 30, Way: resilience.Update, Strategy: resilience.Batch, BatchSize: 100, TargetMS: 100}}}
	env.RegisterActivity(a)
	in := planned()
	in.Resume = &workflows.Resume{Phase: "queued"}
	in.Resume.Admission.Queued = true
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "AnalyseMigration" {
			env.UpdateWorkflow(workflows.StrategyUpdate, "change", rejection(t, "being split into groups"), workflows.NewStrategy{Strategy: resilience.Batch})
		}
	})
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Intelligent), in)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{"AnalyseMigration", "TakeSlot", "BeginMigration"}, a.did()[:3])
	require.Equal(t, 1, a.looks)
}

func TestGroupsRunOneAfterAnother(t *testing.T) {
	t.Parallel()
	env, base := rehearsal(t)
	a := &analyst{actor: base, groups: []resilience.Group{
		{Position: 1, Name: "cold", Until: 12, Rows: 12, Way: resilience.AliasOnly, Strategy: resilience.Batch, BatchSize: 100, TargetMS: 100, Reason: "nobody uses them"},
		{Position: 2, Name: "warm", Until: 20, Rows: 8, Way: resilience.Update, Strategy: resilience.Batch, BatchSize: 7, TargetMS: 100, Reason: "cheap"},
		{Position: 3, Name: "warm too", Until: 25, Rows: 5, Way: resilience.Update, Strategy: resilience.Batch, BatchSize: 9, TargetMS: 100, Reason: "cheap"},
	}}
	base.plan.Hash = "after the groups were made"
	env.RegisterActivity(a)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Intelligent), planned())
	require.NoError(t, env.GetWorkflowError())
	var went [][3]int64
	for _, l := range a.legs {
		require.Equal(t, l.Until > 0, l.Adapt)
		went = append(went, [3]int64{l.Until, int64(l.Batch), int64(l.Rate)})
	}
	require.Equal(t, [][3]int64{{12, 100, 0}, {12, 100, 0}, {25, 7, 0}, {25, 9, 0}, {0, 0, 0}}, went, "those that go alike go together, and rows of no group come last")
	require.Equal(t, 1, a.looks)
	require.Equal(t, []string{"PlanMigration", "AnalyseMigration", "QueueMigration"}, a.did()[:3], "it looks before anything has an effect")
}

// TestAGroupInUseLooksAtTheServerFirst: before each slice, and waits while it is ill.
// Its batches give way to others.
func TestAGroupInUseLooksAtTheServerFirst(t *testing.T) {
	t.Parallel()
	env, base := rehearsal(t)
	a := &analyst{actor: base, ill: 2, groups: []resilience.Group{
		{Position: 1, Name: "cold", Until: 20, Rows: 20, Strategy: resilience.Batch, BatchSize: 100},
		{Position: 2, Name: "hot", Until: 30, Rows: 10, Strategy: resilience.Gradual, BatchSize: 100},
	}}
	env.RegisterActivity(a)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Intelligent), planned())
	require.NoError(t, env.GetWorkflowError())
	at := slices.Index(a.did(), "MoveSlice")
	require.Equal(t, []string{"MoveSlice", "MoveSlice", "CheckHealth", "CheckHealth", "CheckHealth", "MoveSlice", "SweepMigration"}, a.did()[at:at+7])
	require.InDelta(t, 1, a.limits.DeadShare, 0, "the dead rows are those of the groups before")
	for i, l := range a.legs {
		hot := i == 2
		require.Equal(t, hot, l.Gentle)
		require.Equal(t, hot, l.Health != nil)
		require.Zero(t, l.Nice, "it rests where the look says so")
	}
}

// TestATrickleRestsAsLongAsItWorks, whatever its rate was thought to leave to others.
func TestATrickleRestsAsLongAsItWorks(t *testing.T) {
	t.Parallel()
	env, base := rehearsal(t)
	a := &analyst{actor: base, groups: []resilience.Group{{Position: 1, Name: "all", Until: 30, Rows: 30, Way: resilience.Trickle, Strategy: resilience.Gradual, BatchSize: 24, TargetMS: 50, Rate: 250}}}
	env.RegisterActivity(a)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Intelligent), planned())
	require.NoError(t, env.GetWorkflowError())
	for _, l := range a.legs {
		require.True(t, l.Gentle)
		require.InDelta(t, 1, l.Nice, 0)
		require.InDelta(t, 250, l.Rate, 0)
	}
}

// TestIntelligentCarriesChunksToTheirFilesAndBack: against Postgres and Temporal.
func TestIntelligentCarriesChunksToTheirFilesAndBack(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.fill("guide/hot/a.md", 700)
	in.fill("guide/b/c.md", 600)
	in.fill("guide/few.md", 30)
	start := in.checksum()
	_, err := in.pool.Exec(t.Context(), `SELECT rehome.touch('docs', (SELECT array_agg(id::text) FROM rehome.chunks WHERE path LIKE 'guide/hot/%'))`)
	require.NoError(t, err)

	id := "m-clever"
	run := in.start(workflows.MigrateID(in.id, "docs", id), workflows.MigrateName(resilience.Intelligent), workflows.MigrateInput{
		Origin: activities.Origin{Installation: in.id}, Memory: "docs", Migration: id, Renames: []resilience.RenameRule{rule("guide", "manual")}, Tuning: quick(),
	})
	var plan resilience.Plan
	require.Empty(t, ends(t, run, &plan))
	require.Equal(t, resilience.Completed, plan.Status)
	require.EqualValues(t, 1330, plan.Moved)
	require.Equal(t, 1330, in.count("manual"))
	groups, err := in.store.Groups(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, groups, 3)
	require.Equal(t, []resilience.Strategy{resilience.Immediate, resilience.Immediate, resilience.Gradual},
		[]resilience.Strategy{groups[0].Strategy, groups[1].Strategy, groups[2].Strategy})
	require.NotNil(t, groups[2].Course, "its batches were adapted")

	_, run = in.rollback(id)
	require.Empty(t, ends(t, run, &plan))
	require.Equal(t, resilience.Completed, plan.Status)
	require.Equal(t, start, in.checksum())
}

// TestTheGroupsAreReadAgain: a run that goes on where another ended, or that
// came from another strategy, does not go by what it did not read itself.
func TestTheGroupsAreReadAgain(t *testing.T) {
	t.Parallel()
	env, base := rehearsal(t)
	a := &analyst{actor: base, groups: []resilience.Group{{Position: 1, Name: "all", Until: 30, Rows: 30, BatchSize: 9}}}
	env.RegisterActivity(a)
	in := planned()
	in.Resume = &workflows.Resume{Phase: "moving chunks", Epoch: 1, Groups: []resilience.Group{{Position: 1, Name: "all", Until: 30, Rows: 30, BatchSize: 5}}}
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Intelligent), in)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, a.looks)
	require.Equal(t, 9, a.legs[0].Batch)
}

func TestTheDecisionIsShown(t *testing.T) {
	t.Parallel()
	env, base := rehearsal(t)
	a := &analyst{actor: base, groups: []resilience.Group{{Position: 1, Name: "docs/a", Until: 30, Rows: 30, BatchSize: 9, Way: resilience.Update, Strategy: resilience.Batch, Reason: "An update is cheap."}}}
	env.RegisterActivity(a)
	base.at.Wish = resilience.WishPause // the first slice comes back at once
	env.RegisterDelayedCallback(func() {
		value, err := env.QueryWorkflow(workflows.ProgressQuery)
		require.NoError(t, err)
		var p workflows.Progress
		require.NoError(t, value.Get(&p))
		require.Contains(t, p.Facts, workflows.Fact{Name: "Decision", Value: "update, batch: An update is cheap."})
		require.Contains(t, p.Facts, workflows.Fact{Name: "Batches", Value: "20 rows a batch"})
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{})
	}, time.Hour)
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Intelligent), planned())
	require.NoError(t, env.GetWorkflowError())
}

// page is what Temporal's web UI shows of a rehearsed run.
func page(t *testing.T, env *testsuite.TestWorkflowEnvironment) string {
	t.Helper()
	value, err := env.QueryWorkflow("__temporal_workflow_metadata")
	require.NoError(t, err)
	var shown sdk.WorkflowMetadata
	require.NoError(t, value.Get(&shown))
	return shown.CurrentDetails
}

// many are two groups more than the page shows. Of those a run knows how they move only.
func many() []resilience.Group {
	groups := make([]resilience.Group, activities.GroupsTold+2)
	for i := range groups {
		groups[i] = resilience.Group{
			Position: i + 1, Name: fmt.Sprintf("d|%d", i), Until: int64(i + 1), Rows: 1, BatchSize: 9, Way: resilience.AliasOnly, Strategy: resilience.Batch, Reason: "Nobody uses them.",
		}
		if i < activities.GroupsTold {
			groups[i].Inputs = resilience.Inputs{Heat: resilience.Cold, IndexClass: resilience.VectorClass, Basis: "a test"}
			groups[i].Alternatives = []resilience.Alternative{{Way: resilience.Update, ExpectedMS: 5000, Why: "dearer"}, {Way: resilience.Rebuild, ExpectedMS: 7000, Why: "not ours"}}
		}
	}
	return groups
}

// showsMany requires that a page shows the first of many groups, and how many more
// there are.
func showsMany(t *testing.T, page string) {
	t.Helper()
	require.Contains(t, page, `| 1 | d\|0: 1 chunks | by strategy batch and way alias_only, 9 in the first transaction, about 0 ms | Nobody uses them. | cold, never used, `)
	require.Contains(t, page, "| not update, about 5.0 s: dearer; not rebuild, about 7.0 s: not ours |\n")
	require.Contains(t, page, "\n| 20 | ")
	require.NotContains(t, page, "\n| 21 | ")
	require.Contains(t, page, "\nand 2 groups more: `starter migration show` has all\n")
}

// TestTheGroupsAreOnThePage while the plan waits for a person, in the queue and
// while it moves.
func TestTheGroupsAreOnThePage(t *testing.T) {
	t.Parallel()
	env, base := rehearsal(t)
	env.RegisterActivity(&analyst{actor: base, groups: many()})
	base.at.Last, base.at.Wish, base.busy = 10, resilience.WishPause, 1
	base.plan = resilience.Plan{Hash: "h1", Estimate: resilience.Estimate{P50MS: 60_000, Ways: []resilience.WayCost{
		{Way: resilience.AliasOnly, MS: 60_000, Note: "rows stay", Taken: true}, {Way: resilience.Update, MS: 90_000, Note: "rows change"}, {Way: resilience.Rebuild, Closed: "not ours"},
	}}}
	shows := func(words string) {
		shown := page(t, env)
		showsMany(t, shown)
		require.Contains(t, shown, words)
	}
	env.RegisterDelayedCallback(func() {
		shows("Waiting for approval")
		shows("| Way | alias_only, about 1m0s: rows stay |\n| Or | update, about 1m30s: rows change |\n")
		approve(t, env, "h1")
	}, time.Hour)
	env.RegisterDelayedCallback(func() { shows("Queued") }, time.Hour+time.Second)
	env.RegisterDelayedCallback(func() {
		shows("| Stay, answered by rehome.current_path | 11 |\n")
		env.UpdateWorkflowNoRejection(workflows.StrategyUpdate, "change", t, workflows.NewStrategy{Strategy: resilience.Batch})
	}, 2*time.Hour)
	in := planned()
	in.PlanOnly = true
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Intelligent), in)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next workflows.MigrateInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.Equal(t, many(), next.Resume.Groups)
	require.Less(t, len(again.Input.Payloads[0].Data), 32<<10) // 20 groups in full, and the names of the others
}

// TestARunThatTakesOverShowsTheGroupsAtOnce, before it reads them itself.
func TestARunThatTakesOverShowsTheGroupsAtOnce(t *testing.T) {
	t.Parallel()
	env, base := rehearsal(t)
	a := &analyst{actor: base, groups: many()}
	env.RegisterActivity(a)
	base.at.Wish = resilience.WishPause
	env.RegisterDelayedCallback(func() {
		showsMany(t, page(t, env))
		require.Zero(t, a.looks)
		env.UpdateWorkflowNoRejection(workflows.ResumeUpdate, "resume", t, workflows.Order{})
	}, time.Hour)
	in := planned()
	in.Resume = &workflows.Resume{Phase: "moving chunks", Epoch: 1, Paused: true, Groups: many()}
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Intelligent), in)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, a.looks)
}

func TestARebuildIsAskedForAndItsIndexesComeBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fails string
		in    func(*workflows.MigrateInput)
		other bool // who orders it may not approve it
		asks  bool
		last  []string
	}{
		"decided":     {asks: true, last: []string{"TakeIndexes", "MoveSlice", "BuildIndexes", "SwitchAliases", "CompleteMigration", "ReadMigration"}},
		"not by risk": {asks: true, in: func(in *workflows.MigrateInput) { in.Approve = true }, last: []string{"ReadMigration"}},
		"named and approved": {in: func(in *workflows.MigrateInput) {
			in.Approve, in.Policy.Way = true, resilience.Rebuild
		}, last: []string{"ReadMigration"}},
		"named, and to be approved by another": {asks: true, other: true, in: func(in *workflows.MigrateInput) {
			in.Approve, in.Policy.Way = true, resilience.Rebuild
		}, last: []string{"ReadMigration"}},
		"a failure":            {asks: true, fails: "MoveSlice", last: []string{"BeginUndo", "RevertSlice", "BuildIndexes", "VerifyUndo", "EndUndo", "ReadMigration"}},
		"a failure to take":    {asks: true, fails: "TakeIndexes", last: []string{"BeginUndo", "BuildIndexes", "VerifyUndo", "EndUndo", "ReadMigration"}},
		"a failure at the end": {asks: true, fails: "CompleteMigration", last: []string{"RevertSlice", "BuildIndexes", "VerifyUndo", "EndUndo", "ReadMigration"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, base := rehearsal(t)
			a := &analyst{actor: base}
			env.RegisterActivity(a)
			base.plan = resilience.Plan{Hash: "h", Way: resilience.Rebuild, Physics: resilience.Physics{VectorIndexes: []string{"hnsw"}}, Policy: resilience.Policy{ByAnother: c.other}}
			base.fails[c.fails] = errInjected
			in := planned()
			if c.in != nil {
				c.in(&in)
			}
			env.RegisterDelayedCallback(func() {
				require.NotContains(t, a.did(), "TakeIndexes", "not before a person has said yes")
				env.UpdateWorkflowNoRejection(workflows.ApproveUpdate, "approve", t, workflows.Approval{Hash: "h", Author: "ana"})
			}, time.Hour)
			env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), in)
			if c.fails == "" {
				require.NoError(t, env.GetWorkflowError())
			} else {
				require.ErrorContains(t, env.GetWorkflowError(), "injected")
			}
			require.Equal(t, c.asks, slices.Contains(a.did(), "RequestApproval"))
			ran := slices.DeleteFunc(slices.Compact(a.did()), func(s string) bool { return s == "SweepMigration" || s == "VerifyMigration" || s == "ReadWatermark" })
			require.Equal(t, c.last, ran[len(ran)-len(c.last):])
		})
	}
}

// builder is an analyst whose build of the indexes lasts, on the way there, until it is
// cancelled.
type builder struct{ *analyst }

func (b *builder) BuildIndexes(ctx context.Context, _ activities.PlanInput) (int, error) {
	var undoing bool
	err := b.do("BuildIndexes", func() { undoing = b.at.Wish == resilience.WishUndo })
	if !undoing {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return 1, err
}

// TestAnAbortStopsTheBuildOfItsIndexes: rows go back without them, and then they are built.
func TestAnAbortStopsTheBuildOfItsIndexes(t *testing.T) {
	t.Parallel()
	env, base := rehearsal(t)
	a := &builder{analyst: &analyst{actor: base}}
	env.RegisterActivity(a)
	base.plan = resilience.Plan{Hash: "h", Way: resilience.Rebuild, Physics: resilience.Physics{VectorIndexes: []string{"hnsw"}}}
	var abort func()
	abort = func() {
		if !slices.Contains(a.did(), "BuildIndexes") { // one that is cancelled before it begins may come to itself late
			env.RegisterDelayedCallback(abort, time.Millisecond)
			return
		}
		env.UpdateWorkflowNoRejection(workflows.AbortUpdate, "abort", t, workflows.Order{Author: "ana"})
	}
	env.RegisterDelayedCallback(abort, time.Millisecond)
	in := planned()
	in.Approve, in.Policy.Way = true, resilience.Rebuild
	env.ExecuteWorkflow(workflows.MigrateName(resilience.Batch), in)
	require.ErrorContains(t, env.GetWorkflowError(), "aborted by ana")
	beside := []string{"SweepMigration", "ReadWatermark", "BeginUndo"} // the abort says so, too
	ran := slices.Compact(slices.DeleteFunc(a.did(), func(s string) bool { return slices.Contains(beside, s) }))
	last := []string{"TakeIndexes", "MoveSlice", "VerifyMigration", "BuildIndexes", "RevertSlice", "BuildIndexes", "VerifyUndo", "EndUndo", "ReadMigration"}
	require.Equal(t, last, ran[len(ran)-len(last):])
}
