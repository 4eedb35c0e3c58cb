package activities

import (
	"context"
	"errors"
	"time"

	"rehome/resilience"
	"rehome/store"
)

// HealthInput asks whether the server bears more of a plan now.
type HealthInput struct {
	PlanInput
	Before resilience.Health `json:"before,omitzero"` // as the look before left it; zero: there was none
	Pulse  *resilience.Pulse `json:"pulse,omitempty"` // of the slice since then
	Hours  string            `json:"hours,omitempty"` // of the day in which the plan may work
	Limits resilience.Limits `json:"limits,omitzero"` // zero: the usual ones
}

// lookTime bounds one look at the server. A server that does not answer in time
// is not healthy.
const lookTime = 10 * time.Second

// baselineApart is the time between the two looks of a baseline.
const baselineApart = time.Second

// CheckHealth looks at the server, judges what it sees, and keeps the gates
// where people see them. A look that fails is no error: what was known before
// gets old, and that shuts a gate too.
func (a *Database) CheckHealth(ctx context.Context, in HealthInput) (resilience.HealthCheck, error) {
	rules := resilience.Rules{Limits: in.Limits}
	if in.Limits == (resilience.Limits{}) {
		rules.Limits = resilience.DefaultLimits()
	}
	var err error
	if rules.Hours, err = resilience.ParseHours(in.Hours); err != nil {
		return resilience.HealthCheck{}, classify("read the hours", &store.Problem{Kind: store.ErrInvalid, Message: err.Error()})
	}
	health, err := a.health(ctx, in, rules)
	if err != nil {
		return resilience.HealthCheck{}, classify("look at the server's health", err)
	}
	now := time.Now()
	check := resilience.HealthCheck{Health: health, At: now, Shut: resilience.Shut(health.Gates), Calm: resilience.Calm(health.Gates, now)}
	if !rules.Hours.Open(now) {
		check.Opens = rules.Hours.Next(now)
	}
	return check, classify("keep the gates", a.Store.SaveGates(ctx, in.Migration, health.Gates))
}

// health is what was known of the server, and what a look adds to that.
func (a *Database) health(ctx context.Context, in HealthInput, rules resilience.Rules) (resilience.Health, error) {
	sample, err := a.look(ctx, in)
	if err != nil {
		return unseen(ctx, in, err, rules)
	}
	if !in.Before.Baseline.At.IsZero() {
		return in.Before.After(time.Now(), sample, in.Pulse, rules), nil
	}
	// Before the plan touches the server it is looked at twice.
	if err := rest(ctx, baselineApart); err != nil {
		return resilience.Health{}, err
	}
	second, err := a.look(ctx, in)
	if err != nil {
		return unseen(ctx, in, err, rules)
	}
	return in.Before.First(time.Now(), sample, second, rules), nil
}

func unseen(ctx context.Context, in HealthInput, err error, rules resilience.Rules) (resilience.Health, error) {
	if ctx.Err() != nil || errors.Is(err, store.ErrNotFound) {
		return resilience.Health{}, err
	}
	return in.Before.Unseen(time.Now(), err.Error(), rules), nil
}

func (a *Database) look(ctx context.Context, in HealthInput) (resilience.Sample, error) {
	ctx, done := context.WithTimeout(ctx, lookTime)
	defer done()
	return a.Store.Sample(ctx, in.Migration)
}

// VacuumTable clears the dead row versions that the moves leave, so that the
// plan need not wait for autovacuum.
func (a *Database) VacuumTable(ctx context.Context, in PlanInput) error {
	err := beating(ctx, func(ctx context.Context) error { return a.Store.Vacuum(ctx, in.Migration) })
	return classify("vacuum the table", err)
}
