package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// IngestBatch is a number of files to store in one transaction.
type IngestBatch struct {
	Files  []File              // no path twice
	Next   string              // the claim's cursor behind them
	Counts resilience.Ingested // of the run so far, without these files
}

// Builtin returns the memory called name, or ErrRefused when its chunks are not
// rehome's to write.
func (s *Store) Builtin(ctx context.Context, name string) (resilience.Memory, error) {
	memory, err := s.Memory(ctx, name)
	if err == nil && !memory.Builtin {
		err = problem(ErrRefused, "memory %s maps the table %s.%s of an application, which fills it itself; only builtin memories can be ingested", name, memory.Mapping.Schema, memory.Mapping.Table)
	}
	return memory, err
}

// Ingest stores a batch of files of a builtin memory and moves the claim on
// behind it, in one transaction. A chunk whose text is still in its file stays
// as it is, whatever the application has put into it; one whose text was edited
// away goes to quarantine. A file that is as it was costs no write. It returns
// the counts with the batch; ErrFenced means that another attempt has been here.
func (s *Store) Ingest(ctx context.Context, memory resilience.Memory, claim Claim, batch IngestBatch) (resilience.Ingested, error) {
	counts := batch.Counts.Clone()
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		// A plan kept from when the tables were empty would read all of them for
		// each batch.
		if _, err := tx.Exec(ctx, `SELECT set_config('plan_cache_mode', 'force_custom_plan', true)`); err != nil {
			return err
		}
		if err := advance(ctx, tx, claim, batch.Next, counts); err != nil {
			return err
		}
		in := ingest{tx: tx, memory: memory, run: claim.RunID, counts: &counts}
		if err := in.store(ctx, batch.Files); err != nil {
			return err
		}
		// The cursor had to move first, as the fence; what came of it is known only now.
		claim.Cursor = batch.Next
		return advance(ctx, tx, claim, batch.Next, counts)
	})
	if err != nil {
		return batch.Counts, fmt.Errorf("ingest into memory %s: %w", memory.Name, err)
	}
	return counts, nil
}

// ingest is one transaction of an ingest.
type ingest struct {
	tx     pgx.Tx
	memory resilience.Memory
	run    string
	counts *resilience.Ingested
}

func (in ingest) store(ctx context.Context, files []File) error {
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.Path
	}
	inFlight, err := pathsInFlight(ctx, in.tx, in.memory.Name, paths)
	if err != nil {
		return err
	}
	have, err := knownFiles(ctx, in.tx, in.memory.Name, paths)
	if err != nil {
		return err
	}
	var record, changed []File
	for _, f := range files {
		if slices.Contains(inFlight, f.Path) {
			in.counts.Skip(SkippedInFlight)
			continue
		}
		if in.count(f, have[f.Path]) {
			changed = append(changed, f)
		}
		if !have[f.Path].records(f) {
			record = append(record, f)
		}
	}
	if err := in.replaceChunks(ctx, changed); err != nil {
		return err
	}
	return recordFiles(ctx, in.tx, in.memory.Name, record)
}

// count adds a file to the counts and reports whether its chunks are to be
// brought up to date.
func (in ingest) count(f File, have known) bool {
	if f.Skipped != "" {
		in.counts.Skip(f.Skipped)
		return false
	}
	in.counts.Files.Seen++
	in.counts.Bytes += f.Size
	switch {
	case have.current(f):
		in.counts.Files.Unchanged++
		in.counts.Chunks.Kept += int64(len(f.Pieces))
		return false
	case have.alive():
		in.counts.Files.Changed++
	default:
		in.counts.Files.New++
	}
	return true
}

// replaceChunks makes the chunks of files those of their present text.
func (in ingest) replaceChunks(ctx context.Context, files []File) error {
	if len(files) == 0 {
		return nil
	}
	rows, err := in.lockChunks(ctx, files)
	if err != nil {
		return err
	}
	var (
		replaced []string
		moved    []resilience.ChunkPlace
		added    [][]any
	)
	for _, f := range files {
		diff := resilience.DiffChunks(rows[f.Path], f.Pieces)
		in.counts.Chunks.New += int64(len(diff.Insert))
		in.counts.Chunks.Kept += int64(diff.Kept)
		in.counts.Chunks.Replaced += int64(len(diff.Replaced))
		replaced, moved = append(replaced, diff.Replaced...), append(moved, diff.Moved...)
		for _, at := range diff.Insert {
			added = append(added, []any{in.memory.Name, f.Path, at, f.Pieces[at]})
		}
	}
	if err := quarantineReplaced(ctx, in.tx, in.memory, replaced, in.run); err != nil {
		return err
	}
	if err := in.place(ctx, moved); err != nil {
		return err
	}
	_, err = in.tx.CopyFrom(ctx, pgx.Identifier{"rehome", "chunks"}, []string{"memory", "path", "ordinal", "content"}, pgx.CopyFromRows(added))
	return err
}

// lockChunks reads the chunks of files and keeps them where they are until the
// transaction ends: a migration must not carry one away that is then replaced.
func (in ingest) lockChunks(ctx context.Context, files []File) (map[string][]resilience.Chunk, error) {
	const query = `
		SELECT c.path, c.id::text, c.ordinal, c.content,
			EXISTS (SELECT FROM rehome.holds h WHERE h.memory = c.memory AND h.chunk_id = c.id::text)
		FROM rehome.chunks c WHERE c.memory = $1 AND c.path = ANY($2)
		ORDER BY c.id FOR UPDATE OF c`
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.Path
	}
	rows, err := in.tx.Query(ctx, query, in.memory.Name, paths)
	if err != nil {
		return nil, err
	}
	found := map[string][]resilience.Chunk{}
	var path string
	var c resilience.Chunk
	_, err = pgx.ForEachRow(rows, []any{&path, &c.ID, &c.Ordinal, &c.Content, &c.Held}, func() error {
		found[path] = append(found[path], c)
		return nil
	})
	return found, err
}

// place gives chunks that stay the places they have now.
func (in ingest) place(ctx context.Context, moved []resilience.ChunkPlace) error {
	if len(moved) == 0 {
		return nil
	}
	ids, ordinals := make([]string, len(moved)), make([]int, len(moved))
	for i, m := range moved {
		ids[i], ordinals[i] = m.ID, m.Ordinal
	}
	_, err := in.tx.Exec(ctx, `
		UPDATE rehome.chunks c SET ordinal = m.ordinal
		FROM unnest($1::text[], $2::integer[]) AS m (id, ordinal) WHERE c.id = m.id::bigint`, ids, ordinals)
	return err
}
