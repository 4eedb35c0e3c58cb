package store

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What can be wrong, as far as a caller may have to decide by it.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("conflict")              // something else owns it or already stands there
	ErrRefused     = errors.New("refused")               // a safety rule says no
	ErrInvalid     = errors.New("invalid")               // the request cannot be right
	ErrFenced      = errors.New("fenced off")            // another attempt has gone on from here; do nothing
	ErrUnreachable = errors.New("cannot reach Postgres") // not now; later may do
	ErrRights      = errors.New("missing rights")
	ErrUnfit       = errors.New("does not fit the table")                                         // a value or a column that the table does not take
	ErrChanged     = error(narrower{errors.New("does not fit the table as it is now"), ErrUnfit}) // it, or a column, is gone, or is of another type
	ErrVerify      = errors.New("verification failed")
	ErrReturned    = errors.New("moved back by others")
	ErrSchema      = errors.New("schema mismatch") // schema rehome is absent, or newer than this binary
)

// narrower is a kind within another.
type narrower struct {
	error
	of error
}

// Unwrap returns the wider kind.
func (n narrower) Unwrap() error { return n.of }

// Problem is an error of one of the kinds above with a message for people:
// what was refused, why, and what to do next.
type Problem struct {
	Kind    error
	Message string
}

// Error gives the message alone; the kind is for errors.Is.
func (p *Problem) Error() string { return p.Message }

// Unwrap returns the kind.
func (p *Problem) Unwrap() error { return p.Kind }

func problem(kind error, format string, args ...any) error {
	return &Problem{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// ours is our schema, or something of it, in whatever language and quotes an error has it.
var ours = regexp.MustCompile(`(^|[^\w.-])rehome([^\w-]|$)`)

// misses reports whether a statement of ours names what is not there, or not of that
// type. What a trigger of the table fails at has a context, and is the trigger's.
func misses(pg *pgconn.PgError) bool {
	switch pg.Code { // invalid_schema_name, undefined_table, undefined_column, undefined_function, datatype_mismatch
	case "3F000", "42P01", "42703", "42883", "42804":
		return pg.Where == "" && pg.InternalQuery == ""
	}
	return false
}

// interpret turns what pgx returns into the kinds above, in one place. Errors
// it does not know pass unchanged.
func interpret(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Problem](err); ok {
		return err
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return err
	}
	switch {
	case pg.Code == "42501": // insufficient_privilege
		return fmt.Errorf("%w: %s; grant it to the role rehome connects with: %w", ErrRights, pg.Message, err)
	case (pg.Code == "3F000" || pg.Code == "42P01") && ours.MatchString(pg.Message): // invalid_schema_name, undefined_table
		return fmt.Errorf("%w: %w", ErrSchema, err)
	case pg.Code[:2] == "08" || pg.Code[:3] == "57P": // connection_exception, server going down
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case pg.Code[:2] == "23": // integrity_constraint_violation
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case misses(pg):
		return fmt.Errorf("%w: %w", ErrChanged, err)
	case pg.Code[:2] == "22" || pg.Code[:2] == "42": // data_exception, undefined column and the like
		return fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	return err
}
