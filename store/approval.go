package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// RequestApproval lets a plan wait for a person's yes; one from before counts no more.
func (s *Store) RequestApproval(ctx context.Context, plan, reason string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE rehome.migration_plans SET approved_hash = '', approved_by = '', approved_at = NULL
			WHERE plan_id = $1 AND status <> $2`, plan, resilience.AwaitingApproval)
		if err != nil {
			return err
		}
		return become(ctx, tx, resilience.AwaitingApproval, event{Plan: plan, What: "awaiting approval", Detail: reason})
	})
	if err != nil {
		return fmt.Errorf("request the approval of plan %s: %w", plan, err)
	}
	return nil
}

// Approve records a person's yes to a plan as it was when its hash was hash. That of a
// person who may not say it is ErrRefused.
func (s *Store) Approve(ctx context.Context, plan, hash, author string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var policy resilience.Policy
		if err := tx.QueryRow(ctx, `SELECT policy FROM rehome.migration_plans WHERE plan_id = $1`, plan).Scan(&policy); err != nil {
			return err
		}
		if err := policy.MayApprove(author); err != nil {
			return problem(ErrRefused, "%s may not approve migration %s: %v; let them look at it: `starter migration show %s`", author, plan, err, plan)
		}
		tag, err := tx.Exec(ctx, `
			UPDATE rehome.migration_plans SET approved_hash = $2, approved_by = $3, approved_at = now(), accepted = surprises
			WHERE plan_id = $1 AND plan_hash = $2 AND status = $4 AND approved_hash <> $2`, plan, hash, author, resilience.AwaitingApproval)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 1 {
			return recordEvent(ctx, tx, event{Plan: plan, What: "approved", Author: author, Detail: hash})
		}
		var approved bool
		if err := tx.QueryRow(ctx, `SELECT approved_hash = $2 AND approved_at IS NOT NULL FROM rehome.migration_plans WHERE plan_id = $1`, plan, hash).Scan(&approved); err != nil {
			return err
		}
		if !approved {
			return problem(ErrConflict, "migration %s is not awaiting approval, or its plan hash is not %s; look at it again: `starter migration show %s`", plan, hash, plan)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("approve plan %s: %w", plan, err)
	}
	return nil
}

// ApproveAhead records that whoever ordered a plan said yes to it with the
// order, whatever it would turn out to be. It is of use once: a plan that asks a
// person later asks again. Where somebody else has to say yes, it is none.
func (s *Store) ApproveAhead(ctx context.Context, plan, author string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var fresh bool
		err := tx.QueryRow(ctx, `
			SELECT status = $2 AND approved_at IS NULL AND NOT coalesce((policy->>'by_another')::boolean, false) FROM rehome.migration_plans WHERE plan_id = $1 FOR UPDATE`, plan, resilience.Pending).Scan(&fresh)
		if err != nil || !fresh {
			return err
		}
		return approveAsIs(ctx, tx, plan, author, "the order")
	})
	if err != nil {
		return fmt.Errorf("record the approval that came with plan %s: %w", plan, err)
	}
	return nil
}

// approveAsIs records the yes that somebody gave to a plan together with an order,
// whatever it is by that.
func approveAsIs(ctx context.Context, tx pgx.Tx, plan, author, order string) error {
	var hash string
	err := tx.QueryRow(ctx, `
		UPDATE rehome.migration_plans SET approved_hash = plan_hash, approved_by = $2, approved_at = now()
		WHERE plan_id = $1 RETURNING plan_hash`, plan, author).Scan(&hash)
	if err != nil {
		return err
	}
	return recordEvent(ctx, tx, event{Plan: plan, What: "approved", Author: author, Detail: hash + ", with " + order})
}

// approvedStill is the approved hash of a plan that gets another hash: what was
// approved is approved still.
func approvedStill(hash string) string {
	return "CASE WHEN approved_hash = plan_hash THEN " + hash + " ELSE approved_hash END"
}
