package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Retirer does the last step of a transfer: the source rows go to quarantine,
// or come back from it where a plan goes back.
type Retirer struct {
	store    *Store
	transfer *transfer
	memories map[string]resilience.Memory
	changed  string // why no source row may leave; empty: they may
	took     Took   // of the last step
}

// Took is what the last step took, done or not.
func (r *Retirer) Took() Took { return r.took }

// Retirer prepares the last step of a transfer.
func (s *Store) Retirer(ctx context.Context, plan string) (*Retirer, error) {
	t, err := readTransfer(ctx, s.pool, plan)
	if err == nil && t == nil {
		err = problem(ErrInvalid, "it is none; see `starter migration show %s`", plan)
	}
	if err != nil {
		return nil, fmt.Errorf("read the transfer %s: %w", plan, interpret(err))
	}
	r := &Retirer{store: s, transfer: t, memories: map[string]resilience.Memory{}}
	for name, m := range map[string]resilience.Mapping{t.source: t.from.m, t.target: t.to.m} {
		memory, err := s.Memory(ctx, name)
		if err != nil {
			return nil, err
		}
		memory.Mapping = m // as it was when the plan was made
		r.memories[name] = memory
	}
	relations, err := s.relations(ctx, t.to)
	if err == nil {
		t.acts, err = actsAfter(ctx, s.pool, relations, writesUpdate)
	}
	if err == nil {
		t.beside, err = t.readBeside(ctx, s.pool)
	}
	if err != nil {
		return nil, fmt.Errorf("look at columns and triggers of %s: %w", t.to.name(), interpret(err))
	}
	if r.changed, err = t.changed(ctx, s.pool); err != nil {
		return nil, err
	}
	return r, nil
}

// Retired returns how far the last step of a transfer is.
func (s *Store) Retired(ctx context.Context, plan string) (resilience.Watermark, error) {
	at, err := s.Watermark(ctx, plan)
	if err == nil {
		err = s.pool.QueryRow(ctx, `SELECT retired FROM rehome.migration_transfers WHERE plan_id = $1`, plan).Scan(&at.Last)
	}
	if err != nil {
		return at, fmt.Errorf("read how far %s is: %w", plan, interpret(err))
	}
	return at, nil
}

// retirement is the watermark of the last step, fenced like that of the moves, and with
// batches like theirs: an abort, which raises the epoch, waits for the batch in flight.
const retirement = `
	WITH p AS MATERIALIZED (` + pace + `, total, epoch, wish
		FROM rehome.migration_progress WHERE plan_id = @plan AND epoch = @epoch FOR UPDATE)
	UPDATE rehome.migration_transfers x SET retired = %s
	FROM p WHERE x.plan_id = @plan AND x.retired = @at AND %s
	RETURNING least(@at::bigint, x.retired), greatest(@at::bigint, x.retired), x.retired, p.total, p.epoch, p.wish, p.rate`

var (
	retireOn   = fmt.Sprintf(retirement, "least(p.total, x.retired + "+rows+")", "p.wish = 'run' AND x.retired < p.total")
	retireBack = fmt.Sprintf(retirement, "greatest(0, x.retired - "+rows+")", "p.wish = 'undo' AND x.retired > 0")
)

// Apply does the next batch; see Mover.Apply.
func (r *Retirer) Apply(ctx context.Context, at resilience.Watermark, b Bounds) (resilience.Watermark, error) {
	return r.step(ctx, at, b, false)
}

// Revert takes the last batch back; see Mover.Revert.
func (r *Retirer) Revert(ctx context.Context, at resilience.Watermark, b Bounds) (resilience.Watermark, error) {
	return r.step(ctx, at, b, true)
}

func (r *Retirer) step(ctx context.Context, at resilience.Watermark, b Bounds, undoing bool) (resilience.Watermark, error) {
	var next resilience.Watermark
	if r.changed != "" && r.transfer.back == undoing {
		return at, problem(ErrChanged, "%s", r.changed)
	}
	b.Patient = b.Patient || b.Leave != nil // what is left out because it is locked is left for good
	err := b.politely(ctx, func(patient bool) (err error) {
		b.Patient = patient
		next, err = r.tried(ctx, at, b, undoing)
		return err
	})
	if errors.Is(err, errMoved) {
		return r.store.Retired(ctx, r.transfer.plan)
	}
	if err == nil && r.transfer.back == undoing { // source rows left
		err = r.store.follow(ctx, lateness{transfer: r.transfer}, at, next, &r.took)
	}
	if err != nil {
		return at, fmt.Errorf("retire the chunks of %s from row %d: %w", r.transfer.plan, at.Last, interpret(err))
	}
	return next, nil
}

// tried does a batch, and tries again what an application's writes interrupt.
func (r *Retirer) tried(ctx context.Context, at resilience.Watermark, b Bounds, undoing bool) (next resilience.Watermark, err error) {
	for range tries {
		next, err = r.batch(ctx, at, b, undoing, b.leaving(r.transfer.plan, at, undoing, nil))
		if !undoing && !r.transfer.back && ofRow(err, false) { // of what comes home a person decides
			next, err = r.batch(ctx, at, b, undoing, &leaving{plan: r.transfer.plan, most: maxClashes})
		}
		if !transient(err) || b.Gentle {
			break
		}
	}
	return next, err
}

func (r *Retirer) batch(ctx context.Context, at resilience.Watermark, b Bounds, undoing bool, l *leaving) (resilience.Watermark, error) {
	next := at
	advance := retireOn
	if undoing {
		advance = retireBack
	}
	args := r.transfer.args(pgx.NamedArgs{"at": at.Last, "epoch": at.Epoch, "batch": b.Batch, "rate": b.Rate, "gentle": b.Gentle, "patient": b.Patient, "batch_lock": batchLock})
	r.took = Took{}
	conn, err := r.store.pool.Acquire(ctx)
	if err != nil {
		return at, err
	}
	defer conn.Release()
	watch := r.store.start(ctx, conn, b.Gentle)
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, batchGuards+unawaited, args); err != nil {
			return err
		}
		var lo, hi int64
		err := tx.QueryRow(ctx, advance, args).Scan(&lo, &hi, &next.Last, &next.Total, &next.Epoch, &next.Wish, &next.Rate)
		if errors.Is(err, pgx.ErrNoRows) {
			return errMoved
		}
		if err != nil {
			return err
		}
		if r.transfer.back != undoing {
			args["lo"], args["hi"] = lo, hi
			err = r.bringBack(ctx, tx, args, undoing)
		} else if l == nil {
			_, err = r.rows(args, undoing)(ctx, tx, lo, hi)
		} else {
			_, err = l.without(ctx, tx, r.rows(args, undoing), lo, hi)
		}
		if err == nil && b.Gentle { // its size follows this
			err = watch.read(tx.QueryRow(ctx, elapsed))
		}
		return err
	})
	r.took = watch.stop(err == nil)
	return next, err
}

// rows retires rows (lo, hi] of the journal, whose copies are brought up to date first.
func (r *Retirer) rows(args pgx.NamedArgs, undoing bool) doing {
	return func(ctx context.Context, tx pgx.Tx, lo, hi int64) (batchResult, error) {
		args := maps.Clone(args)
		args["lo"], args["hi"] = lo, hi
		looks, err := r.mends(undoing).first(ctx, tx, args, lo, hi)
		if err != nil {
			return batchResult{}, err
		}
		if err := r.freshen(ctx, tx, args, undoing); err != nil {
			return batchResult{}, err
		}
		if err := looks.last(ctx, tx, args); err != nil {
			return batchResult{}, err
		}
		return batchResult{}, r.retire(ctx, tx, args, undoing)
	}
}

// mends is how copies are looked at that are brought up to date; nil: there is no need.
func (r *Retirer) mends(undoing bool) *aftermath {
	if !r.transfer.acts {
		return nil
	}
	return r.transfer.afterCopies(undoing)
}

// freshen copies again what changed in the source since it was copied.
func (r *Retirer) freshen(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs, undoing bool) error {
	var changed, updated int64
	var verified bool
	var wrong []int64
	if err := tx.QueryRow(ctx, r.transfer.freshenStatement(undoing), args).Scan(&changed, &updated, &verified, &wrong); err != nil {
		return err
	}
	which, err := see(ctx, tx, args, wrong)
	if err != nil {
		return err
	}
	if changed != updated || !verified {
		return problem(ErrVerify, "%d chunks changed since they were copied and %d copies were brought up to date%s; a trigger of memory %s changes what is written", changed, updated, which, r.transfer.target)
	}
	_, err = tx.Exec(ctx, checkAtOnce)
	return err
}

// retire takes every row out of the source whose copy says what it says. A row of
// which both sides changed, whose change the target refuses or cannot hold, or that is no
// longer where it was copied from, stays, and is listed. Where the application deleted the
// source row, the copy goes too. What kept a copy when a plan went back does not keep its
// chunk at home when that is turned round.
func (r *Retirer) retire(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs, undoing bool) error {
	f := r.transfer.fragments(false)
	ours := fmt.Sprintf("NOT EXISTS (SELECT FROM rehome.migration_exceptions e WHERE e.plan_id = @plan AND e.ordinal = p.ordinal AND e.undoing = %t AND e.outcome <> 'edited' OFFSET 0)", undoing)
	if err := r.take(ctx, tx, r.transfer.source, f.Replace(`
		WITH `+journalled+`
		SELECT p.chunk_id FROM planned p WHERE p.held AND NOT EXISTS (SELECT FROM {put away}) AND `+ours+` ORDER BY p.chunk_id`), args); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, f.Replace(`
		WITH `+journalled+`
		SELECT p.target_id FROM planned p JOIN {target} t ON {is target}
		WHERE p.held AND CASE WHEN EXISTS (SELECT FROM {put away}) OR EXISTS (SELECT FROM {source} t WHERE {is source}) THEN false ELSE {written} = p.made AND {written beside} = '' END`), args)
	if err != nil {
		return err
	}
	deleted, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(deleted) == 0 {
		return err
	}
	return r.take(ctx, tx, r.transfer.target, `SELECT unnest(@ids::text[]) AS chunk_id`, pgx.NamedArgs{"ids": deleted})
}

// take moves the chosen rows of a memory to quarantine; scans have nothing to
// say of them any more.
func (r *Retirer) take(ctx context.Context, tx pgx.Tx, memory, chosen string, args pgx.NamedArgs) error {
	removal, err := prepareRemoval(ctx, tx, r.memories[memory], resilience.ReasonTransferred, r.transfer.origin)
	if err != nil {
		return err
	}
	out, err := removal.take(ctx, tx, chosen, args)
	if err != nil {
		return err
	}
	if gone := int64(len(out.IDs)); gone != out.Chosen {
		return problem(ErrVerify, "%d chunks should have left memory %s and %d did; a trigger or a rule on its table keeps rows from being deleted", out.Chosen, memory, gone)
	}
	_, err = tx.Exec(ctx, `DELETE FROM rehome.orphan_chunks WHERE memory = $1 AND chunk_id = ANY ($2)`, memory, out.IDs)
	return err
}

// freshenStatement brings the copies of a batch up to date and lists what cannot
// be retired, and the copies that others wrote to, which are kept as they are.
func (t *transfer) freshenStatement(undoing bool) string {
	// A row that an undo left where it was is looked at like any other when that is turned round.
	return t.fragments(undoing).Replace(`
		WITH ` + strings.ReplaceAll(journalled, "{skipped}", "") + `,
		now AS MATERIALIZED (
			SELECT p.ordinal, p.origin, p.noted_at, p.target_id, p.made, p.beside, t.ctid IS NOT NULL AS present, {at home} AS here, {unfit} AS unfit, p.target_id::` + t.to.m.IDType + ` AS f0, {values}
			FROM planned p LEFT JOIN {source} t ON {is source} WHERE p.held AND NOT EXISTS (SELECT FROM {put away})),
		state AS MATERIALIZED (
			SELECT p.*, t.ctid IS NOT NULL AS there, coalesce({written} = p.made, false) AS ours, {written beside} AS more,
				CASE WHEN p.present THEN {mark expected now} END AS expected
			FROM now p LEFT JOIN {target} t ON {is target}),
		changed AS MATERIALIZED (
			SELECT * FROM state WHERE present AND here AND ours AND unfit IS NULL AND {print} <> made),
		stayed AS (
			INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing, detail)
			SELECT @plan, ordinal, CASE WHEN NOT present OR NOT there THEN 'vanished' WHEN NOT here THEN 'drifted' WHEN unfit IS NOT NULL OR {print} <> made AND NOT ours THEN 'conflict' ELSE 'edited' END,
				{undoing}, CASE WHEN NOT (present AND there AND here) THEN '' WHEN unfit IS NOT NULL THEN unfit WHEN ours OR {print} = made THEN 'its copy was written to in memory ' || @target::text ELSE '' END
			FROM state WHERE NOT present OR NOT there OR NOT here OR unfit IS NOT NULL OR NOT ours OR more <> ''
			ON CONFLICT DO NOTHING),
		updated AS (
			UPDATE {target} t SET {sets} FROM changed b WHERE ` + t.to.hasID("b.target_id") + ` AND ` + t.targetScope() + `
			RETURNING {mark written} AS written` + t.returned() + `),` + t.noted("updated") + `
		noted AS (
			UPDATE rehome.migration_copies c SET made = {print}, beside = CASE WHEN b.more <> '' THEN c.beside ELSE ` + t.besideOf("b.f0", "c.beside") + ` END
			FROM changed b WHERE c.ctid = b.noted_at),
		account AS (
			SELECT (SELECT count(*) FROM changed) AS changed, (SELECT count(*) FROM updated) AS updated,
				(SELECT {expected sum} FROM changed) = (SELECT {written sum} FROM updated) AS verified)
		SELECT *, CASE WHEN changed = updated AND verified THEN NULL
			ELSE ARRAY(SELECT ordinal FROM changed WHERE expected NOT IN (SELECT written FROM updated) ORDER BY ordinal) END
		FROM account`)
}

// bringBack restores the source rows of a batch. One whose place is taken stays
// in quarantine, and is listed.
func (r *Retirer) bringBack(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs, undoing bool) error {
	rows, err := tx.Query(ctx, r.transfer.fragments(false).Replace(`
		WITH `+journalled+`
		SELECT q.twin, q.quarantine_id FROM planned p CROSS JOIN LATERAL {put away}
		ORDER BY q.twin, q.quarantine_id`), args)
	if err != nil {
		return err
	}
	chosen := map[string][]int64{}
	var from string
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&from, &id}, func() error { chosen[from] = append(chosen[from], id); return nil }); err != nil {
		return err
	}
	var result resilience.RestoreResult
	for from, ids := range chosen {
		back := restoration{memory: r.memories[r.transfer.source], from: from, free: true, result: &result}
		if err := back.batch(ctx, tx, ids); err != nil {
			return err
		}
		if err := r.listLeft(ctx, tx, back.left, args, undoing); err != nil {
			return err
		}
	}
	return nil
}

func (r *Retirer) listLeft(ctx context.Context, tx pgx.Tx, left []resilience.LeftOver, args pgx.NamedArgs, undoing bool) error {
	if len(left) == 0 {
		return nil
	}
	ids := make([]string, len(left))
	for i, l := range left {
		ids[i] = l.ChunkID
	}
	args["left"] = ids
	_, err := tx.Exec(ctx, r.transfer.fragments(undoing).Replace(`
		WITH `+journalled+`
		INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing)
		SELECT @plan, ordinal, 'conflict', {undoing} FROM planned WHERE chunk_id = ANY (@left)
		ON CONFLICT DO NOTHING`), args)
	return err
}
