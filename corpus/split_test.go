package corpus_test

import (
	"fmt"
	"go/build"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/corpus"
)

func contents(pieces []corpus.Piece) []string {
	texts := make([]string, len(pieces))
	for i, p := range pieces {
		texts[i] = p.Content
	}
	return texts
}

func TestSplitKeepsWhatBelongsTogether(t *testing.T) {
	t.Parallel()
	words := func(n int) string { return strings.TrimSpace(strings.Repeat("word ", n/5)) }
	section := func(level, n int) string {
		return strings.Repeat("#", level) + " Heading\n\n" + words(n/2) + "\n\n" + words(n/2) + "\n\n"
	}
	function := func(n int) string {
		return "// It does.\nfunc it() {\n\tdo()\n\n\t" + words(n) + "\n}\n\n"
	}
	fence := func(n int) string { return "```sh\n# not a heading\n\n" + words(n) + "\n\ndone\n```\n\n" }
	for name, test := range map[string]struct {
		path  string
		parts []string // each ends up whole in one piece
	}{
		"MarkdownSections": {"a.md", []string{section(2, 1500), section(2, 1600), section(2, 1400)}},
		"HigherRankFirst":  {"a.md", []string{section(1, 700) + section(3, 700), section(1, 700) + section(3, 700), section(1, 2000)}},
		"Paragraphs":       {"a.txt", []string{words(1800) + "\n\n", words(1900) + "\n\n", words(1700) + "\n\n"}},
		"Functions":        {"a.go", []string{function(1400), function(1300), function(1500), function(1200)}},
		"FencedCode":       {"a.md", []string{words(800) + "\n\n", fence(1900), words(900) + "\n\n", fence(2000)}},
		"FenceAfterLittle": {"a.md", []string{words(300) + "\n\n", fence(2300), words(900) + "\n\n"}},
		"TildeFence":       {"a.md", []string{words(800) + "\n\n", "~~~\n```\n" + words(800) + "\n\n" + words(800) + "\n```\n~~~\n\n", words(1500)}},
		"Lines":            {"a.csv", strings.SplitAfter(strings.Repeat("one,two,three\n", 400), "\n")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Join(test.parts, "")
			starts := map[int]bool{}
			at := 0
			for _, part := range test.parts {
				starts[at] = true
				at += len(part)
			}
			at = 0
			pieces := corpus.Split(test.path, text)
			require.Greater(t, len(pieces), 1)
			for _, piece := range pieces {
				require.True(t, starts[at], "a cut at %d, before %.60q", at, text[at:])
				at += len(piece.Content)
			}
		})
	}
}

func TestSplitLeavesShortTextsWhole(t *testing.T) {
	t.Parallel()
	require.Empty(t, corpus.Split("a.md", ""))
	whole := strings.Repeat("# Heading\n\ntext\n\n", 100)
	require.Equal(t, []string{whole}, contents(corpus.Split("a.md", whole)))
}

// An open fence must not turn all that follows into code.
func TestSplitIgnoresAFenceWithoutEnd(t *testing.T) {
	t.Parallel()
	var sections []string
	for i := range 20 {
		sections = append(sections, fmt.Sprintf("## Section %d\n\n%s\n\n", i, strings.Repeat("text ", 250)))
	}
	before := contents(corpus.Split("a.md", strings.Join(sections, "")))
	sections[3] += "```go\n"
	after := contents(corpus.Split("a.md", strings.Join(sections, "")))
	require.LessOrEqual(t, changed(before, after), 2)
}

func FuzzSplit(f *testing.F) {
	f.Add("a.md", "# A\n\n```\ncode\n\n```\n")
	f.Add("a.go", "package a\n\nfunc A() {}\n")
	f.Add("a.md", strings.Repeat("~~~\n", 900))
	f.Add("a", strings.Repeat("\x80", 6000))
	f.Add("a", strings.Repeat("\n", 6000))
	f.Add("a.md", strings.Repeat("一二三四五六七八九十", 400))
	f.Fuzz(checkSplit[*testing.T])
}

func TestSplitProperties(t *testing.T) {
	t.Parallel()
	line := rapid.SampledFrom([]string{"\n", "# head\n", "### sub\n", "```\n", "```go\n", "~~~\n", "func x() {\n", "\tbody()\n", "}\n", "\r\n", "", "é", strings.Repeat("long ", 700), "text text text\n"})
	rapid.Check(t, func(r *rapid.T) {
		path := rapid.SampledFrom([]string{"a.md", "a.go", "README"}).Draw(r, "path")
		checkSplit(r, path, strings.Join(rapid.SliceOfN(line, 0, 400).Draw(r, "lines"), ""))
	})
}

// checkSplit is what must hold for every text: the pieces are the text, within
// the bounds, and a cut never parts a character.
func checkSplit[T require.TestingT](t T, path, text string) {
	pieces := contents(corpus.Split(path, text))
	require.Equal(t, text, strings.Join(pieces, ""))
	for i, piece := range pieces {
		require.NotEmpty(t, piece)
		require.LessOrEqual(t, len(piece), corpus.MaxPiece)
		require.Equal(t, utf8.ValidString(text), utf8.ValidString(piece) && utf8.ValidString(text))
		if len(piece) < corpus.MinPiece && i < len(pieces)-1 {
			require.Greater(t, len(piece)+len(pieces[i+1]), corpus.MinPiece, "only before what is better kept together")
		}
	}
	require.Equal(t, pieces, contents(corpus.Split(path, text)))
}

// Edits of real files: what lies before the edit and what follows soon after it
// stays as it was. The edits are those that people make: a word, a line or a
// function put in, lines taken out.
func TestSplitFindsItsOldCutsAgainAfterAnEdit(t *testing.T) {
	t.Parallel()
	sources := goSources(t)
	edits, total, worst := 20_000, 0, 0
	if testing.Short() {
		edits = 2_000
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range edits {
		path, text := sources.pick(random)
		edited := edit(random, text)
		n := changed(contents(corpus.Split(path, text)), contents(corpus.Split(path, edited)))
		require.LessOrEqual(t, n, 16, "one edit of %s", path)
		total += n
		worst = max(worst, n)
	}
	t.Logf("%d edits changed %.2f chunks each, at most %d", edits, float64(total)/float64(edits), worst)
	require.Less(t, float64(total)/float64(edits), 2.0, "chunks changed by an edit, on average")
}

// changed counts the pieces of after between those at its beginning and those at
// its end that before has there, too.
func changed(before, after []string) int {
	head := 0
	for head < min(len(before), len(after)) && before[head] == after[head] {
		head++
	}
	tail := 0
	for tail < min(len(before), len(after))-head && before[len(before)-1-tail] == after[len(after)-1-tail] {
		tail++
	}
	return len(after) - head - tail
}

func edit(random *rand.Rand, text string) string {
	at := random.IntN(len(text))
	line := at + strings.IndexByte(text[at:]+"\n", '\n')
	end := min(len(text), at+random.IntN(400))
	switch random.IntN(4) {
	case 0:
		return text[:at] + "word" + text[at:]
	case 1:
		return text[:line] + "\n\tanother := line(of, code)" + text[line:]
	case 2:
		return text[:line] + "\n\n// added does nothing.\nfunc added() {\n\treturn\n}\n" + text[line:]
	default:
		return text[:at] + text[end:]
	}
}

// sourceFiles are Go files large enough for an edit in the middle to have much
// before and behind it.
type sourceFiles struct{ paths, texts []string }

func (s sourceFiles) pick(random *rand.Rand) (path, text string) {
	i := random.IntN(len(s.paths))
	return s.paths[i], s.texts[i]
}

func goSources(t *testing.T) sourceFiles {
	t.Helper()
	var found sourceFiles
	root := filepath.Join(build.Default.GOROOT, "src")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || len(found.paths) == 400 {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() < 30_000 || info.Size() > 300_000 {
			return err
		}
		data, err := os.ReadFile(path)
		found.paths, found.texts = append(found.paths, path), append(found.texts, string(data))
		return err
	})
	require.NoError(t, err)
	require.NotEmpty(t, found.paths)
	return found
}
