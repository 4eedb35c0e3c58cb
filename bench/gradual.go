package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"rehome/resilience"
)

var gradualNotes = []string{
	"Beside **gradual**, an application reads the chunks of a file and updates the text or the embedding of a chunk, in turns, " +
		"300 times a second whether or not it was answered; a transaction takes from the moment it was due to its end. " +
		"In place of by hand stands what they take when nothing else runs.",
}

// The application beside a gradual migration.
const (
	foregroundRate        = 300
	foregroundConnections = 8
	gradualRows           = 400_000 // of the table
	gradualMoves          = 60_000  // of these, rows of the migration: few enough that no gate asks for a vacuum
	gradualTurns          = 3       // of the application alone and beside a migration, in a round
	gradualAlone          = 20 * time.Second
)

// gradual measures an application alone, and while chunks move gradually.
func gradual(ctx context.Context, r *rig) ([]row, error) {
	g := &crowded{rig: r, table: "public.crowded", rows: r.part(gradualRows), moves: r.part(gradualMoves), at: "guide", to: "pages"}
	if err := g.fill(ctx); err != nil {
		return nil, fmt.Errorf("fill the table: %w", err)
	}
	what := fmt.Sprintf("%d transactions a second beside gradual, %d of %d chunks: ", foregroundRate, g.moves, g.rows)
	rows := []row{
		{figure: figure{what + "p95", milliseconds, atMost(3).by(excess)}},
		{figure: figure{what + "p99", milliseconds, atMost(10).by(excess)}},
	}
	for round := range r.rounds {
		idle, busy, err := g.round(ctx)
		if err != nil {
			return nil, err
		}
		for i, share := range []float64{0.95, 0.99} {
			rows[i].add(within(idle, share), within(busy, share))
			r.say("  round %d: %s: %s", round+1, rows[i].what, rows[i].last())
		}
	}
	return rows, nil
}

// crowded is a table in which an application works.
type crowded struct {
	*rig
	table       string
	rows, moves int
	at, to      string
}

// fill makes the table: the first rows are those that are moved.
func (g *crowded) fill(ctx context.Context) error {
	err := g.exec(ctx,
		`CREATE TABLE `+g.table+` (id bigint PRIMARY KEY, path text NOT NULL, content text NOT NULL, embedding real[])`,
		fmt.Sprintf(`INSERT INTO %s SELECT i, format('%%s/section-%%s/page-%%s.md', CASE WHEN i < %d THEN '%s' ELSE 'other' END, i / 5000, i / 20), repeat(md5(i::text), 12),
			ARRAY[i, -i]::real[] FROM generate_series(0, %d) i`, g.table, g.moves, g.at, g.rows-1),
		`CREATE INDEX ON `+g.table+` (path)`)
	if err != nil {
		return err
	}
	return g.overTable(ctx, resilience.Mapping{Table: "crowded", Embedding: "embedding"}, "path")
}

// round measures the application alone, and beside a migration, in turns: of
// twenty seconds alone, one stall of the disk could be the slowest hundredth.
func (g *crowded) round(ctx context.Context) (idle, busy []time.Duration, err error) {
	alone := func(ctx context.Context) error {
		until(ctx, time.Now().Add(time.Duration(g.share*float64(gradualAlone))))
		return ctx.Err()
	}
	for range gradualTurns {
		if err := g.exec(ctx, `VACUUM ANALYZE`, `CHECKPOINT`); err != nil {
			return nil, nil, err
		}
		for _, side := range []struct {
			taken *[]time.Duration
			work  func(context.Context) error
		}{{&idle, alone}, {&busy, g.migrate}} {
			taken, err := g.application().during(ctx, g.rig, side.work)
			if err != nil {
				return nil, nil, err
			}
			*side.taken = append(*side.taken, taken...)
		}
	}
	return idle, busy, nil
}

func (g *crowded) migrate(ctx context.Context) error {
	var plan resilience.Plan
	took, err := g.starter(ctx, &plan, "migrate", "--memory", "crowded", "--strategy", string(resilience.Gradual), "--rename", g.at+"="+g.to, "--approve")
	if err != nil {
		return err
	}
	if plan.Status != resilience.Completed || plan.Moved != int64(g.moves) {
		return fmt.Errorf("migration %s is %s with %d of %d chunks moved: %s", plan.ID, plan.Status, plan.Moved, g.moves, plan.Reason)
	}
	g.say("  gradual took %s", took.Round(100*time.Millisecond))
	g.at, g.to = g.to, g.at
	return nil
}

// application reads and writes all over the table. It knows that a file may
// just have moved.
func (g *crowded) application() traffic {
	return traffic{rate: foregroundRate, connections: foregroundConnections, do: func(ctx context.Context, conn *pgxpool.Conn, n int) error {
		id := rand.IntN(g.rows)
		switch n % 4 {
		case 1:
			_, err := conn.Exec(ctx, `UPDATE `+g.table+` SET content = $2 WHERE id = $1`, id, strconv.Itoa(n))
			return err
		case 3:
			_, err := conn.Exec(ctx, `UPDATE `+g.table+` SET embedding = $2 WHERE id = $1`, id, []float32{rand.Float32(), rand.Float32()})
			return err
		}
		file := fmt.Sprintf("/section-%d/page-%d.md", id/5000, id/20)
		rows, err := conn.Query(ctx, `SELECT content FROM `+g.table+` WHERE path = ANY ($1)`, []string{"guide" + file, "pages" + file, "other" + file})
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		return rows.Err()
	}}
}
