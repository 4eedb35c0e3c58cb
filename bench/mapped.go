package main

import (
	"context"
	"fmt"
	"time"

	"rehome/resilience"
)

// overTable adds a memory over a table of an application in the schema public
// that has the columns id and content.
func (r *rig) overTable(ctx context.Context, m resilience.Mapping, path string) error {
	locator, err := resilience.ParseLocator(path)
	if err != nil {
		return err
	}
	m.Schema, m.ID, m.Content, m.Locators = "public", "id", "content", []resilience.Locator{locator}
	if m, _, err = r.data.Examine(ctx, m); err != nil {
		return err
	}
	return r.addMapped(ctx, m.Table, m)
}

// approved carries out a plan with a person's yes to what it turned out to be,
// which one that takes indexes away asks for in any case.
func (r *rig) approved(ctx context.Context, args ...string) (resilience.Plan, error) {
	var plan resilience.Plan
	if _, err := r.starter(ctx, &plan, append(args, "--plan-only")...); err != nil {
		return plan, err
	}
	if _, err := r.starter(ctx, nil, "migration", "approve", plan.ID); err != nil {
		return plan, err
	}
	for !plan.Status.Ended() {
		if !until(ctx, time.Now().Add(100*time.Millisecond)) {
			return plan, ctx.Err()
		}
		var err error
		if plan, err = r.data.Plan(ctx, plan.ID); err != nil {
			return plan, err
		}
	}
	if plan.Status != resilience.Completed {
		return plan, fmt.Errorf("migration %s is %s: %s", plan.ID, plan.Status, plan.Reason)
	}
	return plan, nil
}
