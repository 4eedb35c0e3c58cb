package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Journal finds the rows of a pending plan and writes them to migration_moves,
// with all that undo needs, in one transaction that changes nothing in the
// memory. A plan that has its journal is left as it is. Refusals: ErrNotFound
// when a rename matches no chunk, ErrConflict when a target is taken or another
// live plan owns some of the paths.
func (s *Store) Journal(ctx context.Context, plan string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		j, err := openJournal(ctx, tx, plan)
		if err != nil || j.exists {
			return err
		}
		if err := j.checkOverlap(ctx); err != nil {
			return err
		}
		if j.undoes == "" {
			err = j.listRenamed(ctx)
		} else {
			err = j.listUndone(ctx)
		}
		if err != nil {
			return err
		}
		return j.seal(ctx)
	})
	if err != nil {
		return fmt.Errorf("journal plan %s: %w", plan, err)
	}
	return nil
}

// Sweep adds to the journal the rows that appeared at the old paths since it
// was written, and returns how many rows of the journal are left to move: those,
// and the ones of a sweep whose answer was lost. Plans that undo another have
// none: their rows are those of the other. A plan that moves no more takes none.
func (s *Store) Sweep(ctx context.Context, plan string) (int64, error) {
	var left int64
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		j, err := openJournal(ctx, tx, plan)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT total - last FROM rehome.migration_progress WHERE plan_id = $1`, plan).Scan(&left)
		if err != nil || j.undoes != "" {
			return err
		}
		if _, err := j.listPaths(ctx); err != nil {
			return err
		}
		found, err := j.listMoves(ctx)
		if err != nil || found.Moves == 0 {
			return err
		}
		left += found.Moves
		if err := recordEvent(ctx, tx, event{Plan: plan, What: "swept", Detail: fmt.Sprintf("%d chunks appeared at the old paths", found.Moves)}); err != nil {
			return err
		}
		return j.extend(ctx, found)
	})
	if err != nil {
		return 0, fmt.Errorf("sweep plan %s: %w", plan, err)
	}
	return left, nil
}

// extend makes room for rows that were added to the journal, unless the plan
// has ended since: a sweep that was given up may still run.
func (j *journal) extend(ctx context.Context, found listed) error {
	tag, err := j.tx.Exec(ctx, `
		WITH extended AS (
			UPDATE rehome.migration_progress SET total = total + @n, last_at = NULL WHERE plan_id = @plan)
		UPDATE rehome.migration_plans SET moves = moves + @n, bytes = bytes + @bytes
		WHERE plan_id = @plan AND status = ANY (@working)`,
		pgx.NamedArgs{"plan": j.plan, "n": found.Moves, "bytes": found.Bytes, "working": []resilience.Status{resilience.Executing, resilience.Paused}})
	if err == nil && tag.RowsAffected() == 0 {
		return problem(ErrConflict, "migration %s moves no more, and takes no more rows; see `starter migration show %s`", j.plan, j.plan)
	}
	return err
}

// journal writes the moves of one plan in one transaction.
type journal struct {
	tx       pgx.Tx
	plan     string
	number   int
	memory   string
	undoes   string
	strategy resilience.Strategy
	policy   resilience.Policy
	table    table
	total    int64 // rows in the journal so far
	exists   bool  // the watermark is there: the journal was sealed before
}

// openJournal locks the memory against other planning, so that of two plans
// for the same paths the later one sees the earlier one's.
func openJournal(ctx context.Context, tx pgx.Tx, plan string) (*journal, error) {
	j := &journal{tx: tx, plan: plan}
	// The planner has no statistics of a plan that is being written, takes it for
	// a handful of rows, and would compare every path with every other; and a
	// journal that is sorted in memory is written in half the time. Where a loop is
	// the only way the statement looks so costly that it would be compiled first.
	const settings = `SELECT set_config('enable_nestloop', 'off', true), set_config('work_mem', '64MB', true), set_config('jit', 'off', true)`
	if _, err := tx.Exec(ctx, settings); err != nil {
		return nil, err
	}
	err := tx.QueryRow(ctx, `
		SELECT p.number, p.memory, coalesce(p.undoes, ''), p.strategy, p.policy, p.mapping, coalesce(g.total, 0), g.plan_id IS NOT NULL
		FROM rehome.migration_plans p
		JOIN rehome.memories m ON m.name = p.memory
		LEFT JOIN rehome.migration_progress g USING (plan_id)
		WHERE p.plan_id = $1
		FOR UPDATE OF m`, plan).
		Scan(&j.number, &j.memory, &j.undoes, &j.strategy, &j.policy, &j.table.m, &j.total, &j.exists)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, problem(ErrNotFound, "there is no migration %s, or its memory was removed; see `starter migration list`", plan)
	}
	return j, err
}

func (j *journal) args(extra pgx.NamedArgs) pgx.NamedArgs {
	args := j.table.args(extra)
	args["plan"], args["number"] = j.plan, j.number
	args["memory"] = j.memory
	return args
}

// checkOverlap refuses a plan that touches a path, or something above or below
// it, that a live plan of the same memory also touches.
func (j *journal) checkOverlap(ctx context.Context) error {
	const query = `
		WITH live AS (
			SELECT r.plan_id, p.workflow_id, unnest(ARRAY[r.old_path, r.new_path]) AS path
			FROM rehome.migration_plans p JOIN rehome.migration_renames r USING (plan_id)
			JOIN rehome.migration_progress USING (plan_id) -- one without a journal owns nothing yet, and will see ours
			WHERE p.memory = @memory AND p.plan_id <> @plan AND p.status = ANY (@live)),
		mine AS (
			SELECT unnest(ARRAY[old_path, new_path]) AS path FROM rehome.migration_renames WHERE plan_id = @plan)
		SELECT l.plan_id, l.workflow_id, m.path FROM live l JOIN mine m ON l.path = ANY (rehome.path_prefixes(m.path))
		UNION ALL
		SELECT l.plan_id, l.workflow_id, m.path FROM live l JOIN mine m ON m.path = ANY (rehome.path_prefixes(l.path))
		LIMIT 1`
	var owner, workflow, path string
	err := j.tx.QueryRow(ctx, query, j.args(pgx.NamedArgs{"live": resilience.LiveStatuses()})).Scan(&owner, &workflow, &path)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return problem(ErrConflict, "%s is being moved by migration %s (%s); wait until it has ended, or see `starter migration show %s`", path, owner, workflow, owner)
}

// listRenamed journals the chunks that lie at or under the old path of a rename.
func (j *journal) listRenamed(ctx context.Context) error {
	taken, err := j.listPaths(ctx)
	if err != nil {
		return err
	}
	if err := j.checkMatched(ctx); err != nil {
		return err
	}
	if err := j.checkTargets(ctx, taken); err != nil {
		return err
	}
	found, err := j.listMoves(ctx)
	if err != nil {
		return err
	}
	_, err = j.tx.Exec(ctx, `
		UPDATE rehome.migration_plans SET moves = @moves, disagree = @disagree, bytes = @bytes WHERE plan_id = @plan`,
		j.args(pgx.NamedArgs{"moves": found.Moves, "disagree": found.Disagree, "bytes": found.Bytes}))
	return err
}

// sources lists the distinct source paths of the memory, as they stand in it
// (raw), relative to the root (rest), and canonical (key).
func (j *journal) sources() string {
	return fmt.Sprintf(`spelled AS MATERIALIZED ( -- each path once, or path_rest would run for every chunk
		SELECT DISTINCT %s AS raw FROM %s t WHERE %s),
	sources AS MATERIALIZED (
		SELECT raw, rest, normalize(rest, NFC) COLLATE "C" AS key
		FROM (SELECT raw, rehome.path_rest(raw, @prefix) AS rest FROM spelled) r
		WHERE rest IS NOT NULL)`, j.table.path(), j.table.name(), j.table.scope())
}

// listPaths finds the source paths of the memory that a rename moves, and
// returns some of other files that are where they would go, above it, or below
// it. The longest rename wins, so that a file can go another way than its
// directory.
func (j *journal) listPaths(ctx context.Context) (taken []string, err error) {
	query := `
		WITH ` + j.sources() + `,
		ruled AS (
			SELECT DISTINCT ON (s.raw) s.*, r.ordinal, r.old_path, r.new_path
			FROM sources s CROSS JOIN LATERAL unnest(rehome.path_prefixes(s.key)) AS way (path)
			JOIN rehome.migration_renames r ON r.plan_id = @plan AND r.old_path = way.path
			ORDER BY s.raw, length(r.old_path) DESC),
		planned AS MATERIALIZED (
			SELECT s.raw, s.key, left(s.raw, length(s.raw) - length(s.rest)) || n.rest AS target, normalize(n.rest, NFC) COLLATE "C" AS target_key, s.ordinal
			FROM ruled s
			CROSS JOIN LATERAL (
				SELECT concat_ws('/', s.new_path, nullif(array_to_string(
					(string_to_array(s.rest, '/'))[cardinality(string_to_array(s.old_path, '/')) + 1 :], '/'), '')) AS rest) n),
		listed AS (
			INSERT INTO rehome.migration_paths (plan_id, old_path, old_key, new_path, new_key, rule)
			SELECT @plan, raw, key, target, target_key, ordinal FROM planned
			WHERE raw NOT IN (SELECT old_path FROM rehome.migration_paths WHERE plan_id = @plan)),
		others AS MATERIALIZED (SELECT key FROM sources EXCEPT SELECT key FROM planned)
		SELECT key FROM others WHERE key IN (SELECT unnest(rehome.path_prefixes(target_key)) FROM planned)
		UNION
		SELECT key FROM others, unnest(rehome.path_prefixes(key)) AS way (path) WHERE way.path IN (SELECT target_key FROM planned)
		ORDER BY 1 LIMIT 3`
	return j.paths(ctx, query)
}

// checkMatched refuses a plan with a rename of something that is not there.
func (j *journal) checkMatched(ctx context.Context) error {
	const query = `
		SELECT old_path FROM rehome.migration_renames r
		WHERE plan_id = @plan AND NOT EXISTS (
			SELECT FROM rehome.migration_paths p WHERE p.plan_id = @plan AND p.rule = r.ordinal)
		ORDER BY ordinal LIMIT 3`
	unmatched, err := j.paths(ctx, query)
	if err != nil || len(unmatched) == 0 {
		return err
	}
	return problem(ErrNotFound, "memory %s has no chunk at or under %s; check the path, which is relative to the memory's root (`starter memory show %s`)",
		j.memory, strings.Join(unmatched, ", "), j.memory)
}

// checkTargets refuses a plan that would put chunks of one file onto a path
// that chunks of another have, or of two files onto one.
func (j *journal) checkTargets(ctx context.Context, taken []string) error {
	if len(taken) > 0 {
		return problem(ErrConflict, "the target is taken: memory %s already has chunks of %s; move or clean those up first, or choose another target", j.memory, strings.Join(taken, ", "))
	}
	twice, err := j.paths(ctx, `
		SELECT new_key FROM rehome.migration_paths WHERE plan_id = @plan
		GROUP BY new_key HAVING count(DISTINCT old_key) > 1 ORDER BY 1 LIMIT 3`)
	if err != nil {
		return err
	}
	if len(twice) > 0 {
		return problem(ErrConflict, "two files would both move to %s; name different targets", strings.Join(twice, ", "))
	}
	return nil
}

func (j *journal) paths(ctx context.Context, query string) ([]string, error) {
	rows, err := j.tx.Query(ctx, query, j.args(nil))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

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
	query := fmt.Sprintf(`
		WITH found AS MATERIALIZED (
			SELECT p.rule, p.path_id, t.ctid AS place, %s AS chunk_id, %s AS documents,
				%s AS agree, octet_length(%s) AS bytes
			FROM rehome.migration_paths p JOIN %s t ON %s = p.old_path
			WHERE p.plan_id = @plan AND %s %s),
		journalled AS (
			INSERT INTO rehome.migration_moves (plan, ordinal, path_id, chunk_id, documents)
			SELECT @number, @total + row_number() OVER (ORDER BY rule, place), path_id, chunk_id, documents
			FROM found WHERE agree)
		SELECT count(*) FILTER (WHERE agree), count(*) FILTER (WHERE NOT agree), coalesce(sum(bytes) FILTER (WHERE agree), 0)::bigint FROM found`,
		j.table.id(), j.table.documents(), j.table.locatorsAre("p.old_path")+" IS TRUE", j.table.text(),
		j.table.name(), j.table.path(), j.table.scope(), known)
	var found listed
	err := j.tx.QueryRow(ctx, query, j.args(pgx.NamedArgs{"total": j.total})).Scan(&found.Moves, &found.Disagree, &found.Bytes)
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
			WHERE u.plan_id = @undoes AND NOT EXISTS (
				SELECT FROM rehome.migration_exceptions e WHERE e.plan_id = @undoes AND e.ordinal = m.ordinal AND NOT e.undoing)),
		journalled AS (
			INSERT INTO rehome.migration_moves (plan, ordinal, path_id, chunk_id, documents, restores)
			SELECT @number, row_number() OVER (ORDER BY m.ordinal DESC), m.way_back, m.chunk_id, %s, %s FROM moved m %s
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

// hash identifies what the journal says, together with the plan's policy.
func (j *journal) hash(ctx context.Context) (string, error) {
	// Each move is hashed with its place, twice, and the sums of the hashes stand
	// for all of them: sorting and joining their texts would take as long as
	// writing the journal.
	const digest = `
		SELECT concat_ws(' ', count(*), sum(hashtextextended(row, 0)), sum(hashtextextended(row, 1)))
		FROM (
			SELECT concat_ws(E'\x1f', m.ordinal, m.chunk_id, p.old_path, p.new_path, m.documents::text, m.restores::text) AS row
			FROM rehome.migration_moves m JOIN rehome.migration_paths p USING (path_id)
			WHERE m.plan = @number) g`
	var moves string
	if err := j.tx.QueryRow(ctx, digest, j.args(nil)).Scan(&moves); err != nil {
		return "", err
	}
	return resilience.PlanHash(moves, j.strategy, j.policy)
}

// seal hashes the journal and opens the watermark at 0.
func (j *journal) seal(ctx context.Context) error {
	hash, err := j.hash(ctx)
	if err != nil {
		return err
	}
	_, err = j.tx.Exec(ctx, `
		WITH opened AS (
			INSERT INTO rehome.migration_progress (plan_id, total, batch_size, rate) VALUES (@plan, @total, @batch, @rate))
		UPDATE rehome.migration_plans
		SET plan_hash = @hash, planning_ms = (extract(epoch FROM clock_timestamp() - now()) * 1000)::bigint
		WHERE plan_id = @plan`,
		j.args(pgx.NamedArgs{"total": j.total, "batch": j.policy.BatchSize, "rate": j.policy.Rate, "hash": hash}))
	return err
}
