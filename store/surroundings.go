package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// surroundings looks at what is attached to the table.
func (x *examined) surroundings(ctx context.Context, tx pgx.Tx) (resilience.Surroundings, error) {
	around := resilience.Surroundings{Partitioned: x.kind == "p"}
	for _, c := range x.columns {
		if c.Generated {
			around.Generated = append(around.Generated, c.Name)
		}
		if c.Identity {
			around.Identity = append(around.Identity, c.Name)
		}
	}
	var err error
	if around.ForeignKeys, err = x.foreignKeys(ctx, tx); err != nil {
		return around, err
	}
	if around.Triggers, err = x.triggers(ctx, tx); err != nil {
		return around, err
	}
	if around.UniqueIndexes, err = x.uniqueIndexes(ctx, tx); err != nil {
		return around, err
	}
	if around.Deferrable, err = x.deferrable(ctx, tx); err != nil {
		return around, err
	}
	around.MissingRights, around.Rows, err = x.rights(ctx, tx)
	return around, err
}

func (x *examined) foreignKeys(ctx context.Context, tx pgx.Tx) ([]resilience.ForeignKey, error) {
	found, err := pointers(ctx, tx, table{x.mapping})
	if err != nil {
		return nil, err
	}
	keys := make([]resilience.ForeignKey, len(found))
	for i, p := range found {
		keys[i] = resilience.ForeignKey{Name: p.Name, Table: p.Schema + "." + p.Table, OnDelete: p.OnDelete, Rows: -1}
		if !p.Readable {
			continue
		}
		count := fmt.Sprintf(`SELECT count(*) FROM (SELECT FROM %s WHERE %s IS NOT NULL LIMIT $1) pointing`, quote(p.Schema, p.Table), quote(p.Columns[0]))
		if err := tx.QueryRow(ctx, count, resilience.MaxCounted).Scan(&keys[i].Rows); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// pointer is a foreign key that points to a table.
type pointer struct {
	Name, Schema, Table, OnDelete string
	Readable                      bool     // by rehome's role, all of its rows
	Indexed                       bool     // by the first of its columns
	Columns, To                   []string // of its own table, and those that they point to
}

// pointers lists the foreign keys that point to a table. Constraints of partitions
// repeat their parent's.
func pointers(ctx context.Context, tx pgx.Tx, t table) ([]pointer, error) {
	rows, err := tx.Query(ctx, `
		SELECT con.conname::text, n.nspname::text, c.relname::text,
			CASE con.confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END,
			has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AND NOT row_security_active(c.oid),
			EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = con.conkey[1]),
			k.columns, k.pointed
		FROM pg_constraint con JOIN pg_class c ON c.oid = con.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
			LATERAL (
				SELECT array_agg(a.attname::text ORDER BY p.n) AS columns, array_agg(b.attname::text ORDER BY p.n) AS pointed
				FROM unnest(con.conkey, con.confkey) WITH ORDINALITY p (its, ours, n)
				JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = p.its
				JOIN pg_attribute b ON b.attrelid = con.confrelid AND b.attnum = p.ours) k
		WHERE con.contype = 'f' AND con.confrelid = $1::text::regclass AND con.conparentid = 0 ORDER BY 2, 3, 1`, t.name())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[pointer])
}

func (x *examined) triggers(ctx context.Context, tx pgx.Tx) ([]resilience.Trigger, error) {
	const query = `
		SELECT tgname::text, array_remove(ARRAY[
			CASE WHEN tgtype & 4 > 0 THEN 'INSERT' END, CASE WHEN tgtype & 16 > 0 THEN 'UPDATE' END, CASE WHEN tgtype & 8 > 0 THEN 'DELETE' END], NULL)
		FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 1 > 0 ORDER BY 1`
	rows, err := tx.Query(ctx, query, x.oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Trigger])
}

func (x *examined) uniqueIndexes(ctx context.Context, tx pgx.Tx) ([]string, error) {
	var locators []int16
	for _, c := range x.columns {
		if slices.ContainsFunc(x.mapping.Locators, func(l resilience.Locator) bool { return l.Column == c.Name }) {
			locators = append(locators, c.Number)
		}
	}
	// An index on an expression names its columns in pg_depend only.
	const query = `
		SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = $1 AND i.indisunique AND (
			EXISTS (SELECT FROM unnest(i.indkey::int2[]) k WHERE k = ANY ($2::int2[]))
			OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
				AND d.refobjid = i.indrelid AND d.refobjsubid = ANY ($2::int2[])))
		ORDER BY 1`
	rows, err := tx.Query(ctx, query, x.oid, locators)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (x *examined) deferrable(ctx context.Context, tx pgx.Tx) ([]string, error) {
	const query = `SELECT conname::text FROM pg_constraint WHERE conrelid = $1 AND contype IN ('p', 'u', 'x') AND condeferrable ORDER BY 1`
	rows, err := tx.Query(ctx, query, x.oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (x *examined) rights(ctx context.Context, tx pgx.Tx) (missing []string, rows int64, err error) {
	var insert, remove bool
	const query = `
		SELECT has_table_privilege(oid, 'INSERT'), has_table_privilege(oid, 'DELETE'), reltuples::bigint FROM pg_class WHERE oid = $1`
	if err := tx.QueryRow(ctx, query, x.oid).Scan(&insert, &remove, &rows); err != nil {
		return nil, 0, err
	}
	update := !slices.ContainsFunc(x.mapping.Locators, func(l resilience.Locator) bool {
		return slices.ContainsFunc(x.columns, func(c tableColumn) bool { return c.Name == l.Column && !c.Writable })
	})
	for _, right := range []struct {
		name string
		held bool
	}{{"UPDATE", update}, {"DELETE", remove}, {"INSERT", insert}} {
		if !right.held {
			missing = append(missing, right.name)
		}
	}
	return missing, rows, nil
}

// Of a large table 16 MB are looked at, in pages of 8 kB, and at most as many
// rows as take a second or two.
const (
	samplePages = 2000
	sampleRows  = 200_000
)

// SamplePaths returns up to n paths of a memory's table, all different, as
// canonical keys. A path that has none, since it lies outside of the prefix or
// is no path at all, comes as it stands there: no file is found by it. Of a
// large table a part is read, at random unless the scope lies in a corner of it.
func (s *Store) SamplePaths(ctx context.Context, m resilience.Mapping, n int) ([]string, error) {
	t := table{m}
	sample := func(part string) ([]string, error) {
		query := fmt.Sprintf(`
			SELECT path FROM (
				SELECT DISTINCT coalesce(%s, %s) AS path FROM (SELECT * FROM %s t %s WHERE %s LIMIT @rows) t) paths
			WHERE path <> '' ORDER BY md5(path) LIMIT @n`, t.key(), t.path(), t.name(), part, t.scope())
		rows, err := s.pool.Query(ctx, query, t.args(pgx.NamedArgs{"n": n, "rows": sampleRows}))
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	var pages int64
	const size = parts + `SELECT coalesce(sum(pg_relation_size(relid)) / 8192, 0)::bigint FROM parts`
	if err := s.pool.QueryRow(ctx, size, pgx.NamedArgs{"table": t.name()}).Scan(&pages); err != nil {
		return nil, fmt.Errorf("measure %s: %w", t.name(), interpret(err))
	}
	var paths []string
	var err error
	if pages > samplePages {
		paths, err = sample(fmt.Sprintf("TABLESAMPLE SYSTEM (%g)", 100*float64(samplePages)/float64(pages)))
	}
	if err == nil && len(paths) < n {
		paths, err = sample("")
	}
	if err != nil {
		return nil, fmt.Errorf("sample the paths of %s: %w", t.name(), interpret(err))
	}
	return paths, nil
}
