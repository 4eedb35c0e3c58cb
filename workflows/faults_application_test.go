package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// What the application of a journey does all the while.

// every does something until the application ends.
func every(ctx context.Context, do func(n int64) error) (err error) {
	tick := time.NewTicker(7 * time.Millisecond)
	defer tick.Stop()
	for n := int64(1); err == nil; n++ {
		err = do(n)
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
	return err
}

// saw keeps the first thing that must not be.
func (j *journey) saw(what string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil && j.wrong == "" {
		j.wrong = fmt.Sprintf("%s: %s", what, err)
	}
}

// read looks for a moment at which a chunk is nowhere, or twice in a memory.
func (j *journey) read(ctx context.Context) {
	j.saw("a reader", every(ctx, func(int64) error {
		var doubled, different, both int
		err := j.pool.QueryRow(context.WithoutCancel(ctx), `
			SELECT count(*) - count(DISTINCT (memory, ordinal)), count(DISTINCT ordinal), count(*) - count(DISTINCT ordinal)
			FROM rehome.chunks WHERE ordinal <= $1`, steady).Scan(&doubled, &different, &both)
		if err != nil || doubled != 0 || different != steady || both != 0 && !j.way.transfer {
			return fmt.Errorf("of %d chunks it saw %d, %d of them twice in a memory, %d twice in all: %w", steady, different, doubled, both, err)
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.reads++
		return nil
	}))
}

// vacuum does what the server does by itself, which naps for long in tests;
// gradual waits for a table of mostly dead rows.
func (j *journey) vacuum(ctx context.Context) {
	j.saw("a vacuum", every(ctx, func(n int64) (err error) {
		if n%20 == 0 && j.way.gentle() {
			_, err = j.pool.Exec(context.WithoutCancel(ctx), `VACUUM rehome.chunks`)
		}
		return err
	}))
}

// write edits one chunk after the other, wherever it is at that moment.
func (j *journey) write(ctx context.Context, random *rand.Rand) {
	j.saw("a writer", every(ctx, func(n int64) error {
		row := 1 + random.IntN(steady)
		if row == middle || row == remade || j.way.gentle() && n%6 != 0 {
			return nil
		}
		for _, memory := range []string{"docs", "archive"} { // an application that does not know of the transfer yet
			tag, err := j.pool.Exec(context.WithoutCancel(ctx), `
				WITH edited AS (UPDATE rehome.chunks SET content = 'edit ' || $2::bigint WHERE ordinal = $1 AND memory = $3 RETURNING id)
				SELECT CASE WHEN $1 % 3 = 0 THEN rehome.refer($3, id::text, 'writer ' || $1) END FROM edited`, row, n, memory)
			if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "40P01" { // a deadlock: it tries another
				return nil
			}
			if err != nil || tag.RowsAffected() > 1 {
				return fmt.Errorf("it edited chunk %d %d times: %w", row, tag.RowsAffected(), err)
			}
			if tag.RowsAffected() == 1 {
				j.mu.Lock()
				defer j.mu.Unlock()
				j.edits[row] = n
				if row%3 == 0 {
					j.cites[row]++
				}
				return nil
			}
		}
		return fmt.Errorf("chunk %d is nowhere", row)
	}))
}
