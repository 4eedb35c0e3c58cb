package store

import (
	"fmt"

	"rehome/resilience"
)

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
