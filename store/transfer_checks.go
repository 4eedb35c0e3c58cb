package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rehome/resilience"
)

// check is a CHECK constraint of the target.
type check struct {
	Name       string
	Expression string   // of columns without a table
	Columns    []string // that it names; an empty one is none of the table's
	Collations []string // of these, as SQL; empty where they have none
	Mended     bool     // triggers may give a row other values before it is checked
}

// readChecks reads those of a table, also those that its present rows were spared.
func readChecks(ctx context.Context, q querier, t table) ([]check, error) {
	rows, err := q.Query(ctx, `
		SELECT c.conname::text, pg_get_expr(c.conbin, c.conrelid), coalesce(k.names, '{}'), coalesce(k.collations, '{}'), EXISTS (
			SELECT FROM pg_trigger g WHERE g.tgrelid = c.conrelid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 7 = 7) -- before a row is inserted
		FROM pg_constraint c, LATERAL (
			SELECT array_agg(coalesce(a.attname::text, '')) AS names,
				array_agg(CASE WHEN a.attcollation <> 0 THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END) AS collations
			FROM unnest(c.conkey) k LEFT JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k AND k > 0) k
		WHERE c.conrelid = $1::text::regclass AND c.contype = 'c' AND coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' -- since Postgres 18
		ORDER BY c.conname`, t.name())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[check])
}

// brokenChecks says which CHECK constraints of the target rows would break. It leaves to
// the batches what nobody can tell before: those that name an id, or a column whose default
// has to be made, and those whose expression fails.
func (j *journal) brokenChecks(ctx context.Context) ([]string, error) {
	checks, err := readChecks(ctx, j.tx, j.transfer.to)
	if err != nil || len(checks) == 0 {
		return nil, err
	}
	target, err := shape(ctx, j.tx, resilience.Memory{Name: j.transfer.target, Mapping: j.transfer.to.m})
	if err != nil {
		return nil, err
	}
	var broken []string
	for _, c := range checks {
		values, known := j.transfer.checked(c, target)
		if !known {
			continue
		}
		var rows int64
		var example string
		err := pgx.BeginFunc(ctx, j.tx, func(tx pgx.Tx) error { // OFFSET 0: of no rows but these
			return tx.QueryRow(ctx, fmt.Sprintf(`
				SELECT count(*), coalesce(min("an example"), '') FROM (SELECT %s %s OFFSET 0) r WHERE (%s) IS FALSE`,
				strings.Join(append(values, j.table.id()+` || ' of ' || p.old_path AS "an example"`), ", "), j.atSources("", "TRUE"), c.Expression),
				j.args(nil)).Scan(&rows, &example)
		})
		switch pg, ok := errors.AsType[*pgconn.PgError](err); {
		case err == nil && rows > 0:
			broken = append(broken, fmt.Sprintf("%d chunks break its CHECK %s, %s, chunk %s for one", rows, c.Name, c.Expression, example))
		case err != nil && !(ok && failsForItself(pg)):
			return nil, err
		}
	}
	return broken, nil
}

// failsForItself says of an error that an expression makes it, and not the server or the
// network.
func failsForItself(pg *pgconn.PgError) bool {
	switch pg.Code[:2] { // connection, transaction state, rollback, resources, operator, system
	case "08", "25", "40", "53", "57", "58":
		return false
	}
	return true
}

// constant is a default that is the same for every row, as Postgres writes it.
var constant = regexp.MustCompile(`^\(?(-?[0-9.]+|true|false|NULL|'(?:[^'\\]|'')*')\)?(::[\w" .,()\[\]]+)?$`)

// checked is what the columns that a CHECK names would hold, under their names. It is not
// known where one has neither a value of the source nor a constant default, or where a
// trigger may have another than that default.
func (t *transfer) checked(c check, target resilience.Shape) (values []string, known bool) {
	for i, name := range c.Columns {
		column := slices.IndexFunc(target.Columns, func(o resilience.Column) bool { return o.Name == name })
		fill := slices.IndexFunc(t.fit.Fills, func(f resilience.Fill) bool { return f.Column == name })
		value := ""
		switch {
		case fill >= 0:
			f := t.fit.Fills[fill]
			if f.Means == resilience.MeansID || f.Means == resilience.MeansOrdinal { // chosen later
				return nil, false
			}
			value = t.kept(f)
		case column < 0 || c.Mended || target.Columns[column].Domain:
			return nil, false
		default:
			o := target.Columns[column]
			if o.Generated || o.Default != "" && !constant.MatchString(o.Default) {
				return nil, false
			}
			value = fmt.Sprintf("(%s)::%s", cmp.Or(o.Default, "NULL"), o.Full)
		}
		values = append(values, fmt.Sprintf("(%s)%s AS %s", value, c.Collations[i], quote(name)))
	}
	return values, true
}
