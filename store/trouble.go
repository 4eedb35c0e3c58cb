package store

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"rehome/resilience"
)

// TroubleOf says whether a batch failed in a way in which a smaller one, later,
// may succeed.
func TroubleOf(err error) resilience.Trouble {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return resilience.NoTrouble
	}
	switch pg.Code {
	case "55P03": // lock_not_available
		return resilience.LockTimeout
	case "40P01", "40001": // deadlock_detected, serialization_failure
		return resilience.Deadlock
	case "57014": // query_canceled: by its time limit, or by Unblock
		return resilience.StatementTimeout
	}
	return resilience.NoTrouble
}
