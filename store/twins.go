package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// twin is the table that holds the rows taken out of a memory. It is made LIKE
// the memory's own table, so that rows go there and back inside Postgres with
// every type as it is. It has none of that table's constraints: whatever its
// owner does to the table later, the twin neither blocks it nor breaks by it.
type twin struct {
	name    string   // in schema rehome
	columns []string // quoted: those that both tables have
	origin  []string // quoted: those of columns that an INSERT into the memory's table may name
	dropped []string // those that only the twin still has
}

func (w twin) table() string { return quote("rehome", w.name) }

// twinLink is the twin's one column of ours: the entry in rehome.quarantine.
const twinLink = "rehome_quarantine_id"

// list joins columns for a select list or an insert list; prefix may be "t.".
func list(columns []string, prefix string) string {
	named := make([]string, len(columns))
	for i, c := range columns {
		named[i] = prefix + c
	}
	return strings.Join(named, ", ")
}

// twinColumn is a column of the memory's table, of its twin, or of both.
type twinColumn struct {
	Name      string
	Type      string // with its modifier and collation, as a column definition takes it
	Default   string // empty when there is none
	Generated bool
	InTable   bool
	InTwin    bool
	Same      bool // type, modifier and collation are equal
}

// compareTwin lists the columns of a memory's table and of a twin side by side.
func compareTwin(ctx context.Context, q querier, m resilience.Mapping, name string) ([]twinColumn, error) {
	const query = `
		WITH columns AS (
			SELECT a.*, format_type(atttypid, atttypmod) ||
				coalesce((SELECT format(' COLLATE %I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
					WHERE c.oid = attcollation AND c.collname <> 'default'), '') AS type
			FROM pg_attribute a WHERE attrelid IN ($1::regclass, to_regclass($2)) AND attnum > 0 AND NOT attisdropped)
		SELECT coalesce(t.attname, w.attname)::text, coalesce(t.type, w.type),
			coalesce(CASE WHEN t.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END, ''),
			coalesce(t.attgenerated <> '', false), t.attname IS NOT NULL, w.attname IS NOT NULL, coalesce(t.type = w.type, false)
		FROM (SELECT * FROM columns WHERE attrelid = $1::regclass) t
		FULL JOIN (SELECT * FROM columns WHERE attrelid = to_regclass($2) AND attname <> $3) w ON w.attname = t.attname
		LEFT JOIN pg_attrdef d ON d.adrelid = t.attrelid AND d.adnum = t.attnum
		ORDER BY t.attnum, w.attnum`
	rows, err := q.Query(ctx, query, quote(m.Schema, m.Table), quote("rehome", name), twinLink)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[twinColumn])
}

// readTwin returns a twin as it fits the memory's table now.
func readTwin(ctx context.Context, q querier, m resilience.Mapping, name string) (twin, error) {
	columns, err := compareTwin(ctx, q, m, name)
	return twinOf(name, columns), err
}

func twinOf(name string, columns []twinColumn) twin {
	w := twin{name: name}
	for _, c := range columns {
		switch {
		case c.InTable && c.InTwin:
			w.columns = append(w.columns, quote(c.Name))
			if !c.Generated {
				w.origin = append(w.origin, quote(c.Name))
			}
		case c.InTwin:
			w.dropped = append(w.dropped, c.Name)
		}
	}
	return w
}

// prepareTwin returns the twin that takes rows of the memory now: the one there
// is, with the columns the table gained meanwhile, or a new one. A column whose
// type was changed makes a new twin, since what is in the old one keeps its type.
func prepareTwin(ctx context.Context, tx pgx.Tx, memory resilience.Memory) (twin, error) {
	name := "quarantine_" + memory.Name
	for generation := 2; ; generation++ {
		columns, fits, err := fitTwin(ctx, tx, memory.Mapping, name)
		if err != nil {
			return twin{}, fmt.Errorf("prepare the quarantine of %s: %w", memory.Name, err)
		}
		if fits {
			return twinOf(name, columns), nil
		}
		name = fmt.Sprintf("quarantine_%s.%d", memory.Name, generation)
	}
}

// fitTwin makes the twin called name take the rows of a table, or reports that
// it does not fit: a column of that name has another type there.
func fitTwin(ctx context.Context, tx pgx.Tx, m resilience.Mapping, name string) (columns []twinColumn, fits bool, err error) {
	lacks := func(c twinColumn) bool { return c.InTable && !c.InTwin }
	changed := func(c twinColumn) bool { return c.InTable && c.InTwin && !c.Same }
	columns, err = compareTwin(ctx, tx, m, name)
	if err != nil || slices.ContainsFunc(columns, changed) || !slices.ContainsFunc(columns, lacks) {
		return columns, err == nil && !slices.ContainsFunc(columns, changed), err
	}
	// Two transactions may find the same lack; the second waits here and then
	// finds it mended.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, "rehome."+name); err != nil {
		return nil, false, err
	}
	if err := growTwin(ctx, tx, m, name); err != nil {
		return nil, false, err
	}
	columns, err = compareTwin(ctx, tx, m, name)
	return columns, err == nil && !slices.ContainsFunc(columns, changed), err
}

// growTwin makes the twin, or adds the columns that the table gained. Rows that
// are in it already get the default of a new column, as those in the table did.
func growTwin(ctx context.Context, tx pgx.Tx, m resilience.Mapping, name string) error {
	table := quote("rehome", name)
	create := fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s (%s bigint PRIMARY KEY, LIKE %s)`, table, twinLink, quote(m.Schema, m.Table))
	if _, err := tx.Exec(ctx, create); err != nil {
		return err
	}
	columns, err := compareTwin(ctx, tx, m, name)
	if err != nil {
		return err
	}
	var add, loosen []string
	for _, c := range columns {
		column := quote(c.Name)
		if !c.InTwin {
			definition := "ADD COLUMN " + column + " " + c.Type
			if c.Default != "" {
				definition += " DEFAULT " + c.Default
			}
			add = append(add, definition)
		}
		loosen = append(loosen, "ALTER COLUMN "+column+" DROP DEFAULT, ALTER COLUMN "+column+" DROP NOT NULL")
	}
	for _, changes := range [][]string{add, loosen} {
		if len(changes) == 0 {
			continue
		}
		if _, err := tx.Exec(ctx, "ALTER TABLE "+table+" "+strings.Join(changes, ", ")); err != nil {
			return err
		}
	}
	return nil
}
