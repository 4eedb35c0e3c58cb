package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// WalkedDir is a directory as the walk found it.
type WalkedDir struct {
	Key   string
	Error string // empty: read to its end
	Mount bool   // another file system is mounted here
}

// WalkedFile is a name in a directory.
type WalkedFile struct {
	Key     string // empty when the name cannot be one
	Fold    string
	Raw     string
	Kind    string
	Size    int64
	ModTime time.Time
}

// Walked is what a walk saw since it was last recorded. Files of a directory
// are never apart from it.
type Walked struct {
	Dirs  []WalkedDir
	Files []WalkedFile
}

// RecordWalk stores what a walk saw and moves the scan to the directory that
// was visited last, or to the next stage when the walk is over, in one
// transaction: an attempt that was given up for dead can record nothing twice.
func (s *Store) RecordWalk(ctx context.Context, scan Scan, at ScanPosition, seen Walked, over bool) (ScanPosition, error) {
	stage, last := StageWalk, at.At
	if n := len(seen.Dirs); n > 0 {
		last = seen.Dirs[n-1].Key
	}
	if over {
		stage, last = StageJudge, ""
	}
	at.Progress.Dirs += int64(len(seen.Dirs))
	at.Progress.Files += int64(len(seen.Files))
	for _, d := range seen.Dirs {
		if d.Error != "" {
			at.Progress.Unread++
		}
	}
	next := at
	err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
		if next, err = at.advanceTo(ctx, tx, stage, last); err != nil {
			return err
		}
		return copyWalked(ctx, tx, scan.ID, seen)
	})
	if err != nil {
		return at, fmt.Errorf("record the walk of scan %s: %w", scan.ID, err)
	}
	return next, nil
}

func copyWalked(ctx context.Context, tx pgx.Tx, scan string, seen Walked) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"rehome", "scan_dirs"}, []string{"scan_id", "path", "error", "mounted"},
		pgx.CopyFromSlice(len(seen.Dirs), func(i int) ([]any, error) {
			d := seen.Dirs[i]
			return []any{scan, d.Key, d.Error, d.Mount}, nil
		}))
	if err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"rehome", "scan_files"},
		[]string{"scan_id", "path", "fold", "raw_path", "kind", "size", "mtime"},
		pgx.CopyFromSlice(len(seen.Files), func(i int) ([]any, error) {
			f := seen.Files[i]
			return []any{scan, f.Key, f.Fold, []byte(f.Raw), f.Kind, f.Size, f.ModTime}, nil
		}))
	return err
}

// JudgeSources gives every source that the walk did not see its first verdict.
// It is missing only when the deepest directory on its way that the walk found
// was read to its end; everything else is unknown. Files of the catalogue that
// have no chunks are judged with them, and so are those where aliases lead. Where another file system was mounted in
// an earlier scan nothing is missing now: its mount point is readable and empty.
//
// The verdict is one statement, which counts the evidence it judges by: when
// any of it is gone, nothing is missing and the scan ends with ErrVerify.
func (s *Store) JudgeSources(ctx context.Context, scan Scan) (int64, error) {
	at, err := s.ScanPosition(ctx, scan)
	if err != nil || at.Stage != StageJudge {
		return at.Progress.Suspects, err
	}
	// The evidence was just written in bulk: without statistics the planner takes
	// it for a handful of rows, and compares each with every other.
	if _, err := s.pool.Exec(ctx, `ANALYZE rehome.scan_sources, rehome.scan_dirs, rehome.scan_files, rehome.files`); err != nil {
		return 0, fmt.Errorf("look at the evidence of scan %s: %w", scan.ID, interpret(err))
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, addCatalogue, pgx.NamedArgs{"scan": scan.ID, "memory": scan.Memory}); err != nil {
			return err
		}
		var whole bool
		err := tx.QueryRow(ctx, judge, pgx.NamedArgs{"scan": scan.ID, "dirs": at.Progress.Dirs, "files": at.Progress.Files}).
			Scan(&at.Progress.Suspects, &whole)
		if err != nil {
			return err
		}
		if !whole {
			return problem(ErrVerify, "the evidence of scan %s is not complete any more: somebody removed rows of it; scan again", scan.ID)
		}
		_, err = at.advanceTo(ctx, tx, StageRecheck, "0")
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("judge the sources of scan %s: %w", scan.ID, err)
	}
	return at.Progress.Suspects, nil
}

// addCatalogue lists what is to be judged besides the sources of chunks: files of
// the catalogue, and files that sources are said to be now.
const addCatalogue = `
	INSERT INTO rehome.scan_sources (scan_id, ordinal, path, chunks, bytes)
	SELECT @scan, (SELECT count(*) FROM rehome.scan_sources WHERE scan_id = @scan) + row_number() OVER (), path, 0, 0
	FROM (
		(SELECT path FROM rehome.files
			WHERE memory = @memory AND gone_at IS NULL AND seen_at < (SELECT cutoff FROM rehome.scans WHERE scan_id = @scan)
		UNION
		SELECT rehome.where_is(@memory, path) COLLATE "C" FROM (
			SELECT path FROM rehome.scan_sources WHERE scan_id = @scan AND path IS NOT NULL
			EXCEPT SELECT path FROM rehome.scan_files WHERE scan_id = @scan) unseen
		WHERE EXISTS (SELECT FROM rehome.version_aliases WHERE memory = @memory))
		EXCEPT SELECT path FROM rehome.scan_files WHERE scan_id = @scan
		EXCEPT SELECT path FROM rehome.scan_sources WHERE scan_id = @scan) f`

// mountsBefore are those of the scan before, unless a person said that what is
// missing is right.
const mountsBefore = `coalesce((
		SELECT b.mounts FROM rehome.scans n JOIN rehome.scans b ON b.memory = n.memory AND b.cutoff < n.cutoff
		WHERE n.scan_id = @scan AND NOT (n.policy->>'accept_shrinkage')::boolean AND b.status IN ('complete', 'incomplete')
		ORDER BY b.cutoff DESC LIMIT 1), '{}')`

const judge = `
	WITH whole AS (
		SELECT (SELECT status = 'running' FROM rehome.scans WHERE scan_id = @scan)
			AND (SELECT count(*) FROM rehome.scan_dirs WHERE scan_id = @scan) = @dirs
			AND (SELECT count(*) FROM rehome.scan_files WHERE scan_id = @scan) = @files AS holds,
			` + mountsBefore + ` AS mounts),
	read_to_end AS (
		SELECT path FROM rehome.scan_dirs WHERE scan_id = @scan GROUP BY path HAVING bool_and(error = '')),
	unseen AS MATERIALIZED (
		SELECT s.ordinal, s.path FROM rehome.scan_sources s
		WHERE s.scan_id = @scan AND s.path IS NOT NULL AND NOT EXISTS (
			SELECT FROM rehome.scan_files f WHERE f.scan_id = @scan AND f.path = s.path AND f.kind IN ('file', 'symlink', 'other'))), -- the name is there, whatever stands behind it,
	on_the_way AS (
		SELECT u.ordinal, p.path, p.depth, f.kind, count(*) OVER (PARTITION BY u.ordinal, p.path) AS names
		FROM unseen u
		CROSS JOIN LATERAL unnest(rehome.path_prefixes(u.path)) WITH ORDINALITY AS p (path, depth)
		JOIN rehome.scan_files f ON f.scan_id = @scan AND f.path = p.path),
	deepest AS (
		SELECT DISTINCT ON (ordinal) ordinal, path, kind = 'dir' AND names = 1 AND depth > 1 AS passable
		FROM on_the_way ORDER BY ordinal, depth),
	judged AS (
		UPDATE rehome.scan_sources s
		SET witness = coalesce(d.path, '.'),
			verdict = CASE WHEN (SELECT holds FROM whole) AND coalesce(d.passable, true) AND r.path IS NOT NULL
					AND NOT rehome.path_prefixes(u.path) && (SELECT mounts FROM whole)
				THEN 'missing' ELSE 'unknown' END
		FROM unseen u
		LEFT JOIN deepest d USING (ordinal)
		LEFT JOIN read_to_end r ON r.path = coalesce(d.path, '.')
		WHERE s.scan_id = @scan AND s.ordinal = u.ordinal
		RETURNING s.verdict)
	SELECT (SELECT count(*) FROM judged WHERE verdict = 'missing'), (SELECT holds FROM whole)`

// Suspect is a source that was not seen, with its possible spellings on disk.
type Suspect struct {
	Ordinal   int64
	Path      string
	Spellings [][]byte
}

// spellings is an array of the names under which a source may stand on disk: by
// its key in both normal forms, as the table spells it, and as the catalogue
// has it. A file that is found under any of them is alive.
const spellings = `ARRAY[convert_to(s.path, 'UTF8'), convert_to(normalize(s.path, NFD), 'UTF8'),
	coalesce(convert_to(rehome.path_rest(s.locator, @prefix), 'UTF8'), f.raw_path), coalesce(f.raw_path, convert_to(s.path, 'UTF8'))]`

// Suspects returns the next missing sources to look at once more.
func (s *Store) Suspects(ctx context.Context, scan Scan, at ScanPosition, limit int) ([]Suspect, error) {
	memory, err := s.Memory(ctx, scan.Memory)
	if err != nil {
		return nil, err
	}
	const query = `
		SELECT s.ordinal, s.path, ` + spellings + `
		FROM rehome.scan_sources s LEFT JOIN rehome.files f ON f.memory = @memory AND f.path = s.path
		WHERE s.scan_id = @scan AND s.verdict = 'missing' AND s.ordinal > @after::text::bigint
		ORDER BY s.ordinal LIMIT @limit`
	rows, err := s.pool.Query(ctx, query, pgx.NamedArgs{
		"scan": scan.ID, "memory": scan.Memory,
		"prefix": memory.Mapping.StripPrefix, "after": at.At, "limit": limit,
	})
	if err != nil {
		return nil, fmt.Errorf("list what scan %s missed: %w", scan.ID, interpret(err))
	}
	suspects, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Suspect])
	if err != nil {
		return nil, fmt.Errorf("list what scan %s missed: %w", scan.ID, interpret(err))
	}
	return suspects, nil
}

// Look is what a second look at a suspect found.
type Look struct {
	Ordinal int64
	Class   resilience.Class // missing still, alive, or unknown
	Folds   []string         // of its path and the directories above it
}

// RecordLooks stores what the second look found and moves on, in one
// transaction. With none, the stage is over.
func (s *Store) RecordLooks(ctx context.Context, scan Scan, at ScanPosition, looks []Look) (ScanPosition, error) {
	stage, last := StageFinish, ""
	args := struct {
		ordinals       []int64
		classes, folds []string
	}{}
	for _, l := range looks {
		stage, last = StageRecheck, strconv.FormatInt(l.Ordinal, 10)
		args.ordinals = append(args.ordinals, l.Ordinal)
		args.classes = append(args.classes, string(l.Class))
		args.folds = append(args.folds, strings.Join(l.Folds, "\n")) // which no key holds
	}
	at.Progress.Looked += int64(len(looks))
	next := at
	err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
		if next, err = at.advanceTo(ctx, tx, stage, last); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE rehome.scan_sources s
			SET verdict = nullif(l.class, 'alive'), folds = string_to_array(l.folds, E'\n')
			FROM unnest($2::bigint[], $3::text[], $4::text[]) AS l (ordinal, class, folds)
			WHERE s.scan_id = $1 AND s.ordinal = l.ordinal`,
			scan.ID, args.ordinals, args.classes, args.folds)
		return err
	})
	if err != nil {
		return at, fmt.Errorf("record the second look of scan %s: %w", scan.ID, err)
	}
	return next, nil
}
