package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// condition is one that a row of the target has to meet by itself.
type condition struct {
	Says    string
	Fails   string // as of a limit
	Broken  string // expression of columns without a table: true of a row that does not meet it
	Columns []string
}

// conditions makes limits of what a query tells of the target's table.
func (l *limits) conditions(ctx context.Context, query string) ([]limit, error) {
	rows, err := l.tx.Query(ctx, query, l.inTarget())
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[condition])
	limits := make([]limit, len(all))
	for i, c := range all {
		limits[i] = limit{says: c.Says, fails: c.Fails, columns: c.Columns, refused: func(rows string) string {
			return fmt.Sprintf("SELECT count(*), coalesce(min(%s), '') FROM (%s) r WHERE %s", named, rows, c.Broken)
		}}
	}
	return limits, err
}

// ofParts are the target's table and its partitions, with the rows that each takes: a
// condition, and the columns it is about. What stands in pg_depend is what the table's keys
// of partitions are made of.
const ofParts = parts + `,
		cuts AS (
			SELECT coalesce(array_agg(DISTINCT a.attname::text), '{}') AS columns
			FROM parts JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = parts.relid AND d.objsubid > 0
				AND d.refclassid = 'pg_class'::regclass AND d.refobjid = parts.relid AND d.refobjsubid = 0 AND d.deptype = 'i'
			JOIN pg_attribute a ON a.attrelid = d.objid AND a.attnum = d.objsubid),
		places AS (
			SELECT relid, CASE WHEN relid = @table::regclass THEN 'true' ELSE coalesce(pg_get_partition_constraintdef(relid), 'true') END AS takes,
				CASE WHEN relid = @table::regclass THEN '{}' ELSE columns END AS columns,
				CASE WHEN relid = @table::regclass THEN '' ELSE ' of its partition ' || relid END AS says
			FROM parts, cuts)`

// checks are the CHECK constraints, also those that present rows were spared, and those that
// a partition has for itself. An attribute that is none of the table's has an empty name.
func (l *limits) checks(ctx context.Context) ([]limit, error) {
	return l.conditions(ctx, ofParts+`
		SELECT format('break %sCHECK %s%s, %s', CASE places.says WHEN '' THEN 'its ' ELSE '' END, c.conname, places.says, e.expression),
			CASE places.says WHEN '' THEN format('cannot be checked by its CHECK %s, %s', c.conname, e.expression) ELSE '' END, -- of the rows of a partition nobody knows which is looked at first
			format('(%s) AND (%s) IS FALSE', places.takes, e.expression),
			ARRAY(SELECT coalesce(a.attname::text, '') FROM unnest(c.conkey) k LEFT JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k AND k > 0) || places.columns
		FROM places JOIN pg_constraint c ON c.conrelid = places.relid, pg_get_expr(c.conbin, c.conrelid) e (expression)
		WHERE c.contype = 'c' AND (c.coninhcount = 0 OR c.conrelid = @table::regclass) AND coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' -- since Postgres 18
		ORDER BY c.conname, places.says`)
}

// routes is the partition that a row has to have, where the table is of partitions.
func (l *limits) routes(ctx context.Context) ([]limit, error) {
	return l.conditions(ctx, ofParts+`
		SELECT 'have no partition to go to', 'have no partition to go to', format('(%s) IS NOT TRUE', coalesce(string_agg('(' || places.takes || ')', ' OR ') FILTER (WHERE c.relkind <> 'p'), 'false')), cuts.columns
		FROM places JOIN pg_class c ON c.oid = places.relid, cuts
		GROUP BY cuts.columns HAVING bool_or(c.relkind = 'p')`)
}

// domains are the conditions of the types that columns are of. VALUE is the column then.
func (l *limits) domains(ctx context.Context) ([]limit, error) {
	return l.conditions(ctx, `
		WITH RECURSIVE domains AS (
			SELECT a.attname, y.oid, y.typbasetype, y.typnotnull FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
			WHERE a.attrelid = @table::regclass AND a.attnum > 0 AND NOT a.attisdropped AND y.typtype = 'd'
			UNION
			SELECT d.attname, y.oid, y.typbasetype, y.typnotnull FROM domains d JOIN pg_type y ON y.oid = d.typbasetype WHERE y.typtype = 'd')
		SELECT format('break CHECK %s of %s, %s, in its column %I', c.conname, d.oid::regtype, e.expression, d.attname), '',
			format('EXISTS (SELECT FROM (SELECT %I AS value OFFSET 0) d WHERE (%s) IS FALSE)', d.attname, e.expression), ARRAY[d.attname::text]
		FROM domains d JOIN pg_constraint c ON c.contypid = d.oid AND c.contype = 'c', pg_get_expr(c.conbin, 0) e (expression)
		UNION ALL
		SELECT format('have no value for its column %I, which must have one', attname), '', format('%I IS NULL', attname), ARRAY[attname::text]
		FROM domains WHERE typnotnull
		ORDER BY 1`)
}

// demands are the generated columns, which some must have a value for, and the others of
// which a partition alone wants one. A value that may be NULL is made all the same.
func (l *limits) demands(ctx context.Context) ([]limit, error) {
	return l.conditions(ctx, ofParts+`
		SELECT format('have no value for column %I%s, which must have one', a.attname, places.says),
			CASE places.says WHEN '' THEN format('cannot have column %I generated from them', a.attname) ELSE '' END,
			format('(%s) AND num_nulls(%I) > %s', places.takes, a.attname, CASE WHEN a.attnotnull THEN 0 ELSE 1 END), ARRAY[a.attname::text] || places.columns
		FROM places JOIN pg_attribute a ON a.attrelid = places.relid
		WHERE a.attnum > 0 AND NOT a.attisdropped AND (places.says = '' AND a.attgenerated <> '' OR places.says <> '' AND a.attnotnull AND NOT EXISTS (
			SELECT FROM pg_attribute o WHERE o.attrelid = @table::regclass AND o.attname = a.attname AND o.attnotnull))
		ORDER BY 1`)
}
