package main

import (
	"context"
	"fmt"
	"os"

	"rehome/workflows"
)

func (d *demo) begin(ctx context.Context) (string, error) {
	if err := copyGoSource(ctx, d.tree.root); err != nil {
		return "", err
	}
	files, err := d.tree.files()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(d.out, "   %d files of Go's source copied to %s\n", len(files), d.tree.root)
	if _, err := command[any](ctx, d, "memory", "add", demoMemory, "--root", d.tree.root); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d files", len(files)), d.claims(
		claim{"more than 5,000 files", true, len(files) > 5000},
		claim{"chunks in the memory's table", int64(0), d.count(ctx, `SELECT count(*) FROM rehome.chunks`)},
	)
}

func (d *demo) ingest(ctx context.Context) (string, error) {
	files, err := d.tree.files()
	if err != nil {
		return "", err
	}
	r, err := command[workflows.IngestResult](ctx, d, "ingest", "--memory", demoMemory)
	if err != nil {
		return "", err
	}
	d.remember(ctx, "the ingest", r.WorkflowID)
	sample := "fmt/print.go"
	text, err := os.ReadFile(d.tree.at(sample))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d chunks of %s", r.Chunks.New, size(r.Bytes)), d.claims(
		claim{"every file was looked at", int64(len(files)), r.Files.Seen},
		claim{"the table has the chunks that were counted", r.Chunks.New, d.count(ctx, `SELECT count(*) FROM rehome.chunks`)},
		claim{"the bytes of all chunks are those of all files read", r.Bytes, d.count(ctx, `SELECT sum(octet_length(content)) FROM rehome.chunks`)},
		claim{"the chunks of " + sample + ", put together, are that file", true, string(text) == ask[string](ctx, d, `
			SELECT string_agg(content, '' ORDER BY ordinal) FROM rehome.chunks WHERE path = $1`, sample)},
	)
}

// fillEmbeddings is what an application does after an ingest: it computes what
// is missing. A hash of the text stands for the model, so that it is cheap and
// every text has its own vector.
const fillEmbeddings = `
	UPDATE rehome.chunks SET embedding = (
		SELECT array_agg((get_byte(bytes, i) / 255.0)::real ORDER BY i)
		FROM sha256(convert_to(content, 'UTF8')) AS bytes, generate_series(0, 7) i)
	WHERE embedding IS NULL`

func (d *demo) embed(ctx context.Context) (string, error) {
	fmt.Fprintln(d.out, "   UPDATE rehome.chunks SET embedding = … WHERE embedding IS NULL")
	empty := d.count(ctx, `SELECT count(*) FROM rehome.chunks WHERE embedding IS NULL`)
	filled := d.exec(ctx, fillEmbeddings)
	d.exec(ctx, `ANALYZE rehome.chunks`)
	d.exec(ctx, `CREATE SCHEMA demo`)
	d.snapshot(ctx, "first")
	return fmt.Sprintf("%d embeddings", filled), d.claims(
		claim{"ingest left the embeddings of all chunks to the application", d.count(ctx, `SELECT count(*) FROM rehome.chunks`), empty},
		claim{"chunks without an embedding now", int64(0), d.count(ctx, `SELECT count(*) FROM rehome.chunks WHERE embedding IS NULL`)},
	)
}

func (d *demo) reorganise(ctx context.Context) (string, error) {
	done, err := d.tree.reorganise()
	if err != nil {
		return "", err
	}
	d.done = done
	for _, r := range done.dirs {
		fmt.Fprintf(d.out, "   mv %s %s\n", r.Old, r.New)
	}
	fmt.Fprintf(d.out, "   mv of %d files into another folder, the first: %s %s\n", len(done.files), done.files[0].Old, done.files[0].New)
	fmt.Fprintf(d.out, "   %d files edited, the first: %s\n", len(done.edited), done.edited[0])
	fmt.Fprintf(d.out, "   %d files deleted, the first: %s\n", len(done.deleted), done.deleted[0])
	d.exec(ctx, `CREATE TABLE demo.moved (old text PRIMARY KEY, new text NOT NULL)`)
	for _, r := range append(done.dirs, done.files...) {
		d.exec(ctx, `
			INSERT INTO demo.moved SELECT path, $2 || substr(path, length($1) + 1) FROM rehome.files
			WHERE path = $1 OR starts_with(path, $1 || '/')`, r.Old, r.New)
	}
	d.exec(ctx, `CREATE TABLE demo.edited AS SELECT unnest($1::text[]) AS path`, done.edited)
	d.exec(ctx, `CREATE TABLE demo.deleted AS SELECT unnest($1::text[]) AS path`, done.deleted)
	moved := d.count(ctx, `SELECT count(*) FROM demo.moved`)
	return fmt.Sprintf("%d files moved, %d edited, %d deleted", moved, len(done.edited), len(done.deleted)), d.err
}

func (d *demo) reingest(ctx context.Context) (string, error) {
	before := d.count(ctx, `SELECT count(*) FROM rehome.chunks JOIN demo.edited USING (path)`)
	r, err := command[workflows.IngestResult](ctx, d, "ingest", "--memory", demoMemory)
	if err != nil {
		return "", err
	}
	d.remember(ctx, "the second ingest", r.WorkflowID)
	whole, err := d.wholeFiles(ctx, d.done.edited)
	if err != nil {
		return "", err
	}
	const kept = `
		SELECT count(*) FROM rehome.chunks c JOIN demo.first f USING (id) JOIN demo.edited e ON e.path = c.path
		WHERE md5(array_send(c.embedding)) = f.embedding`
	err = d.claims(
		claim{"every edited file has chunks that were replaced, and chunks that were kept", true, r.Chunks.Replaced >= editedFiles && r.Chunks.Replaced < before},
		claim{"kept chunks of edited files have their embedding", before - r.Chunks.Replaced, d.count(ctx, kept)},
		claim{"replaced chunks are in quarantine, all of them of edited files", r.Chunks.Replaced, d.count(ctx, `
			SELECT count(*) FROM rehome.quarantined q JOIN demo.edited e ON e.path = q.file_path WHERE q.reason = 'replaced'`)},
		claim{"the chunks of each edited file, put together, are that file", len(d.done.edited), whole},
		claim{"only the new chunks of edited files want an embedding", r.Chunks.New, d.count(ctx, `
			SELECT count(*) FROM rehome.chunks c JOIN demo.edited USING (path) WHERE c.embedding IS NULL`)},
	)
	if err != nil {
		return "", err
	}
	filled := d.exec(ctx, fillEmbeddings)
	return fmt.Sprintf("%d of %d chunks replaced", r.Chunks.Replaced, before), d.claims(
		claim{"embeddings the application had to compute after all of this", r.Chunks.New, filled},
	)
}

// wholeFiles counts the files whose chunks, put together, are the file.
func (d *demo) wholeFiles(ctx context.Context, keys []string) (int, error) {
	whole := 0
	for _, key := range keys {
		text, err := os.ReadFile(d.tree.at(key))
		if err != nil {
			return whole, err
		}
		if string(text) == ask[string](ctx, d, `SELECT string_agg(content, '' ORDER BY ordinal) FROM rehome.chunks WHERE path = $1`, key) {
			whole++
		}
	}
	return whole, nil
}
