package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Switch the aliases of a plan, or back, without a plan's row and progress.
func SwitchAliases(s *Store, ctx context.Context, plan, memory string) error {
	return s.inTx(ctx, func(tx pgx.Tx) error { return s.switchAliases(ctx, tx, plan, memory) })
}

func UnswitchAliases(s *Store, ctx context.Context, plan, memory string) error {
	return s.inTx(ctx, func(tx pgx.Tx) error { return s.unswitchAliases(ctx, tx, plan, memory) })
}
