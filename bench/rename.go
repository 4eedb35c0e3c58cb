package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

var renameNotes = []string{
	"**apply**: first batch to last commit by the server's clock, the verification of each batch included.",
	"**planning**: conflicts, journal and hash of the plan.",
	"**end to end**: the command, from its start to its exit; both, the look at all chunks at the end, and the orchestration.",
	"By hand a rename is one `UPDATE … FROM` a ready, analysed table of (id, old path, new path). An undo is compared with it, too: it is one more rename.",
	"Every chunk is compared with what it was where the setting `compare_one_in` is 1; else one of 16, of embeddings one of 96, and all where something of the table's own makes the new row.",
	"Chunks have 1.5 kB of text and an embedding of 384 numbers; small ones 60 to 100 bytes and none.",
}

// rename lets all chunks of a directory follow it to another name.
func rename(ctx context.Context, r *rig) ([]row, error) {
	b, err := newRenaming(ctx, r, "renamed", r.large())
	if err != nil {
		return nil, err
	}
	if err := b.pair(ctx); err != nil {
		return nil, err
	}
	return b.contest(limits{immediate: 1.35, batch: 1.5, small: 4, undo: 1.7, intelligent: 1.5}).run(ctx, r)
}

// renameMany does it with many small chunks, and looks at what a run of that
// length costs Temporal and the worker.
func renameMany(ctx context.Context, r *rig) ([]row, error) {
	b, err := newRenaming(ctx, r, "renamed-many", r.small())
	if err != nil {
		return nil, err
	}
	if err := b.pair(ctx); err != nil {
		return nil, err
	}
	r.forgetPeak()
	rows, err := b.contest(limits{immediate: 1.35, batch: 1.5, small: 6, undo: 1.7, intelligent: 1.5}).run(ctx, r)
	if err != nil {
		return nil, err
	}
	burden, err := r.burden(ctx, "rename", b.crop, b.workflow)
	return append(rows, burden...), err
}

// limits of the ratios.
type limits struct {
	immediate, batch, small, undo, intelligent float64
}

// renaming is a memory whose chunks all lie in the directory at; each rename
// takes them to the other name, of the same length.
type renaming struct {
	*rig
	memory   string
	crop     crop
	what     string // the work, as the table has it
	at, to   string
	plain    func(context.Context) error // does it by hand
	order    func() []string             // tells the command what to do
	workflow string                      // of the last migration by batch at 1000
}

// newRenaming fills a memory. Behind it in the table's index stands another: into the
// last page of an index entries go without a search, and one direction of the rename
// would be the cheaper one.
func newRenaming(ctx context.Context, r *rig, memory string, c crop) (*renaming, error) {
	b := &renaming{rig: r, memory: memory, crop: c, what: fmt.Sprintf("rename of %s", c), at: "guide", to: "pages"}
	b.plain, b.order = b.updatePairs, func() []string { return []string{"--rename", b.at + "=" + b.to} }
	if err := r.addMemory(ctx, memory); err != nil {
		return nil, err
	}
	if err := r.exec(ctx, `TRUNCATE rehome.chunks`); err != nil {
		return nil, err
	}
	err := c.fill(ctx, r, pgx.Identifier{"rehome", "chunks"}, b.at, []string{"memory", "path", "ordinal", "content", "embedding"}, memory)
	if err != nil {
		return nil, fmt.Errorf("fill the memory: %w", err)
	}
	next := memory + "-next"
	if err := r.addMemory(ctx, next); err != nil {
		return nil, err
	}
	return b, r.exec(ctx, fmt.Sprintf(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT '%s', i || '.md', 1, 'the end' FROM generate_series(1, 5000) i`, next))
}

// pair makes the table for the plain statement, which serves both ways.
func (b *renaming) pair(ctx context.Context) error {
	return b.exec(ctx,
		`DROP TABLE IF EXISTS pairs`,
		fmt.Sprintf(`CREATE TABLE pairs AS SELECT id, path AS %s, '%[2]s' || substr(path, length('%[1]s') + 1) AS %[2]s FROM rehome.chunks WHERE memory = '%[3]s'`, b.at, b.to, b.memory),
		`ALTER TABLE pairs ADD PRIMARY KEY (id)`)
}

func (b *renaming) contest(l limits) contest {
	return contest{kind: "rename", reset: b.reset, plain: b.byHand, ours: []side{
		b.side("immediate", 0, l.immediate), // it has no size to be told
		b.batchAndBack(l),
		b.comparingAll(),
		b.side("batch", 50, l.small),
		b.side("intelligent", 1000, l.intelligent),
	}}
}

// figures of one way to rename.
func (b *renaming) figures(way string, apply float64) []figure {
	what := fmt.Sprintf("%s, %s: ", b.what, way)
	return []figure{{what + "apply", seconds, atMost(apply)}, {what + "planning", seconds, atMost(0.5)}, {what + "end to end", seconds, aim{}}}
}

func (b *renaming) side(strategy string, batch int, apply float64) side {
	way := strategy
	if strategy == string(resilience.Batch) {
		way = fmt.Sprintf("batch at %d", batch)
	}
	return side{figures: b.figures(way, apply), run: func(ctx context.Context) ([]float64, error) {
		plan, took, err := b.migrate(ctx, strategy, batch)
		return measures(plan, took), err
	}}
}

// batchAndBack renames by batch, and undoes that once the table is as it would
// be some time later.
func (b *renaming) batchAndBack(l limits) side {
	s := b.side("batch", 1000, l.batch)
	s.figures = append(s.figures, b.figures("undo of batch at 1000", l.undo)...)
	s.run = func(ctx context.Context) ([]float64, error) {
		plan, took, err := b.migrate(ctx, "batch", 1000)
		if err != nil {
			return nil, err
		}
		b.workflow = plan.WorkflowID
		if err := b.settle(ctx); err != nil {
			return nil, err
		}
		undo, back, err := b.undo(ctx, plan.ID)
		return append(measures(plan, took), measures(undo, back)...), err
	}
	return s
}

// comparingAll renames by batch and compares every chunk with what it was.
func (b *renaming) comparingAll() side {
	what := b.what + ", batch at 1000, every chunk compared: "
	return side{figures: []figure{{what + "apply", seconds, aim{}}}, run: func(ctx context.Context) (took []float64, err error) {
		if err := b.exec(ctx, `INSERT INTO rehome.settings (key, value) VALUES ('compare_one_in', '1')`); err != nil {
			return nil, err
		}
		defer func() {
			err = errors.Join(err, b.exec(context.WithoutCancel(ctx), `DELETE FROM rehome.settings WHERE key = 'compare_one_in'`))
		}()
		plan, _, err := b.migrate(ctx, "batch", 1000)
		return []float64{float64(plan.ApplyMS) / 1000}, err
	}}
}

func measures(plan resilience.Plan, took time.Duration) []float64 {
	return []float64{float64(plan.ApplyMS) / 1000, float64(plan.PlanningMS) / 1000, took.Seconds()}
}

// reset forgets former migrations and what was learned of them, lists the
// chunks' files in the catalogue, and settles.
func (b *renaming) reset(ctx context.Context) error {
	err := b.exec(ctx, forget,
		`INSERT INTO rehome.files (memory, path, raw_path, size, mtime, content_hash)
			SELECT memory, path, convert_to(path, 'UTF8'), sum(octet_length(content)), now(), sha256(convert_to(path, 'UTF8')) FROM rehome.chunks GROUP BY 1, 2`)
	if err != nil {
		return err
	}
	return b.settle(ctx)
}

// settle rewrites the table and its indexes without their dead rows, in the order
// of ingest: a large update by hand leaves the rows in the order of its hash table,
// and who comes after it would find the chunks of a file far apart.
func (b *renaming) settle(ctx context.Context) error {
	return b.exec(ctx, `CLUSTER rehome.chunks USING chunks_pkey`, `VACUUM ANALYZE`, `CHECKPOINT`)
}

// moved checks that all chunks have moved, and turns round for the next rename.
func (b *renaming) moved(ctx context.Context) error {
	var there int
	err := b.pool.QueryRow(ctx, `SELECT count(*) FROM rehome.chunks WHERE memory = $1 AND starts_with(path, $2)`, b.memory, b.to+"/").Scan(&there)
	if err != nil {
		return fmt.Errorf("look where the chunks are: %w", err)
	}
	if there != b.crop.rows {
		return fmt.Errorf("%d of %d chunks were renamed", there, b.crop.rows)
	}
	b.at, b.to = b.to, b.at
	return nil
}

func (b *renaming) updatePairs(ctx context.Context) error {
	return b.exec(ctx, strings.NewReplacer("{at}", b.at, "{to}", b.to).Replace(
		`UPDATE rehome.chunks c SET path = p.{to} FROM pairs p WHERE p.id = c.id AND c.path = p.{at}`))
}

func (b *renaming) byHand(ctx context.Context) (float64, error) {
	began := time.Now()
	err := b.plain(ctx)
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("rename by hand: %w", err)
	}
	return took.Seconds(), b.moved(ctx)
}

func (b *renaming) migrate(ctx context.Context, strategy string, batch int) (resilience.Plan, time.Duration, error) {
	args := []string{"migrate", "--memory", b.memory, "--strategy", strategy, "--approve", "--batch-size", strconv.Itoa(batch)}
	return b.finished(ctx, append(args, b.order()...)...)
}

func (b *renaming) undo(ctx context.Context, migration string) (resilience.Plan, time.Duration, error) {
	return b.finished(ctx, "migration", "rollback", migration)
}

func (b *renaming) finished(ctx context.Context, args ...string) (resilience.Plan, time.Duration, error) {
	plan, took, err := b.completed(ctx, args...)
	if err != nil {
		return plan, took, err
	}
	return plan, took, b.moved(ctx)
}
