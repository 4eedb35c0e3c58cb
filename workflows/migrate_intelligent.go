package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
)

// MigrateIntelligent looks first: it splits the plan into groups, decides how
// each of them moves, and runs them one after another as phases of one run.
func MigrateIntelligent(ctx workflow.Context, in MigrateInput) (resilience.Plan, error) {
	return migrate(ctx, resilience.Intelligent, in)
}

// phased moves one group after another, each as it was decided.
type phased struct {
	groups []resilience.Group
	read   bool // by this run; else they are those that the run before handed over, to be shown
	m      *migration
	care   gradually // that groups by its strategy take of others
}

// takeUp shows the groups of the run before, and goes on with what it saw of the
// server's health.
func (p *phased) takeUp(r Resume) {
	p.groups = r.Groups
	p.care.takeUp(r)
	p.care.Servo = resilience.Servo{} // of a stage of another strategy
}

// handOver lets the next run go on from here.
func (p *phased) handOver(r *Resume) {
	r.Groups = p.groups
	p.care.handOver(r)
}

// analyse decides on the groups of the plan, or reads them where that was done:
// by the run before, or when the plan began.
func (p *phased) analyse(ctx workflow.Context, m *migration) (resilience.Plan, error) {
	m.deciding = true
	defer func() { m.deciding = false }()
	var a activities.Analysis
	in := activities.AnalyseInput{PlanInput: m.named(Order{}), Rebuilding: rollbackPlan(resilience.Rebuild)}
	err := m.unlessAborted(ctx, step{change: planStopped, summary: "Look at the chunks and decide how each group moves", activity: database.AnalyseMigration, in: in}, &a)
	if err == nil { // else those of the run before are still to be shown
		p.groups, p.read = a.Groups, a.Groups != nil
	}
	return a.Plan, err
}

// queuedAnalysis is the change by which a plan that came to be intelligent in the
// queue is looked at before it begins, and not after, when its rows keep their order.
const queuedAnalysis = "queued-analysis"

// analyseQueued decides on the groups of a plan that came to be intelligent in the
// queue.
func (m *migration) analyseQueued(ctx workflow.Context) error {
	p, ok := m.manner.(*phased)
	if !ok || m.phase != queueing || workflow.GetVersion(ctx, queuedAnalysis, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	plan, err := p.analyse(ctx, m)
	if err != nil {
		return err
	}
	m.hash, m.way = plan.Hash, plan.Way
	if m.aborted != nil {
		return m.abortion()
	}
	return m.know(ctx, plan)
}

// next goes on with the group in work. Rows that appeared since the groups were
// made come last, at the plan's own size.
func (p *phased) next(ctx workflow.Context, m *migration, at resilience.Watermark) (leg, error) {
	if !p.read {
		plan, err := p.analyse(ctx, m)
		if err != nil {
			return leg{}, err
		}
		m.shown.Estimate, m.shown.Risk = plan.Estimate, plan.Risk
	}
	p.m = m
	g, ok := p.current(at)
	if !ok {
		return leg{}, nil
	}
	m.tell(ctx) // of the group, before its slice
	last := p.together(g)
	way := leg{
		bounds:  store.Bounds{Until: last.Until, Batch: g.BatchSize, Rate: g.Rate, Patient: g.Strategy == resilience.Immediate},
		adapt:   true,
		summary: fmt.Sprintf("Move group %d of %d, %.60s, by %s", g.Position, len(p.groups), g.Name, g.Way),
	}
	if last.Position > g.Position {
		way.summary = fmt.Sprintf("Move groups %d to %d of %d by %s", g.Position, last.Position, len(p.groups), g.Way)
	}
	if g.Strategy != resilience.Gradual {
		return way, nil
	}
	p.care.at = at
	p.care.learn(at)
	way.bounds.Gentle, way.nice = true, g.Nice()
	return p.care.mind(ctx, m, way)
}

// carefulRetiring is the change by which the last step of a transfer takes care of
// others where a group of its plan does.
const carefulRetiring = "careful-retiring"

// retire lets the rows of a plan leave as gradually as some of them came.
func (p *phased) retire(ctx workflow.Context, m *migration, at resilience.Watermark) (leg, error) {
	p.m = m
	gradual := func(g resilience.Group) bool { return g.Strategy == resilience.Gradual }
	if !slices.ContainsFunc(p.groups, gradual) || workflow.GetVersion(ctx, carefulRetiring, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return leg{}, nil
	}
	return p.care.retire(ctx, m, at)
}

// current is the group that the row after the watermark belongs to.
func (p *phased) current(at resilience.Watermark) (resilience.Group, bool) {
	for _, g := range p.groups {
		if g.Until > at.Last {
			return g, true
		}
	}
	return resilience.Group{}, false
}

// together is the last of the groups after g that go as g does: one slice takes
// them all along, since ending it costs as much as many batches.
func (p *phased) together(g resilience.Group) resilience.Group {
	for _, next := range p.groups {
		if next.Position == g.Position+1 && next.GoesLike(g) {
			g = next
		}
	}
	return g
}

// facts tells which group is moved, and why so.
func (p *phased) facts() []Fact {
	if p.m == nil {
		return nil
	}
	at := p.m.shown.At
	g, ok := p.current(at)
	if !ok {
		return nil
	}
	facts := []Fact{
		{"Group", fmt.Sprintf("%d of %d: %s, %d chunks", g.Position, len(p.groups), g.Name, g.Rows)},
		{"Decision", fmt.Sprintf("%s, %s: %s", g.Way, g.Strategy, g.Reason)},
	}
	facts = append(facts, stayFacts(stays(p.groups, at.Last))...)
	if at.Pace != "" {
		facts = append(facts, Fact{"Batches", at.Pace})
	}
	if g.Strategy == resilience.Gradual {
		facts = append(facts, p.care.vitals()...)
	}
	return facts
}

// stays is how many of the rows up to the last one stay as they are.
func stays(groups []resilience.Group, last int64) int64 {
	var rows int64
	for _, g := range groups {
		if g.Way == resilience.AliasOnly {
			rows += min(g.Rows, max(0, last-(g.Until-g.Rows)))
		}
	}
	return rows
}
