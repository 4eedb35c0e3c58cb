package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	return string(text)
}

func TestReadmeNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	exist := map[string]bool{}
	functions := regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)
	for _, pattern := range []string{"../*/*_test.go", "../internal/*/*_test.go", "../internal/*/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, match := range functions.FindAllStringSubmatch(string(text), -1) {
				exist[match[1]] = true
			}
		}
	}
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(readme(t), -1)
	require.Greater(t, len(named), 20)
	for _, name := range named {
		require.True(t, exist[name], "the README names %s, which does not exist", name)
	}
}

// TestReadmeNamesStepsOfTheDemo holds what the README shows of the demo to what
// the demo does.
func TestReadmeNamesStepsOfTheDemo(t *testing.T) {
	t.Parallel()
	_, rest, found := strings.Cut(readme(t), "<!-- demo -->\n```text\n")
	require.True(t, found)
	shown, _, _ := strings.Cut(rest, "```")
	for _, step := range demoSteps() {
		require.Contains(t, shown, step.title)
		require.Contains(t, shown, step.proves)
	}
}

// TestReadmeFiveMinutes does what the README tells people to do with a table of
// their own, line by line. What it tells them to export is given by the test.
func TestReadmeFiveMinutes(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	home := b.peoplesTable()
	_, rest, found := strings.Cut(readme(t), "<!-- run with a table rag.chunks: TestReadmeFiveMinutes -->\n```sh\n")
	require.True(t, found)
	block, _, _ := strings.Cut(rest, "```")
	start := b.table()
	migrated := regexp.MustCompile(`m-\d{8}-\d{4}-[a-z2-7]{4}`)
	var migration string
	answers := map[string]answer{}
	for line := range strings.Lines(block) {
		line = strings.ReplaceAll(strings.TrimSpace(line), "~", home)
		switch words := strings.Fields(line); {
		case line == "", strings.HasPrefix(line, "#"), words[0] == "export":
		case words[0] == "mv":
			out, err := exec.CommandContext(t.Context(), "mv", words[1:]...).CombinedOutput()
			require.NoError(t, err, "%s", out)
		default:
			require.Equal(t, "bin/starter", words[0], line)
			line = migrated.ReplaceAllString(strings.ReplaceAll(line, "'", ""), migration)
			a := b.ok(strings.Fields(line)[1:]...)
			answers[words[1]] = a
			if words[1] == "migrate" {
				migration = migrated.FindString(a.out)
				require.NotEmpty(t, migration, "migrate prints the id")
				require.NotEqual(t, start, b.table())
			}
		}
	}
	require.Contains(t, answers["scan"].out, "5, ")
	require.Equal(t, 5, strings.Count(answers["orphans"].out, "guide/gone.md"))
	require.Equal(t, "handbook/install.md\n", answers["resolve"].out)
	require.Contains(t, answers["migration"].out, migration+" is rolled back\n")
	require.Equal(t, start, b.table())
}

// peoplesTable makes the table and the tree that the README speaks of, with
// five chunks of a file that is gone, and returns the home directory.
func (b *bundle) peoplesTable() string {
	b.t.Helper()
	home := rootWith(b.t, "docs/guide/install.md", "docs/news.md")
	b.exec(`CREATE SCHEMA rag`)
	b.exec(`CREATE TABLE rag.chunks (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), content text, metadata jsonb, embedding real[])`)
	b.exec(`INSERT INTO rag.chunks (content, metadata, embedding)
		SELECT 'text ' || i, jsonb_build_object('source', path, 'loc', i), ARRAY[i]::real[]
		FROM generate_series(1, 5) i, unnest(ARRAY['guide/install.md', 'news.md', 'guide/gone.md']) path`)
	return home
}

// table is every row of it.
func (b *bundle) table() []string {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), `SELECT c::text FROM rag.chunks c ORDER BY id`)
	require.NoError(b.t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b.t, err)
	return all
}
