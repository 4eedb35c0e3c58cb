package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Physics looks at what around a memory's table decides what changing a path
// costs: its indexes, its pages, and our rights. It reads a few pages.
func (s *Store) Physics(ctx context.Context, m resilience.Mapping) (resilience.Physics, error) {
	var p resilience.Physics
	err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
		p, err = lookAtPhysics(ctx, tx, table{m})
		return err
	})
	if err != nil {
		return p, fmt.Errorf("look at the indexes of %s: %w", (table{m}).name(), err)
	}
	return p, nil
}

func lookAtPhysics(ctx context.Context, tx pgx.Tx, t table) (resilience.Physics, error) {
	body, err := measure(ctx, tx, t)
	if err != nil {
		return resilience.Physics{}, err
	}
	indexes, err := indexesOf(ctx, tx, t)
	if err != nil {
		return resilience.Physics{}, err
	}
	rowBytes, stored, onPages, err := body.sample(ctx, tx)
	if err != nil {
		return resilience.Physics{}, err
	}
	p := resilience.NewPhysics(indexes, resilience.Room(onPages, rowBytes))
	p.Rows, p.RowBytes, p.StoredBytes = body.rows(onPages), rowBytes, stored
	p.MayRebuild = body.Owned && len(p.VectorIndexes) > 0
	return p, nil
}

// indexesOf lists the indexes of a table. One on an expression or with a
// condition names its columns in pg_depend only. A column that Postgres makes of the path
// changes with it, unless it takes another key from its document. A summarizing index leaves
// updates HOT from Postgres 16 on. Those of partitions that belong to one of
// the parent repeat it, whether or not their columns have the same numbers.
func indexesOf(ctx context.Context, tx pgx.Tx, t table) ([]resilience.Index, error) {
	const query = parts + `,
		changing AS (
			SELECT a.attrelid, a.attnum FROM parts JOIN pg_attribute a ON a.attrelid = parts.relid
			WHERE a.attname = ANY (@columns) OR a.attgenerated <> '' AND EXISTS (
				SELECT FROM ` + madeOf + `
				CROSS JOIN LATERAL (SELECT pg_get_expr(g.adbin, g.adrelid) AS is) e
				WHERE g.adrelid = a.attrelid AND g.adnum = a.attnum AND (c.attname = ANY (@paths) OR c.attname = ANY (@columns)
					AND (e.is !~ '->|#>' OR EXISTS (SELECT FROM unnest(@keys::text[]) key WHERE position(key IN e.is) > 0)))))
		SELECT c.relname::text, am.amname::text,
			NOT (am.amname = 'brin' AND current_setting('server_version_num')::int >= 160000) AND EXISTS (
				SELECT FROM changing a
				WHERE a.attrelid = i.indrelid AND (
					a.attnum = ANY (i.indkey::int2[])
					OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
						AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)))
		FROM parts JOIN pg_index i ON i.indrelid = parts.relid JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
		WHERE i.indislive AND (NOT c.relispartition OR i.indrelid = @table::regclass)
		ORDER BY 1`
	columns := make([]string, len(t.m.Locators))
	for i, l := range t.m.Locators {
		columns[i] = l.Column
	}
	rows, err := tx.Query(ctx, query, pgx.NamedArgs{"table": t.name(), "columns": columns, "paths": t.pathColumns(), "keys": t.lastKeys()})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Index])
}

// parts are a table and its partitions. pg_partition_tree has no row for a table
// that is neither partitioned nor a partition.
const parts = `
		WITH parts AS (
			SELECT @table::regclass AS relid UNION SELECT relid FROM pg_partition_tree(@table::regclass))
		`

// madeOf joins the expression g of a generated column a to the columns c that it is made of.
// An expression depends on these itself from Postgres 15 on, and its column before.
const madeOf = `pg_attrdef g
				JOIN pg_depend d ON d.refobjid = a.attrelid AND d.refobjsubid <> a.attnum AND (
					d.classid = 'pg_attrdef'::regclass AND d.objid = g.oid OR d.classid = 'pg_class'::regclass AND d.objid = a.attrelid AND d.objsubid = a.attnum)
				JOIN pg_attribute c ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid`

// body is a table as the server stores it. Its largest part stands for all.
type body struct {
	Known        int64  // rows, as they were last counted
	CountedPages int64  // pages then; 0: they never were
	Pages        int64  // now
	Largest      string // quoted name of the largest part
	LargestOID   uint32
	LargestPages int64
	Owned        bool // our role may drop and create its indexes; never so of a partitioned table
}

func measure(ctx context.Context, tx pgx.Tx, t table) (body, error) {
	const query = parts + `,
		heaps AS (
			SELECT c.oid, c.oid::regclass::text AS name, c.reltuples, c.relpages, pg_relation_size(c.oid) / current_setting('block_size')::int AS pages
			FROM parts JOIN pg_class c ON c.oid = parts.relid WHERE c.relkind = 'r'),
		largest AS (SELECT * FROM heaps ORDER BY pages DESC, oid LIMIT 1)
		SELECT coalesce(sum(greatest(h.reltuples, 0)), 0)::bigint, coalesce(sum(h.relpages) FILTER (WHERE h.reltuples >= 0), 0)::bigint, coalesce(sum(h.pages), 0)::bigint,
			coalesce((SELECT name FROM largest), ''), coalesce((SELECT oid FROM largest), 0), coalesce((SELECT pages FROM largest), 0),
			(SELECT c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(c.relnamespace, 'CREATE') FROM pg_class c WHERE c.oid = @table::regclass)
		FROM heaps h`
	rows, err := tx.Query(ctx, query, pgx.NamedArgs{"table": t.name()})
	if err != nil {
		return body{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[body])
}

// rows there are: those last counted, in proportion to the pages since, as the
// planner reckons; of a table that was never counted, as many on each page as on
// those sampled.
func (b body) rows(onPages []int64) int64 {
	if b.CountedPages > 0 {
		return int64(float64(b.Known) * float64(b.Pages) / float64(b.CountedPages))
	}
	if len(onPages) == 0 {
		return 0
	}
	var sampled int64
	for _, n := range onPages {
		sampled += n
	}
	return int64(float64(sampled) * float64(b.Pages) / float64(min(b.LargestPages, pagesSampled)))
}

// pagesSampled of a table tell how full its pages are.
const pagesSampled = 16

// sample looks at some pages of the largest part: what a row takes in the heap, and with
// what is stored elsewhere, and how many there are on each page that has any; nothing
// where none has.
func (b body) sample(ctx context.Context, tx pgx.Tx) (rowBytes, stored int64, onPages []int64, err error) {
	if b.LargestPages == 0 {
		return 0, 0, nil, nil
	}
	columns, err := b.columns(ctx, tx)
	if err != nil || len(columns) == 0 {
		return 0, 0, nil, err
	}
	widths := make([]string, len(columns))
	sizes := make([]string, len(columns))
	whole := make([]string, len(columns))
	for i, c := range columns {
		widths[i] = fmt.Sprintf("coalesce(avg(w%d), 0)::float8", i)
		sizes[i] = fmt.Sprintf("coalesce(%s, 0) AS w%d", c.size(), i)
		whole[i] = fmt.Sprintf("coalesce(%s, 0)::bigint", c.stored())
	}
	pages := make([]string, min(b.LargestPages, pagesSampled))
	for i := range pages { // spread evenly; each is a range of addresses, so nothing else is read
		page := b.LargestPages * int64(i) / int64(len(pages))
		pages[i] = fmt.Sprintf("SELECT %[1]d AS page, %[2]s, %[5]s AS stored FROM %[3]s t WHERE ctid >= '(%[1]d,0)' AND ctid < '(%[4]d,0)'", page, strings.Join(sizes, ", "), b.Largest, page+1, strings.Join(whole, " + "))
	}
	query := fmt.Sprintf(`
		WITH sampled AS MATERIALIZED (%s)
		SELECT ARRAY[%s], coalesce(avg(stored), 0)::bigint, (SELECT coalesce(array_agg(n), '{}') FROM (SELECT count(*) AS n FROM sampled GROUP BY page) p) FROM sampled`,
		strings.Join(pages, " UNION ALL "), strings.Join(widths, ", "))
	var means []float64
	if err := tx.QueryRow(ctx, query).Scan(&means, &stored, &onPages); err != nil {
		return 0, 0, nil, err
	}
	if len(onPages) == 0 {
		return 0, 0, nil, nil
	}
	heap := make([]resilience.ColumnWidth, len(columns))
	for i, c := range columns {
		heap[i] = resilience.ColumnWidth{Bytes: means[i], Movable: c.Movable}
	}
	return resilience.HeapWidth(heap), stored, onPages, nil
}

// heapColumn is a column that our role may measure.
type heapColumn struct {
	Name    string
	Movable bool
}

// size is what a value takes in the heap. One that is larger than a row may be
// there is certainly elsewhere, where it can be.
func (c heapColumn) size() string {
	size := c.stored()
	if !c.Movable {
		return size
	}
	return fmt.Sprintf("CASE WHEN %[1]s > %[2]d THEN %[3]d ELSE %[1]s END", size, resilience.ToastTarget, resilience.ToastPointer)
}

// stored is what a value takes, wherever it is.
func (c heapColumn) stored() string { return fmt.Sprintf("pg_column_size(t.%s)", quote(c.Name)) }

// columns lists those of the largest part. What we may not read is taken for
// nothing.
func (b body) columns(ctx context.Context, tx pgx.Tx) ([]heapColumn, error) {
	const query = `
		SELECT a.attname::text, a.attstorage <> 'p' FROM pg_attribute a
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
		ORDER BY a.attnum`
	rows, err := tx.Query(ctx, query, b.LargestOID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[heapColumn])
}
