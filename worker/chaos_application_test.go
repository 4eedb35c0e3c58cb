package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// startApplication reads and writes until the test ends.
func (r *rig) startApplication() {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.done.Go(func() { r.read(ctx) })
	r.done.Go(func() { r.write(ctx) })
	r.done.Go(func() { r.vacuum(ctx) })
	r.Cleanup(r.quiet)
}

// quiet ends the application.
func (r *rig) quiet() {
	r.stop()
	r.done.Wait()
}

// read looks for a moment at which a chunk is nowhere, or twice.
func (r *rig) read(ctx context.Context) {
	for ctx.Err() == nil {
		var all, different int
		// Only a transfer has chunks in two memories, and only while it lasts.
		err := r.pool.QueryRow(ctx, `SELECT $1::int + count(*) - count(DISTINCT (memory, ordinal)), count(DISTINCT ordinal) FROM rehome.chunks`, r.rows).Scan(&all, &different)
		if err != nil {
			pause(ctx) // Postgres is away
			continue
		}
		r.reads.Add(1)
		if all != r.rows || different != r.rows {
			saw := fmt.Sprintf("a reader saw %d chunks, %d different, of %d", all, different, r.rows)
			r.wrong.Store(&saw)
		}
		pause(ctx)
	}
}

// write edits one chunk after the other, wherever it is at that moment.
func (r *rig) write(ctx context.Context) {
	chance := rand.New(rand.NewPCG(r.seed, 0)) // rounds of chaos count from 1
	for n := int64(1); ctx.Err() == nil; n++ {
		row := 1 + chance.IntN(r.rows)
		source := *r.source.Load() // once: it may be another at the second look
		edit := func(there bool) (pgconn.CommandTag, error) {
			return r.pool.Exec(ctx, `
				UPDATE rehome.chunks SET content = 'edit ' || $2::bigint || ' of ' || $1::int
				WHERE ordinal = $1 AND memory = CASE WHEN $3 THEN $4 WHEN $4 = 'docs' THEN 'archive' ELSE 'docs' END`, row, n, there, source)
		}
		tag, err := edit(true)
		if err == nil && tag.RowsAffected() == 0 { // it left its memory
			tag, err = edit(false)
		}
		if err == nil {
			r.writes.Add(1)
			r.mu.Lock()
			r.edits[row] = n
			r.mu.Unlock()
			if tag.RowsAffected() != 1 {
				saw := fmt.Sprintf("a writer found chunk %d %d times", row, tag.RowsAffected())
				r.wrong.Store(&saw)
			}
		}
		pause(ctx)
	}
}

// vacuum does what the server does by itself when a minute has passed; gradual waits
// for a table of mostly dead rows.
func (r *rig) vacuum(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, _ = r.pool.Exec(ctx, `VACUUM rehome.chunks`) // Postgres may be away
		}
	}
}

// pause lets a moment pass between two looks of the application.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Millisecond):
	}
}
