package store

import (
	"fmt"
	"strings"

	"rehome/resilience"
)

// misfit is what a row of the source may have that the target cannot take.
type misfit struct {
	what  string // of a chunk that has it
	when  string // condition on its row t
	quiet bool   // Postgres would not refuse it
	use   bool   // it is how often the chunk was used, or when: no reason not to begin, or not to copy
}

// misfits of the rows of a transfer, by the names of the columns.
func (c carriage) misfits() (all []misfit) {
	for _, f := range c.fit.Fills {
		value := c.from.column(f.From)
		if cut := cuts(f, value); cut != "" {
			all = append(all, misfit{fmt.Sprintf("a value in %q that %q, which is %s, would cut or round", f.From, f.Column, f.Full), cut, true, false})
		}
		if f.NotNull && f.From != "" && f.Means != resilience.MeansDocument {
			all = append(all, misfit{fmt.Sprintf("no value in %q, which %q must have", f.From, f.Column), value + " IS NULL", false, false})
		}
		if f.Means == resilience.MeansVector && c.fit.Dimension > 0 {
			other := fmt.Sprintf("cardinality(%s::real[]) <> %d", value, c.fit.Dimension)
			all = append(all, misfit{fmt.Sprintf("an embedding that is not of %d dimensions, as %q is", c.fit.Dimension, f.Column), other, false, false})
		}
	}
	for _, column := range c.fit.Homeless {
		when := c.from.column(column) + " IS NOT NULL"
		if column == c.from.m.Home() {
			when = fmt.Sprintf("coalesce(%s, '{}') NOT IN ('{}', 'null')", c.bare(column))
		}
		use := column == c.from.m.Accessed || column == c.from.m.AccessCount
		all = append(all, misfit{fmt.Sprintf("a value in %q, for which the target has neither a column nor metadata", column), when, !use, use})
	}
	return all
}

// unfit is what of a row t, which was written to since the plan was made, would be lost
// without a word if it were copied; NULL: nothing.
func (c carriage) unfit() string {
	var cases strings.Builder
	for _, m := range c.misfits() {
		if m.quiet {
			fmt.Fprintf(&cases, " WHEN %s THEN %s", m.when, literal("it has "+m.what))
		}
	}
	if cases.Len() == 0 {
		return "NULL::text"
	}
	return "CASE" + cases.String() + " END"
}

// cuts says what of a value of the source, an expression, the column of a fill would cut or
// round: a condition that holds for such values. It is empty where the column is not
// narrow, where it does not matter, and of types of which nothing is known.
func cuts(f resilience.Fill, value string) string {
	if !f.Narrow || f.Full == "" || f.From == "" || f.Means != resilience.MeansContent && f.Means != resilience.MeansSame {
		return ""
	}
	switch f.Type {
	case "numeric": // a cast of one that is too large fails
		precision, scale, ok := digits(f)
		if !ok {
			return ""
		}
		return fmt.Sprintf("CASE WHEN %[1]s = 'NaN' THEN false WHEN abs(round(%[1]s, %[2]d)) < 10::numeric ^ %[3]d THEN %[1]s <> round(%[1]s, %[2]d) ELSE %[1]s IS NOT NULL END",
			value, scale, precision-scale)
	case "character varying", "bpchar", `"bit"`, "bit varying", "interval",
		"time without time zone", "time with time zone", "timestamp without time zone", "timestamp with time zone":
		return fmt.Sprintf("(%[1]s::%[2]s)::text IS DISTINCT FROM %[1]s::text", value, f.Full)
	}
	return ""
}

// asKept is a value, an expression of the fill's type, as its column keeps it, unless it
// would be another: numbers have as many digits as their column says, and texts of a fixed
// length are filled up.
func asKept(f resilience.Fill, value string) string {
	kept := ""
	switch _, scale, ok := digits(f); {
	case ok: // where a cast of a number that is too large would fail
		kept = fmt.Sprintf("round(%s, %d)", value, scale)
	case f.Type == "bpchar" && f.Full != "":
		kept = value + "::" + f.Full
	default:
		return value
	}
	return fmt.Sprintf("CASE WHEN %[1]s = %[2]s THEN %[1]s ELSE %[2]s END", kept, value)
}

// digits are how many a column has, in all and after the point, where it is one of numbers
// with a bound.
func digits(f resilience.Fill) (precision, scale int, ok bool) {
	_, err := fmt.Sscanf(f.Full, "numeric(%d,%d)", &precision, &scale)
	return precision, scale, err == nil
}
