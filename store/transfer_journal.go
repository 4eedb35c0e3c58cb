package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// listTransferred lists the source paths of a transfer. What names no file of the
// tree, a URL say, goes along with the whole memory, as it is written.
func (j *journal) listTransferred(ctx context.Context, fold folder) (taken []string, err error) {
	t := j.table
	_, err = j.tx.Exec(ctx, fmt.Sprintf(`
		WITH spelled AS MATERIALIZED (SELECT DISTINCT %s AS raw FROM %s t WHERE %s),
		sources AS MATERIALIZED (
			SELECT raw, rest, coalesce(`+keyOf("rest")+`, raw) COLLATE "C" AS key
			FROM (SELECT raw, rehome.path_rest(raw, @prefix) AS rest FROM spelled WHERE raw IS NOT NULL OFFSET 0) r)
		INSERT INTO rehome.migration_paths (plan_id, old_path, old_key, new_path, new_key, rule)
		SELECT @plan, raw, key, CASE WHEN rest IS NULL THEN raw ELSE @to_prefix || rest END,
			CASE WHEN rest IS NULL THEN coalesce(rehome.path_key(raw, @to_prefix), raw) ELSE key END, 1 -- it may name a file there
		FROM sources s
		WHERE (@only = '' OR key = @only OR starts_with(key, @only || '/'))
			AND NOT EXISTS (SELECT FROM rehome.migration_paths k WHERE k.plan_id = @plan AND k.old_path = s.raw)`,
		t.path(), t.name(), t.scope()), j.args(nil))
	if err != nil {
		return nil, err
	}
	return j.find(ctx, `
		WITH `+j.clashes(fold, `
				SELECT path_id, old_key AS key, new_key AS target_key, new_path FROM rehome.migration_paths WHERE plan_id = @plan`)+`
		SELECT kind, source, target, other, count(*) OVER ()
		FROM (SELECT DISTINCT kind, source, target, other FROM clashes) c ORDER BY source LIMIT @kept`)
}

// targetPath is the path of a row of the target; its keys are written out, since
// the arguments of that name are those of the source.
func (t *transfer) targetPath() string {
	if l := t.to.m.Locators[0]; len(l.Keys) > 0 {
		document := t.to.column(l.Column)
		return readable(l.Type, document, fmt.Sprintf("(%s #>> %s)", document, literals(l.Keys)))
	}
	return t.to.path()
}

// transferMisfits look for what keeps chunks from a transfer beside clashes of paths.
func (j *journal) transferMisfits(fold folder) []string {
	queries := []string{twoToOne(fold), fmt.Sprintf(`
		SELECT 'no_source', @only::text, @only::text, '', 1::bigint WHERE NOT EXISTS (SELECT %s)`, j.atSources("", "TRUE"))}
	if j.transfer.fit.FreshID == "" {
		queries = append(queries, j.takenIDs())
	}
	return queries
}

// takenIDs lists the chunks whose ids are taken in a target that makes none by itself.
func (j *journal) takenIDs() string {
	to := j.transfer.to
	return fmt.Sprintf(`
		SELECT 'taken_id', old_key, new_key, chunk_id, count(*) OVER ()
		FROM (SELECT p.old_key, p.new_key, %s AS chunk_id %s OFFSET 0) m JOIN %s t ON %s
		ORDER BY old_key, chunk_id LIMIT @kept`, j.table.id(), j.atSources("", "TRUE"), to.name(), to.hasID("m.chunk_id"))
}

// checkRows refuses chunks that could not be copied as they are, or not leave.
func (j *journal) checkRows(ctx context.Context) error {
	unfit, err := j.unfitValues(ctx)
	if err != nil {
		return err
	}
	refused, err := j.refuses(ctx)
	if err != nil {
		return err
	}
	if unfit = append(unfit, refused...); len(unfit) > 0 {
		return problem(ErrUnfit, "memory %s cannot take them: %s. Mend these rows or that table, or leave them out by --prefix. Nothing was moved", j.transfer.target, strings.Join(unfit, "; "))
	}
	return j.checkPointers(ctx)
}

// unfitValues says which values the target cannot take, by the names of the columns and
// how many rows there are. It looks at the paths again, in place of the journal: one that
// came since would be swept. Of a sealed plan uses do not count: they go up while it waits.
func (j *journal) unfitValues(ctx context.Context) ([]string, error) {
	misfits := slices.DeleteFunc(j.transfer.misfits(), func(m misfit) bool { return m.use && j.exists })
	if len(misfits) == 0 {
		return nil, nil
	}
	counts := make([]string, len(misfits))
	found := make([]int64, len(misfits))
	into := make([]any, len(misfits))
	for i, m := range misfits {
		counts[i] = "count(*) FILTER (WHERE " + m.when + ")"
		into[i] = &found[i]
	}
	if err := j.tx.QueryRow(ctx, "SELECT "+strings.Join(counts, ", ")+" "+j.atSources("", "TRUE"), j.args(nil)).Scan(into...); err != nil {
		return nil, err
	}
	var unfit []string
	for i, n := range found {
		if n > 0 {
			unfit = append(unfit, fmt.Sprintf("%d chunks have %s", n, misfits[i].what))
		}
	}
	return unfit, nil
}

// checkPointers refuses chunks that other rows point to by a foreign key: they could
// be copied, but not leave. Rows that rehome may not read are met when a chunk is to
// leave.
func (j *journal) checkPointers(ctx context.Context) error {
	from := j.transfer.from
	keys, err := pointers(ctx, j.tx, from)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if !k.Readable {
			continue
		}
		points := make([]string, len(k.Columns))
		for i, c := range k.Columns {
			points[i] = "p." + quote(c) + " = " + from.column(k.To[i])
		}
		if from.name() != j.transfer.to.name() { // a row that points to itself can leave, unless its copy will point to it
			points = append(points, "(p.tableoid, p.ctid) <> (t.tableoid, t.ctid)")
		}
		each := "" // a join with all rows that point here
		if k.Indexed {
			each = "OFFSET 0" // a look for each chunk
		}
		var held int64
		err := j.tx.QueryRow(ctx, fmt.Sprintf(`
			SELECT count(*) FROM rehome.migration_moves m JOIN %s t ON %s AND %s
			WHERE m.plan = @number AND EXISTS (SELECT FROM %s p WHERE %s %s)`,
			from.name(), from.hasID("m.chunk_id"), from.scope(), quote(k.Schema, k.Table), strings.Join(points, " AND "), each),
			j.args(nil)).Scan(&held)
		if err != nil {
			return err
		}
		if held > 0 {
			return problem(ErrRefused, "chunks cannot leave memory %s: rows of %s.%s point to %d of them (foreign key %s); let those rows point elsewhere first. Nothing was moved",
				j.memory, k.Schema, k.Table, held, k.Name)
		}
	}
	return nil
}

// listReturning journals the origin's rows from the last to the first; for the
// undo of an undo they come in their first order again.
func (j *journal) listReturning(ctx context.Context) error {
	args := j.args(pgx.NamedArgs{"undoes": j.undoes, "back": j.transfer.back})
	_, err := j.tx.Exec(ctx, `
		INSERT INTO rehome.migration_paths (plan_id, old_path, old_key, new_path, new_key, rule)
		SELECT @plan, new_path, new_key, old_path, old_key, rule FROM rehome.migration_paths WHERE plan_id = @undoes`, args)
	if err != nil {
		return err
	}
	bounds, ids := "m.first, m.last", "m.chunk_ids"
	if j.transfer.back {
		bounds = "@total + 1 - m.last, @total + 1 - m.first"
		ids = "ARRAY(SELECT u.id FROM unnest(m.chunk_ids) WITH ORDINALITY u (id, n) ORDER BY n DESC)"
	}
	err = j.tx.QueryRow(ctx, fmt.Sprintf(`
		WITH journalled AS (
			INSERT INTO rehome.migration_runs (plan, path_id, first, last, bytes, chunk_ids)
			SELECT @number, w.path_id, %s, m.bytes, %s
			FROM rehome.migration_runs m JOIN rehome.migration_paths p USING (path_id)
			JOIN rehome.migration_paths w ON w.plan_id = @plan AND CASE WHEN @back THEN w.new_path ELSE w.old_path END = p.old_path
			WHERE m.plan = @origin RETURNING last - first + 1 AS rows)
		SELECT coalesce(sum(rows), 0)::bigint FROM journalled`, bounds, ids), args).Scan(&j.total)
	if err != nil {
		return err
	}
	if j.total != j.transfer.total {
		return problem(ErrVerify, "the journal of %s has %d rows and %d of them have their paths; somebody wrote to rehome.migration_runs or migration_paths", j.transfer.origin, j.transfer.total, j.total)
	}
	_, err = j.tx.Exec(ctx, `
		UPDATE rehome.migration_plans p SET moves = @total, bytes = u.bytes
		FROM rehome.migration_plans u WHERE p.plan_id = @plan AND u.plan_id = @undoes`, args)
	return err
}
