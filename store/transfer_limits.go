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

// limits tell what rows of a transfer its target would refuse, before any is written. They
// leave to the batches what nobody can tell before: what rests on an id that is chosen then, or
// on a column whose default has to be made, and what cannot be evaluated without them.
type limits struct {
	*journal
	columns map[string]limited
	parted  bool // partitions may make generated columns in ways of their own
	mended  bool // triggers may give a row other values before it is looked at
	acts    bool // triggers may do something to other rows
}

// limited is a column of the target.
type limited struct {
	Name      string
	Collation string   // as SQL; empty where it has none
	Type      string   // with its length; of a domain, that which it is over
	Default   string   // expression, of the column or of its domain; empty: none
	Made      string   // expression of a generated column; empty: it is none
	Of        []string // columns that it is made of
}

// limit is one thing that the target wants of its rows.
type limit struct {
	says    string // of chunks that it refuses
	fails   string // of chunks of which it cannot be evaluated, where these are refused, too
	columns []string
	refused func(rows string) string // a query of these rows, which counts those and names the least of them
}

// named is the name of the column by which rows of a transfer are told from each other.
const named = `"a chunk, for example"`

// refuses says which rows the target would refuse.
func (j *journal) refuses(ctx context.Context) (refused []string, err error) {
	l, err := j.readLimits(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the columns of %s: %w", j.transfer.to.name(), err)
	}
	for _, read := range []func(context.Context) ([]limit, error){l.conditions, l.keys, l.pointers} {
		limits, err := read(ctx)
		if err != nil {
			return nil, fmt.Errorf("look at the constraints of %s: %w", j.transfer.to.name(), err)
		}
		for _, each := range limits {
			why, err := l.broken(ctx, each)
			if err != nil {
				return nil, fmt.Errorf("look for chunks that %s refuses: %w", j.transfer.to.name(), err)
			}
			if why != "" {
				refused = append(refused, why)
			}
		}
	}
	return refused, nil
}

func (j *journal) readLimits(ctx context.Context) (*limits, error) {
	l := &limits{journal: j, columns: map[string]limited{}}
	rows, err := j.tx.Query(ctx, `
		WITH RECURSIVE types AS (
			SELECT a.attnum, y.oid AS type, a.atttypmod AS modifier, y.typtype, y.typbasetype, y.typtypmod
			FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid WHERE a.attrelid = $1::text::regclass AND a.attnum > 0
			UNION ALL
			SELECT d.attnum, y.oid, d.typtypmod, y.typtype, y.typbasetype, y.typtypmod FROM types d JOIN pg_type y ON y.oid = d.typbasetype WHERE d.typtype = 'd')
		SELECT a.attname::text, CASE WHEN a.attcollation <> 0 THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END,
			(SELECT format_type(b.type, b.modifier) FROM types b WHERE b.attnum = a.attnum AND b.typtype <> 'd'),
			CASE WHEN a.attidentity <> '' THEN 'an identity' WHEN a.attgenerated = '' THEN coalesce(pg_get_expr(d.adbin, d.adrelid), pg_get_expr(y.typdefaultbin, 0), '') ELSE '' END,
			CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) ELSE '' END,
			ARRAY(
				SELECT c.attname::text FROM `+madeOf+` WHERE a.attgenerated <> '' AND g.adrelid = a.attrelid AND g.adnum = a.attnum)
		FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped`, j.transfer.to.name())
	if err != nil {
		return nil, err
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[limited])
	if err != nil {
		return nil, err
	}
	for _, c := range columns {
		l.columns[c.Name] = c
	}
	return l, j.tx.QueryRow(ctx, parts+`
		SELECT (SELECT relkind = 'p' FROM pg_class WHERE oid = @table::regclass), coalesce(bool_or(g.tgtype & 3 = 3), false), count(*) > 0 -- before a row; at any time
		FROM parts JOIN pg_trigger g ON g.tgrelid = parts.relid WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 4 = 4 -- of inserts`, l.inTarget()).Scan(&l.parted, &l.mended, &l.acts)
}

// inTarget are the arguments of a query about the table of the target.
func (l *limits) inTarget() pgx.NamedArgs { return pgx.NamedArgs{"table": l.transfer.to.name()} }

// broken says how many chunks a limit refuses, and names one of them. It is empty where it
// refuses none, and where nobody can tell.
func (l *limits) broken(ctx context.Context, each limit) (string, error) {
	rows, known := l.rows(each.columns)
	if !known {
		return "", nil
	}
	refused, example, err := l.count(ctx, each.refused(rows))
	switch pg, ok := errors.AsType[*pgconn.PgError](err); {
	case ok && each.fails != "" && strings.HasPrefix(pg.Code, "22"): // a data exception, as the row would meet it
		return fmt.Sprintf("some chunks %s: %s", each.fails, pg.Message), nil
	case ok && failsForItself(pg):
		return "", nil
	case err != nil || refused == 0:
		return "", err
	}
	return fmt.Sprintf("%d chunks %s, chunk %s for one", refused, each.says, example), nil
}

// count asks for a number of rows, and one of them; an error leaves the transaction as it was.
func (l *limits) count(ctx context.Context, query string) (rows int64, example string, err error) {
	err = pgx.BeginFunc(ctx, l.tx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, query, l.args(nil)).Scan(&rows, &example)
	})
	return rows, example, err
}

// failsForItself says of an error that an expression makes it, and not the server or the
// network.
func failsForItself(pg *pgconn.PgError) bool {
	switch pg.Code[:2] { // connection, transaction state, rollback, resources, operator, system
	case "08", "25", "40", "53", "57", "58":
		return false
	}
	return pg.Code != "55P03" // a lock was not to be had
}

// rows is a query of the rows as they would be in the target, of which it has these columns.
// It is not known where one of them is not.
func (l *limits) rows(columns []string) (query string, known bool) {
	var needed, made []string
	for _, name := range columns {
		switch c := l.columns[name]; {
		case c.Made == "":
			needed = append(needed, name)
		case l.parted:
			return "", false
		default:
			needed = append(needed, c.Of...)
			made = append(made, fmt.Sprintf("((%s)::%s)%s AS %s", c.Made, c.Type, c.Collation, quote(name)))
		}
	}
	slices.Sort(needed)
	var values []string
	for _, name := range slices.Compact(needed) {
		value, known := l.value(name)
		if !known {
			return "", false
		}
		values = append(values, fmt.Sprintf("(%s)%s AS %s", value, l.columns[name].Collation, quote(name)))
	}
	values = append(values, `(`+l.table.id()+` || ' of ' || p.old_path) COLLATE "C" AS `+named)
	query = fmt.Sprintf("SELECT %s %s OFFSET 0", strings.Join(values, ", "), l.atSources("", "TRUE")) // OFFSET 0: of no rows but these
	if len(made) > 0 {
		slices.Sort(made)
		query = fmt.Sprintf("SELECT *, %s FROM (%s) b OFFSET 0", strings.Join(slices.Compact(made), ", "), query)
	}
	return query, true
}

// constant is a default that is the same for every row, as Postgres writes it.
var constant = regexp.MustCompile(`^\(?(-?[0-9.]+|true|false|NULL|'(?:[^'\\]|'')*')\)?(::[\w" .,()\[\]]+)?$`)

// value is what a column that is not generated would hold, as a value of the type that its
// domain, if it has one, is over. It is not known where it has neither a value of the source
// nor a constant default, or where a trigger may have another than that: what copies are
// compared by leaves out how often they were used.
func (l *limits) value(name string) (value string, known bool) {
	c, ok := l.columns[name]
	if !ok || c.Made != "" {
		return "", false
	}
	value, known = cmp.Or(c.Default, "NULL"), !l.mended && (c.Default == "" || constant.MatchString(c.Default))
	at := slices.IndexFunc(l.transfer.fit.Fills, func(f resilience.Fill) bool { return f.Column == name })
	if at >= 0 {
		switch f := l.transfer.fit.Fills[at]; f.Means {
		case resilience.MeansID:
			value, known = l.transfer.soleID()
		case resilience.MeansOrdinal: // of the journal
			known = false
		case resilience.MeansAccess:
			value, known = l.transfer.value(f), !l.mended
		default:
			value, known = l.transfer.value(f), true
		}
	}
	return fmt.Sprintf("(%s)::%s", value, c.Type), known
}
