package store

import (
	"context"
	"fmt"
	"strings"
)

// A copy leaves columns of its table to their defaults where the source has nothing for
// them. What an application writes there later has no place in the source either, so a
// copy to which that happened stays when its chunk comes home.

// beside are the columns of the target that copies leave alone, quoted, in the order of
// the fit; empty where one cannot be watched: it is gone, rehome may not read it, its type
// has no binary form, or is one of dates or of text that is searched, which tables keep up
// themselves.
type beside []string

func (t *transfer) readBeside(ctx context.Context, q querier) (columns beside, err error) {
	if len(t.fit.Beside) == 0 {
		return nil, nil
	}
	err = q.QueryRow(ctx, `
		SELECT array_agg(coalesce(quote_ident(a.attname), '') ORDER BY b.n)
		FROM unnest($2::text[]) WITH ORDINALITY b (name, n)
		LEFT JOIN (
			pg_attribute a JOIN pg_type y ON y.oid = a.atttypid AND y.typsend <> 0 AND y.typcategory <> 'D' AND y.oid <> 'tsvector'::regtype
			LEFT JOIN pg_type e ON e.oid = y.typelem)
		ON a.attrelid = $1::text::regclass AND a.attname = b.name AND a.attnum > 0 AND NOT a.attisdropped
			AND coalesce(e.typsend, 1) <> 0 AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')`, t.to.name(), t.fit.Beside).Scan(&columns)
	return columns, err
}

// print is that of a column of the target's row t.
func (b beside) print(column string) string {
	return "hash_array_extended(ARRAY[record_send(ROW(t." + column + "))], 0)"
}

// prints are those of all of them.
func (b beside) prints() string {
	prints := make([]string, len(b))
	for i, c := range b {
		if prints[i] = "NULL"; c != "" {
			prints[i] = b.print(c)
		}
	}
	return "ARRAY[" + strings.Join(prints, ", ") + "]::bigint[]"
}

// written names those in which the target's row t has something else than what is known of
// it, of p. SQL; an empty text where there are none.
func (b beside) written() string {
	var names []string
	for i, c := range b {
		if c != "" {
			names = append(names, fmt.Sprintf("CASE WHEN p.beside[%d] <> %s THEN %s END", i+1, b.print(c), literal(c)))
		}
	}
	if len(names) == 0 {
		return "''"
	}
	return "array_to_string(ARRAY[" + strings.Join(names, ", ") + "], ', ')"
}

// noting says whether what stands there is known of a row that was written: of what
// triggers make of it afterwards nobody knows.
func (t *transfer) noting() bool { return len(t.beside) > 0 && !t.acts }

// returned is what a statement that writes rows t returns for noted.
func (t *transfer) returned() string {
	if !t.noting() {
		return ""
	}
	return ", " + t.to.id() + " AS id, " + t.beside.prints() + " AS beside"
}

// noted gathers the prints of the rows that a statement wrote, by their ids, for besideOf.
// It is one value, since a join would compare each of them with each.
func (t *transfer) noted(wrote string) string {
	if !t.noting() {
		return ""
	}
	return `
		besides AS MATERIALIZED (SELECT jsonb_object_agg(id, beside::text) AS prints FROM ` + wrote + `),`
}

// besideOf are the prints of the written row with an id, or else.
func (t *transfer) besideOf(id, otherwise string) string {
	if !t.noting() {
		return otherwise
	}
	return "((SELECT b.prints FROM besides b) ->> (" + id + ")::text)::bigint[]"
}
