package resilience

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Signature is what a transfer depends on, as it was when it was planned: columns with
// their types. What is written to a column that its fit knows nothing of would leave with
// the source row and be in no copy; of another type, copies would look written to.
type Signature struct {
	Source map[string]string `json:"source"` // the columns of its table that transfers take along
	Target map[string]string `json:"target"` // those that copies fill
	Beside map[string]string `json:"beside"` // those of the target that are watched beside them
}

// qualified is the schema of a type, which is said only where a session does not look for
// types there by itself.
var qualified = regexp.MustCompile(`^("(?:[^"]|"")+"|[^"\s.(]+)\.`)

// signed is the type of a column, whatever the search path.
func (c Column) signed() string { return qualified.ReplaceAllString(c.Full, "") }

// Sign is the signature of a transfer with this fit.
func Sign(from, to Shape, fit Fit) Signature {
	s := Signature{Source: map[string]string{}, Target: map[string]string{}, Beside: map[string]string{}}
	for _, c := range from.Columns {
		if c.travels() {
			s.Source[c.Name] = c.signed()
		}
	}
	for _, c := range to.Columns {
		switch {
		case slices.ContainsFunc(fit.Fills, func(f Fill) bool { return f.Column == c.Name }):
			s.Target[c.Name] = c.signed()
		case slices.Contains(fit.Beside, c.Name):
			s.Beside[c.Name] = c.signed()
		}
	}
	return s
}

// Changes says what was done to the tables since. A column that was added to the target is
// nobody's business: copies leave it to its default; nor is one that was watched and is gone.
func (s Signature) Changes(from, to Shape) []string {
	all := from.changes(s.Source)
	for _, c := range from.Columns {
		if _, known := s.Source[c.Name]; !known && c.travels() {
			all = append(all, fmt.Sprintf("column %q of table %s was added", c.Name, from.table()))
		}
	}
	beside := maps.Clone(s.Beside)
	maps.DeleteFunc(beside, func(name, _ string) bool { _, ok := to.column(name); return !ok })
	for _, c := range slices.Concat(to.changes(s.Target), to.changes(beside)) {
		if !slices.Contains(all, c) { // both memories may be over one table
			all = append(all, c)
		}
	}
	return all
}

// changes says which of these columns are gone, or of another type.
func (s Shape) changes(was map[string]string) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(was)) {
		switch c, ok := s.column(name); {
		case !ok:
			all = append(all, fmt.Sprintf("column %q of table %s was dropped or renamed", name, s.table()))
		case c.signed() != was[name]:
			all = append(all, fmt.Sprintf("column %q of table %s became %s from %s", name, s.table(), c.signed(), was[name]))
		}
	}
	return all
}

func (s Shape) table() string { return s.Mapping.Schema + "." + s.Mapping.Table }
