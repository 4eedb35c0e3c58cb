package store

import (
	"fmt"
	"strings"

	"rehome/resilience"
)

// How prints are made; the first two are of transfers that earlier versions began.
const (
	bySHA256  = "sha256"  // of the row as it is sent
	byRow     = "row"     // a hash of 8 bytes of that
	byColumns = "columns" // the hashes of its columns, each with a seed of its own, in 8 bytes
)

// written is the print of the target's row t, which tells whether it still is what we
// made: all that a copy fills, but for how often it was used.
func (c carriage) written() string { return c.print(c.markWritten()) }

// expected is that of the row that is to be written, f0, f1 …, under an alias.
func (c carriage) expected(alias string) string { return c.print(c.markExpected(alias)) }

// markWritten and markExpected are of what print makes these prints.
func (c carriage) markWritten() string {
	return c.mark(func(_ int, f resilience.Fill) string { return c.to.column(f.Column) })
}

func (c carriage) markExpected(alias string) string {
	return c.mark(func(i int, _ resilience.Fill) string { return fmt.Sprintf("%s.f%d", alias, i) })
}

// mark hashes the columns that are called so. It tells a copy from what somebody made of
// that very copy, not from a forgery, so 64 bits do; sha256 takes several times as long.
func (c carriage) mark(name func(int, resilience.Fill) string) string {
	var hashes, others []string
	for i, f := range c.fit.Fills {
		if f.Means == resilience.MeansAccess {
			continue
		}
		column, hash := name(i, f), ""
		if f.Means == resilience.MeansDocument {
			column = c.withoutAccess(column)
		}
		switch {
		case ofNumbers(f): // to send them takes three times that
			hash = fmt.Sprintf("hash_array_extended(%s, %d)", column, c.seed(i))
		case c.prints == byColumns:
			hash = hashOf(column, f.Type, c.seed(i))
		}
		switch {
		case hash == "":
			others = append(others, column)
		case c.prints == byColumns:
			hashes = append(hashes, "coalesce("+hash+", 0)")
		default:
			others = append(others, hash)
		}
	}
	sent := "record_send(ROW(" + strings.Join(others, ", ") + "))"
	if c.prints == bySHA256 {
		return "sha256(" + sent + ")"
	}
	if len(others) > 0 {
		hashes = append(hashes, "hash_array_extended(ARRAY["+sent+"], 0)") // no function of SQL hashes bytes by themselves
	}
	return "(" + strings.Join(hashes, " # ") + ")"
}

// seed of the hash of a column, by its place. With 0 the number 0 is as one that is missing.
func (c carriage) seed(place int) int {
	switch c.prints {
	case bySHA256:
		return 0
	case byRow:
		return 1
	}
	return place + 1
}

// hashOf is a hash of 64 bits of a value of a type that has one which tells apart all that
// is not the same for everybody, which is quicker than to send it; empty: it has none. That
// of bigint folds it to 32 bits, and that of jsonb does not see how it is nested.
func hashOf(value, typ string, seed int) string {
	switch typ {
	case "text", "character varying", "json", "jsonb", "bigint":
		return fmt.Sprintf(`hashtextextended((%s)::text COLLATE "C", %d)`, value, seed)
	case "uuid":
		return fmt.Sprintf("uuid_hash_extended(%s, %d)", value, seed)
	case "integer":
		return fmt.Sprintf("hashint4extended(%s, %d)", value, seed)
	}
	return ""
}

// print is a mark as it is kept.
func (c carriage) print(mark string) string {
	if c.prints == bySHA256 {
		return mark
	}
	return "int8send(" + mark + ")"
}

// sumOf adds up marks, so that two sets of rows can be compared without joining them.
func (c carriage) sumOf(mark string) string {
	if c.prints == bySHA256 {
		mark = "hashtextextended((" + mark + ")::text, 0)"
	}
	return "coalesce(sum(" + mark + "), 0)"
}
