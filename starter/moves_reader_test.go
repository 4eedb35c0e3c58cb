package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// readMoves reads a whole list.
func readMoves(t require.TestingT, text string) (moves []resilience.Move, bad []resilience.BadLine) {
	r := newMoveReader("a list", strings.NewReader(text))
	for {
		m, err := r.next()
		if errors.Is(err, io.EOF) {
			return moves, r.bad.First
		}
		require.NoError(t, err)
		moves = append(moves, m)
	}
}

func move(line int64, old, new string) resilience.Move {
	return resilience.Move{Line: line, RenameRule: resilience.RenameRule{Old: old, New: new}}
}

func TestMovesAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []resilience.Move
	}{
		"Header":       {"source,target\na.md,b.md\n", []resilience.Move{move(2, "a.md", "b.md")}},
		"NoHeader":     {"a.md,b.md\nsource,target", []resilience.Move{move(1, "a.md", "b.md"), move(2, "source", "target")}},
		"QuotedHeader": {"\"Source\",\"Target\"\r\na,b\r\n", []resilience.Move{move(2, "a", "b")}},
		"BOM":          {"\ufeffsource,target\na,b", []resilience.Move{move(2, "a", "b")}},
		"BlankLines":   {"\n\na,b\n \nc,d\n\n", []resilience.Move{move(3, "a", "b"), move(5, "c", "d")}},
		"Quotes":       {`"a, or b.md","say ""hi"".md"` + "\n" + `"",x` + "\n" + `"q"` + `,"r"`, []resilience.Move{move(1, "a, or b.md", `say "hi".md`), move(3, "q", "r")}},
		"Braces":       {"{id}.md,x.md", []resilience.Move{move(1, "{id}.md", "x.md")}},
		"Cleaned":      {"./a//b/,cafe\u0301.md", []resilience.Move{move(1, "a/b", "café.md")}},
		"Spaces":       {"a b, c d", []resilience.Move{move(1, "a b", " c d")}},
		"JSONLines":    {`{"source":"a","target":"b"}` + "\n\n" + ` { "target": "d\u00e9\n", "source": "x" }` + "\n" + `{"target":"é","source":"c","size":3}`, []resilience.Move{move(1, "a", "b"), move(4, "c", "é")}},
		"Replacement":  {`{"source":"a�","target":"b\ufffd"}`, []resilience.Move{move(1, "a�", "b�")}},
		"Nothing":      {"", nil},
		"OnlyAHeader":  {"source,target\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			moves, _ := readMoves(t, c.text)
			require.Equal(t, c.want, moves)
		})
	}
}

func TestBadLinesAreNumbered(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxMoveLine+1)
	for text, says := range map[string]string{
		"a.md":                                "want two fields, source and target, got 1",
		"a,b,c":                               "got 3",
		"a,":                                  `target: path "" is empty`,
		",b":                                  `source: path "" is empty`,
		"a;b":                                 "got 1",
		"a,../b":                              "has a .. in it",
		"/a,b":                                "is absolute",
		"a\x00,b":                             "NUL",
		"a\tb,c":                              "control character",
		"a\xff,b":                             "not valid UTF-8",
		"a,a":                                 "the same",
		"a,./a":                               "the same",
		"a,a/b":                               "into itself",
		"a/b,a":                               "the place of the one it lies in",
		"a\"b,c":                              `a " in the middle of a field`,
		`"a,b`:                                `a " is not closed`,
		`"a"b,c`:                              `text after the "`,
		"a,b\rc":                              "line break",
		long + ",b":                           "longer than",
		`{"source":"a"}`:                      `want both "source" and "target"`,
		`{"source":"a",`:                      "is not {",
		`{"source":1,"target":2}`:             "is not {",
		`{"source":"a","target":null}`:        "want both",
		`{"source":"a","target":"b"} {"x":1}`: "is not {",
		`{"source":"a\ud800","target":"b"}`:   `\u that is no character`,
		`{"source":"a\u0000","target":"b"}`:   "NUL",
		"{\"source\":\"a\xff\",\"target\":\"b\"}": "not valid UTF-8",
		`{"source":"a","target":"a/b"}`:           "into itself",
		`{"source":"a","target":"` + long + `"}`:  "longer than",
		`{}`:                                      "want both",
	} {
		good := "good.md,fine.md"
		if strings.HasPrefix(text, "{") {
			good = `{"source":"good.md","target":"fine.md"}`
		}
		// One bad line spoils no other, wherever it is and however lines end.
		for _, end := range []string{"\n", "\r\n"} {
			moves, bad := readMoves(t, good+end+text+end+good)
			require.Equal(t, []resilience.Move{move(1, "good.md", "fine.md"), move(3, "good.md", "fine.md")}, moves, "%.80s", text)
			require.Len(t, bad, 1, "%.80s", text)
			require.EqualValues(t, 2, bad[0].Line)
			require.Contains(t, bad[0].String(), says)
			require.Less(t, len(bad[0].Why), 700, "a message stays readable")
		}
		_, bad := readMoves(t, text)
		require.Len(t, bad, 1, "%.80s", text)
	}
}

func TestTooManyMoves(t *testing.T) {
	t.Parallel()
	list := &million{}
	if testing.Short() {
		list.line = resilience.MaxMoves - 10_000
	}
	r := newMoveReader("a list", io.MultiReader(list, strings.NewReader("one,more\n")))
	r.moves = list.line // as if it had read those before
	var err error
	for err == nil {
		_, err = r.next()
	}
	require.Equal(t, resilience.MaxMoves, list.line, "all that there may be were taken")
	require.Equal(t, exitUsage, exitCode(err))
	require.ErrorContains(t, err, "a list has more than 1000000 moves")
}

// million is a list of as many moves as there may be.
type million struct {
	line  int
	swaps bool // two files after each other take each other's places
	rest  []byte
}

// page is the old path of a line.
func page(line int) string { return fmt.Sprintf("guide/section %d/page %d.md", line%1000, line) }

func (m *million) Read(p []byte) (int, error) {
	if len(m.rest) == 0 {
		if m.line == resilience.MaxMoves {
			return 0, io.EOF
		}
		m.line++
		to := fmt.Sprintf("handbook/part %d/page %d.md", m.line%777, m.line)
		if m.swaps {
			to = page((m.line - 1) ^ 1 + 1)
		}
		m.rest = fmt.Appendf(m.rest[:0], "%s,%s\n", page(m.line), to)
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

func FuzzMovesCSV(f *testing.F) {
	for _, seed := range []string{"a,b", `"a","b"`, `"a""b",c`, `"a`, `a"b,c`, `"a"b,c`, ",", "", `"",""`, "a,b,c", "{x},y", "{},x", "{}", "\xff,\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "\r\n") || line == "" {
			return // a line has no end of its own, and a blank one is passed over
		}
		source, target, err := parseMoveCSV(line)
		r := csv.NewReader(strings.NewReader(line))
		r.FieldsPerRecord = 2
		theirs, theirErr := r.Read()
		require.Equal(t, theirErr == nil, err == nil, "%q: %v against %v", line, err, theirErr)
		if err == nil {
			require.Equal(t, []string{source, target}, theirs)
			require.False(t, object.MatchString(line), "a line of CSV passes for JSON")
		}
		checkMove(t, line)
	})
}

func FuzzMovesJSON(f *testing.F) {
	for _, seed := range [][2]string{{"a", "b"}, {"", ""}, {"\xff", "\u0000"}, {`"`, `\`}, {"e\u0301", "😀"}} {
		f.Add(seed[0], seed[1], `{"source":"`+seed[0]+`","target":"`+seed[1]+`"}`)
	}
	f.Fuzz(func(t *testing.T, source, target, line string) {
		if utf8.ValidString(source) && utf8.ValidString(target) {
			text, err := json.Marshal(map[string]string{"source": source, "target": target})
			require.NoError(t, err)
			gotSource, gotTarget, err := parseMoveJSON(string(text))
			if !strings.ContainsRune(source+target, utf8.RuneError) {
				require.NoError(t, err)
				require.Equal(t, []string{source, target}, []string{gotSource, gotTarget})
			}
		}
		checkMove(t, line)
	})
}

// checkMove is what must hold for every list: each move is one that a person
// might have given as --rename, and a line is a move, or bad, or blank.
func checkMove(t *testing.T, text string) {
	moves, bad := readMoves(t, text)
	require.LessOrEqual(t, len(moves)+len(bad), strings.Count(text, "\n")+1)
	for _, m := range moves {
		for _, path := range []string{m.Old, m.New} {
			key, err := cleanPath(path)
			require.NoError(t, err)
			require.Equal(t, path, key)
		}
		require.NoError(t, m.Check())
	}
	for _, b := range bad {
		require.True(t, utf8.ValidString(b.Why), b.Why)
	}
}
