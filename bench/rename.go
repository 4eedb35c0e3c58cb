package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// What a chunk is like.
const (
	textBytes     = 1_500
	dimensions    = 384
	chunksPerFile = 20
	filesPerDir   = 50
)

var renameNotes = []string{
	"**apply**: first batch to last commit by the server's clock, the verification of each batch included.",
	"**planning**: conflicts, journal and hash of the plan.",
	"**end to end**: the command, from its start to its exit; both, the look at all chunks at the end, and the orchestration.",
	"By hand a rename is one `UPDATE … FROM` a ready, analysed table of (id, old path, new path).",
}

// rename lets all chunks of a directory follow it to another name.
func rename(ctx context.Context, r *rig) ([]row, error) {
	b := &renaming{rig: r, memory: "renamed", at: "guide", to: "pages"}
	if err := r.addMemory(ctx, b.memory); err != nil {
		return nil, err
	}
	if err := b.fill(ctx); err != nil {
		return nil, fmt.Errorf("fill the memory: %w", err)
	}
	what := fmt.Sprintf("rename of %d chunks, batch at 1000: ", r.chunks)
	return contest{
		reset: b.reset,
		plain: b.plain,
		ours: []side{{[]figure{
			{what + "apply", seconds, atMost(1.5)},
			{what + "planning", seconds, atMost(0.5)},
			{what + "end to end", seconds, aim{}},
		}, func(ctx context.Context) ([]float64, error) { return b.ours(ctx, "batch", 1000) }}},
	}.run(ctx, r)
}

// renaming is a memory whose chunks all lie in the directory at; each rename
// takes them to the other name, of the same length.
type renaming struct {
	*rig
	memory string
	at, to string
}

// fill makes chunks of real text, each with an embedding that, as real ones,
// cannot be compressed.
func (b *renaming) fill(ctx context.Context) error {
	source, err := text(ctx, b.chunks*textBytes)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	embedding := make([]float32, dimensions)
	row := func(i int) ([]any, error) {
		for d := range embedding {
			embedding[d] = random.Float32()*2 - 1
		}
		file := i / chunksPerFile
		path := fmt.Sprintf("%s/section-%03d/page-%05d.md", b.at, file/filesPerDir, file)
		from := i * textBytes % (len(source) - textBytes)
		content := strings.ToValidUTF8(source[from:from+textBytes], "?") // a cut may go through a letter
		return []any{b.memory, path, i % chunksPerFile, content, embedding}, nil
	}
	_, err = b.pool.CopyFrom(ctx, pgx.Identifier{"rehome", "chunks"},
		[]string{"memory", "path", "ordinal", "content", "embedding"}, pgx.CopyFromSlice(b.chunks, row))
	return err
}

// reset rewrites the table and its indexes without their dead rows, in the
// order they have; forgets former migrations; and lists the chunks' files in
// the catalogue and the pairs for the plain statement.
func (b *renaming) reset(ctx context.Context) error {
	return b.exec(ctx,
		`TRUNCATE rehome.files, rehome.version_aliases, rehome.migration_plans, rehome.migration_moves, rehome.migration_exceptions,
			rehome.migration_events, rehome.migration_aliases, rehome.migration_files CASCADE`,
		`INSERT INTO rehome.files (memory, path, raw_path, size, mtime, content_hash)
			SELECT memory, path, convert_to(path, 'UTF8'), sum(octet_length(content)), now(), sha256(convert_to(path, 'UTF8')) FROM rehome.chunks GROUP BY 1, 2`,
		`DROP TABLE IF EXISTS pairs`,
		`CREATE TABLE pairs AS SELECT id, path AS old_path, `+quoted(b.to)+` || substr(path, `+strconv.Itoa(len(b.at)+1)+`) AS new_path FROM rehome.chunks`,
		`ALTER TABLE pairs ADD PRIMARY KEY (id)`,
		`VACUUM FULL rehome.chunks`,
		`VACUUM ANALYZE`,
		`CHECKPOINT`)
}

func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// moved turns round for the next rename.
func (b *renaming) moved(rows int64) error {
	if rows != int64(b.chunks) {
		return fmt.Errorf("%d of %d chunks were renamed", rows, b.chunks)
	}
	b.at, b.to = b.to, b.at
	return nil
}

func (b *renaming) plain(ctx context.Context) (float64, error) {
	began := time.Now()
	tag, err := b.pool.Exec(ctx, `UPDATE rehome.chunks c SET path = p.new_path FROM pairs p WHERE p.id = c.id AND c.path = p.old_path`)
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("rename by hand: %w", err)
	}
	return took.Seconds(), b.moved(tag.RowsAffected())
}

// ours returns the times of apply, planning, and of the whole command.
func (b *renaming) ours(ctx context.Context, strategy string, batch int) ([]float64, error) {
	var plan resilience.Plan
	took, err := b.starter(ctx, &plan, "migrate", "--memory", b.memory, "--strategy", strategy,
		"--rename", b.at+"="+b.to, "--batch-size", strconv.Itoa(batch))
	if err != nil {
		return nil, err
	}
	if plan.Status != resilience.Completed {
		return nil, fmt.Errorf("migration %s is %s: %s", plan.ID, plan.Status, plan.Reason)
	}
	return []float64{float64(plan.ApplyMS) / 1000, float64(plan.PlanningMS) / 1000, took.Seconds()}, b.moved(plan.Moved)
}
