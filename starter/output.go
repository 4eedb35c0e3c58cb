package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"go.temporal.io/sdk/temporal"
	"golang.org/x/term"
)

// fail makes an error with an exit code. Its message says what was tried, why
// it was refused and what to do next.
func fail(code int, format string, args ...any) error {
	return &failure{code: code, cause: fmt.Errorf(format, args...)}
}

// show writes a command's result to stdout: as JSON, or as text writes it.
func (s *session) show(result any, text func(w io.Writer)) error {
	if s.seen != nil {
		s.seen(result)
	}
	if !s.json {
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		text(w)
		return w.Flush()
	}
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(result)
}

// say writes talk to stderr: one JSON object a line with --json.
func (s *session) say(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if !s.json {
		fmt.Fprintln(s.err, message)
		return
	}
	s.tell(map[string]any{"message": message})
}

// complain writes the error that ends the command to stderr, on one line.
func (s *session) complain(err error, code int) {
	text := message(err)
	if !s.json {
		fmt.Fprintln(s.err, "starter: "+text)
		return
	}
	s.tell(struct {
		Error string `json:"error"`
		Code  int    `json:"code"`
	}{text, code})
}

func (s *session) tell(object any) {
	e := json.NewEncoder(s.err)
	e.SetEscapeHTML(false)
	_ = e.Encode(object) // stderr is the last resort; nothing is left to tell it to
}

// message is what an error says to people. Of what Temporal hands over only the
// step's own words count, not the layers that carried them.
func message(err error) string {
	text := err.Error()
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		if _, own := errors.AsType[*failure](err); !own {
			text = app.Message()
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// row writes the cells of one line of a table.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, c)
	}
	fmt.Fprintln(w)
}

// size writes a size the way people read it.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	scaled := float64(n)
	unit := -1
	for scaled >= 1024 && unit < len(units)-1 {
		scaled /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", scaled, units[unit])
}

// orEmpty makes a list that JSON writes as [] and never as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// moment writes a time for people, in their own zone.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// count writes a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// isTerminal reports whether a person watches w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
