package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// QuarantineFilter chooses entries of a memory's quarantine; all that is set must hold.
type QuarantineFilter struct {
	IDs        []int64 // of entries
	Run        string
	PathPrefix string // a file, or a directory with all below it
	Reason     string
}

const matches = `q.memory = @memory AND q.restored_at IS NULL
	AND (@ids::bigint[] IS NULL OR q.quarantine_id = ANY (@ids)) AND @run IN ('', q.run_id) AND @reason IN ('', q.reason)
	AND (@prefix = '' OR q.file_path = @prefix OR starts_with(q.file_path, @prefix || '/'))`

func (f QuarantineFilter) args(memory string) pgx.NamedArgs {
	return pgx.NamedArgs{"memory": memory, "ids": f.IDs, "run": f.Run, "reason": f.Reason, "prefix": f.PathPrefix}
}

func (f QuarantineFilter) empty() bool {
	return len(f.IDs) == 0 && f.Run == "" && f.PathPrefix == "" && f.Reason == ""
}

// Quarantined lists what is in quarantine, newest first.
func (s *Store) Quarantined(ctx context.Context, memory string, filter QuarantineFilter, limit int) ([]resilience.Quarantined, error) {
	args := filter.args(memory)
	args["limit"] = limit
	rows, err := s.pool.Query(ctx, `
		SELECT q.quarantine_id, q.memory, q.chunk_id, q.file_path, q.reason, q.run_id, q.bytes, q.quarantined_at, q.retain_until
		FROM rehome.quarantine q WHERE `+matches+` ORDER BY q.quarantine_id DESC LIMIT @limit`, args)
	if err != nil {
		return nil, fmt.Errorf("list the quarantine of %s: %w", memory, interpret(err))
	}
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.Quarantined])
	if err != nil {
		return nil, fmt.Errorf("list the quarantine of %s: %w", memory, interpret(err))
	}
	return entries, nil
}

// restoreBatch is how many rows come back in one transaction.
const restoreBatch = 1000

// Restore puts the chosen rows back into the memory's table, byte for byte, in
// batches. What meets a row that stands there now, or is refused by the table,
// stays in quarantine and is listed with the reason. A restored chunk is held
// until its path or its text changes: its file may still be gone.
func (s *Store) Restore(ctx context.Context, memory string, filter QuarantineFilter) (resilience.RestoreResult, error) {
	result := resilience.RestoreResult{Memory: memory, Left: []resilience.LeftOver{}, Dropped: []string{}}
	m, err := s.Memory(ctx, memory)
	if err != nil {
		return result, err
	}
	if filter.empty() {
		return result, problem(ErrInvalid, "nothing named to restore: want ids, a run or a path; see `starter quarantine list --memory %s`", memory)
	}
	rows, err := s.pool.Query(ctx, `SELECT q.twin, q.quarantine_id FROM rehome.quarantine q WHERE `+matches+` ORDER BY q.twin, q.quarantine_id`, filter.args(memory))
	if err != nil {
		return result, fmt.Errorf("choose from the quarantine of %s: %w", memory, interpret(err))
	}
	chosen := map[string][]int64{}
	var from string
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&from, &id}, func() error { chosen[from] = append(chosen[from], id); return nil }); err != nil {
		return result, fmt.Errorf("choose from the quarantine of %s: %w", memory, interpret(err))
	}
	if len(chosen) == 0 {
		return result, problem(ErrNotFound, "the quarantine of memory %s holds nothing of that; see `starter quarantine list --memory %s`", memory, memory)
	}
	for from, ids := range chosen {
		for batch := range slices.Chunk(ids, restoreBatch) {
			r := restoration{memory: m, from: from, result: &result}
			if err := s.inTx(ctx, func(tx pgx.Tx) error { return r.batch(ctx, tx, batch) }); err != nil {
				return result, fmt.Errorf("restore to %s: %w", memory, err)
			}
			r.commit()
		}
	}
	return result, nil
}

// restoration brings back one batch. What it did counts once it is committed.
type restoration struct {
	memory resilience.Memory
	from   string
	free   bool // their files are not gone: nothing is to be held
	twin   twin
	back   taken
	left   []resilience.LeftOver
	result *resilience.RestoreResult
}

func (r *restoration) commit() {
	r.result.Restored += int64(len(r.back.IDs))
	r.result.Bytes += r.back.Bytes
	r.result.Left = append(r.result.Left, r.left...)
	for _, c := range r.twin.dropped {
		if !slices.Contains(r.result.Dropped, c) {
			r.result.Dropped = append(r.result.Dropped, c)
		}
	}
}

func (r *restoration) batch(ctx context.Context, tx pgx.Tx, ids []int64) (err error) {
	if r.twin, err = readTwin(ctx, tx, r.memory.Mapping, r.from); err != nil {
		return err
	}
	// What a statement has put in or taken out, the planner takes for one row, and
	// compares each with every other, unless it has a better way. Batches may have none.
	if _, err := tx.Exec(ctx, checkAtOnce+`; SET LOCAL enable_nestloop = off; SET LOCAL enable_hashjoin = on`); err != nil {
		return err
	}
	why := map[int64]string{}
	err = halving(ctx, tx, ids,
		func(tx pgx.Tx, ids []int64) error { return r.insert(ctx, tx, ids) },
		func(id int64, err error) { why[id] = err.Error() })
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		SELECT quarantine_id, chunk_id, file_path,
			'a row with this id, or with another value that must be unique, stands in the table; or the file was read in again'
		FROM rehome.quarantine WHERE quarantine_id = ANY ($1) AND restored_at IS NULL ORDER BY quarantine_id`, ids)
	if err != nil {
		return err
	}
	r.left, err = pgx.CollectRows(rows, pgx.RowToStructByPos[resilience.LeftOver])
	for i, l := range r.left {
		if refused, ok := why[l.ID]; ok {
			r.left[i].Why = refused
		}
	}
	return err
}

// insert is one statement: the rows go in, leave the twin, and their entries
// are closed. Of two entries with one id the newer comes back. Entries are
// locked first, so of two who restore at once one finds nothing left to do.
func (r *restoration) insert(ctx context.Context, tx pgx.Tx, ids []int64) error {
	t := table{r.memory.Mapping}
	before, hash, holding := "", t.hash(), hold
	if r.free {
		before, holding = held, holdStill
		hash = fmt.Sprintf("CASE WHEN %s = ANY (ARRAY(SELECT chunk_id FROM held)) THEN %s END", t.id(), hash)
	}
	query := fmt.Sprintf(`
		WITH asked AS MATERIALIZED (
			SELECT quarantine_id, chunk_id, bytes FROM rehome.quarantine
			WHERE quarantine_id = ANY (@ids) AND restored_at IS NULL FOR UPDATE),
		newest AS MATERIALIZED (
			SELECT DISTINCT ON (chunk_id) quarantine_id, chunk_id, bytes FROM asked ORDER BY chunk_id, quarantine_id DESC),%[11]s
		back AS (
			INSERT INTO %[1]s AS t (%[2]s) OVERRIDING SYSTEM VALUE
			SELECT %[3]s FROM newest n JOIN %[4]s w ON w.%[5]s = n.quarantine_id WHERE w.%[5]s = ANY (@ids) AND %[6]s
			ON CONFLICT DO NOTHING
			RETURNING %[7]s AS chunk_id, %[8]s AS locator, %[9]s AS content_hash),
		came AS MATERIALIZED (
			SELECT n.quarantine_id, n.chunk_id, n.bytes FROM newest n JOIN back USING (chunk_id)),
		closed AS (
			UPDATE rehome.quarantine SET restored_at = now() WHERE quarantine_id = ANY (@ids) AND quarantine_id IN (SELECT quarantine_id FROM came)),
		left_twin AS (
			DELETE FROM %[4]s WHERE %[5]s = ANY (@ids) AND %[5]s IN (SELECT quarantine_id FROM came)),
		holding AS (%[10]s)
		SELECT coalesce(array_agg(chunk_id), '{}'), coalesce(sum(bytes), 0)::bigint, (SELECT count(*) FROM back) FROM came`,
		t.name(), list(r.twin.origin, ""), list(r.twin.origin, "w."), r.twin.table(), twinLink, r.notReadAgain(),
		t.id(), t.path(), hash, holding, before)
	var back taken
	var inserted int
	err := tx.QueryRow(ctx, query, t.args(pgx.NamedArgs{"ids": ids, "memory": r.memory.Name})).Scan(&back.IDs, &back.Bytes, &inserted)
	if err != nil {
		return err
	}
	if inserted != len(back.IDs) {
		return problem(ErrUnfit, "a trigger of %s changes the ids of rows that are put back; disable it while restoring", t.name())
	}
	r.back.add(back)
	return nil
}

// hold holds what comes back.
const hold = `
			INSERT INTO rehome.holds (memory, chunk_id, reason, locator, content_hash)
			SELECT @memory, chunk_id, 'restored', locator, content_hash FROM back
			ON CONFLICT (memory, chunk_id) DO UPDATE SET (locator, content_hash) = (excluded.locator, excluded.content_hash)
			WHERE holds.content_hash IS NOT NULL`

// holdStill holds only what already is held until it changes, in the state in which it
// comes back; held are these.
const (
	holdStill = `
			UPDATE rehome.holds h SET (locator, content_hash) = (b.locator, b.content_hash)
			FROM back b WHERE h.memory = @memory AND h.chunk_id = b.chunk_id AND h.chunk_id = ANY (ARRAY(SELECT chunk_id FROM held))`
	held = `
		held AS MATERIALIZED (
			SELECT chunk_id FROM rehome.holds
			WHERE memory = @memory AND content_hash IS NOT NULL AND chunk_id = ANY (ARRAY(SELECT chunk_id FROM newest))),`
)

// notReadAgain keeps a builtin chunk in quarantine when ingest has made it anew
// meanwhile: ids tell it nothing, since a chunk that is read in gets a new one.
func (r *restoration) notReadAgain() string {
	if !r.memory.Builtin {
		return "true"
	}
	return `NOT EXISTS (
		SELECT FROM rehome.chunks u JOIN rehome.quarantine q ON q.quarantine_id = n.quarantine_id
		WHERE u.memory = w.memory AND u.path = w.path AND u.content = w.content AND u.created_at > q.quarantined_at)`
}
