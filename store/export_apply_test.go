package store

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Explain returns the plans of a mover's statements under the settings of a batch.
func (m *Mover) Explain(ctx context.Context) (map[string]string, error) {
	plans := map[string]string{}
	m.args["batch_lock"], m.args["gentle"], m.args["batch"] = batchLock, false, 0
	for what, move := range map[string]string{"apply": m.apply.statement, "revert": m.revert.statement} {
		err := m.store.inTx(ctx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, batchGuards, m.args); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, "EXPLAIN "+insisting(move), m.args)
			if err != nil {
				return err
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			plans[what] = strings.Join(lines, "\n")
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return plans, nil
}

// Join lets the next step of a mover be of that many batches, as short ones would,
// however long they take.
func (m *Mover) Join(batches int) { m.JoinWithin(time.Minute, batches) }

// JoinWithin lets the next step of a mover be of that many batches, if none of them
// begins later than that after the first.
func (m *Mover) JoinWithin(onward time.Duration, batches int) {
	m.onward, m.took, m.done = onward, Took{Time: onward / time.Duration(batches)}, 1
}
