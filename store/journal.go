package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Journal finds the rows of a pending plan and writes them to migration_runs,
// with all that undo needs, in one transaction that changes nothing in the
// memory. A plan that has its journal is left as it is. One that cannot be
// carried out gets no journal but its conflicts, and is refused: ErrNotFound when
// it is only that it matches no chunk, else ErrConflict.
func (s *Store) Journal(ctx context.Context, plan string) error {
	var refusal error
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		j, err := openJournal(ctx, tx, plan)
		if err != nil || j.exists {
			return err
		}
		if err := j.list(ctx); err != nil {
			return err
		}
		if err := j.recordConflicts(ctx); err != nil {
			return err
		}
		if refusal = j.refusal(); refusal != nil {
			return nil // what was found in the way is kept
		}
		return j.seal(ctx)
	})
	if err == nil {
		err = refusal
	}
	if err != nil {
		return fmt.Errorf("journal plan %s: %w", plan, err)
	}
	return nil
}

// list journals the rows of the plan, unless something stands in its way.
func (j *journal) list(ctx context.Context) error {
	if err := j.findOwners(ctx); err != nil {
		return err
	}
	if j.undoes == "" {
		return j.listAsked(ctx)
	}
	if j.inTheWay > 0 {
		return nil
	}
	if err := j.checkUndone(ctx); err != nil {
		return err
	}
	if j.transfer != nil {
		return j.listReturning(ctx)
	}
	return j.listUndone(ctx)
}

// listAsked journals the chunks that a rename or a transfer is asked to take.
func (j *journal) listAsked(ctx context.Context) error {
	if err := j.checkApart(ctx); err != nil {
		return err
	}
	if err := j.checkRules(ctx); err != nil {
		return err
	}
	if _, err := j.listPaths(ctx); err != nil {
		return err
	}
	if err := j.findMisfits(ctx); err != nil || j.inTheWay > 0 {
		return err
	}
	found, err := j.listMoves(ctx)
	if err == nil && j.transfer != nil {
		err = j.checkRows(ctx)
	}
	if err == nil {
		err = j.tie(ctx)
	}
	if err != nil || j.inTheWay > 0 {
		return err
	}
	_, err = j.tx.Exec(ctx, `
		UPDATE rehome.migration_plans SET moves = @moves, disagree = @disagree, bytes = @bytes WHERE plan_id = @plan`,
		j.args(pgx.NamedArgs{"moves": found.Moves, "disagree": found.Disagree, "bytes": found.Bytes}))
	return err
}

// checkRules refuses tables with rules on what the plan writes: Postgres lets no statement
// of a batch be written under them.
func (j *journal) checkRules(ctx context.Context) error {
	const update, all = "{2}", "{2,3,4}" // as pg_rewrite.ev_type has them
	writes := map[string]string{j.table.name(): update}
	switch {
	case j.transfer != nil:
		writes = map[string]string{j.table.name(): all, j.goal().name(): all}
	case j.policy.Way == resilience.AliasOnly:
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(writes)) {
		var rules []string
		err := j.tx.QueryRow(ctx, `
			SELECT coalesce(array_agg(rulename::text ORDER BY rulename), '{}') FROM pg_rewrite
			WHERE ev_class = $1::text::regclass AND ev_type = ANY ($2::text::"char"[]) AND ev_enabled <> 'D'`, name, writes[name]).Scan(&rules)
		if err != nil {
			return err
		}
		if len(rules) > 0 {
			return problem(ErrRefused, "table %s has rules (%s) under which Postgres does not let a batch be written; make triggers of them, or disable them meanwhile. Nothing was moved",
				name, strings.Join(rules, ", "))
		}
	}
	return nil
}

// checkApart refuses a transfer between memories that may have the same rows: its copies
// would be chunks of both.
func (j *journal) checkApart(ctx context.Context) error {
	if j.transfer == nil {
		return nil
	}
	var shared bool
	err := j.tx.QueryRow(ctx, `SELECT `+shareRows("$1::jsonb", "$2::jsonb"), j.transfer.from.m, j.transfer.to.m).Scan(&shared)
	if err == nil && shared {
		err = problem(ErrRefused, "memories %s and %s are both over table %s, and no column of their scopes keeps their chunks apart: what is put into one may be in the other. Give each a --scope of the same column with a value of its own. Nothing was moved",
			j.memory, j.transfer.target, j.table.name())
	}
	return err
}

// Sweep adds to the journal the rows that appeared at the old paths since it
// was written, and returns how many rows of the journal are left to move: those,
// and the ones of a sweep whose answer was lost. What cannot go there any more,
// since others took its target meanwhile, stays and becomes a conflict. Plans
// that undo another have none: their rows are those of the other. A plan that
// moves no more takes none.
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
		found, err := j.listLate(ctx)
		if err != nil || found.Moves == 0 {
			return err
		}
		left += found.Moves
		if err := recordEvent(ctx, tx, event{Plan: plan, What: "swept", Detail: fmt.Sprintf("%d chunks appeared at the old paths, or came back there", found.Moves)}); err != nil {
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
	digest, err := j.digest(ctx, j.number)
	if err != nil {
		return err
	}
	tag, err := j.tx.Exec(ctx, `
		WITH extended AS (
			UPDATE rehome.migration_progress SET total = total + @n, last_at = NULL WHERE plan_id = @plan)
		UPDATE rehome.migration_plans SET moves = moves + @n, bytes = bytes + @bytes, journal = @journal
		WHERE plan_id = @plan AND status = ANY (@working)`,
		pgx.NamedArgs{"plan": j.plan, "n": found.Moves, "bytes": found.Bytes, "journal": digest, "working": []resilience.Status{resilience.Executing, resilience.Paused}})
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
	transfer *transfer // nil for a plan of another kind
	total    int64     // rows in the journal so far
	exists   bool      // the watermark is there: the journal was sealed before

	conflicts []resilience.Conflict // the first of what stands in the way
	inTheWay  int64                 // all of it
}

// bulkSettings are for statements over what a plan just wrote. The planner has no
// statistics of that, takes it for a handful of rows, and would compare every
// path with every other; and a journal that is sorted in memory is written in
// half the time. Where a loop is the only way the statement looks so costly that
// it would be compiled first.
const bulkSettings = `SELECT set_config('enable_nestloop', 'off', true), set_config('work_mem', '64MB', true), set_config('jit', 'off', true)`

// lockMemories locks the memories of a plan, and those that may have the same rows,
// against other planning. All plans do so in the order of names, so that no two wait for
// each other.
var lockMemories = `
		SELECT FROM rehome.memories m
		WHERE EXISTS (
			SELECT FROM rehome.memories own
			WHERE own.name IN (
				SELECT memory FROM rehome.migration_plans WHERE plan_id = $1
				UNION ALL SELECT target FROM rehome.migration_transfers WHERE plan_id = $1)
			AND (m.name = own.name OR ` + shareRows("m.mapping", "own.mapping") + `))
		ORDER BY name FOR UPDATE`

// shareRows holds for two mappings that may have the same rows: they are over one table,
// and no column of their scopes keeps them apart.
func shareRows(a, b string) string {
	return strings.NewReplacer("{a}", a, "{b}", b).Replace(`{a} ->> 'schema' = {b} ->> 'schema' AND {a} ->> 'table' = {b} ->> 'table' AND NOT EXISTS (
				SELECT FROM jsonb_array_elements({a} -> 'scope') x JOIN jsonb_array_elements({b} -> 'scope') y
				ON x ->> 'column' = y ->> 'column' AND x ->> 'value' <> y ->> 'value')`)
}

// openJournal locks the memories first, so that of two plans for the same paths
// the later one sees the earlier one's.
func openJournal(ctx context.Context, tx pgx.Tx, plan string) (*journal, error) {
	j := &journal{tx: tx, plan: plan}
	if _, err := tx.Exec(ctx, bulkSettings); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, lockMemories, plan); err != nil {
		return nil, err
	}
	return j, j.read(ctx)
}

// read reads what the journal is of.
func (j *journal) read(ctx context.Context) error {
	err := j.tx.QueryRow(ctx, `
		SELECT p.number, p.memory, coalesce(p.undoes, ''), p.strategy, p.policy, p.mapping, coalesce(g.total, 0), g.plan_id IS NOT NULL
		FROM rehome.migration_plans p
		JOIN rehome.memories m ON m.name = p.memory
		LEFT JOIN rehome.migration_progress g USING (plan_id)
		WHERE p.plan_id = $1`, j.plan).
		Scan(&j.number, &j.memory, &j.undoes, &j.strategy, &j.policy, &j.table.m, &j.total, &j.exists)
	if errors.Is(err, pgx.ErrNoRows) {
		return problem(ErrNotFound, "there is no migration %s, or its memory was removed; see `starter migration list`", j.plan)
	}
	if err == nil {
		j.transfer, err = readTransfer(ctx, j.tx, j.plan)
	}
	return err
}

// args are the parameters of the plan's statements; a transfer's are of both tables.
func (j *journal) args(extra pgx.NamedArgs) pgx.NamedArgs {
	args := j.table.args(nil)
	if j.transfer != nil {
		args = j.transfer.args(nil)
	}
	args["plan"], args["number"] = j.plan, j.number
	args["memory"], args["memories"] = j.memory, j.memories()
	maps.Copy(args, extra)
	return args
}

// memories are those in which the plan takes chunks away or puts them.
func (j *journal) memories() []string {
	if j.transfer != nil {
		return []string{j.memory, j.transfer.target}
	}
	return []string{j.memory}
}

// goal is the table in which the chunks are to be.
func (j *journal) goal() table {
	if j.transfer != nil {
		return j.transfer.to
	}
	return j.table
}

// digest stands for all that a plan's journal says. Each run is hashed with its
// place, twice, and the sums of the hashes stand for all of them: sorting and
// joining their texts would take as long as writing the journal.
func (j *journal) digest(ctx context.Context, number int) (string, error) {
	var digest string
	err := j.tx.QueryRow(ctx, `
		SELECT concat_ws(' ', count(*), sum(hashtextextended(row, 0)), sum(hashtextextended(row, 1)))
		FROM (
			SELECT concat_ws(E'\x1f', m.first, m.last, m.chunk_ids::text, p.old_path, p.new_path) AS row
			FROM rehome.migration_runs m JOIN rehome.migration_paths p USING (path_id) WHERE m.plan = $1
			UNION ALL
			SELECT concat_ws(E'\x1f', d.chunk_id, d.documents::text, d.restores::text) FROM rehome.migration_documents d WHERE d.plan = $1
			OFFSET 0) g -- OFFSET 0: a row's text is made once for both hashes`, number).Scan(&digest)
	return digest, err
}

// hash identifies what the journal says, together with the plan's policy, and
// returns the journal's digest, too.
func (j *journal) hash(ctx context.Context) (hash, digest string, err error) {
	if digest, err = j.digest(ctx, j.number); err == nil {
		hash, err = resilience.PlanHash(digest, j.strategy, j.policy)
	}
	return hash, digest, err
}

// checkUndone compares the journal of the plan that is to be undone with what
// it was when it was written: chunks would go wherever it says.
func (j *journal) checkUndone(ctx context.Context) error {
	var number int
	var was string
	err := j.tx.QueryRow(ctx, `SELECT number, journal FROM rehome.migration_plans WHERE plan_id = $1`, j.undoes).Scan(&number, &was)
	if err != nil {
		return err
	}
	is, err := j.digest(ctx, number)
	if err == nil && is != was {
		return problem(ErrVerify, "the journal of %s is not what it was when its chunks moved; somebody wrote to rehome.migration_runs, migration_paths or migration_documents. Restore these tables from a backup, then undo it; nothing was moved", j.undoes)
	}
	return err
}

// seal hashes the journal and opens the watermark at 0.
func (j *journal) seal(ctx context.Context) error {
	hash, digest, err := j.hash(ctx)
	if err != nil {
		return err
	}
	_, err = j.tx.Exec(ctx, `
		WITH opened AS (
			INSERT INTO rehome.migration_progress (plan_id, total, batch_size, rate) VALUES (@plan, @total, @batch, @rate))
		UPDATE rehome.migration_plans
		SET plan_hash = @hash, journal = @journal, journalled_at = clock_timestamp(), planning_ms = (extract(epoch FROM clock_timestamp() - now()) * 1000)::bigint
		WHERE plan_id = @plan`,
		j.args(pgx.NamedArgs{"total": j.total, "batch": j.policy.BatchSize, "rate": j.policy.Rate, "hash": hash, "journal": digest}))
	return err
}
