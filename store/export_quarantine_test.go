package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// QuarantineReplaced gives tests the step that ingest takes in its own transaction.
func (s *Store) QuarantineReplaced(ctx context.Context, memory resilience.Memory, ids []string, run string) error {
	return s.inTx(ctx, func(tx pgx.Tx) error { return quarantineReplaced(ctx, tx, memory, ids, run) })
}
