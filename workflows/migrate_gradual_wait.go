package workflows

import (
	"cmp"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
)

const (
	// leastSoak is how long a soak has to be to be worth a timer: ordering the
	// next slice takes as long.
	leastSoak = 50 * time.Millisecond
	// firstLook and lastLook bound the time between two looks at a server that
	// does not bear the plan: it grows from one to the other.
	firstLook = 2 * time.Second
	lastLook  = 30 * time.Second
	// hoursLook is how long a plan waits at most for its hours before it looks at
	// the clock again, which may have been put right meanwhile.
	hoursLook = 15 * time.Minute
	// unwellFor is how long a plan waits for a server before a person is asked.
	unwellFor = 7 * 24 * time.Hour
	// vacuumAgain and vacuumNice say when the table is vacuumed again while the plan
	// waits for that: after as many times what it took, a while at least. A small
	// table may count rows as dead that died before, since sessions report late.
	vacuumAgain = time.Minute
	vacuumNice  = 20
)

// told reports whether a person wants something, which no wait may hold up.
func (m *migration) told() bool { return m.aborted != nil || m.paused || m.next != "" }

// wait lets a while pass, unless a person wants something. It does not count as
// time that the rows take. Runs are filtered by what they wait for.
func (g *gradually) wait(ctx workflow.Context, m *migration, what string, d time.Duration, why string) error {
	m.waitFor(ctx, what)
	m.progress.set(ctx, Progress{Phase: why, Done: g.at.Last, Total: g.at.Total, Unit: "chunks", Facts: m.facts()})
	began := workflow.Now(ctx)
	_, err := await(ctx, d, why, m.told)
	m.shown.idle += workflow.Now(ctx).Sub(began)
	return err
}

// look asks whether the server bears a slice now. When it does not, it waits a
// while; when that goes on for days, it pauses the plan and asks. It never undoes.
func (g *gradually) look(ctx workflow.Context, m *migration) (bool, error) {
	check, err := g.check(ctx, m)
	if err != nil {
		return false, err
	}
	if len(check.Shut) == 0 {
		g.Unwell, g.Looks = time.Time{}, 0
		return !m.told(), nil
	}
	now := workflow.Now(ctx)
	shut := func(name resilience.GateName) bool {
		return slices.ContainsFunc(check.Shut, func(s resilience.Gate) bool { return s.Name == name })
	}
	if len(check.Shut) == 1 && shut(resilience.HoursGate) {
		g.Unwell, g.Looks = time.Time{}, 0
		return false, g.wait(ctx, m, "waiting", max(firstLook, min(check.Opens.Sub(check.At), hoursLook)), "Waiting until "+moment(check.Opens)+", when its hours begin")
	}
	if g.Unwell.IsZero() {
		g.Unwell = now
	}
	if now.Sub(g.Unwell) >= unwellFor {
		g.Unwell, g.Looks = time.Time{}, 0
		return false, m.halt(ctx, "the server has not borne it for 7 days: "+resilience.Reasons(check.Shut))
	}
	if shut(resilience.DeadGate) && !now.Before(g.Vacuum) {
		return false, g.vacuum(ctx, m)
	}
	return false, g.wait(ctx, m, "waiting", g.untilLook(m, check.Shut), "Waiting for the server: "+resilience.Reasons(check.Shut))
}

// check is the look with which the last slice ended, where nothing came after it;
// otherwise it looks. A slice that begins late looks again before its first batch.
func (g *gradually) check(ctx workflow.Context, m *migration) (resilience.HealthCheck, error) {
	if g.fresh && workflow.Now(ctx).Sub(m.sliced) < firstLook {
		g.fresh = false
		return *g.known, nil
	}
	g.fresh = false
	in := g.asking(m)
	if g.Untold {
		in.Pulse, g.Untold = g.Pulse, false
	}
	var check resilience.HealthCheck
	err := workflow.ExecuteActivity(brief(ctx, "Look whether the server bears it"), database.CheckHealth, in).Get(ctx, &check)
	if err == nil {
		g.Health, g.Calm = check.Health, check.Calm
	}
	return check, err
}

// asking is the question whether the server bears more of the plan.
func (g *gradually) asking(m *migration) activities.HealthInput {
	return activities.HealthInput{PlanInput: m.named(Order{}), Before: g.Health, Hours: g.Hours, Limits: g.limits}
}

// untilLook is how long to wait for the next look: shortly while every signal
// is good again.
func (g *gradually) untilLook(m *migration, shut []resilience.Gate) time.Duration {
	first := cmp.Or(time.Duration(m.in.Tuning.Look), firstLook)
	if !slices.ContainsFunc(shut, func(s resilience.Gate) bool { return s.Good == 0 }) {
		g.Looks = 0
		return first
	}
	g.Looks++
	return min(max(first, lastLook), first<<min(g.Looks-1, 5))
}

// vacuum clears the dead row versions that keep the plan waiting. Where that
// fails, autovacuum or a person does it.
func (g *gradually) vacuum(ctx workflow.Context, m *migration) error {
	began := workflow.Now(ctx)
	defer func() {
		ended := workflow.Now(ctx)
		g.Vacuum = ended.Add(max(vacuumAgain, vacuumNice*ended.Sub(began)))
	}()
	const why = "Vacuum the table: many of its row versions are dead"
	m.waitFor(ctx, "waiting")
	m.progress.set(ctx, Progress{Phase: why, Done: g.at.Last, Total: g.at.Total, Unit: "chunks", Facts: m.facts()})
	stoppable, stop := workflow.WithCancel(ctx)
	defer stop()
	vacuumed := workflow.ExecuteActivity(m.in.Tuning.lengthy(stoppable, why), database.VacuumTable, m.named(Order{}))
	if err := workflow.Await(ctx, func() bool { return vacuumed.IsReady() || m.told() }); err != nil || !vacuumed.IsReady() {
		return err
	}
	if err := vacuumed.Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("table not vacuumed", "migration", m.in.Migration, "error", err)
		return nil
	}
	g.Health = g.Health.Vacuumed()
	return nil
}
