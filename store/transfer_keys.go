package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// key is what a unique index, or one of an exclusion, makes of a row.
type key struct {
	Says      string   // what it is
	Relation  string   // of the rows that it is over, quoted: the table, or a partition
	Parts     []string // expressions
	Operators []string // by which two rows meet, one for each part
	Equal     bool     // all of them are equalities
	Nulls     bool     // it takes no two that are NULL
	Of        string   // which rows it has: a condition
	Columns   []string // that all of this is about
	ByID      bool     // the id is one of the parts, so that no two rows meet
}

// keys are the unique indexes, but those of the id, and the exclusions. Nobody knows whom a
// row meets where triggers do something to others.
func (l *limits) keys(ctx context.Context) ([]limit, error) {
	if l.acts {
		return nil, nil
	}
	rows, err := l.tx.Query(ctx, ofParts+`
		SELECT format('%s %s%s (%s)', CASE WHEN i.indisexclusion THEN 'exclusion' ELSE 'unique index' END, i.indexrelid::regclass, places.says, k.says),
			i.indrelid::regclass::text, k.parts, k.operators, k.equal, coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false), -- since Postgres 15
			format('(%s) AND (%s)', places.takes, coalesce(pg_get_expr(i.indpred, i.indrelid), 'true')),
			ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (n.keys)) || ARRAY(
				SELECT a.attname::text FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
				WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid > 0 AND a.attnum <> ALL (n.beside)) || places.columns,
			NOT i.indisexclusion AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (n.keys) AND a.attname = @id)
		FROM places JOIN pg_index i ON i.indrelid = places.relid JOIN pg_class r ON r.oid = i.indexrelid
		LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid AND c.conexclop IS NOT NULL,
		LATERAL (SELECT (i.indkey::int2[])[:i.indnkeyatts - 1] AS keys, (i.indkey::int2[])[i.indnkeyatts:] AS beside) n, -- from 0
		LATERAL (
			SELECT string_agg(pg_get_indexdef(i.indexrelid, n, true), ', ' ORDER BY n) AS says, array_agg('(' || pg_get_indexdef(i.indexrelid, n, true) || ')' || CASE (i.indcollation::oid[])[n - 1] WHEN 0 THEN '' ELSE ' COLLATE ' || (i.indcollation::oid[])[n - 1]::regcollation END ORDER BY n) AS parts,
				array_agg(CASE WHEN o.oid IS NULL THEN '=' ELSE format('OPERATOR(%s.%s)', quote_ident(s.nspname), o.oprname) END ORDER BY n) AS operators, bool_and(coalesce(o.oprcanhash, true)) AS equal
			FROM generate_series(1, i.indnkeyatts) n LEFT JOIN pg_operator o ON o.oid = c.conexclop[n] LEFT JOIN pg_namespace s ON s.oid = o.oprnamespace) k
		WHERE (i.indisunique OR i.indisexclusion) AND i.indisready AND (r.relkind <> 'I' OR i.indisvalid) AND NOT EXISTS ( -- of a partition's own, or of the whole table
			SELECT FROM pg_inherits h JOIN pg_index w ON w.indexrelid = h.inhparent WHERE h.inhrelid = i.indexrelid AND w.indisvalid AND w.indrelid IN (SELECT relid FROM parts))
		ORDER BY 1`, pgx.NamedArgs{"table": l.transfer.to.name(), "id": l.transfer.to.m.ID})
	if err != nil {
		return nil, err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[key])
	var all []limit
	for _, k := range keys {
		if k.ByID {
			continue
		}
		all = append(all, limit{says: "meet rows that are there in its " + k.Says, columns: k.Columns, refused: func(rows string) string { return l.taken(k, rows) }})
		if k.Equal {
			all = append(all, limit{says: "meet each other in its " + k.Says, columns: k.Columns, refused: k.twice})
		}
	}
	return all, err
}

// of is what rows have in the key, under the names k1, k2 …
func (k key) of(more, rows string) string {
	values := []string{more}
	for i, part := range k.Parts {
		values = append(values, fmt.Sprintf("%s AS k%d", part, i+1))
	}
	return fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(values, ", "), rows, k.Of)
}

// meets holds for rows a and b that the key does not take both.
func (k key) meets() string {
	var all []string
	var a, b []string
	for i, operator := range k.Operators {
		one, other := fmt.Sprintf("a.k%d", i+1), fmt.Sprintf("b.k%d", i+1)
		a, b = append(a, one), append(b, other)
		if k.Nulls {
			operator = "IS NOT DISTINCT FROM"
		}
		all = append(all, fmt.Sprintf("%s %s %s", one, operator, other))
	}
	if k.Nulls { // by which they are found
		all = append(all, fmt.Sprintf("hash_record_extended(ROW(%s), 0) = hash_record_extended(ROW(%s), 0)", strings.Join(a, ", "), strings.Join(b, ", ")))
	}
	return strings.Join(all, " AND ")
}

// taken counts rows that meet one in the target, but for their copies, and names the least.
// Where they do not meet by equality alone, the index finds them, for each row.
func (l *limits) taken(k key, rows string) string {
	each := ""
	if !k.Equal {
		each = "OFFSET 0"
	}
	to := l.transfer.to
	there := fmt.Sprintf("%s t", k.Relation)
	mine := fmt.Sprintf("NOT EXISTS (SELECT FROM rehome.migration_copies c WHERE c.plan = @number AND c.target_id = %s)", to.id())
	return fmt.Sprintf("SELECT count(*), coalesce(min(a.%s), '') FROM (%s) a WHERE EXISTS (SELECT FROM (%s AND %s) b WHERE %s %s)",
		named, k.of(named, "("+rows+") r"), k.of("1", there), mine, k.meets(), each)
}

// twice counts rows that meet others of these, and names the least.
func (k key) twice(rows string) string {
	return fmt.Sprintf("WITH a AS MATERIALIZED (%s) SELECT count(*), coalesce(min(a.%s), '') FROM a WHERE EXISTS (SELECT FROM a b WHERE b.nr <> a.nr AND %s)",
		k.of(named+", row_number() OVER () AS nr", "("+rows+") r"), named, k.meets())
}

// outgoing is a foreign key of the target.
type outgoing struct {
	Says    string
	To      string // the table it points to, quoted
	Columns []string
	Keys    []string // the columns they point to, quoted, each with its collation
	Full    bool     // all of them must have a value, or none
	Takes   string   // which rows it is of: a condition
	About   []string // the columns that is about
	Within  bool     // it points to ids of the target itself, or of what that is a partition of
}

// pointers are the foreign keys to tables that rehome can see all rows of. A foreign key to,
// or of, a partitioned table has others below it for the partitions, which are nothing of
// their own. Nobody knows what will be there where triggers do something to others.
func (l *limits) pointers(ctx context.Context) ([]limit, error) {
	if l.acts {
		return nil, nil
	}
	rows, err := l.tx.Query(ctx, ofParts+`
		SELECT format('point to no row of %s by its foreign key %s%s', c.confrelid::regclass, c.conname, places.says), c.confrelid::regclass::text,
			k.columns, k.keys, c.confmatchtype = 'f', places.takes, places.columns,
			w.within
		FROM places JOIN pg_constraint c ON c.conrelid = places.relid AND c.contype = 'f' JOIN pg_class r ON r.oid = c.confrelid,
			LATERAL (SELECT c.confrelid IN (SELECT relid FROM parts UNION SELECT relid FROM pg_partition_ancestors(@table::regclass) relid) AS within) w,
			LATERAL (
				SELECT array_agg(a.attname::text ORDER BY p.n) AS columns, array_agg(b.attname::text ORDER BY p.n) AS ids,
					array_agg(quote_ident(b.attname) || CASE b.attcollation WHEN 0 THEN '' ELSE ' COLLATE ' || b.attcollation::regcollation END ORDER BY p.n) AS keys
				FROM unnest(c.conkey, c.confkey) WITH ORDINALITY p (ours, its, n)
				JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = p.ours
				JOIN pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = p.its) k
		WHERE NOT EXISTS (SELECT FROM pg_constraint o WHERE o.oid = c.conparentid AND o.conrelid IN (SELECT relid FROM parts))
			AND coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' AND coalesce(to_jsonb(c) ->> 'conperiod', 'false') = 'false' -- since Postgres 18
			AND has_table_privilege(r.oid, 'SELECT') AND has_schema_privilege(r.relnamespace, 'USAGE') AND NOT row_security_active(r.oid)
			AND (NOT w.within OR k.ids = ARRAY[@id::text]) -- else what rows will have is up to those that are copied with them
			AND NOT EXISTS ( -- not all of it is in force
				SELECT FROM pg_trigger g JOIN pg_constraint o ON o.oid = g.tgconstraint
				WHERE g.tgrelid IN (SELECT relid FROM parts) AND o.contype = 'f' AND g.tgenabled NOT IN ('O', 'A'))
		ORDER BY 1`, pgx.NamedArgs{"table": l.transfer.to.name(), "id": l.transfer.to.m.ID})
	if err != nil {
		return nil, err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[outgoing])
	var all []limit
	for _, k := range keys {
		all = append(all, limit{says: k.Says, columns: slices.Concat(k.Columns, k.About), refused: func(rows string) string { return k.nowhere(l.transfer, rows) }})
	}
	return all, err
}

// nowhere counts rows that point to none, and names the least. One that points to a chunk
// whose copy will have its id points to that.
func (k outgoing) nowhere(t *transfer, rows string) string {
	columns, there := make([]string, len(k.Columns)), make([]string, len(k.Columns))
	for i, c := range k.Columns {
		columns[i] = "r." + quote(c)
		there[i] = fmt.Sprintf("p.%s = %s", k.Keys[i], columns[i])
	}
	all := strings.Join(columns, ", ")
	nowhere := fmt.Sprintf("num_nulls(%s) = 0 AND NOT EXISTS (SELECT FROM %s p WHERE %s)", all, k.To, strings.Join(there, " AND "))
	if k.Within && t.fit.KeepID {
		nowhere += fmt.Sprintf(" AND NOT EXISTS (SELECT FROM rehome.migration_moves m WHERE m.plan = @number AND m.chunk_id = %s::text)", all)
	}
	if k.Full {
		nowhere = fmt.Sprintf("(%s) OR num_nulls(%s) BETWEEN 1 AND %d", nowhere, all, len(k.Columns)-1)
	}
	return fmt.Sprintf("SELECT count(*), coalesce(min(r.%s), '') FROM (%s) r WHERE (%s) AND (%s)", named, rows, k.Takes, nowhere)
}
