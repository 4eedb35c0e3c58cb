package activities_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// planner is a builtin memory of 25 chunks, and what makes plans for it.
type planner struct {
	*testing.T
	pool  *pgxpool.Pool
	store *store.Store
	env   *testsuite.TestActivityEnvironment
	act   *activities.Database
}

func newPlanner(t *testing.T) *planner {
	t.Helper()
	pool := devtest.Pool(t)
	p := &planner{T: t, pool: pool, store: store.New(pool), env: new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()}
	p.act = &activities.Database{Store: p.store}
	activities.Register(p.env, p.act)
	require.NoError(t, p.store.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: t.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	_, err := pool.Exec(t.Context(), `
		INSERT INTO rehome.chunks (memory, path, ordinal, content)
		SELECT 'docs', 'guide/f' || i % 5 || '.md', i, 'text ' || i FROM generate_series(1, 25) i`)
	require.NoError(t, err)
	return p
}

func (p *planner) plan(id string, s resilience.Strategy, policy resilience.Policy) (resilience.Plan, error) {
	p.Helper()
	value, err := p.env.ExecuteActivity(p.act.PlanMigration, activities.PlanMigrationInput{
		Owner: activities.Owner{WorkflowID: "w", RunID: "r"}, Memory: "docs", Migration: id, Strategy: s,
		Renames: []resilience.RenameRule{{Old: "guide", New: "manual"}}, Policy: policy, Rollback: []string{"undo"},
	})
	if err != nil {
		return resilience.Plan{}, err
	}
	var plan resilience.Plan
	require.NoError(p, value.Get(&plan))
	return plan, nil
}

// slow lets past runs of a strategy have taken so many times their cost by rule.
func (p *planner) slow(s resilience.Strategy, times float64) {
	p.Helper()
	_, err := p.pool.Exec(p.Context(), `
		INSERT INTO rehome.performance_samples
			(memory, plan_id, kind, strategy, way, index_class, batch_size, rows, row_bytes, apply_ms, duration_ms, estimated_ms, by_rule_ms)
		SELECT 'docs', 'm-0', 'rename', $1, 'update', 'plain', 50, 25, 100, 1, $2, 0, 1 FROM generate_series(1, 3)`, s, times)
	require.NoError(p, err)
}

func TestAPlanSaysWhatItWillCost(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	plan, err := p.plan("m-1", resilience.Batch, resilience.Policy{})
	require.NoError(t, err)
	require.Equal(t, resilience.PlainClass, plan.Physics.Class())
	require.Equal(t, []string{"chunks_source"}, plan.Physics.PathIndexes)
	require.Equal(t, int64(25), plan.Physics.Rows)
	require.Equal(t, resilience.Update, plan.Way)
	require.Equal(t, resilience.Risk{Level: resilience.LowRisk, Score: 16, Reasons: []string{
		"6 points: 25 chunks", "5 points: no migration of this memory was completed yet", "5 points: strategy batch",
	}}, plan.Risk)
	require.Equal(t, plan.ByRuleMS(), plan.EstimateMS)
	require.Equal(t, plan.EstimateMS, plan.Estimate.P50MS)
	require.Contains(t, plan.Estimate.Basis, "no run of this kind")
	require.Len(t, plan.Estimate.Ways, len(resilience.Ways()))
	require.Equal(t, resilience.WayCost{Way: resilience.Update, MS: plan.EstimateMS, Note: "rows change in place", Taken: true}, plan.Estimate.Ways[0])

	again, err := p.plan("m-1", resilience.Batch, resilience.Policy{})
	require.NoError(t, err)
	require.Equal(t, plan.Risk, again.Risk)
	require.Equal(t, plan.Estimate, again.Estimate)
}

// TestAChainKeepsItsOrder: the way by which the rows of a page take turns is open to
// a rename, and closed to renames of which one takes the place that another leaves.
func TestAChainKeepsItsOrder(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	_, err := p.pool.Exec(t.Context(), `
		CREATE TABLE public.notes (id bigint PRIMARY KEY, path text NOT NULL, content text NOT NULL);
		INSERT INTO public.notes SELECT i, CASE WHEN i % 2 = 0 THEN 'a.md' ELSE 'b.md' END, 'text ' || i FROM generate_series(1, 20) i`)
	require.NoError(t, err)
	require.NoError(t, p.store.AddMemory(t.Context(), resilience.Memory{Name: "notes", Root: t.TempDir(), Mapping: resilience.Mapping{
		Schema: "public", Table: "notes", ID: "id", IDType: "bigint", Content: "content", Locators: []resilience.Locator{{Column: "path", Type: "text"}},
	}}))
	for id, c := range map[string]struct {
		renames []resilience.RenameRule
		closed  string
	}{
		"m-1": {[]resilience.RenameRule{{Old: "a.md", New: "c.md"}}, ""},
		"m-2": {[]resilience.RenameRule{{Old: "a.md", New: "b.md"}, {Old: "b.md", New: "c.md"}}, "the rows have to keep their order"},
	} {
		value, err := p.env.ExecuteActivity(p.act.PlanMigration, activities.PlanMigrationInput{
			Owner: activities.Owner{WorkflowID: id, RunID: "r"}, Memory: "notes", Migration: id, Strategy: resilience.Batch, Renames: c.renames, Rollback: []string{"undo"},
		})
		require.NoError(t, err)
		var plan resilience.Plan
		require.NoError(t, value.Get(&plan))
		require.Equal(t, resilience.Turns, plan.Estimate.Ways[1].Way)
		require.Equal(t, c.closed, plan.Estimate.Ways[1].Closed, id)
		_, err = p.env.ExecuteActivity(p.act.CancelMigration, activities.PlanInput{Migration: id, Reason: "a test"})
		require.NoError(t, err)
	}
}

func TestAPlanLearnsFromPastRuns(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	p.slow(resilience.Batch, 3)
	plan, err := p.plan("m-1", resilience.Batch, resilience.Policy{})
	require.NoError(t, err)
	require.Equal(t, 3*plan.ByRuleMS(), plan.EstimateMS)
	require.Equal(t, "3 runs of this kind of this memory, of 25 chunks", plan.Estimate.Basis)
}

func TestAPlanThatIsPastPlanningKeepsItsAssessment(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	plan, err := p.plan("m-1", resilience.Batch, resilience.Policy{})
	require.NoError(t, err)
	require.NoError(t, p.store.Queue(t.Context(), "m-1"))
	p.slow(resilience.Batch, 3)
	again, err := p.plan("m-1", resilience.Batch, resilience.Policy{})
	require.NoError(t, err)
	require.Equal(t, resilience.Queued, again.Status)
	require.Equal(t, plan.Estimate, again.Estimate)
}

// TestAPlanThatWouldLockForMinutesIsRefused: on a server as slow as past runs
// say, 25 chunks would be locked for minutes.
func TestAPlanThatWouldLockForMinutesIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	p.slow(resilience.Immediate, 90_000)
	p.slow(resilience.Batch, 90_000)
	_, err := p.plan("m-1", resilience.Immediate, resilience.Policy{})
	refused(t, err, "immediate would lock 25 chunks", "use batch")
	plan, err := p.store.Plan(t.Context(), "m-1")
	require.NoError(t, err)
	require.NotEmpty(t, plan.Risk.Reasons, "what was found out is kept for those who ask")
	_, err = p.env.ExecuteActivity(p.act.CancelMigration, activities.PlanInput{Migration: "m-1", Reason: "refused"})
	require.NoError(t, err)

	_, err = p.plan("m-2", resilience.Batch, resilience.Policy{Way: resilience.Rebuild})
	refused(t, err, "the table has no vector index", "alias_only")
	_, err = p.env.ExecuteActivity(p.act.CancelMigration, activities.PlanInput{Migration: "m-2", Reason: "refused"})
	require.NoError(t, err)
	_, err = p.plan("m-3", resilience.Batch, resilience.Policy{BatchSize: 1})
	require.NoError(t, err)
}

// TestAPlanCannotBecomeOneThatWouldBeRefused: another strategy is judged too.
func TestAPlanCannotBecomeOneThatWouldBeRefused(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	_, err := p.plan("m-1", resilience.Batch, resilience.Policy{})
	require.NoError(t, err)
	require.NoError(t, p.store.Queue(t.Context(), "m-1"))
	p.slow(resilience.Immediate, 90_000)
	change := activities.ChangeInput{PlanInput: activities.PlanInput{Migration: "m-1"}, Strategy: resilience.Immediate}
	_, err = p.env.ExecuteActivity(p.act.ChangeStrategy, change)
	refused(t, err, "immediate would lock 25 chunks", "use batch")
	plan, err := p.store.Plan(t.Context(), "m-1")
	require.NoError(t, err)
	require.Equal(t, resilience.Batch, plan.Strategy)
	change.Strategy = resilience.Gradual
	_, err = p.env.ExecuteActivity(p.act.ChangeStrategy, change)
	require.NoError(t, err)
}

// change lets plan m-1 go on by another strategy.
func (p *planner) change(next resilience.Strategy, approve bool) error {
	p.Helper()
	_, err := p.env.ExecuteActivity(p.act.ChangeStrategy, activities.ChangeInput{
		PlanInput: activities.PlanInput{Migration: "m-1", Author: "ana"}, Strategy: next, Approve: approve,
	})
	return err
}

// now is plan m-1 as it stands.
func (p *planner) now() resilience.Plan {
	p.Helper()
	plan, err := p.store.Plan(p.Context(), "m-1")
	require.NoError(p, err)
	return plan
}

// vectored gives the table thousands of chunks more and an index by a method of the name
// of pgvector's, which stands in for it.
func (p *planner) vectored() {
	p.Helper()
	devtest.StandInForPgvector(p, p.pool)
	for _, s := range []string{
		`CREATE INDEX near_i ON rehome.chunks USING hnsw (id public.near_ops)`,
		`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', 'guide/large.md', i, 'text ' || i FROM generate_series(1, 4000) i`,
	} {
		_, err := p.pool.Exec(p.Context(), s)
		require.NoError(p, err)
	}
}

// TestAPlanIsJudgedByTheWaysItGoes: those of its groups while it is intelligent, and a
// plain update when it is not.
func TestAPlanIsJudgedByTheWaysItGoes(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	p.vectored()
	_, err := p.plan("m-1", resilience.Batch, resilience.Policy{})
	require.NoError(t, err)
	require.NoError(t, p.store.Queue(t.Context(), "m-1"))
	taken := func() (ways []resilience.Way) {
		for _, w := range p.now().Estimate.Ways {
			if w.Taken {
				ways = append(ways, w.Way)
			}
		}
		return ways
	}
	require.Equal(t, []resilience.Way{resilience.Update}, taken())

	require.NoError(t, p.change(resilience.Intelligent, true))
	for range 2 {
		_, err = p.env.ExecuteActivity(p.act.AnalyseMigration, activities.AnalyseInput{PlanInput: activities.PlanInput{Migration: "m-1"}})
		require.NoError(t, err)
		groups, err := p.store.Groups(t.Context(), "m-1")
		require.NoError(t, err)
		require.NotEmpty(t, groups)
		require.NotEqual(t, resilience.Update, p.now().Way)
		require.Equal(t, resilience.PlanWay(groups), p.now().Way)
		for _, g := range groups {
			require.Contains(t, taken(), g.Way)
		}
		require.NotContains(t, taken(), resilience.Update)
	}

	require.NoError(t, p.change(resilience.Batch, true))
	require.Equal(t, resilience.Update, p.now().Way)
	require.Equal(t, []resilience.Way{resilience.Update}, taken())
	require.NoError(t, p.change(resilience.Intelligent, true))
	require.NotEqual(t, resilience.Update, p.now().Way, "it has its groups again")
	require.NotContains(t, taken(), resilience.Update)
}

// TestAnotherStrategyIsApprovedLikeAPlan: thousands of chunks with a vector index are
// a medium risk in batches and a high one at once.
func TestAnotherStrategyIsApprovedLikeAPlan(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	p.vectored()
	planned, err := p.plan("m-1", resilience.Batch, resilience.Policy{})
	require.NoError(t, err)
	require.Equal(t, resilience.MediumRisk, planned.Risk.Level, planned.Risk.Reasons)
	require.NoError(t, p.store.Queue(t.Context(), "m-1"))

	refused(t, p.change(resilience.Immediate, false), "by immediate the risk of migration m-1 is high", "strategy immediate",
		"nobody has approved it", "`starter migration strategy m-1 immediate --approve`")
	require.Equal(t, planned.Risk, p.now().Risk)
	require.Equal(t, resilience.Batch, p.now().Strategy)

	require.NoError(t, p.change(resilience.Immediate, true))
	atOnce := p.now()
	require.Equal(t, resilience.Immediate, atOnce.Strategy)
	require.Equal(t, resilience.HighRisk, atOnce.Risk.Level, "it is shown as it is now")
	require.Contains(t, atOnce.Risk.Reasons, "15 points: strategy immediate")
	require.NotEqual(t, planned.Estimate, atOnce.Estimate)
	require.Equal(t, "ana", atOnce.Approval.By)
	require.Equal(t, atOnce.Hash, atOnce.Approval.Hash)
	events, err := p.store.Events(t.Context(), "m-1")
	require.NoError(t, err)
	said := events[len(events)-1]
	require.Equal(t, [3]string{"approved", "ana", atOnce.Hash + ", with the change of strategy"}, [3]string{said.What, said.Author, said.Detail})

	require.NoError(t, p.change(resilience.Batch, false))
	back := p.now()
	require.Equal(t, planned.Risk, back.Risk)
	require.Equal(t, planned.Hash, back.Hash)
	require.Equal(t, back.Hash, back.Approval.Hash, "a yes to more is one to less")
	refused(t, p.change(resilience.Immediate, false), "by batch it is medium")
}

// TestNobodyApprovesWhatTheyOrder, where somebody else has to: neither what they make of a
// plan by another strategy, nor anew what was approved.
func TestNobodyApprovesWhatTheyOrder(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	p.vectored()
	_, err := p.pool.Exec(t.Context(), `INSERT INTO rehome.settings (key, value) VALUES ('approve_by_another', 'true')`)
	require.NoError(t, err)
	_, err = p.plan("m-0", resilience.Batch, resilience.Policy{})
	refused(t, err, "nobody says who orders migration m-0", "policy.author")
	planned, err := p.plan("m-1", resilience.Batch, resilience.Policy{Author: "ben"})
	require.NoError(t, err)
	require.True(t, planned.Policy.ByAnother)
	require.NoError(t, p.store.RequestApproval(t.Context(), "m-1", "a test"))
	require.NoError(t, p.store.Approve(t.Context(), "m-1", planned.Hash, "eve"))
	require.NoError(t, p.store.Queue(t.Context(), "m-1"))
	approved := p.now().Approval
	refused(t, p.change(resilience.Immediate, true), "by immediate the risk of migration m-1 is high", "approve_by_another", "plan it anew by immediate")
	require.NoError(t, p.change(resilience.Gradual, true))
	require.Equal(t, [2]any{approved.By, approved.At}, [2]any{p.now().Approval.By, p.now().Approval.At}, "a yes is not renewed by who changes the strategy")
}

// TestAnotherStrategyKeepsWhatWasAskedOfAPlan: or does not take it over.
func TestAnotherStrategyKeepsWhatWasAskedOfAPlan(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	planned, err := p.plan("m-1", resilience.Gradual, resilience.Policy{Hours: "22:00-06:00 Europe/Berlin"})
	require.NoError(t, err)
	require.NoError(t, p.store.Queue(t.Context(), "m-1"))
	refused(t, p.change(resilience.Batch, true), "m-1 stays with gradual", "only the strategy gradual waits for hours", "plan it anew")
	require.Equal(t, planned.Hash, p.now().Hash)
	require.Equal(t, resilience.Gradual, p.now().Strategy)
}

func refused(t *testing.T, err error, parts ...string) {
	t.Helper()
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, activities.Refused, app.Type())
	require.True(t, app.NonRetryable())
	for _, part := range parts {
		require.Contains(t, app.Message(), part)
	}
}

// TestJudgingAPlanTakesNoTime: a look at a table of any size is a few small statements.
func TestJudgingAPlanTakesNoTime(t *testing.T) {
	t.Parallel()
	p := newPlanner(t)
	plan, err := p.plan("m-1", resilience.Batch, resilience.Policy{})
	require.NoError(t, err)
	trip, best := time.Hour, time.Hour
	for range 10 {
		began := time.Now()
		_, err := p.store.Facts(t.Context(), plan)
		require.NoError(t, err)
		best = min(best, time.Since(began))
		began = time.Now()
		require.NoError(t, p.pool.Ping(t.Context()))
		trip = min(trip, time.Since(began))
	}
	require.Less(t, best, 200*trip, "of a way to the server and back")
}
