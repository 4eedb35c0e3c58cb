package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// sampled reads what runs left behind.
func (m *migrations) sampled(plan string) (found []resilience.PastRun, kinds []string) {
	m.Helper()
	rows, err := m.pool.Query(m.Context(), `
		SELECT kind, memory, rows, batch_size, apply_ms, duration_ms, by_rule_ms FROM rehome.performance_samples WHERE plan_id = $1 ORDER BY sample_id`, plan)
	require.NoError(m, err)
	for rows.Next() {
		var r resilience.PastRun
		var kind string
		require.NoError(m, rows.Scan(&kind, &r.Memory, &r.Rows, &r.Batch, &r.ApplyMS, &r.TookMS, &r.ByRuleMS))
		found, kinds = append(found, r), append(kinds, kind)
	}
	require.NoError(m, rows.Err())
	return found, kinds
}

func TestACompletedRunIsRememberedOnce(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(10, "a.md")
	plan := m.migrate("", rule("a.md", "b.md"))
	require.NoError(t, m.store.Complete(t.Context(), plan.ID))
	runs, kinds := m.sampled(plan.ID)
	require.Equal(t, []string{"rename"}, kinds, "also when its completion is tried again")
	require.Equal(t, int64(10), runs[0].Rows)
	require.Equal(t, 3, runs[0].Batch)
	require.InDelta(t, plan.ByRuleMS(), runs[0].ByRuleMS, 0)
	require.Greater(t, runs[0].ApplyMS, 0.0)
	require.GreaterOrEqual(t, runs[0].TookMS, runs[0].ApplyMS)

	undo := m.migrate(plan.ID)
	_, kinds = m.sampled(undo.ID)
	require.Equal(t, []string{"undo rename"}, kinds)
	past, err := m.store.PastRuns(t.Context(), plan.Alike())
	require.NoError(t, err)
	require.Equal(t, runs, past, "an undo is another kind of work")
}

func TestATerminatedPlanTeachesNothing(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(10, "a.md")
	id, err := m.plan("", rule("a.md", "b.md"))
	require.NoError(t, err)
	m.apply(id, 2)
	m.revert(id)
	_, kinds := m.sampled(id)
	require.Empty(t, kinds)
}

// TestPausesAndThrottlesDoNotCount: what people did to a run says nothing about
// the next one.
func TestPausesAndThrottlesDoNotCount(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(10, "a.md", "b.md")
	paused, err := m.plan("", rule("a.md", "c.md"))
	require.NoError(t, err)
	m.apply(paused, -1)
	m.exec(`UPDATE rehome.migration_progress SET first_at = now() - interval '60 min' WHERE plan_id = $1`, paused)
	m.exec(`UPDATE rehome.migration_events SET at = now() - interval '60 min' WHERE plan_id = $1 AND event = 'started'`, paused)
	m.exec(`
		INSERT INTO rehome.migration_events (plan_id, event, author, detail, at) VALUES
		($1, 'paused', '', '', now() - interval '55 min'), ($1, 'resumed', '', '', now() - interval '20 min'),
		($1, 'paused', '', '', now() - interval '15 min'), ($1, 'resumed', '', '', now() - interval '10 min')`, paused)
	m.complete(paused)
	runs, _ := m.sampled(paused)
	require.InDelta(t, 20*60_000, runs[0].TookMS, 60_000, "60 minutes, of them 40 paused")
	require.InDelta(t, 20*60_000, runs[0].ApplyMS, 60_000)

	throttled, err := m.plan("", rule("b.md", "d.md"))
	require.NoError(t, err)
	require.NoError(t, m.store.Throttle(t.Context(), throttled, resilience.Pace{BatchSize: 2}))
	m.apply(throttled, -1)
	m.complete(throttled)
	runs, _ = m.sampled(throttled)
	require.Empty(t, runs)
}

// TestARunOfTwoStrategiesTeachesNothing: unless it was changed before it began.
func TestARunOfTwoStrategiesTeachesNothing(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(10, "a.md", "b.md")
	for source, begun := range map[string]bool{"a.md": true, "b.md": false} {
		id, err := m.plan("", rule(source, "c/"+source))
		require.NoError(t, err)
		require.NoError(t, m.store.Queue(t.Context(), id))
		if begun {
			m.apply(id, 1)
			require.NoError(t, m.store.Pause(t.Context(), id, "", ""))
		}
		_, err = m.store.ChangeStrategy(t.Context(), id, store.StrategyChange{Strategy: resilience.Intelligent})
		require.NoError(t, err)
		if begun {
			_, _, err = m.store.Resume(t.Context(), id, "", "", nil)
			require.NoError(t, err)
		}
		m.apply(id, -1)
		m.complete(id)
		runs, _ := m.sampled(id)
		if begun {
			require.Empty(t, runs)
		} else {
			require.Len(t, runs, 1)
		}
	}
}

func TestPastRunsAreThoseAlikeOwnOnesFirst(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	add := func(memory, kind, strategy, class string, took float64) {
		m.exec(`
			INSERT INTO rehome.performance_samples
				(memory, plan_id, kind, strategy, way, index_class, batch_size, rows, row_bytes, apply_ms, duration_ms, estimated_ms, by_rule_ms)
			VALUES ($1, 'm-' || $5::int, $2, $3, 'update', $4, 50, 1000, 300, 1, $5, 0, 1)`, memory, kind, strategy, class, took)
	}
	add("docs", "rename", "batch", "plain", 1)
	add("wiki", "rename", "batch", "plain", 2)
	add("docs", "rename", "batch", "plain", 3)
	add("docs", "rename", "gradual", "plain", 4)
	add("docs", "rename", "immediate", "plain", 5)
	add("docs", "rename", "batch", "hot", 6)
	add("docs", "transfer", "batch", "plain", 7)
	add("docs", "rename", "intelligent", "plain", 8)
	add("docs", "rename", "intelligent", "plain", 9)
	for id, strategy := range map[string]resilience.Strategy{"m-8": resilience.Batch, "m-9": resilience.Gradual} {
		m.fill(1, id+"/a.md")
		m.planIntelligent(id, resilience.Policy{}, rule(id, "b/"+id))
		m.exec(`INSERT INTO rehome.migration_groups (plan_id, position, name, until, rows, way, decision) VALUES ($1, 1, 'a', 1000, 1000, 'update', jsonb_build_object('strategy', $2::text))`, id, strategy)
	}
	took := func(strategy resilience.Strategy) []float64 {
		runs, err := m.store.PastRuns(t.Context(), resilience.Alike{
			Memory: "docs", Kind: "rename", Strategy: strategy, Way: resilience.Update, Class: resilience.PlainClass,
		})
		require.NoError(t, err)
		var all []float64
		for _, r := range runs {
			all = append(all, r.TookMS)
		}
		return all
	}
	require.Equal(t, []float64{3, 1, 2}, took(resilience.Batch))
	require.Equal(t, []float64{8, 5, 3, 1, 2}, took(""), "all that move back to back")
	require.Equal(t, []float64{9, 8}, took(resilience.Intelligent))
	require.Equal(t, []float64{4}, took(resilience.Gradual))
}
