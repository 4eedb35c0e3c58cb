package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
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

// file is where the chunk of a number lies below its directory: twenty in a file, and every
// other file in a directory of those that are used.
func file(number string) string {
	return fmt.Sprintf(`CASE %[1]s / 20 %% 2 WHEN 1 THEN '/used' ELSE '' END || '/f' || %[1]s / 20 || '.md'`, number)
}

// used has the chunks of those files used two days ago, in whichever memory they are now.
const used = `
	INSERT INTO rehome.chunk_access (memory, chunk_id, last_accessed_at, access_count)
	SELECT memory, id::text, now() - interval '2 days', 1 FROM rehome.chunks WHERE path LIKE '%/used/%'
	ON CONFLICT DO NOTHING`

// inGroups checks that a plan by groups has two of them, what is used after what is not,
// and one of another strategy none.
func inGroups(t *testing.T, s *store.Store, plan string, strategy resilience.Strategy) {
	t.Helper()
	groups, err := s.Groups(context.Background(), plan)
	require.NoError(t, err)
	var heats, want []resilience.Heat
	for _, g := range groups {
		heats = append(heats, g.Inputs.Heat)
	}
	if strategy == resilience.Intelligent {
		want = []resilience.Heat{resilience.Cold, resilience.Warm}
	}
	require.Equal(t, want, heats, "the groups of %s", plan)
}

// pause lets a moment pass between two looks of the application.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Millisecond):
	}
}
