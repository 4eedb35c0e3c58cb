package store

import (
	"bytes"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// File is a regular file of a root as ingest read it.
type File struct {
	Path    string // canonical key
	Raw     string
	Size    int64
	ModTime time.Time
	Hash    []byte   // sha256 of the content; nil when Skipped
	Skipped string   // why its text was left out
	Pieces  []string // of its text, in order
}

// SkippedInFlight is the reason of a file whose chunks a migration moves: it is
// left to the next ingest.
const SkippedInFlight = "in_flight"

// known is what the catalogue has of a path, and how many chunks there are of it.
type known struct {
	Path    string
	Raw     []byte
	Size    *int64 // nil: not in the catalogue
	ModTime *time.Time
	Hash    []byte
	Skipped *string
	Gone    bool
	Chunks  int
}

// alive reports whether the catalogue has the path as that of a living file.
func (k known) alive() bool { return k.Size != nil && !k.Gone }

// current reports whether f is what was ingested last, with all its chunks.
func (k known) current(f File) bool {
	return k.alive() && k.Hash != nil && bytes.Equal(k.Hash, f.Hash) && k.Chunks == len(f.Pieces)
}

// records reports whether the catalogue already says of the file what it would be told.
func (k known) records(f File) bool {
	skipped := ""
	if k.Skipped != nil {
		skipped = *k.Skipped
	}
	return k.alive() && string(k.Raw) == f.Raw && *k.Size == f.Size && k.ModTime.Equal(f.ModTime) &&
		bytes.Equal(k.Hash, f.Hash) && skipped == f.Skipped
}

// knownFiles looks up paths.
func knownFiles(ctx context.Context, tx pgx.Tx, memory string, paths []string) (map[string]known, error) {
	const query = `
		SELECT p.path, f.raw_path, f.size, f.mtime, f.content_hash, f.skipped, f.gone_at IS NOT NULL,
			(SELECT count(*) FROM rehome.chunks c WHERE c.memory = $1 AND c.path = p.path)
		FROM unnest($2::text[]) AS p (path)
		LEFT JOIN rehome.files f ON f.memory = $1 AND f.path = p.path`
	rows, err := tx.Query(ctx, query, memory, paths)
	if err != nil {
		return nil, err
	}
	found := make(map[string]known, len(paths))
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		k, err := pgx.RowToStructByPos[known](row)
		found[k.Path] = k
		return struct{}{}, err
	})
	return found, err
}

// pathsInFlight lists those of the paths between which a plan that is not over
// moves chunks. To compare their chunks with the file would mean to compare half
// of them.
func pathsInFlight(ctx context.Context, tx pgx.Tx, memory string, paths []string) ([]string, error) {
	const query = `
		SELECT DISTINCT key FROM rehome.migration_plans p
		JOIN rehome.migration_paths m USING (plan_id), unnest(ARRAY[m.old_key, m.new_key]) AS key
		WHERE $1 IN (p.memory, (SELECT target FROM rehome.migration_transfers x WHERE x.plan_id = p.plan_id)) AND p.status = ANY($2) AND key = ANY($3)`
	rows, err := tx.Query(ctx, query, memory, resilience.LiveStatuses(), paths)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// recordFiles writes files into the catalogue as living.
func recordFiles(ctx context.Context, tx pgx.Tx, memory string, files []File) error {
	if len(files) == 0 {
		return nil
	}
	const query = `
		INSERT INTO rehome.files (memory, path, raw_path, size, mtime, content_hash, skipped)
		SELECT $1, path, raw, size, mtime, hash, nullif(skipped, '')
		FROM unnest($2::text[], $3::bytea[], $4::bigint[], $5::timestamptz[], $6::bytea[], $7::text[])
			AS f (path, raw, size, mtime, hash, skipped)
		ON CONFLICT (memory, path) DO UPDATE
		SET raw_path = excluded.raw_path, size = excluded.size, mtime = excluded.mtime,
			content_hash = excluded.content_hash, skipped = excluded.skipped, seen_at = now(), gone_at = NULL`
	var (
		paths, skipped []string
		raw, hashes    [][]byte
		sizes          []int64
		times          []time.Time
	)
	for _, f := range files {
		paths, skipped = append(paths, f.Path), append(skipped, f.Skipped)
		raw, hashes = append(raw, []byte(f.Raw)), append(hashes, f.Hash)
		sizes, times = append(sizes, f.Size), append(times, f.ModTime)
	}
	_, err := tx.Exec(ctx, query, memory, paths, raw, sizes, times, hashes, skipped)
	return err
}
