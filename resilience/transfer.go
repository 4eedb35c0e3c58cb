package resilience

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Transfer takes chunks from one memory to another.
const Transfer Kind = "transfer"

// ReasonTransferred is why the source of a transferred chunk is in quarantine.
const ReasonTransferred = "transferred"

// DefaultSoak is how long a transfer leaves the source rows where they are after
// the switch, unless it is told otherwise.
const DefaultSoak = time.Hour

// TransferOrder is what a person asks of a transfer.
type TransferOrder struct {
	To     string   `json:"to_memory,omitempty"`
	Prefix string   `json:"prefix,omitempty"` // a file, or a directory with all below it; empty: the whole memory
	Soak   *Seconds `json:"soak,omitempty"`   // nil: DefaultSoak
}

// Transferring is how a transfer stands.
type Transferring struct {
	TransferOrder
	Back    bool  `json:"back"`    // it undoes one: rows come back, copies go
	Retired int64 `json:"retired"` // rows worked through in the last step
}

// Lasts is how long the soak takes.
func (o TransferOrder) Lasts() time.Duration {
	if o.Soak == nil {
		return DefaultSoak
	}
	return time.Duration(o.Soak.Seconds() * float64(time.Second))
}

// Check refuses an order that cannot be right. Copies go one way only, so a plan that was
// asked to go another would not be what a person wanted.
func (o TransferOrder) Check(memory string, way Way) error {
	if o.To == memory {
		return fmt.Errorf("memory %s cannot be transferred to itself; name another with --to-memory, or move files inside it with --rename", memory)
	}
	if o.Soak != nil && (*o.Soak < 0 || *o.Soak != *o.Soak) {
		return fmt.Errorf("soak of %v seconds: want 0 or more", float64(*o.Soak))
	}
	if way != "" && way != Update {
		return fmt.Errorf("way %s: a transfer cannot go by it, since its rows are copied to another table; leave --way out, and bound its pace with --rate", way)
	}
	return nil
}

// Column of a table, as far as a transfer has to know it.
type Column struct {
	Name      string
	Type      string // without length or dimension
	Modifier  int    // length or dimension; -1: none
	Full      string // type with length or dimension
	NotNull   bool
	Generated bool
	Numbered  bool   // by a sequence
	Default   string // expression; empty: none
	Readable  bool
	Insert    bool // rehome's role may name it in an INSERT
	Domain    bool // its type is one, which may have a default of its own
}

// travels says whether a transfer takes along what stands in a column of its source.
func (c Column) travels() bool { return !c.Generated && c.Readable }

// Shape is a memory with the columns of its table.
type Shape struct {
	Name    string
	Mapping Mapping
	Columns []Column
}

func (s Shape) column(name string) (Column, bool) {
	at := slices.IndexFunc(s.Columns, func(c Column) bool { return c.Name == name })
	if at < 0 {
		return Column{}, false
	}
	return s.Columns[at], true
}

// Home is the column that takes what has no column of its own: the metadata, or
// the document that a path locator is in. Empty: there is none.
func (m Mapping) Home() string {
	if m.Metadata != "" {
		return m.Metadata
	}
	for _, l := range m.Locators {
		if len(l.Keys) > 0 {
			return l.Column
		}
	}
	return ""
}

// Meaning of a column of the target.
type Meaning string

// The meanings.
const (
	MeansID       Meaning = "id"
	MeansContent  Meaning = "content"
	MeansVector   Meaning = "embedding"
	MeansPath     Meaning = "path"
	MeansScope    Meaning = "scope"
	MeansAccess   Meaning = "access"
	MeansDocument Meaning = "metadata" // with the locators that are in it
	MeansSame     Meaning = "same"     // a column of the same name and type in both tables
	MeansOrdinal  Meaning = "ordinal"  // of a builtin chunk whose source has none
)

// Fill says what a column of the target is filled with.
type Fill struct {
	Column  string  `json:"column"`
	Type    string  `json:"type"`
	Means   Meaning `json:"means"`
	From    string  `json:"from,omitempty"` // the source's column; empty where there is none
	NotNull bool    `json:"not_null,omitempty"`
	Narrow  bool    `json:"narrow,omitempty"` // the column cuts or rounds what does not fit
	Full    string  `json:"full,omitempty"`   // of a narrow column, type and length or precision
}

// Fit says how rows of one table become rows of another.
type Fit struct {
	Fills     []Fill   `json:"fills"`
	Extras    []string `json:"extras,omitempty"`    // columns of the source that go into the target's metadata
	Homeless  []string `json:"homeless,omitempty"`  // columns of the source that nothing can hold: must be empty
	KeepID    bool     `json:"keep_id,omitempty"`   // where it is free
	FreshID   string   `json:"fresh_id,omitempty"`  // the expression that makes an id; empty: there is none
	Dimension int      `json:"dimension,omitempty"` // that an embedding must have; 0: any
	Beside    []string `json:"beside,omitempty"`    // columns of the target that a copy leaves to their defaults
}

// fitting is a Fit in the making.
type fitting struct {
	from, to Shape
	fit      Fit
	held     map[string]bool // columns of the source that have found their place
	filled   map[string]bool // columns of the target
	unfit    []string
}

// FitTables matches the columns of two memories by their meaning. The error
// names every column that does not fit.
func FitTables(from, to Shape) (Fit, error) {
	f := &fitting{from: from, to: to, held: map[string]bool{}, filled: map[string]bool{}}
	f.id()
	f.pair(MeansContent, from.Mapping.Content, to.Mapping.Content)
	f.vector()
	f.paths()
	f.scope()
	f.pair(MeansAccess, from.Mapping.Accessed, to.Mapping.Accessed)
	f.pair(MeansAccess, from.Mapping.AccessCount, to.Mapping.AccessCount)
	f.document()
	f.sameNames()
	f.leftOver()
	f.demands()
	f.beside()
	if len(f.unfit) > 0 {
		return Fit{}, fmt.Errorf("chunks of memory %s do not fit memory %s: %s. Nothing was moved", from.Name, to.Name, strings.Join(f.unfit, "; "))
	}
	return f.fit, nil
}

func (f *fitting) refuse(format string, args ...any) {
	f.unfit = append(f.unfit, fmt.Sprintf(format, args...))
}

// fill records what a column of the target gets; from may be empty.
func (f *fitting) fill(means Meaning, column, from string) {
	c, ok := f.to.column(column)
	if !ok {
		f.refuse("column %q of the target is gone; add the memory anew", column)
		return
	}
	f.filled[column] = true
	fill := Fill{Column: column, Type: c.Type, Means: means, From: from, NotNull: c.NotNull}
	source, _ := f.from.column(from)
	if c.Modifier >= 0 && means != MeansVector && (source.Type != c.Type || source.Modifier != c.Modifier) {
		fill.Narrow, fill.Full = true, c.Full
	}
	f.fit.Fills = append(f.fit.Fills, fill)
	if !c.Insert {
		f.refuse("rehome's role may not INSERT column %q; grant it", column)
	}
	if from != "" {
		f.held[from] = true
	}
}

func (f *fitting) id() {
	from, to := f.from.Mapping, f.to.Mapping
	column, _ := f.to.column(to.ID)
	f.fit.FreshID = column.Default
	texts := to.IDType == "text" || to.IDType == "character varying" && column.Modifier < 0
	f.fit.KeepID = !column.Numbered && (texts || from.IDType == to.IDType)
	f.held[from.ID] = true
	f.fill(MeansID, to.ID, "")
	if !f.fit.KeepID && f.fit.FreshID == "" {
		f.refuse("id column %q makes no ids by itself and takes none of type %s; give it a default", to.ID, from.IDType)
	}
}

// beside lists what is left of the target, but for how often chunks are used, which is
// nobody's work.
func (f *fitting) beside() {
	for _, c := range f.to.Columns {
		if !f.filled[c.Name] && !c.Generated && c.Readable && c.Name != f.to.Mapping.Accessed && c.Name != f.to.Mapping.AccessCount {
			f.fit.Beside = append(f.fit.Beside, c.Name)
		}
	}
}

// pair fills a column that both memories may have; what only the target has
// stays empty, what only the source has is left over.
func (f *fitting) pair(means Meaning, from, to string) {
	if from == "" || to == "" {
		return
	}
	source, _ := f.from.column(from)
	target, _ := f.to.column(to)
	if means != MeansContent && source.Type != target.Type {
		return
	}
	f.fill(means, to, from)
}

// widens are the conversions of an embedding that keep every bit of it.
var widens = map[string][]string{
	"real[]": {"vector", "double precision[]"},
	"vector": {"real[]"},
}

func (f *fitting) vector() {
	from, to := f.from.Mapping.Embedding, f.to.Mapping.Embedding
	if from == "" || to == "" {
		return
	}
	source, _ := f.from.column(from)
	target, _ := f.to.column(to)
	switch {
	case source.Type != target.Type && !slices.Contains(widens[source.Type], target.Type):
		f.refuse("embedding column %q is of type %s and cannot take %s without loss", to, target.Type, source.Type)
	case source.Modifier > 0 && target.Modifier > 0 && source.Modifier != target.Modifier && source.Type == target.Type:
		f.refuse("embedding column %q has %d dimensions and the source has %d", to, target.Modifier, source.Modifier)
	default:
		if target.Modifier > 0 {
			f.fit.Dimension = target.Modifier
		}
		f.fill(MeansVector, to, from)
	}
}

// paths fills the locators that are columns; those in documents come with them.
func (f *fitting) paths() {
	for _, l := range f.to.Mapping.Locators {
		if len(l.Keys) == 0 {
			f.fill(MeansPath, l.Column, "")
		}
	}
	for _, l := range f.from.Mapping.Locators {
		if len(l.Keys) == 0 {
			f.held[l.Column] = true
		}
	}
}

func (f *fitting) scope() {
	for _, s := range f.to.Mapping.Scope {
		if !f.filled[s.Column] {
			f.fill(MeansScope, s.Column, "")
		}
	}
	for _, s := range f.from.Mapping.Scope {
		f.held[s.Column] = true
	}
}

// document fills the target's metadata with the source's, and every other
// document that holds a locator.
func (f *fitting) document() {
	home := f.to.Mapping.Home()
	if home != "" && !f.filled[home] {
		if c, _ := f.to.column(home); c.Type != "json" && c.Type != "jsonb" {
			f.refuse("metadata column %q is of type %s; want json or jsonb", home, c.Type)
		}
		f.fill(MeansDocument, home, "")
		if from := f.from.Mapping.Home(); from != "" && f.isDocument(from) {
			f.fit.Fills[len(f.fit.Fills)-1].From = from
			f.held[from] = true
		}
	}
	for _, l := range f.to.Mapping.Locators {
		if len(l.Keys) > 0 && !f.filled[l.Column] {
			f.fill(MeansDocument, l.Column, "")
		}
	}
}

func (f *fitting) isDocument(from string) bool {
	c, _ := f.from.column(from)
	return (c.Type == "json" || c.Type == "jsonb") && !f.held[from]
}

// sameNames fills what else both tables have.
func (f *fitting) sameNames() {
	for _, c := range f.to.Columns {
		source, ok := f.from.column(c.Name)
		if ok && !f.filled[c.Name] && !f.held[c.Name] && !c.Generated && !source.Generated && !c.Numbered && c.Insert && source.Readable && source.Type == c.Type {
			f.fill(MeansSame, c.Name, c.Name)
		}
	}
}

// leftOver finds a place for what is left of the source.
func (f *fitting) leftOver() {
	for _, c := range f.from.Columns {
		if f.held[c.Name] || !c.travels() {
			continue
		}
		f.held[c.Name] = true
		if f.to.Mapping.Home() == "" || c.Name == f.from.Mapping.Embedding {
			f.fit.Homeless = append(f.fit.Homeless, c.Name)
		} else {
			f.fit.Extras = append(f.fit.Extras, c.Name)
		}
	}
}

// demands refuses columns of the target that must have a value and get none.
func (f *fitting) demands() {
	for _, c := range f.to.Columns {
		switch {
		case f.filled[c.Name] || !c.NotNull || c.Default != "" || c.Generated || c.Numbered:
		case c.Name == "ordinal" && f.to.Mapping.Schema == "rehome":
			f.fill(MeansOrdinal, c.Name, "")
		default:
			f.refuse("column %q must have a value, has no default, and the source has nothing for it", c.Name)
		}
	}
}
