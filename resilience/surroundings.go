package resilience

import (
	"fmt"
	"slices"
	"strings"
)

// Surroundings is what stands around a memory's table and decides what rehome
// may do with its rows.
type Surroundings struct {
	Partitioned   bool         `json:"partitioned"`
	Rows          int64        `json:"rows"` // the planner's estimate; -1 when it has none
	ForeignKeys   []ForeignKey `json:"foreign_keys"`
	Triggers      []Trigger    `json:"triggers"`
	Generated     []string     `json:"generated"`                // columns Postgres computes
	Identity      []string     `json:"identity"`                 // columns Postgres numbers
	UniqueIndexes []string     `json:"unique_indexes"`           // that hold a path locator's column
	Deferrable    []string     `json:"deferrable,omitempty"`     // unique and exclusion constraints that can be checked at the end of a transaction
	MissingRights []string     `json:"missing_rights,omitempty"` // of INSERT, UPDATE and DELETE
	EmptyScope    bool         `json:"empty_scope,omitempty"`    // no row is in the memory's scope
}

// ForeignKey points from another table to a memory's table.
type ForeignKey struct {
	Name     string `json:"name"`
	Table    string `json:"table"`
	OnDelete string `json:"on_delete"` // NO ACTION, RESTRICT, CASCADE, SET NULL, SET DEFAULT
	Rows     int64  `json:"rows"`      // that point here, counted to MaxCounted; -1: not ours to read
}

// MaxCounted bounds how many pointing rows are counted.
const MaxCounted = 10_000

// Writes reports whether deleting a chunk would change the rows that point to it.
func (k ForeignKey) Writes() bool { return k.OnDelete != "NO ACTION" && k.OnDelete != "RESTRICT" }

// Trigger fires for rows of a memory's table. Which columns it changes cannot
// be known from outside.
type Trigger struct {
	Name   string   `json:"name"`
	Events []string `json:"events"` // INSERT, UPDATE, DELETE
}

// CleanupRefusal says why no chunk of the table may be removed: that would
// change rows of the application, which nothing could bring back, or the chunk
// itself could not come back (INSERT … ON CONFLICT, by which a chunk is restored
// beside writers, takes no deferrable constraint). It is empty when cleanup may go
// on.
func (s Surroundings) CleanupRefusal() string {
	for _, k := range s.ForeignKeys {
		if k.Writes() {
			return fmt.Sprintf("foreign key %s of %s would %s on deletion; make it NO ACTION or RESTRICT", k.Name, k.Table, k.OnDelete)
		}
	}
	if len(s.Deferrable) > 0 {
		return fmt.Sprintf("constraint %s is deferrable, and no chunk could come back from quarantine under it; make it NOT DEFERRABLE", s.Deferrable[0])
	}
	if slices.Contains(s.MissingRights, "DELETE") {
		return "rehome's role may not DELETE from the table; grant it"
	}
	return ""
}

// Notes says it in sentences, what matters most first.
func (s Surroundings) Notes() []string {
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if s.EmptyScope {
		note("No row of the table is in the scope yet; check its value if there should be some.")
	}
	for _, right := range s.MissingRights {
		note("Rehome's role may not %s: %s will be refused until it is granted.", right, needs[right])
	}
	for _, k := range s.ForeignKeys {
		note("%s in %s point here (%s); %s", k.count(), k.Table, k.Name, k.consequence())
	}
	for _, t := range s.Triggers {
		note("Trigger %s fires on %s: what it makes of the id, the text, the embedding or the metadata of a chunk that moves fails the batch; of other columns nothing is asked.", t.Name, strings.Join(t.Events, ", "))
	}
	for _, index := range s.UniqueIndexes {
		note("Unique index %s holds a path: a rename onto a value that is taken will be refused.", index)
	}
	for _, constraint := range s.Deferrable {
		note("Constraint %s is deferrable: no chunk could be restored under it, so cleanup will refuse.", constraint)
	}
	if len(s.Generated) > 0 {
		note("Postgres computes %s anew whenever a row changes or comes back.", strings.Join(s.Generated, ", "))
	}
	if len(s.Identity) > 0 {
		note("Postgres numbers %s; a restored row keeps its number.", strings.Join(s.Identity, ", "))
	}
	if s.Partitioned {
		note("The table is partitioned; a row whose partition follows from its path moves with it.")
	}
	return notes
}

// needs tells what each right is for.
var needs = map[string]string{"INSERT": "restore", "UPDATE": "migration", "DELETE": "cleanup"}

func (k ForeignKey) count() string {
	switch {
	case k.Rows < 0:
		return "An unknown number of rows"
	case k.Rows >= MaxCounted:
		return fmt.Sprintf("%d rows or more", k.Rows)
	}
	return fmt.Sprintf("%d rows", k.Rows)
}

func (k ForeignKey) consequence() string {
	if k.Writes() {
		return fmt.Sprintf("their foreign key would %s, so cleanup will refuse.", k.OnDelete)
	}
	return "a chunk they point to cannot be cleaned up."
}

// Nearest lists those of the names that are most like a name that was not
// found, for a message; all of them when they are few.
func Nearest(name string, names []string) []string {
	const few = 8
	if len(names) <= few {
		return names
	}
	sorted := slices.Clone(names)
	slices.SortStableFunc(sorted, func(a, b string) int { return distance(name, a) - distance(name, b) })
	return sorted[:few]
}

// distance counts the edits between two names, whatever their case; less when
// one holds the other.
func distance(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			edits := diagonal
			if a[i] != b[j] {
				edits++
			}
			diagonal = row[j+1]
			row[j+1] = min(edits, row[j]+1, row[j+1]+1)
		}
	}
	if strings.Contains(a, b) || strings.Contains(b, a) {
		return row[len(b)] / 2
	}
	return row[len(b)]
}
