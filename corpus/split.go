package corpus

import (
	"hash/crc32"
	"strings"
	"unicode/utf8"
)

// Piece is a part of a text that becomes a chunk.
type Piece struct {
	Content string
}

// Bounds of a piece in bytes. Cuts fall evenly between them, so that pieces
// have about 1,500 bytes: a page of prose, a function or two. A text that is
// not longer than the upper bound stays whole.
const (
	minPiece = 500
	maxPiece = 2500
)

// Split cuts a text into pieces; put together they are the text again. A cut
// falls where the text has its strongest seam within reach: before a Markdown
// section, a top-level declaration, a paragraph; only where there is none,
// between lines, and at last between characters. Fenced code stays whole.
//
// Among seams of one strength the text around them chooses, not their place:
// after an edit the old cuts are soon found again, and the pieces behind them
// are what they were.
func Split(path, text string) []Piece {
	var pieces []Piece
	seams := outline(path, text)
	raw := []byte(text) // for hashing parts of it in place
	at := 0
	for len(text)-at > maxPiece {
		// What is left behind the cut is not too small either.
		lo, hi := at+minPiece, min(at+maxPiece, len(text)-minPiece)
		for len(seams) > 0 && seams[0].at <= at {
			seams = seams[1:]
		}
		cut := choose(raw, candidates(text, seams, lo, hi), hi)
		pieces = append(pieces, Piece{text[at:cut]})
		at = cut
	}
	if at < len(text) {
		pieces = append(pieces, Piece{text[at:]})
	}
	return pieces
}

// candidates lists the strongest places to cut from lo to hi. A block that fills
// all of that is better cut off before it begins than in the middle.
func candidates(text string, seams []seam, lo, hi int) []int {
	var found []int
	strongest := strength(0)
	for _, s := range seams {
		if s.at > hi {
			break
		}
		if s.at < lo {
			found = append(found[:0], s.at)
			continue
		}
		if s.strength > strongest {
			found, strongest = found[:0], s.strength
		}
		if s.strength == strongest {
			found = append(found, s.at)
		}
	}
	if len(found) > 0 {
		return found
	}
	for at := lo; at <= hi; at++ {
		if text[at-1] == '\n' {
			found = append(found, at)
		}
	}
	if len(found) > 0 {
		return found
	}
	for at := lo; at <= hi; at++ {
		if utf8.RuneStart(text[at]) {
			found = append(found, at)
		}
	}
	return found
}

// choose takes the candidate whose surroundings have the greatest hash. In
// text that repeats itself it is the last of equals, so that pieces are equal,
// too. Without a candidate it is otherwise.
func choose(text []byte, candidates []int, otherwise int) int {
	const around = 32
	chosen, greatest := otherwise, uint32(0)
	for _, at := range candidates {
		hash := crc32.ChecksumIEEE(text[max(0, at-around):min(len(text), at+around)])
		if hash >= greatest {
			chosen, greatest = at, hash
		}
	}
	return chosen
}

// strength of a seam: the higher, the better to cut there.
type strength int

const (
	paragraph   strength = iota + 1
	declaration          // a line of code that begins in the first column, after an empty one
	section              // a Markdown heading; those of higher rank are up to five stronger
)

// seam is the start of a line where a text is best cut.
type seam struct {
	at int
	strength
}

// outline finds the seams of a text, in order.
func outline(path, text string) []seam {
	var (
		seams    []seam
		at       int
		fenced   int  // end of the fenced block being passed
		open     bool // a fence without an end was seen: no further fence counts
		blank    = true
		markdown = isMarkdown(path)
	)
	for line := range strings.Lines(text) {
		start := at
		at += len(line)
		if start < fenced {
			continue
		}
		if strings.TrimSpace(line) == "" {
			blank = true
			continue
		}
		if s := rank(line, blank, markdown); s > 0 && start > 0 {
			seams = append(seams, seam{start, s})
		}
		blank = false
		if !markdown || open {
			continue
		}
		if fence := fenceOf(line); fence != "" {
			length := fencedLength(text[at:], fence)
			fenced, open = at+length, length < 0
		}
	}
	return seams
}

func isMarkdown(path string) bool {
	lower := strings.ToLower(path)
	return strings.HasSuffix(lower, ".md") || strings.HasSuffix(lower, ".markdown") || strings.HasSuffix(lower, ".mdx")
}

// rank says how good it is to cut before a line that is not blank; zero: no seam.
func rank(line string, afterBlank, markdown bool) strength {
	if markdown {
		if level := headingLevel(line); level > 0 {
			return section + strength(6-level)
		}
	}
	switch {
	case !afterBlank:
		return 0
	case markdown || line[0] == ' ' || line[0] == '\t':
		return paragraph
	default:
		return declaration
	}
}

// headingLevel is 1 to 6 for an ATX heading, else 0.
func headingLevel(line string) int {
	rest := strings.TrimLeft(line, "#")
	level := len(line) - len(rest)
	if level > 6 || strings.TrimLeft(rest, " \t") == rest && strings.TrimSpace(rest) != "" {
		return 0
	}
	return level
}

// fenceOf returns the run of three or more backticks or tildes that begins a
// fenced block, or "".
func fenceOf(line string) string {
	line = strings.TrimSpace(line)
	for _, char := range []string{"`", "~"} {
		info := strings.TrimLeft(line, char)
		if length := len(line) - len(info); length >= 3 && (char == "~" || !strings.Contains(info, char)) {
			return line[:length]
		}
	}
	return ""
}

// fencedLength is the length of a fenced block from behind its first line to
// behind its last, or -1 when it does not end. Then it is not taken for one: a
// fence that somebody has yet to close must not change how all that follows is
// cut.
func fencedLength(text, fence string) int {
	length := 0
	for line := range strings.Lines(text) {
		length += len(line)
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, fence) && strings.Trim(line, fence[:1]) == "" {
			return length
		}
	}
	return -1
}
