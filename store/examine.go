package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// tableColumn is a column of a memory's table.
type tableColumn struct {
	Name      string
	Number    int16
	Type      string // without length: a cast to it never cuts a value short
	NotNull   bool
	Generated bool
	Identity  bool
	Readable  bool
	Writable  bool
}

// examined is a table as it is looked at.
type examined struct {
	oid     uint32
	kind    string // pg_class.relkind
	columns []tableColumn
	mapping resilience.Mapping
}

// Examine looks whether a mapping fits its table, before anything is written,
// and at what surrounds the table. It returns the mapping with the schema and
// the types filled in. What does not fit is refused with what to change.
func (s *Store) Examine(ctx context.Context, m resilience.Mapping) (resilience.Mapping, resilience.Surroundings, error) {
	m.Locators = slices.Clone(m.Locators) // their types are filled in
	if m.Schema == "" {
		m.Schema = "public"
	}
	x := examined{mapping: m}
	var around resilience.Surroundings
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		for _, look := range []func(context.Context, pgx.Tx) error{x.findTable, x.findColumns, x.checkID, x.checkLocators, x.checkOthers} {
			if err := look(ctx, tx); err != nil {
				return err
			}
		}
		var err error
		if around, err = x.surroundings(ctx, tx); err != nil {
			return err
		}
		around.EmptyScope, err = x.probe(ctx, tx)
		return err
	})
	if err != nil {
		return resilience.Mapping{}, resilience.Surroundings{}, fmt.Errorf("examine table %s.%s: %w", m.Schema, m.Table, err)
	}
	return x.mapping, around, nil
}

// kinds of relations that are no tables, and why they will not do.
var unfitKinds = map[string]string{
	"v": "is a view; map the table it reads from",
	"m": "is a materialized view, which cannot be updated; map the table it reads from",
	"f": "is a foreign table; install rehome in the database where its rows are",
}

func (x *examined) findTable(ctx context.Context, tx pgx.Tx) error {
	const query = `
		SELECT c.oid, c.relkind::text, c.relpersistence::text, c.relhassubclass AND c.relkind = 'r', row_security_active(c.oid)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`
	var persistence string
	var parent, secured bool
	err := tx.QueryRow(ctx, query, x.mapping.Schema, x.mapping.Table).Scan(&x.oid, &x.kind, &persistence, &parent, &secured)
	if errors.Is(err, pgx.ErrNoRows) {
		return x.noTable(ctx, tx)
	}
	if err != nil {
		return err
	}
	switch reason := unfitKinds[x.kind]; {
	case reason != "":
		return problem(ErrUnfit, "it %s", reason)
	case x.mapping.Schema == "rehome" && x.mapping.Table != "chunks":
		return problem(ErrRefused, "schema rehome keeps rehome's own tables; map a table of yours, or none for the builtin one")
	case persistence == "t":
		return problem(ErrUnfit, "it is a temporary table, which no worker can see")
	case parent:
		return problem(ErrUnfit, "other tables inherit from it, so no id is unique in it; map one of them, or partition the table")
	case secured:
		return problem(ErrRefused, "row-level security hides rows from rehome's role, which would look like deleted ones; connect with a role that has BYPASSRLS")
	}
	return nil
}

func (x *examined) noTable(ctx context.Context, tx pgx.Tx) error {
	const query = `
		SELECT CASE WHEN n.nspname = $1 THEN c.relname::text ELSE n.nspname || '.' || c.relname END
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'rehome', 'pg_toast') ORDER BY 1`
	rows, err := tx.Query(ctx, query, x.mapping.Schema)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return problem(ErrNotFound, "there is no such table, nor any other, in this database; check DATABASE_URL")
	}
	return problem(ErrNotFound, "there is no such table; there is %s", strings.Join(resilience.Nearest(x.mapping.Table, names), ", "))
}

func (x *examined) findColumns(ctx context.Context, tx pgx.Tx) error {
	const query = `
		SELECT a.attname::text, a.attnum, format_type(a.atttypid, NULL), a.attnotnull, a.attgenerated <> '', a.attidentity <> '',
			has_column_privilege(a.attrelid, a.attnum, 'SELECT'), has_column_privilege(a.attrelid, a.attnum, 'UPDATE')
		FROM pg_attribute a
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`
	rows, err := tx.Query(ctx, query, x.oid)
	if err != nil {
		return err
	}
	x.columns, err = pgx.CollectRows(rows, pgx.RowToStructByPos[tableColumn])
	return err
}

// column finds a column by its exact name and refuses one that cannot be read.
func (x *examined) column(role, name string) (tableColumn, error) {
	at := slices.IndexFunc(x.columns, func(c tableColumn) bool { return c.Name == name })
	if at < 0 {
		names := make([]string, len(x.columns))
		for i, c := range x.columns {
			names[i] = c.Name
		}
		return tableColumn{}, problem(ErrNotFound, "there is no column %q for the %s; there is %s", name, role, strings.Join(resilience.Nearest(name, names), ", "))
	}
	if !x.columns[at].Readable {
		return tableColumn{}, problem(ErrRights, "rehome's role may not SELECT column %q; grant it", name)
	}
	return x.columns[at], nil
}

var idTypes = []string{"text", "character varying", "uuid", "bigint", "integer", "smallint"}

func (x *examined) checkID(ctx context.Context, tx pgx.Tx) error {
	id, err := x.column("id", x.mapping.ID)
	if err != nil {
		return err
	}
	if !slices.Contains(idTypes, id.Type) {
		return problem(ErrUnfit, "id column %q is of type %s; want one of %s", id.Name, id.Type, strings.Join(idTypes, ", "))
	}
	x.mapping.IDType = id.Type
	const query = `
		SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = $1 AND indisunique AND indisvalid AND indpred IS NULL
			AND indnkeyatts = 1 AND indkey[0] = $2)`
	var unique bool
	if err := tx.QueryRow(ctx, query, x.oid, id.Number).Scan(&unique); err != nil {
		return err
	}
	if !unique {
		return problem(ErrUnfit, "id column %q is not unique by itself; name the primary key, or create a unique index on it", id.Name)
	}
	if id.NotNull {
		return nil
	}
	var null bool
	t := table{x.mapping}
	if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s t WHERE %s IS NULL)`, t.name(), t.column(id.Name))).Scan(&null); err != nil {
		return err
	}
	if null {
		return problem(ErrUnfit, "id column %q holds NULL; a row without an id cannot be followed", id.Name)
	}
	return nil
}

func (x *examined) checkLocators(context.Context, pgx.Tx) error {
	if len(x.mapping.Locators) == 0 {
		return problem(ErrInvalid, "no path locator is given; want at least one COLUMN or COLUMN->key")
	}
	seen := map[string]bool{}
	for i, l := range x.mapping.Locators {
		if seen[l.String()] {
			return problem(ErrInvalid, "path locator %s is given twice", l)
		}
		seen[l.String()] = true
		column, err := x.column("path", l.Column)
		if err != nil {
			return err
		}
		if err := x.checkLocator(l, column); err != nil {
			return err
		}
		x.mapping.Locators[i].Type = column.Type
	}
	return nil
}

func (x *examined) checkLocator(l resilience.Locator, c tableColumn) error {
	document := c.Type == "json" || c.Type == "jsonb"
	switch {
	case c.Name == x.mapping.ID:
		return problem(ErrUnfit, "column %q is the id and cannot be the path too", c.Name)
	case slices.ContainsFunc(x.mapping.Scope, func(f resilience.Scope) bool { return f.Column == c.Name }):
		return problem(ErrUnfit, "column %q is the scope and cannot be the path too: a rename would take rows out of the memory", c.Name)
	case c.Generated:
		return problem(ErrUnfit, "path column %q is generated by Postgres; name the columns it is made from", c.Name)
	case document && len(l.Keys) == 0:
		return problem(ErrUnfit, "path column %q is of type %s; name the key: %s->source, say", c.Name, c.Type, c.Name)
	case !document && len(l.Keys) > 0:
		return problem(ErrUnfit, "path column %q is of type %s, which has no keys; name a json or jsonb column, or the column alone", c.Name, c.Type)
	case !document && c.Type != "text" && c.Type != "character varying":
		return problem(ErrUnfit, "path column %q is of type %s; want text, character varying, json or jsonb", c.Name, c.Type)
	}
	return nil
}

// checkOthers looks at the content column and those that may be mapped besides.
func (x *examined) checkOthers(context.Context, pgx.Tx) error {
	var (
		texts = []string{"text", "character varying", "character"}
		times = []string{"timestamp with time zone", "timestamp without time zone", "date"}
		whole = []string{"bigint", "integer", "smallint"}
	)
	m := x.mapping
	for _, want := range []struct {
		role, column string
		types        []string
	}{
		{"content", m.Content, texts},
		{"embedding", m.Embedding, nil},
		{"metadata", m.Metadata, nil},
		{"access time", m.Accessed, times},
		{"access count", m.AccessCount, whole},
	} {
		if want.column == "" && want.role != "content" {
			continue
		}
		column, err := x.column(want.role, want.column)
		if err != nil {
			return err
		}
		if want.types != nil && !slices.Contains(want.types, column.Type) {
			return problem(ErrUnfit, "%s column %q is of type %s; want %s", want.role, column.Name, column.Type, strings.Join(want.types, " or "))
		}
	}
	for _, f := range m.Scope {
		if _, err := x.column("scope", f.Column); err != nil {
			return err
		}
	}
	return nil
}

// probe reads one row as rehome will, so that a scope value that the column
// does not take is found now. It reports whether the scope is empty.
func (x *examined) probe(ctx context.Context, tx pgx.Tx) (bool, error) {
	t := table{x.mapping}
	var some bool
	query := fmt.Sprintf(`SELECT EXISTS (SELECT %s, %s FROM %s t WHERE %s LIMIT 1)`, t.id(), t.key(), t.name(), t.scope())
	err := tx.QueryRow(ctx, query, t.args(nil)).Scan(&some)
	if err != nil && errors.Is(interpret(err), ErrUnfit) {
		return false, problem(ErrUnfit, "the scope does not fit its column: %v; check column and value", err)
	}
	return !some, err
}
