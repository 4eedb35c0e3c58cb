package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"rehome/resilience"
	"rehome/store"
)

// MigrateGradual lets chunks follow their files a few at a time: a canary, then
// growing stages with a time between them in which others would notice, with looks
// at the server's health all the time.
func MigrateGradual(ctx workflow.Context, in MigrateInput) (resilience.Plan, error) {
	return migrate(ctx, resilience.Gradual, in)
}

// gradually climbs from stage to stage, as far as the server bears it.
type gradually struct {
	climb
	limits resilience.Limits // of what the server bears
	at     resilience.Watermark
	seen   *resilience.Pulse       // the last that was taken into account
	known  *resilience.HealthCheck // likewise
	fresh  bool                    // no slice was ordered by it yet
}

// climb is what a gradual migration remembers, from run to run too.
type climb struct {
	Stage  int               `json:"stage"`
	Soak   time.Time         `json:"soak,omitzero"` // end of the time after the last stage
	Hours  string            `json:"hours,omitempty"`
	Servo  resilience.Servo  `json:"servo"`
	Health resilience.Health `json:"health"`
	Calm   bool              `json:"calm,omitempty"`
	Pulse  *resilience.Pulse `json:"pulse,omitempty"`  // of the last slice
	Untold bool              `json:"untold,omitempty"` // the health does not know the pulse yet
	WorkMS float64           `json:"work_ms"`          // server time of all slices
	Rows   int64             `json:"rows"`             // that they moved
	Unwell time.Time         `json:"unwell,omitzero"`  // since when the server does not bear it
	Looks  int               `json:"looks,omitempty"`  // in a row at which it did not
	Vacuum time.Time         `json:"vacuum,omitzero"`  // the next one, at the earliest
}

// takeUp goes on where the run before ended.
func (g *gradually) takeUp(r Resume) {
	if r.Climb != nil {
		g.climb = *r.Climb
	}
}

// handOver lets the next run go on from here.
func (g *gradually) handOver(r *Resume) { r.Climb = &g.climb }

// next soaks or waits for the server's health; when there is nothing to wait for,
// it orders a slice within the stage.
func (g *gradually) next(ctx workflow.Context, m *migration, at resilience.Watermark) (leg, error) {
	if err := g.catchUp(ctx, m, at); err != nil {
		return leg{}, err
	}
	now := workflow.Now(ctx)
	g.rise(now, m)
	if g.Soak.After(now) {
		return leg{stop: true}, g.wait(ctx, m, "soak", g.Soak.Sub(now), fmt.Sprintf("Soaking after %s until %s", g.done(), moment(g.Soak)))
	}
	way, err := g.slice(ctx, m)
	way.summary = "Move chunks: stage " + g.stage()
	if g.Stage < len(resilience.GradualStages())-1 {
		way.bounds = store.Bounds{Until: resilience.StageEnd(g.Stage, at.Total)}
	}
	return way, err
}

// retire orders a slice of the last step of a transfer: with rests and looks, but
// without stages, since readers have long been led to the copies.
func (g *gradually) retire(ctx workflow.Context, m *migration, at resilience.Watermark) (leg, error) {
	if err := g.catchUp(ctx, m, at); err != nil {
		return leg{}, err
	}
	return g.slice(ctx, m)
}

// catchUp takes the watermark, and the slice that led there, into account.
func (g *gradually) catchUp(ctx workflow.Context, m *migration, at resilience.Watermark) error {
	g.at = at
	if g.Servo.Size == 0 {
		if err := g.prepare(ctx, m); err != nil {
			return err
		}
	}
	g.learn(at)
	return nil
}

// slice orders a slice whose batches have the size that a servo picks.
func (g *gradually) slice(ctx workflow.Context, m *migration) (leg, error) {
	way, err := g.mind(ctx, m, leg{nice: resilience.GradualNice})
	way.servo = &g.Servo
	return way, err
}

// mind waits for the server's health; when there is nothing to wait for, the slice
// goes on, and minds that health.
func (g *gradually) mind(ctx workflow.Context, m *migration, way leg) (leg, error) {
	well, err := g.look(ctx, m)
	health := g.asking(m)
	way.stop, way.calm, way.health = !well, g.Calm, &health
	return way, err
}

// prepare reads what the plan says of its rows and its hours.
func (g *gradually) prepare(ctx workflow.Context, m *migration) error {
	var plan resilience.Plan
	if err := workflow.ExecuteActivity(brief(ctx, "Read the plan"), database.ReadMigration, m.named(Order{})).Get(ctx, &plan); err != nil {
		return err
	}
	g.Hours = plan.Policy.Hours
	g.Servo = resilience.NewServo(resilience.GradualAim, plan.RowBytes(), plan.Physics.Class() == resilience.VectorClass)
	if plan.Policy.Sized && m.strategy == resilience.Gradual { // intelligent has another use for it
		g.Servo = g.Servo.AtMost(plan.Policy.BatchSize)
	}
	g.Stage = resilience.StageAt(g.at.Last, g.at.Total)
	return nil
}

// learn takes a slice into account, once, and the look at its end.
func (g *gradually) learn(at resilience.Watermark) {
	if p := at.Pulse; p != nil && p != g.seen {
		g.seen, g.Pulse, g.Untold, g.Servo = p, p, true, p.Servo
		g.WorkMS += p.ActiveMS
		g.Rows += p.Rows
	}
	if c := at.Check; c != nil && c != g.known {
		g.known, g.fresh, g.Untold = c, true, false
		g.Health, g.Calm = c.Health, c.Calm
	}
}

// rise goes to the next stage when one is complete, and owes the soak after it.
func (g *gradually) rise(now time.Time, m *migration) {
	stage := resilience.StageAt(g.at.Last, g.at.Total)
	if stage > g.Stage && g.at.Last < g.at.Total {
		soak := resilience.SoakAfter(stage-1, g.expected())
		if m.in.Tuning.Soak > 0 {
			soak = time.Duration(m.in.Tuning.Soak)
		}
		if soak > leastSoak {
			g.Soak = now.Add(soak)
		}
	}
	g.Stage = stage
}

// expected is how long the work of the whole plan takes at the cost it had so
// far, with the rests between its batches.
func (g *gradually) expected() time.Duration {
	if g.Rows == 0 {
		return 0
	}
	each := g.WorkMS / float64(g.Rows)
	return time.Duration((1 + resilience.GradualNice) * each * float64(g.at.Total) * float64(time.Millisecond))
}

// share says a stage in words.
func (g *gradually) share(stage int) string {
	return fmt.Sprintf("%g %%", 100*resilience.GradualStages()[stage].Share)
}

// stage says which one is at work, and where it ends: the canary is more than its
// share of a small plan.
func (g *gradually) stage() string {
	return fmt.Sprintf("%d of %d, up to %d chunks", g.Stage+1, len(resilience.GradualStages()), resilience.StageEnd(g.Stage, g.at.Total))
}

// done says in words which stage is complete.
func (g *gradually) done() string {
	if g.Stage <= 1 {
		return "the canary"
	}
	return g.share(g.Stage - 1)
}

// facts tell the stage, once the first has begun, and how its batches fare.
func (g *gradually) facts() []Fact {
	if g.Servo.Size == 0 {
		return g.vitals()
	}
	return append([]Fact{{"Stage", g.stage()}}, g.vitals()...)
}

// vitals tell the pace, and every signal that is not as it should be.
func (g *gradually) vitals() []Fact {
	var facts []Fact
	if g.Servo.Size > 0 {
		facts = []Fact{{"Batch size", fmt.Sprint(g.Servo.Size)}}
	}
	if p := g.Pulse; p != nil {
		if p.Adjusted.Why != "" {
			facts = append(facts, Fact{"Last change of it", p.Adjusted.String()})
		}
		slice := fmt.Sprintf("%d batches, %d chunks, %.0f ms of server time, p95 of a batch %.0f ms", p.Batches, p.Rows, p.ActiveMS, p.P95MS)
		if p.LockMS > 0 {
			slice += fmt.Sprintf(", with waits for locks of %.0f ms in all", p.LockMS)
		}
		facts = append(facts, Fact{"Last slice", slice})
	}
	var absent []string
	for _, gate := range g.Health.Gates {
		switch gate.State {
		case resilience.GateShut:
			facts = append(facts, Fact{"Waits", fmt.Sprintf("%s: %s (since %s)", gate.Name, gate.Detail, moment(gate.Since))})
		case resilience.GateNear:
			facts = append(facts, Fact{"Near its limit", fmt.Sprintf("%s: %s (since %s)", gate.Name, gate.Detail, moment(gate.Since))})
		case resilience.GateNotAvailable:
			absent = append(absent, fmt.Sprintf("%s: %s", gate.Name, gate.Detail))
		case resilience.GateOpen:
		}
	}
	if len(absent) > 0 {
		facts = append(facts, Fact{"Not available", strings.Join(absent, "; ")})
	}
	return facts
}
