package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

var renameListNotes = []string{
	"The list has a line for each file. rehome reads it by `--moves`, and keeps it before planning begins: that is in **end to end** alone.",
	"By hand it is copied into a temporary table with a primary key on the old path, by which one `UPDATE … FROM` renames the chunks, in one transaction.",
}

// renameList lets many small chunks follow their files, each of which is named by a list.
func renameList(ctx context.Context, r *rig) ([]row, error) {
	b, err := newListing(ctx, r)
	if err != nil {
		return nil, err
	}
	return contest{kind: "rename", reset: b.reset, plain: b.byHand, ours: []side{
		b.side("immediate", 0, 1.35),
		b.batchAndBack(limits{batch: 1.5, undo: 1.7}),
	}}.run(ctx, r)
}

// listing is a renaming by lists of the files, one for each direction.
type listing struct{ *renaming }

func newListing(ctx context.Context, r *rig) (listing, error) {
	c := r.small()
	b, err := newRenaming(ctx, r, "renamed-list", c)
	if err != nil {
		return listing{}, err
	}
	files := (c.rows + c.perFile - 1) / c.perFile
	l := listing{b}
	b.what = fmt.Sprintf("rename of %s by a list of %d files", c, files)
	b.plain, b.order = l.copyAndUpdate, func() []string { return []string{"--moves", l.path(b.at)} }
	return l, errors.Join(l.write(b.at, b.to, files), l.write(b.to, b.at, files))
}

// path is where the list lies that takes files away from a directory.
func (l listing) path(from string) string { return filepath.Join(l.dir, "moves-"+from+".csv") }

func (l listing) write(from, to string, files int) (err error) {
	f, err := os.Create(l.path(from))
	if err != nil {
		return fmt.Errorf("write the list of renames: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	for file := range files {
		if _, err := fmt.Fprintf(w, "%s,%s\n", fileAt(from, file), fileAt(to, file)); err != nil {
			return fmt.Errorf("write the list of renames: %w", err)
		}
	}
	return w.Flush()
}

func (l listing) copyAndUpdate(ctx context.Context) (err error) {
	list, err := os.Open(l.path(l.at))
	if err != nil {
		return fmt.Errorf("read the list of renames: %w", err)
	}
	defer func() { err = errors.Join(err, list.Close()) }()
	return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TEMP TABLE list (source text COLLATE "C" PRIMARY KEY, target text COLLATE "C" NOT NULL) ON COMMIT DROP`); err != nil {
			return err
		}
		if _, err := tx.Conn().PgConn().CopyFrom(ctx, list, `COPY list FROM STDIN (FORMAT csv)`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE rehome.chunks c SET path = l.target FROM list l WHERE c.memory = $1 AND c.path = l.source`, l.memory)
		return err
	})
}
