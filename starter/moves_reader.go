package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"rehome/corpus"
	"rehome/resilience"
)

// maxMoveLine is longer than any line with two paths.
const maxMoveLine = 64 << 10

// moveReader reads a list of moves line by line: CSV or JSON lines. No path has
// a line break in it, so a line is a move, and a bad one spoils no other.
type moveReader struct {
	name  string // of the list, for messages
	in    *bufio.Reader
	line  int64
	parse func(line string) (source, target string, err error) // nil before the first line that is not blank
	moves int                                                  // good ones so far
	first []resilience.RenameRule
	bad   resilience.BadLines
	err   error // that ended it, if not the end of the list
}

func newMoveReader(name string, in io.Reader) *moveReader {
	return &moveReader{name: name, in: bufio.NewReaderSize(in, maxMoveLine)}
}

// next returns the next move that can be right, or io.EOF. What cannot be is in bad.
func (r *moveReader) next() (resilience.Move, error) {
	for {
		text, err := r.readLine()
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			r.bad.Add(r.line, fmt.Sprintf("is longer than %d bytes: want one source and one target", maxMoveLine))
			continue
		case errors.Is(err, io.EOF):
			return resilience.Move{}, io.EOF
		case err != nil:
			return r.fail(fmt.Errorf("read %s: %w", r.name, err))
		}
		if strings.TrimSpace(text) == "" || r.begins(text) {
			continue
		}
		rule, err := r.rule(text)
		if err != nil {
			r.bad.Add(r.line, err.Error())
			continue
		}
		if r.moves == resilience.MaxMoves {
			return r.fail(fail(exitUsage, "%s has more than %d moves; nothing was started; give it in parts", r.name, resilience.MaxMoves))
		}
		r.moves++
		if len(r.first) < shownRenames {
			r.first = append(r.first, rule)
		}
		return resilience.Move{Line: r.line, RenameRule: rule}, nil
	}
}

func (r *moveReader) fail(err error) (resilience.Move, error) {
	r.err = err
	return resilience.Move{}, err
}

// readLine returns the next line without its end, or bufio.ErrBufferFull for
// one that is too long, which is passed over.
func (r *moveReader) readLine() (string, error) {
	line, err := r.in.ReadSlice('\n')
	r.line++
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.in.ReadSlice('\n')
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = bufio.ErrBufferFull
		}
		return "", err
	}
	if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
		return "", err
	}
	if r.line == 1 {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	return string(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))), nil
}

// object is how a line of JSON begins. No line of CSV does: a quote that is not
// at the beginning of its field is an error there, and so is one field alone.
var object = regexp.MustCompile(`^\s*\{\s*("|\}\s*$)`)

// begins looks at the first line to tell JSON lines from CSV, and reports
// whether it is the header of a CSV.
func (r *moveReader) begins(text string) bool {
	if r.parse != nil {
		return false
	}
	r.parse = parseMoveCSV
	if object.MatchString(text) {
		r.parse = parseMoveJSON
	}
	source, target, err := parseMoveCSV(text)
	return err == nil && strings.EqualFold(source, "source") && strings.EqualFold(target, "target")
}

// rule makes a rename of a line.
func (r *moveReader) rule(text string) (rule resilience.RenameRule, err error) {
	source, target, err := r.parse(text)
	if err != nil {
		return rule, err
	}
	if rule.Old, err = corpus.Clean(source); err != nil {
		return rule, fmt.Errorf("source: %w", err)
	}
	if rule.New, err = corpus.Clean(target); err != nil {
		return rule, fmt.Errorf("target: %w", err)
	}
	return rule, rule.Check()
}

// parseMoveCSV reads two fields as RFC 4180 has them, but for line breaks.
func parseMoveCSV(line string) (source, target string, err error) {
	var fields []string
	for more := true; more; {
		var field string
		if field, line, more, err = cutField(line); err != nil {
			return "", "", err
		}
		fields = append(fields, field)
	}
	if len(fields) != 2 {
		return "", "", fmt.Errorf("want two fields, source and target, got %d", len(fields))
	}
	return fields[0], fields[1], nil
}

// cutField takes the first field of a line of CSV.
func cutField(line string) (field, rest string, more bool, err error) {
	if !strings.HasPrefix(line, `"`) {
		field, rest, more = strings.Cut(line, ",")
		if strings.Contains(field, `"`) {
			return "", "", false, errors.New(`there is a " in the middle of a field: put the field into quotes, and write each " in it twice`)
		}
		return field, rest, more, nil
	}
	for rest = line[1:]; ; {
		part, after, closed := strings.Cut(rest, `"`)
		field += part
		switch {
		case !closed:
			return "", "", false, errors.New(`a " is not closed at the end of the line`)
		case after == "":
			return field, "", false, nil
		case after[0] == ',':
			return field, after[1:], true, nil
		case after[0] != '"':
			return "", "", false, errors.New(`there is text after the " that ends a field: write each " in a field twice`)
		}
		field += `"`
		rest = after[1:]
	}
}

// parseMoveJSON reads {"source": …, "target": …}.
func parseMoveJSON(line string) (source, target string, err error) {
	if !utf8.ValidString(line) {
		return "", "", errors.New("is not valid UTF-8")
	}
	var pair struct{ Source, Target *string }
	if err := json.Unmarshal([]byte(line), &pair); err != nil {
		return "", "", fmt.Errorf(`is not {"source": …, "target": …}: %w`, err)
	}
	if pair.Source == nil || pair.Target == nil {
		return "", "", errors.New(`want both "source" and "target"`)
	}
	// An escape that is half a character would pass for this one.
	if strings.ContainsRune(*pair.Source+*pair.Target, utf8.RuneError) && !strings.ContainsRune(line, utf8.RuneError) {
		return "", "", errors.New(`there is a \u that is no character`)
	}
	return *pair.Source, *pair.Target, nil
}
