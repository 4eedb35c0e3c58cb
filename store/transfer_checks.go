package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// condition is one that a row of the target has to meet by itself.
type condition struct {
	Says    string // as of a limit
	Fails   string // as of a limit
	Broken  string // expression of columns without a table: true of a row that does not meet it
	Columns []string
}

// limit makes one of the condition.
func (c condition) limit() limit {
	return limit{says: c.Says, fails: c.Fails, columns: c.Columns, refused: func(rows string) string {
		return fmt.Sprintf("SELECT count(*), coalesce(min(%s), '') FROM (%s) r WHERE %s", named, rows, c.Broken)
	}}
}

// together is how many conditions are looked at in one go through the rows.
const together = 100

// conditions are limits by what rows are themselves. Those that all rows meet are left out.
func (l *limits) conditions(ctx context.Context) ([]limit, error) {
	var all []condition
	for _, query := range []string{checks, routes, domains, demands} {
		rows, err := l.tx.Query(ctx, query, l.inTarget())
		if err != nil {
			return nil, err
		}
		some, err := pgx.CollectRows(rows, pgx.RowToStructByPos[condition])
		if err != nil {
			return nil, err
		}
		for _, c := range some {
			if _, known := l.rows(c.Columns); known {
				all = append(all, c)
			}
		}
	}
	var limits []limit
	for some := range slices.Chunk(all, together) {
		whole, err := l.whole(ctx, some)
		if err != nil {
			return nil, err
		}
		if whole {
			continue
		}
		for _, c := range some {
			limits = append(limits, c.limit())
		}
	}
	return limits, nil
}

// whole says whether all rows meet all of the conditions, as far as that can be told of all
// in one go.
func (l *limits) whole(ctx context.Context, all []condition) (bool, error) {
	var columns, broken []string
	for _, c := range all {
		columns = append(columns, c.Columns...)
		broken = append(broken, "("+c.Broken+")")
	}
	rows, _ := l.rows(columns)
	refused, _, err := l.count(ctx, fmt.Sprintf("SELECT count(*), '' FROM (%s) r WHERE %s", rows, strings.Join(broken, " OR ")))
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && failsForItself(pg) {
		return false, nil
	}
	return refused == 0, err
}

// ofParts are the target's table and its partitions, with the rows that each takes: a
// condition, and the columns it is about. What stands in pg_depend is what the keys of
// partitions are made of, of the table and of those that it is a partition of itself.
const ofParts = parts + `,
		cuts AS (
			SELECT coalesce(array_agg(DISTINCT a.attname::text), '{}') AS columns
			FROM (SELECT relid FROM parts UNION SELECT relid FROM pg_partition_ancestors(@table::regclass) relid) p
			JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = p.relid AND d.objsubid > 0
				AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.relid AND d.refobjsubid = 0 AND d.deptype = 'i'
			JOIN pg_attribute a ON a.attrelid = d.objid AND a.attnum = d.objsubid),
		places AS (
			SELECT relid, coalesce(pg_get_partition_constraintdef(relid), 'true') AS takes,
				CASE WHEN pg_get_partition_constraintdef(relid) IS NULL THEN '{}' ELSE columns END AS columns,
				CASE WHEN relid = @table::regclass THEN '' ELSE ' of its partition ' || relid END AS says
			FROM parts, cuts)`

// checks are the CHECK constraints, also those that present rows were spared, and those that
// a partition has for itself: of its rows nobody knows what is looked at first. An attribute
// that is none of the table's has an empty name.
const checks = ofParts + `
		SELECT format('break %sCHECK %s%s, %s', CASE places.says WHEN '' THEN 'its ' ELSE '' END, c.conname, places.says, e.expression),
			CASE places.takes WHEN 'true' THEN format('cannot be checked by its CHECK %s, %s', c.conname, e.expression) ELSE '' END,
			format('(%s) AND (%s) IS FALSE', places.takes, e.expression),
			ARRAY(SELECT coalesce(a.attname::text, '') FROM unnest(c.conkey) k LEFT JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k AND k > 0) || places.columns
		FROM places JOIN pg_constraint c ON c.conrelid = places.relid, pg_get_expr(c.conbin, c.conrelid) e (expression)
		WHERE c.contype = 'c' AND (c.coninhcount = 0 OR c.conrelid = @table::regclass) AND coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' -- since Postgres 18
		ORDER BY c.conname, places.says`

// routes is the partition that a row has to have, or be of.
const routes = ofParts + `
		SELECT 'have no partition to go to', '', format('(%s) IS NOT TRUE', coalesce(string_agg('(' || places.takes || ')', ' OR ') FILTER (WHERE c.relkind <> 'p'), 'false')), cuts.columns
		FROM places JOIN pg_class c ON c.oid = places.relid, cuts
		GROUP BY cuts.columns HAVING bool_or(c.relkind = 'p' OR c.relispartition)`

// domains are the conditions of the types that columns are of. VALUE is the column then, in
// the collation of the type.
const domains = `
		WITH RECURSIVE domains AS (
			SELECT a.attname, y.oid, y.typbasetype, y.typnotnull, y.typcollation FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
			WHERE a.attrelid = @table::regclass AND a.attnum > 0 AND NOT a.attisdropped AND y.typtype = 'd'
			UNION
			SELECT d.attname, y.oid, y.typbasetype, y.typnotnull, y.typcollation FROM domains d JOIN pg_type y ON y.oid = d.typbasetype WHERE y.typtype = 'd')
		SELECT format('break CHECK %s of %s, %s, in its column %I', c.conname, d.oid::regtype, e.expression, d.attname), '',
			format('EXISTS (SELECT FROM (SELECT %I%s AS value OFFSET 0) d WHERE (%s) IS FALSE)', d.attname, CASE WHEN d.typcollation <> 0 THEN ' COLLATE ' || d.typcollation::regcollation ELSE '' END, e.expression), ARRAY[d.attname::text]
		FROM domains d JOIN pg_constraint c ON c.contypid = d.oid AND c.contype = 'c', pg_get_expr(c.conbin, 0) e (expression)
		UNION ALL
		SELECT DISTINCT format('have no value for its column %I, which must have one', attname), '', format('%I IS NULL', attname), ARRAY[attname::text]
		FROM domains WHERE typnotnull
		ORDER BY 1`

// demands are the generated columns, which some must have a value for, and the others of
// which a partition alone wants one. A value that may be NULL is made all the same, where it
// is stored.
const demands = ofParts + `
		SELECT format('have no value for column %I%s, which must have one', a.attname, places.says),
			CASE WHEN a.attgenerated <> '' AND places.takes = 'true' THEN format('cannot have column %I generated from them', a.attname) ELSE '' END,
			format('(%s) AND num_nulls(%I) > %s', places.takes, a.attname, CASE WHEN a.attnotnull THEN 0 ELSE 1 END), ARRAY[a.attname::text] || places.columns
		FROM places JOIN pg_attribute a ON a.attrelid = places.relid
		WHERE a.attnum > 0 AND NOT a.attisdropped AND (places.says = '' AND (a.attgenerated = 's' OR a.attgenerated <> '' AND a.attnotnull) OR places.says <> '' AND a.attnotnull AND NOT EXISTS (
			SELECT FROM pg_attribute o WHERE o.attrelid = @table::regclass AND o.attname = a.attname AND o.attnotnull))
		ORDER BY 1`
