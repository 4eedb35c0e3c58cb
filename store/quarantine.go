package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rehome/resilience"
)

// removal takes rows of a memory to quarantine.
type removal struct {
	memory resilience.Memory
	twin   twin
	reason string
	run    string
	retain time.Duration
}

// taken is what one statement took out, or brought back.
type taken struct {
	IDs    []string
	Bytes  int64
	Chosen int64 // how many were to be
}

func (n *taken) add(more taken) {
	n.IDs = append(n.IDs, more.IDs...)
	n.Bytes += more.Bytes
}

func prepareRemoval(ctx context.Context, tx pgx.Tx, memory resilience.Memory, reason, run string) (removal, error) {
	kept, err := readSettings(ctx, tx)
	if err != nil {
		return removal{}, err
	}
	w, err := prepareTwin(ctx, tx, memory)
	return removal{memory: memory, twin: w, reason: reason, run: run, retain: kept.QuarantineRetention}, err
}

// take moves the rows whose ids, as text, the query chosen yields. The row goes
// from table to table inside Postgres: no value of it is read into the program.
// Who refers to a chunk, and how often it was used, stays where it is.
func (r removal) take(ctx context.Context, tx pgx.Tx, chosen string, args pgx.NamedArgs) (taken, error) {
	t := table{r.memory.Mapping}
	query := fmt.Sprintf(`
		WITH chosen AS MATERIALIZED (%[1]s),
		gone AS (
			DELETE FROM %[2]s t USING chosen WHERE %[3]s AND %[4]s
			RETURNING nextval('rehome.quarantine_quarantine_id_seq') AS %[10]s, t.*),
		entries AS (
			INSERT INTO rehome.quarantine (quarantine_id, memory, chunk_id, file_path, reason, run_id, twin, bytes, retain_until)
			OVERRIDING SYSTEM VALUE
			SELECT %[10]s, @memory, %[5]s, coalesce(%[6]s, %[7]s, ''), @reason, @run, @twin, octet_length(%[8]s), now() + @retain::interval FROM gone t
			RETURNING chunk_id, bytes),
		kept AS (
			INSERT INTO %[9]s (%[10]s, %[11]s) SELECT %[10]s, %[12]s FROM gone t)
		SELECT coalesce(array_agg(chunk_id), '{}'), coalesce(sum(bytes), 0)::bigint, (SELECT count(*) FROM chosen) FROM entries`,
		chosen, t.name(), t.hasID("chosen.chunk_id"), t.scope(), t.id(), t.key(), t.path(), t.text(),
		r.twin.table(), twinLink, list(r.twin.columns, ""), list(r.twin.columns, "t."))
	all := t.args(args)
	all["memory"], all["reason"], all["run"], all["twin"], all["retain"] = r.memory.Name, r.reason, r.run, r.twin.name, r.retain
	var n taken
	err := tx.QueryRow(ctx, query, all).Scan(&n.IDs, &n.Bytes, &n.Chosen)
	return n, err
}

// quarantineReplaced takes chunks whose text was edited away out of a memory,
// in the caller's transaction. Ids that are not there are passed over.
func quarantineReplaced(ctx context.Context, tx pgx.Tx, memory resilience.Memory, ids []string, run string) error {
	if len(ids) == 0 {
		return nil
	}
	r, err := prepareRemoval(ctx, tx, memory, resilience.ReasonReplaced, run)
	if err != nil {
		return err
	}
	_, err = r.take(ctx, tx, `SELECT unnest(@ids::text[]) AS chunk_id`, pgx.NamedArgs{"ids": ids})
	return err
}

// checkAtOnce makes a row that a deferred constraint refuses fail where it is
// changed, alone, and not all of them at commit.
const checkAtOnce = `SET CONSTRAINTS ALL IMMEDIATE`

// halving does items under one savepoint and, when the database refuses one of
// their rows, each half by itself, so that a bad row fails alone.
func halving[T any](ctx context.Context, tx pgx.Tx, items []T, do func(pgx.Tx, []T) error, failed func(T, error)) error {
	if len(items) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error { return do(savepoint, items) })
	if !rowRefused(err) {
		return err
	}
	if len(items) == 1 {
		failed(items[0], err)
		return nil
	}
	half := len(items) / 2
	if err := halving(ctx, tx, items[:half], do, failed); err != nil {
		return err
	}
	return halving(ctx, tx, items[half:], do, failed)
}

// rowRefused reports whether an error is about the values of a row (data,
// constraint, check option, or raised by a trigger), and not about the whole work.
func rowRefused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch pg.Code[:2] {
	case "22", "23", "44", "P0":
		return true
	}
	return false
}
