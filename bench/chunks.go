package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// crop is what the chunks of a memory are like.
type crop struct {
	rows     int
	least    int // bytes of text
	most     int
	embedded bool
	perFile  int
}

// The two crops of a scale.
func (s scale) large() crop { return crop{s.chunks, 1_500, 1_500, true, 20} }
func (s scale) small() crop { return crop{s.smallChunks, 60, 100, false, 10} }

func (c crop) String() string {
	if c.embedded {
		return fmt.Sprintf("%d chunks", c.rows)
	}
	return fmt.Sprintf("%d small chunks", c.rows)
}

const (
	dimensions  = 384
	filesPerDir = 50
)

// fill stores chunks of real text below a directory, each with an embedding, if
// it has one, that as real ones cannot be compressed. Columns are those for
// path, ordinal, text and embedding, after those for the values that all have.
func (c crop) fill(ctx context.Context, r *rig, table pgx.Identifier, dir string, columns []string, all ...any) error {
	source, err := text(ctx, min(c.rows*c.most, 100<<20))
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	var embedding []float32
	if c.embedded {
		embedding = make([]float32, dimensions)
	}
	row := func(i int) ([]any, error) {
		for d := range embedding {
			embedding[d] = random.Float32()*2 - 1
		}
		file, size := i/c.perFile, c.least+random.IntN(c.most-c.least+1)
		from := i * c.most % (len(source) - c.most)
		content := strings.ToValidUTF8(source[from:from+size], "?") // a cut may go through a letter
		return append(slices.Clone(all), fileAt(dir, file), i%c.perFile, content, embedding), nil
	}
	_, err = r.pool.CopyFrom(ctx, table, columns, pgx.CopyFromSlice(c.rows, row))
	return err
}

// fileAt is the path of a file of those below a directory.
func fileAt(dir string, file int) string {
	return fmt.Sprintf("%s/section-%04d/page-%06d.md", dir, file/filesPerDir, file)
}

// What migrations leave behind; what refers to a plan goes with it.
const leftBehind = `rehome.files, rehome.version_aliases, rehome.migration_plans, rehome.migration_paths, rehome.migration_runs,
	rehome.migration_documents, rehome.migration_exceptions, rehome.migration_events, rehome.migration_aliases, rehome.migration_files`

// forgetPlans empties what is kept of files, aliases and migrations; forget does
// so with what was learned and what was put away, too.
const (
	forgetPlans = `TRUNCATE ` + leftBehind + ` CASCADE`
	forget      = `TRUNCATE ` + leftBehind + `, rehome.quarantine, rehome.migration_copies, rehome.performance_samples CASCADE`
)
