package store

import (
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// table writes the SQL fragments that differ from mapping to mapping. In all of
// them the user's table has the alias t. Identifiers are quoted here and only
// here; values go through args.
type table struct {
	m resilience.Mapping
}

func quote(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// name is the quoted, qualified name of the table.
func (t table) name() string { return quote(t.m.Schema, t.m.Table) }

func (t table) column(c string) string { return "t." + quote(c) }

// id is the chunk's id as text, the form in which rehome's own tables keep it.
func (t table) id() string { return t.column(t.m.ID) + "::text" }

// hasID compares the id with a text expression in the id's own type, so that
// the table's index serves.
func (t table) hasID(text string) string {
	return fmt.Sprintf("%s = (%s)::%s", t.column(t.m.ID), text, t.m.IDType)
}

// text is the chunk's text, never NULL.
func (t table) text() string { return "coalesce(" + t.column(t.m.Content) + "::text, '')" }

// path is what the first locator says.
func (t table) path() string { return t.locator(0) }

func (t table) locator(i int) string {
	l := t.m.Locators[i]
	if len(l.Keys) == 0 {
		return t.column(l.Column) + "::text"
	}
	return readable(l.Type, t.column(l.Column), fmt.Sprintf("(%s #>> @keys%d)", t.column(l.Column), i))
}

// unreadable is how a NUL, or half of a pair of surrogates, stands in a document of type
// json, which takes it, but which Postgres then can take no text from; without backslashes
// that stand for themselves.
const unreadable = `\\u(0000|[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F]))|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]`

// readable is what is read from a document, NULL where it cannot be read: the row is of no
// file then, and keeps no other from its own.
func readable(typ, document, value string) string {
	if typ != "json" {
		return value
	}
	return fmt.Sprintf(`CASE WHEN strpos(%[1]s::text, %[2]s) > 0 AND replace(%[1]s::text, %[3]s, ' ') ~ %[4]s THEN NULL ELSE %[5]s END`,
		document, literal(`\u`), literal(`\\`), literal(unreadable), value)
}

// locatorsAre holds where every locator says the same as a text expression.
func (t table) locatorsAre(text string) string {
	all := make([]string, len(t.m.Locators))
	for i := range t.m.Locators {
		all[i] = fmt.Sprintf("%s = %s", t.locator(i), text)
	}
	return "(" + strings.Join(all, " AND ") + ")"
}

// scope holds for the rows of the memory.
func (t table) scope() string {
	all := make([]string, 0, len(t.m.Scope)+1)
	all = append(all, "true")
	for i, f := range t.m.Scope {
		all = append(all, fmt.Sprintf("%s = @scope%d", t.column(f.Column), i))
	}
	return "(" + strings.Join(all, " AND ") + ")"
}

// key is the canonical path of the row's source, NULL when it has none.
func (t table) key() string { return "rehome.path_key(" + t.path() + ", @prefix)" }

// args holds the values the fragments refer to, and those of extra.
func (t table) args(extra pgx.NamedArgs) pgx.NamedArgs {
	args := pgx.NamedArgs{"prefix": t.m.StripPrefix}
	for i, f := range t.m.Scope {
		args[fmt.Sprintf("scope%d", i)] = f.Value
	}
	for i, l := range t.m.Locators {
		if len(l.Keys) > 0 {
			args[fmt.Sprintf("keys%d", i)] = l.Keys
		}
	}
	maps.Copy(args, extra)
	return args
}

// pathColumns lists the columns that hold a path and nothing else.
func (t table) pathColumns() []string {
	columns := []string{}
	for _, l := range t.m.Locators {
		if len(l.Keys) == 0 {
			columns = append(columns, l.Column)
		}
	}
	return columns
}

// lastKeys lists the keys in documents at which a path stands.
func (t table) lastKeys() []string {
	keys := []string{}
	for _, l := range t.m.Locators {
		if len(l.Keys) > 0 {
			keys = append(keys, l.Keys[len(l.Keys)-1])
		}
	}
	return keys
}

// jsonColumns lists the columns of type json among the locators: the only ones
// whose text a rewrite may change beyond the path.
func (t table) jsonColumns() []string {
	var columns []string
	seen := map[string]bool{}
	for _, l := range t.m.Locators {
		if l.Type == "json" && len(l.Keys) > 0 && !seen[l.Column] {
			seen[l.Column] = true
			columns = append(columns, l.Column)
		}
	}
	return columns
}
