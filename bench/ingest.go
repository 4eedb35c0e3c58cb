package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/corpus"
	"rehome/workflows"
)

var ingestNotes = []string{"By hand an ingest is a walk that reads and cuts the files while one COPY stores the same chunks."}

// ingest reads a tree into an empty memory. By hand that is what a person would
// write: a walk that reads and cuts each text file while one COPY stores the
// chunks, in the same table with the same columns. It knows no catalogue, no
// hashes, nothing of a second run or of a crash in the middle.
func ingest(ctx context.Context, r *rig) ([]row, error) {
	b := &ingesting{rig: r, memory: "tree"}
	if err := r.addMemory(ctx, b.memory); err != nil {
		return nil, err
	}
	source, err := goSource(ctx)
	if err != nil {
		return nil, err
	}
	// Copying also brings the files into the cache, for both sides.
	if err := os.CopyFS(r.root(b.memory), os.DirFS(filepath.Join(source, r.source))); err != nil {
		return nil, fmt.Errorf("copy Go's source tree: %w", err)
	}
	rows, err := contest{
		reset: b.reset,
		plain: b.plain,
		ours:  []side{{figures: []figure{{"ingest, end to end", seconds, atMost(2.0)}}, run: b.ours}},
	}.run(ctx, r)
	if err != nil {
		return nil, err
	}
	rows[0].what = fmt.Sprintf("ingest of %d files into %d chunks, end to end", b.files, b.stored.chunks)
	return rows, nil
}

type ingesting struct {
	*rig
	memory string
	files  int64
	stored stored
}

// stored is what a memory holds, as far as both sides must agree.
type stored struct {
	chunks, bytes, hash int64
}

func (b *ingesting) reset(ctx context.Context) error {
	return b.exec(ctx, `TRUNCATE rehome.chunks, rehome.files, rehome.claims`, `VACUUM ANALYZE`, `CHECKPOINT`)
}

func (b *ingesting) plain(ctx context.Context) (float64, error) {
	began := time.Now()
	if err := b.copy(ctx); err != nil {
		return 0, fmt.Errorf("ingest by hand: %w", err)
	}
	took := time.Since(began)
	return took.Seconds(), b.agree(ctx)
}

// copy reads ahead of the COPY by some chunks.
func (b *ingesting) copy(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows := make(chan []any, 256)
	reading := make(chan error, 1)
	go func() {
		defer close(rows)
		reading <- b.read(ctx, rows)
	}()
	_, err := b.pool.CopyFrom(ctx, pgx.Identifier{"rehome", "chunks"}, []string{"memory", "path", "ordinal", "content"},
		pgx.CopyFromFunc(func() ([]any, error) { return <-rows, nil }))
	cancel() // when COPY has failed, the reading goes on
	return errors.Join(err, <-reading)
}

// read sends the chunks of all text files of the tree.
func (b *ingesting) read(ctx context.Context, rows chan<- []any) error {
	root, err := corpus.OpenRoot(b.root(b.memory))
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // nothing was written to it
	return fs.WalkDir(os.DirFS(b.root(b.memory)), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := root.ReadText(path, 0)
		if _, skip := errors.AsType[*corpus.Skip](err); skip {
			return nil
		}
		for i, piece := range corpus.Split(path, text.Content) {
			select {
			case rows <- []any{b.memory, path, i, piece.Content}:
			case <-ctx.Done():
				return nil // the error is COPY's
			}
		}
		return err
	})
}

func (b *ingesting) ours(ctx context.Context) ([]float64, error) {
	var result workflows.IngestResult
	took, err := b.starter(ctx, &result, "ingest", "--memory", b.memory)
	if err != nil {
		return nil, err
	}
	b.files = result.Files.New
	return []float64{took.Seconds()}, b.agree(ctx)
}

// agree checks that whoever has just stored the tree stored what the other did.
func (b *ingesting) agree(ctx context.Context) error {
	var now stored
	err := b.pool.QueryRow(ctx, `
		SELECT count(*), sum(octet_length(content)), sum(hashtextextended(path || ordinal || content, 0) >> 20)::bigint
		FROM rehome.chunks WHERE memory = $1`, b.memory).Scan(&now.chunks, &now.bytes, &now.hash)
	if err != nil {
		return fmt.Errorf("look at what was stored: %w", err)
	}
	if b.stored != (stored{}) && b.stored != now {
		return fmt.Errorf("the two sides stored different chunks: %+v and %+v", b.stored, now)
	}
	b.stored = now
	return nil
}
