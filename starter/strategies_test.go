package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

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

// examples reads the blocks of a page in which commands stand with their output.
func examples(page []string) []example {
	var all []example
	inside := false
	for i, line := range page {
		switch {
		case line == "```console":
			inside = true
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
	steadyRows = []string{"status", "strategy", "chunks", "undoes", "undone by", "way", "rename"}
)

// shape is what has to be the same of a row each time: its name, and the words
// of those that do not depend on the machine or on the version of Go.
func shape(line string) string {
	cells := spaces.Split(strings.TrimRight(line, " "), 2)
	if len(cells) == 2 && !slices.Contains(steadyRows, cells[0]) {
		return cells[0]
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
			return spaces.Split(o, 2)[0] == spaces.Split(line, 2)[0]
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
	for _, e := range examples(page) {
		command := strings.ReplaceAll(e.command, "~", home)
		var answer []string
		before := id
		if args, ours := strings.CutPrefix(command, "starter "); ours {
			args = planID.ReplaceAllString(strings.ReplaceAll(args, "'", ""), id)
			out := strings.ReplaceAll(strings.TrimSuffix(b.ok(strings.Fields(args)...).out, "\n"), home, "~")
			if strings.HasPrefix(args, "migrate ") {
				id = planID.FindString(out)
				require.NotEmpty(t, id, out)
			}
			answer = strings.Split(out, "\n")
			ran++
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
