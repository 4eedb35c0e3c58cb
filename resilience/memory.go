package resilience

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// DefaultMemory is the name of the memory a command means when none is given.
const DefaultMemory = "default"

var memoryName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,40}$`)

// Memory is a named table of chunks and the root of the tree they were cut from.
type Memory struct {
	Name      string    `json:"name"`
	Root      string    `json:"root"`
	Builtin   bool      `json:"builtin"`
	Mapping   Mapping   `json:"mapping"`
	Marker    string    `json:"marker,omitempty"` // id in the root's marker file; empty when the root has none
	CreatedAt time.Time `json:"created_at"`
}

// CheckMemoryName returns an error that says which names are allowed.
func CheckMemoryName(name string) error {
	if !memoryName.MatchString(name) {
		return fmt.Errorf("memory name %q: want 1 to 41 of a-z, 0-9, _ and -, beginning with a letter or a digit", name)
	}
	return nil
}

// Mapping says where a memory's table keeps what rehome needs to know of a chunk.
// Columns it does not name are never read into Go and never written.
type Mapping struct {
	Schema      string    `json:"schema"`
	Table       string    `json:"table"`
	ID          string    `json:"id"`
	IDType      string    `json:"id_type"` // as Postgres prints it: text, uuid, bigint …
	Content     string    `json:"content"`
	Embedding   string    `json:"embedding,omitempty"`
	Metadata    string    `json:"metadata,omitempty"`
	Accessed    string    `json:"accessed,omitempty"`     // a timestamp column the application keeps
	AccessCount string    `json:"access_count,omitempty"` // an integer column the application keeps
	Locators    []Locator `json:"locators"`               // at least one; all of a row are rewritten together
	Scope       []Scope   `json:"scope,omitempty"`        // all must hold
	StripPrefix string    `json:"strip_prefix,omitempty"` // what stands before the path relative to the root
}

// Scope restricts a memory to the rows whose column has a value.
type Scope struct {
	Column string `json:"column"`
	Value  string `json:"value"`
}

// Locator is one place in a row that holds the path of its source: a column, or
// a key, possibly nested, of a json or jsonb column.
type Locator struct {
	Column string   `json:"column"`
	Keys   []string `json:"keys,omitempty"` // empty: the column itself
	Type   string   `json:"type"`           // type of the column: text, varchar, json, jsonb …
}

// String gives the locator as it is written on the command line.
func (l Locator) String() string { return strings.Join(append([]string{l.Column}, l.Keys...), "->") }

// ParseLocator reads COLUMN or COLUMN->key[->key]…; ->> is taken for ->, and
// quotes around a key, as SQL has them, are dropped.
func ParseLocator(s string) (Locator, error) {
	parts := strings.Split(strings.ReplaceAll(s, "->>", "->"), "->")
	for i, p := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(p), "'")
		if parts[i] == "" {
			return Locator{}, fmt.Errorf("path locator %q: want COLUMN or COLUMN->key[->key]", s)
		}
	}
	l := Locator{Column: parts[0]}
	if len(parts) > 1 {
		l.Keys = parts[1:]
	}
	return l, nil
}

// ParseScope reads COLUMN=VALUE.
func ParseScope(s string) (Scope, error) {
	col, val, ok := strings.Cut(s, "=")
	if !ok || col == "" {
		return Scope{}, fmt.Errorf("scope %q: want COLUMN=VALUE", s)
	}
	return Scope{Column: col, Value: val}, nil
}

// BuiltinMapping maps rehome's own chunk table for the memory called name.
func BuiltinMapping(name string) Mapping {
	return Mapping{
		Schema: "rehome", Table: "chunks",
		ID: "id", IDType: "bigint", Content: "content", Embedding: "embedding", Metadata: "metadata",
		Locators: []Locator{{Column: "path", Type: "text"}},
		Scope:    []Scope{{Column: "memory", Value: name}},
	}
}
