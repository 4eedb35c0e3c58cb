package store

import (
	"fmt"
	"slices"
	"strings"
)

// direction of a move, seen from the journal.
type direction struct {
	from, to string // columns of migration_paths, or sideways
	undoing  bool
}

var (
	forward  = direction{from: "old_path", to: "new_path"}
	backward = direction{from: "new_path", to: "old_path", undoing: true}
)

// A row that makes room for others steps aside, to a place of its own for as long as a
// transaction takes: to what is added to the old path of m.
const (
	sideways      = "aside"
	stepAside     = "~rehome"
	steppingAside = "m.old_path || '" + stepAside + "' AS " + sideways
)

// assignments is the SET list that rewrites every locator of a row to the
// planned target. Nothing else is named, so an embedding is neither read nor
// written again. The journal's row has the alias p.
func (t table) assignments(d direction) string {
	var sets []string
	done := map[string]bool{}
	for _, l := range t.m.Locators {
		if done[l.Column] {
			continue
		}
		done[l.Column] = true
		sets = append(sets, quote(l.Column)+" = "+t.rewritten(l.Column, l.Type, d))
	}
	return strings.Join(sets, ", ")
}

// rewritten is the new value of a column that holds one or more locators.
func (t table) rewritten(column, typ string, d direction) string {
	switch typ {
	case "json":
		return t.rewrittenJSON(column, d)
	case "jsonb":
		return t.put(column, t.column(column), "p."+d.to)
	default:
		return fmt.Sprintf("p.%s::%s", d.to, typ)
	}
}

// rewrittenJSON puts a json document back verbatim where it is still what we
// made of it; elsewhere, and in one that steps aside, it changes the path only.
func (t table) rewrittenJSON(column string, d direction) string {
	now := t.column(column)
	change := t.put(column, now, "p."+d.to)
	if d.to == sideways {
		return change
	}
	at := slices.Index(t.jsonColumns(), column) + 1
	was, verbatim := fmt.Sprintf("p.documents[%d]", at), fmt.Sprintf("p.restores[%d]", at)
	if d.undoing {
		was, verbatim = t.written(column, "p"), was
	}
	if d.from == sideways {
		was = t.put(column, "("+was+")::json", "p."+sideways) + "::text"
	}
	return fmt.Sprintf("CASE WHEN %[3]s IS NULL THEN %[4]s WHEN %[1]s::text = %[2]s THEN %[3]s::json ELSE %[4]s END", now, was, verbatim, change)
}

// written is the text that a journal's row, under an alias, made of a json column.
func (t table) written(column, journal string) string {
	at := slices.Index(t.jsonColumns(), column) + 1
	made := t.put(column, fmt.Sprintf("%s.documents[%d]::json", journal, at), journal+".new_path")
	return fmt.Sprintf("coalesce(%s.restores[%d], %s::text)", journal, at, made)
}

// verbatim is, for a plan that undoes the journal's row, the documents to put
// back: those from before it, where the table still has what it wrote.
func (t table) verbatim(journal string) string {
	columns := t.jsonColumns()
	if len(columns) == 0 {
		return "NULL::text[]"
	}
	texts := make([]string, len(columns))
	for i, c := range columns {
		texts[i] = fmt.Sprintf("CASE WHEN %s::text = %s THEN %s.documents[%d] END", t.column(c), t.written(c, journal), journal, i+1)
	}
	return "ARRAY[" + strings.Join(texts, ", ") + "]"
}

// put replaces every locator of a json or jsonb column in a document by a text expression.
func (t table) put(column, document, text string) string {
	for i, l := range t.m.Locators {
		if l.Column != column {
			continue
		}
		if l.Type == "json" {
			document = fmt.Sprintf("rehome.json_put(%s, @keys%d, %s)", document, i, text)
		} else {
			document = fmt.Sprintf("jsonb_set(%s, @keys%d, to_jsonb(%s), false)", document, i, text)
		}
	}
	return document
}

// documents is the json columns' text, in the order of jsonColumns; NULL when there are none.
func (t table) documents() string {
	columns := t.jsonColumns()
	if len(columns) == 0 {
		return "NULL::text[]"
	}
	texts := make([]string, len(columns))
	for i, c := range columns {
		texts[i] = t.column(c) + "::text"
	}
	return "ARRAY[" + strings.Join(texts, ", ") + "]"
}
