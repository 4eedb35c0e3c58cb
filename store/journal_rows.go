package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// listed is what a look at the memory found for a plan.
type listed struct {
	Moves    int64 // rows that were journalled
	Disagree int64 // rows whose locators disagree; left alone
	Bytes    int64 // of the text of the journalled rows
}

// listMoves journals the rows at the listed paths that are not in it yet, in
// the order of the renames and, within one, of the table's pages.
func (j *journal) listMoves(ctx context.Context) (listed, error) {
	known := ""
	if j.total > 0 {
		known = "AND NOT EXISTS (SELECT FROM rehome.migration_moves k WHERE k.plan = @number AND k.chunk_id = " + j.table.id() + ")"
	}
	at := fmt.Sprintf("FROM rehome.migration_paths p JOIN %s t ON %s = p.old_path WHERE p.plan_id = @plan AND %s %s AND %s IS ",
		j.table.name(), j.table.path(), j.table.scope(), known, j.table.locatorsAre("p.old_path"))
	args := j.args(pgx.NamedArgs{"total": j.total})
	var found listed
	if len(j.table.m.Locators) > 1 { // one always agrees with itself
		if err := j.tx.QueryRow(ctx, "SELECT count(*) "+at+"NOT TRUE", args).Scan(&found.Disagree); err != nil {
			return found, err
		}
	}
	err := j.tx.QueryRow(ctx, fmt.Sprintf(`
		WITH journalled AS (
			INSERT INTO rehome.migration_moves (plan, bytes, ordinal, path_id, chunk_id, documents)
			SELECT @number, bytes, @total + row_number() OVER (ORDER BY rule, place), path_id, chunk_id, documents
			FROM ( -- OFFSET 0: so that no texts are sorted
				SELECT p.rule, t.ctid AS place, p.path_id, octet_length(%s) AS bytes, %s AS chunk_id, %s AS documents %s TRUE OFFSET 0) found
			RETURNING bytes)
		SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM journalled`,
		j.table.text(), j.table.id(), j.table.documents(), at), args).Scan(&found.Moves, &found.Bytes)
	j.total += found.Moves
	return found, err
}

// listUndone journals the rows that another plan moved, turned round: last
// moved comes first back. Chunks that were put at an old path since do not keep
// the others from coming home.
func (j *journal) listUndone(ctx context.Context) error {
	args := j.args(pgx.NamedArgs{"undoes": j.undoes})
	_, err := j.tx.Exec(ctx, `
		INSERT INTO rehome.migration_paths (plan_id, old_path, old_key, new_path, new_key, rule)
		SELECT @plan, new_path, new_key, old_path, old_key, rule FROM rehome.migration_paths WHERE plan_id = @undoes`, args)
	if err != nil {
		return err
	}
	join := ""
	if len(j.table.jsonColumns()) > 0 {
		join = fmt.Sprintf("LEFT JOIN %s t ON %s AND %s", j.table.name(), j.table.hasID("m.chunk_id"), j.table.scope())
	}
	query := fmt.Sprintf(`
		WITH moved AS (
			SELECT m.*, p.new_path, turned.path_id AS way_back
			FROM rehome.migration_plans u
			JOIN rehome.migration_progress g USING (plan_id)
			JOIN rehome.migration_moves m ON m.plan = u.number AND m.ordinal <= g.last
			JOIN rehome.migration_paths p USING (path_id)
			JOIN rehome.migration_paths turned ON turned.plan_id = @plan AND turned.old_path = p.new_path AND turned.new_path = p.old_path
			WHERE u.plan_id = @undoes AND NOT m.ordinal <@ (
				SELECT (`+staying+`)::int8multirange FROM rehome.migration_plans p WHERE p.plan_id = @undoes) AND NOT EXISTS (
				SELECT FROM rehome.migration_exceptions e WHERE e.plan_id = @undoes AND e.ordinal = m.ordinal AND NOT e.undoing)),
		journalled AS (
			INSERT INTO rehome.migration_moves (plan, bytes, ordinal, path_id, chunk_id, documents, restores)
			SELECT @number, m.bytes, row_number() OVER (ORDER BY m.ordinal DESC), m.way_back, m.chunk_id, %s, %s FROM moved m %s
			RETURNING 1)
		SELECT count(*) FROM journalled`, j.table.documents(), j.table.verbatim("m"), join)
	if err := j.tx.QueryRow(ctx, query, args).Scan(&j.total); err != nil {
		return err
	}
	_, err = j.tx.Exec(ctx, `
		UPDATE rehome.migration_plans p SET moves = @total, bytes = u.bytes
		FROM rehome.migration_plans u WHERE p.plan_id = @plan AND u.plan_id = @undoes`,
		j.args(pgx.NamedArgs{"undoes": j.undoes, "total": j.total}))
	return err
}
