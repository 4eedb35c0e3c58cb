package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// onePlace is a unique index that holds a path.
type onePlace struct {
	Name    string
	Beside  []string // its columns that hold no path
	Unknown bool     // it is of expressions or documents, and nobody knows which rows are equal by it
	Of      string   // which rows it has: a condition
}

// onePlaces lists the unique indexes of the table and its partitions by which two chunks
// may not stand at one place. One of a document with locators is taken for one of the path,
// unless it is an expression that takes another key from it.
func (j *journal) onePlaces(ctx context.Context) ([]onePlace, error) {
	keys := []string{}
	for _, l := range j.table.m.Locators {
		if len(l.Keys) > 0 {
			keys = append(keys, l.Keys[len(l.Keys)-1])
		}
	}
	rows, err := j.tx.Query(ctx, parts+`
		SELECT min(i.indexrelid::regclass::text), k.beside, k.document OR e.is IS NOT NULL, coalesce(pg_get_expr(i.indpred, i.indrelid), 'true')
		FROM parts JOIN pg_index i ON i.indrelid = parts.relid
		CROSS JOIN LATERAL (SELECT pg_get_expr(i.indexprs, i.indrelid) AS is) e
		CROSS JOIN LATERAL (
			SELECT coalesce(array_agg(a.attname::text ORDER BY a.attname) FILTER (WHERE a.attname <> ALL (@paths)), '{}') AS beside,
				coalesce(bool_or(a.attname = ANY (@paths)), false) AS path, coalesce(bool_or(a.attname = ANY (@documents)), false) AS document
			FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[:i.indnkeyatts - 1])) k
		CROSS JOIN LATERAL ( -- what the expressions are made of stands in pg_depend only
			SELECT coalesce(bool_or(a.attname = ANY (@paths)), false) AS path, coalesce(bool_or(a.attname = ANY (@documents)), false) AS document
			FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
			WHERE e.is IS NOT NULL AND d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid) d
		WHERE i.indisunique AND (k.path OR k.document OR d.path OR d.document AND (
			e.is !~ '->|#>' OR EXISTS (SELECT FROM unnest(@keys::text[]) key WHERE position(key IN e.is) > 0)))
		GROUP BY 2, 3, 4 ORDER BY 1`,
		pgx.NamedArgs{"table": j.table.name(), "paths": j.table.pathColumns(), "documents": j.table.documentColumns(), "keys": keys})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[onePlace])
}

// circles lists the files that go where another still is when their turn comes, and by
// what index chunks of both would meet. Of a chain the files go from its end; a circle has
// none.
func (j *journal) circles(all []onePlace) string {
	meetings := make([]string, len(all))
	for i, index := range all {
		meetings[i] = fmt.Sprintf("SELECT old_key, new_key, %s::text AS name FROM links l%s", literal(index.Name), j.meet(index))
	}
	return fmt.Sprintf(`
		WITH links AS MATERIALIZED (
			SELECT p.old_key, p.new_key, p.old_path, p.new_path
			FROM rehome.migration_paths p JOIN rehome.migration_paths n ON n.plan_id = @plan AND n.old_key = p.new_key
			WHERE p.plan_id = @plan AND n.rule >= p.rule AND n.old_key <> p.old_key),
		bad AS (
			SELECT DISTINCT ON (old_key) * FROM (%s) m ORDER BY old_key, name)
		SELECT 'circle', old_key, new_key, name, count(*) OVER () FROM bad ORDER BY old_key LIMIT @kept`, strings.Join(meetings, " UNION ALL "))
}

// meet joins the chunks of two files of a link l that may not stand at one place.
func (j *journal) meet(index onePlace) string {
	if index.Unknown {
		return ""
	}
	t := j.table
	columns := []string{t.path() + " AS place"}
	equal := []string{"(SELECT EXISTS (SELECT FROM links))", "here.place = l.old_path", "there.place = l.new_path"} // without links the table is not read
	for i, c := range index.Beside {
		columns = append(columns, fmt.Sprintf("%s AS c%d", t.column(c), i))
		equal = append(equal, fmt.Sprintf("here.c%[1]d = there.c%[1]d", i))
	}
	chunks := fmt.Sprintf("(SELECT DISTINCT %s FROM %s t WHERE %s AND (%s))", strings.Join(columns, ", "), t.name(), t.scope(), index.Of)
	return fmt.Sprintf(", %[1]s here, %[1]s there WHERE %[2]s", chunks, strings.Join(equal, " AND "))
}
