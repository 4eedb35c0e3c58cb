package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	strategiesPage = "../docs/strategies.md"
	// writeDocs in the environment puts what the commands really print into the
	// page: of each answer the rows that stand in it already.
	writeDocs = "REHOME_WRITE_DOCS"
	cut       = "…" // stands for rows that are not shown between others
)

// example is a command of the page and what it is said to print.
type example struct {
	command string
	output  []string
	at      int // its line
}

// needsVector stands before a block whose commands need pgvector.
const needsVector = "<!-- only with pgvector -->"

// examples reads the blocks of a page in which commands stand with their output.
func examples(page []string, pgvector bool) []example {
	var all []example
	inside := false
	for i, line := range page {
		switch {
		case line == "```console":
			inside = pgvector || page[i-1] != needsVector
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside && strings.HasPrefix(line, "$ "):
			all = append(all, example{command: line[2:], at: i})
		case inside:
			last := &all[len(all)-1]
			last.output = append(last.output, line)
		}
	}
	return all
}

var (
	planID     = regexp.MustCompile(`m-\d{8}-\d{4}-[a-z2-7]{4}`)
	volatile   = regexp.MustCompile(`[0-9][0-9.,]*( ?(ms|s|m|h|B|KiB|MiB))?\b`)
	spaces     = regexp.MustCompile(` {2,}`)
	eventRow   = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ([^:]+?)( by |:|$)`)
	steadyRows = []string{"status", "strategy", "chunks", "undoes", "undone by", "way", "rename"}
)

// rowName is what tells a row from the others of an answer: of an event, what
// happened.
func rowName(line string) string {
	if event := eventRow.FindStringSubmatch(line); event != nil {
		return event[1]
	}
	return spaces.Split(strings.TrimRight(line, " "), 2)[0]
}

// shape is what has to be the same of a row each time: its name, and the words
// of those that do not depend on the machine or on the version of Go.
func shape(line string) string {
	cells := spaces.Split(strings.TrimRight(line, " "), 2)
	if len(cells) == 2 && !slices.Contains(steadyRows, cells[0]) {
		return rowName(line)
	}
	return volatile.ReplaceAllString(planID.ReplaceAllString(strings.Join(cells, " "), "ID"), "N")
}

// matches finds each row of the page in the answer, in order. Reasons, which are
// set in, are as many as there are on the day.
func (e example) matches(t *testing.T, answer []string) {
	t.Helper()
	setIn := func(line string) bool { return strings.HasPrefix(line, " ") }
	answer, e.output = slices.DeleteFunc(answer, setIn), slices.DeleteFunc(slices.Clone(e.output), setIn)
	at := 0
	for i, line := range e.output {
		if line == cut {
			continue
		}
		found := slices.IndexFunc(answer[at:], func(a string) bool { return shape(a) == shape(line) })
		require.GreaterOrEqual(t, found, 0, "the page says %q, and `%s` (line %d) printed\n%s", line, e.command, e.at+1, strings.Join(answer, "\n"))
		if i > 0 && e.output[i-1] != cut {
			require.Zero(t, found, "the page leaves out what `%s` (line %d) printed before %q", e.command, e.at+1, line)
		}
		at += found + 1
	}
}

// shown is what the page is to show of an answer: the rows that it names, or all
// where it shows none yet.
func (e example) shown(answer []string) []string {
	if len(e.output) == 0 {
		return answer
	}
	var kept []string
	for _, line := range answer {
		named := slices.ContainsFunc(e.output, func(o string) bool {
			return rowName(o) == rowName(line)
		})
		switch {
		case named:
			kept = append(kept, strings.TrimRight(line, " "))
		case len(kept) > 0 && kept[len(kept)-1] != cut:
			kept = append(kept, cut)
		}
	}
	if n := len(kept); n > 0 && kept[n-1] == cut {
		kept = kept[:n-1]
	}
	return kept
}

// words splits a command as a shell does: what stands in ' is one word.
func words(command string) []string {
	all := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(command, -1)
	for i := range all {
		all[i] = strings.Trim(all[i], "'")
	}
	return all
}

// patiently runs a command that must be done. Who follows the page types slower
// than a test: a plan that was approved has begun by then.
func (b *bundle) patiently(args ...string) answer {
	b.t.Helper()
	a := b.run(args...)
	for patience := time.Now().Add(30 * time.Second); strings.Contains(a.err, "is queued") && time.Now().Before(patience); {
		a = b.run(args...)
	}
	require.Equal(b.t, exitDone, a.code, "%s\n%s", strings.Join(args, " "), a.err)
	return a
}

// TestStrategiesExamples does what docs/strategies.md shows, line by line, on the
// source tree that it names, and compares what is printed with what it says.
func TestStrategiesExamples(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(strategiesPage)
	require.NoError(t, err)
	page := strings.Split(string(text), "\n")
	b := setup(t).serve()
	home := t.TempDir()
	var id string // of the migration that the page speaks of
	var written []string
	from, ran := 0, 0
	var pgvector bool
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')`).Scan(&pgvector))
	for _, e := range examples(page, pgvector) {
		command := strings.ReplaceAll(e.command, "~", home)
		var answer []string
		before := id
		if args, ours := strings.CutPrefix(command, "starter "); ours {
			args = planID.ReplaceAllString(args, id)
			out := strings.ReplaceAll(strings.TrimSuffix(b.patiently(words(args)...).out, "\n"), home, "~")
			if strings.HasPrefix(args, "migrate ") {
				id = planID.FindString(out)
				require.NotEmpty(t, id, out)
			}
			answer = strings.Split(out, "\n")
			ran++
		} else if sql, ours := strings.CutPrefix(command, "psql -c "); ours {
			b.exec(strings.Trim(sql, `"`))
		} else {
			shell := exec.CommandContext(t.Context(), "bash", "-c", command)
			out, err := shell.CombinedOutput()
			require.NoError(t, err, "%s: %s", command, out)
		}
		if os.Getenv(writeDocs) != "" {
			named := planID.ReplaceAllString(page[e.at], before)
			written = append(append(append(written, page[from:e.at]...), named), e.shown(answer)...)
			from = e.at + 1 + len(e.output)
			continue
		}
		e.matches(t, answer)
	}
	require.Greater(t, ran, 10)
	if os.Getenv(writeDocs) != "" {
		written = append(written, page[from:]...)
		require.NoError(t, os.WriteFile(filepath.Clean(strategiesPage), []byte(strings.Join(written, "\n")), 0o644))
	}
	// What the page says of the tables at its end.
	var moved, left int
	require.NoError(t, b.pool.QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE memory = 'archive'), count(*) FILTER (WHERE memory = 'gosrc' AND path LIKE 'golang/%') FROM rehome.chunks`).Scan(&moved, &left))
	require.Zero(t, moved)
	require.Positive(t, left)
}
