package store

import (
	"context"
	"strings"
)

// A copy leaves columns of its table to their defaults where the source has nothing for
// them. What an application writes there later has no place in the source either, so a
// copy to which that happened stays when its chunk comes home.

// readBeside returns those of these columns, quoted, that can be watched: all, but for
// types without a binary form. Where one is gone that was there when the copies were made,
// nobody can tell any more what was written to the others.
func (t *transfer) readBeside(ctx context.Context, q querier) (columns []string, err error) {
	if len(t.fit.Beside) == 0 {
		return nil, nil
	}
	var there int
	err = q.QueryRow(ctx, `
		SELECT count(*), coalesce(array_agg(quote_ident(a.attname) ORDER BY a.attnum) FILTER (WHERE y.typsend <> 0 AND coalesce(e.typsend, 1) <> 0), '{}')
		FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_type e ON e.oid = y.typelem AND y.typsubscript = 'array_subscript_handler'::regproc
		WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($2)`, t.to.name(), t.fit.Beside).Scan(&there, &columns)
	if there < len(t.fit.Beside) {
		columns = nil
	}
	return columns, err
}

// printBeside is the print of what stands in these columns of the target's row t.
func (t *transfer) printBeside() string {
	if len(t.beside) == 0 {
		return "NULL::bytea"
	}
	columns := make([]string, len(t.beside))
	for i, c := range t.beside {
		columns[i] = "t." + c
	}
	return t.printOf(strings.Join(columns, ", "))
}

// written beside a copy t, of which p is what is known, something was.
func (t *transfer) writtenBeside() string {
	if len(t.beside) == 0 {
		return "false"
	}
	return "(p.beside IS NOT NULL AND " + t.printBeside() + " IS DISTINCT FROM p.beside)"
}

// besides gathers the prints of the rows that a statement wrote, by their ids. It is one
// value, since a join would compare each of them with each.
func (t *transfer) besides(wrote string) string {
	if len(t.beside) == 0 {
		return ""
	}
	return `
		besides AS MATERIALIZED (SELECT jsonb_object_agg(id, encode(beside, 'base64')) AS prints FROM ` + wrote + `),`
}

// besideOf is the print of the row with an id.
func (t *transfer) besideOf(id string) string {
	if len(t.beside) == 0 {
		return "NULL::bytea"
	}
	return "decode((SELECT b.prints FROM besides b) ->> (" + id + ")::text, 'base64')"
}
