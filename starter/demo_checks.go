package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"

	"rehome/activities"
)

// claim is something the demo says, with what would make it true and what is.
type claim struct {
	what      string
	want, got any
}

// claims says what holds, and returns an error at the first claim that does not.
func (d *demo) claims(list ...claim) error {
	if d.err != nil {
		return d.err
	}
	for _, c := range list {
		if !reflect.DeepEqual(c.want, c.got) {
			return fmt.Errorf("this claim does not hold: %s; expected %v, got %v", c.what, c.want, c.got)
		}
		d.held++
		if c.got == true {
			fmt.Fprintf(d.out, "   ✓ %s\n", c.what)
			continue
		}
		fmt.Fprintf(d.out, "   ✓ %s: %v\n", c.what, c.got)
	}
	return nil
}

// ask asks the database for one value. An error is kept for the next claims.
func ask[T any](ctx context.Context, d *demo, query string, args ...any) T {
	var answer T
	if err := d.sql.QueryRow(ctx, query, args...).Scan(&answer); err != nil && d.err == nil {
		d.err = fmt.Errorf("ask the database: %w; the question was %s", err, query)
	}
	return answer
}

// count asks for a number.
func (d *demo) count(ctx context.Context, query string, args ...any) int64 {
	return ask[int64](ctx, d, query, args...)
}

// exec changes something in the database, as an application would.
func (d *demo) exec(ctx context.Context, statement string, args ...any) int64 {
	tag, err := d.sql.Exec(ctx, statement, args...)
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("change the database: %w; the statement was %s", err, statement)
	}
	return tag.RowsAffected()
}

// restOfRow covers every byte of a chunk's row but its path.
const restOfRow = `md5(record_send(ROW(c.id, c.memory, c.ordinal, c.content, c.embedding, c.created_at)))`

// checksum covers every byte of every row of the memory's table.
func (d *demo) checksum(ctx context.Context) string {
	return ask[string](ctx, d, `SELECT md5(string_agg(md5(record_send(c)), '' ORDER BY id)) FROM rehome.chunks c`)
}

// snapshot keeps what every chunk was, to compare with later: its path, and
// hashes of all the rest and of the embedding alone.
func (d *demo) snapshot(ctx context.Context, name string) {
	d.exec(ctx, fmt.Sprintf(`
		CREATE TABLE demo.%s AS
		SELECT id, path, `+restOfRow+` AS rest, md5(array_send(embedding)) AS embedding FROM rehome.chunks c`, name))
	d.exec(ctx, fmt.Sprintf(`ALTER TABLE demo.%s ADD PRIMARY KEY (id)`, name))
}

// remember keeps the last run of a workflow for the list at the end.
func (d *demo) remember(ctx context.Context, what, id string) {
	link, err := d.stage.link(ctx, id)
	if err != nil && d.err == nil {
		d.err = err
	}
	d.runs = append(d.runs, demoRun{what, link})
}

// command runs a command line as a user would type it, in this process, and
// returns its result. What it prints is shown.
func command[T any](ctx context.Context, d *demo, args ...string) (T, error) {
	fmt.Fprintf(d.out, "   $ starter %s\n", typed(args))
	var result T
	indented := &indent{to: d.out}
	p := process{in: strings.NewReader(""), out: indented, err: indented, env: d.stage.env, dir: d.stage.running.Dir}
	if isTerminal(d.talk.err) {
		p.err = d.talk.err // for the progress bar
	}
	p.tuning.Heartbeat = activities.Duration(silence)
	p.seen = func(shown any) { result, _ = shown.(T) }
	if code := execute(ctx, p, args); code != exitDone {
		return result, fmt.Errorf("`starter %s` ended with exit code %d, expected 0", typed(args), code)
	}
	return result, nil
}

// typed writes arguments as they are typed into a shell. Of many renames the
// first is enough.
func typed(args []string) string {
	var words []string
	renames := 0
	for i, a := range args {
		if a == "--rename" {
			renames++
		}
		if renames > 1 && (a == "--rename" || args[i-1] == "--rename") {
			continue
		}
		if strings.ContainsAny(a, " '\\>") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	if renames > 1 {
		words = append(words, fmt.Sprintf("(and %d more --rename)", renames-1))
	}
	return strings.Join(words, " ")
}

// indent puts the output of commands below the step they belong to.
type indent struct {
	to     io.Writer
	within bool // a line that was begun
}

func (i *indent) Write(text []byte) (int, error) {
	var b bytes.Buffer // one write, since another command may write at the same time
	for line := range bytes.Lines(text) {
		if !i.within {
			b.WriteString("   ")
		}
		b.Write(line)
		i.within = !bytes.HasSuffix(line, []byte("\n"))
	}
	_, err := i.to.Write(b.Bytes())
	return len(text), err
}
