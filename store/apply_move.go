package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The move of a batch is one statement. What it returns of the rows that the update
// wrote is whether they are right, beside what its snapshot still has of them; and of
// the others only those that did not move are looked up once more. The snapshot is
// the one of the watermark before it.

// Every row must be where it was to go. The rest of it is compared in the first row
// of a batch and one of so many after it, as the setting compare_one_in says, since
// Postgres keeps what an update does not name: the id, the text, and more seldom the
// embedding, which lies apart and costs more to read than the row to move. Every row is
// compared, all of it, where something of the table's own makes the new row. Where the
// path stands in a document, of which the update writes the rest anew, every row's
// document is, and of compressed texts and embeddings that are not read the stored size.

// embeddingsOneIn is of how many rows that are compared the embedding is, too, unless
// all are: of one in a hundred at the least, where one row in 16 is compared.
const embeddingsOneIn = 6

// meddled says whether a row trigger or a rule of the table, or of one of its
// partitions, takes part in a kind of write. It is asked in the batch itself; one
// that comes between the batch's snapshot and its lock is known to the next.
func meddled(triggers int, rules string) string {
	return fmt.Sprintf(`(SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = ANY (@relations::oid[]) AND NOT tgisinternal AND tgtype & %[1]d = %[1]d)
				OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = ANY (@relations::oid[]) AND ev_type = '%s'))`, triggers, rules)
}

// What can make something else of a row: the bits of pg_trigger.tgtype, and
// pg_rewrite.ev_type.
var (
	onUpdate     = meddled(1|16, "2") // triggers for each row, on update
	beforeUpdate = meddled(1|2|16, "2")
)

// generated says whether Postgres makes the id, the text or the embedding from other
// columns.
const generated = `EXISTS (SELECT FROM pg_attribute WHERE attrelid = ANY (@relations::oid[]) AND attgenerated <> '' AND attname = ANY (@contents::name[]))`

// relations is a table and its partitions.
func (s *Store) relations(ctx context.Context, t table) ([]uint32, error) {
	rows, err := s.pool.Query(ctx, parts+`SELECT relid::oid FROM parts`, pgx.NamedArgs{"table": t.name()})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uint32])
}

// staying is the rows of a plan p that stay as they are, since only their path
// resolves to another: a multirange of ordinals, as text. Of a plan that had begun to
// move when that was decided they are those after the watermark that it had then.
const staying = `CASE WHEN p.way = 'alias_only' THEN '{[' || coalesce((
		SELECT min(g.until - g.rows) FROM rehome.migration_groups g WHERE g.plan_id = p.plan_id), 0) + 1 || ',)}' ELSE coalesce((
	SELECT range_agg(int8range(g.until - g.rows, g.until, '(]'))::text FROM rehome.migration_groups g
	WHERE g.plan_id = p.plan_id AND g.way = 'alias_only'), '{}') END`

// renaming moves the rows of a table, of which it compares one in so many with what it
// was.
type renaming struct {
	table
	oneIn   int
	inOrder bool // rows take the places of others, which have to leave first
}

// statement moves the rows (@lo, @hi] of the journal, or a part of them, in a direction,
// records those that cannot move, and accounts for all of them. Where some stay
// as they are, these are accounted for only; none of them is among those that step aside.
func (t renaming) statement(d direction, of portion, some bool) string {
	stays, order := "false", ""
	if some {
		stays = "m.ordinal <@ @stays::int8multirange"
	}
	skipped, left := "WHERE "+of.has, "0"
	if d.undoing { // what did not move does not move back; what moved last goes first, since it may have taken a place of what moved before
		order = "ORDER BY m.ordinal DESC"
		skipped += ` AND NOT ` + stays + ` AND m.ordinal NOT IN ({excepted})`
		left = `(SELECT count(*) FROM ({excepted}) m WHERE ` + of.has + ` AND NOT ` + stays + `)`
		if some && of != asideRows {
			left += ` + (SELECT coalesce(sum(upper(s) - lower(s)), 0)::bigint FROM unnest(@stays::int8multirange * int8multirange(int8range(@lo, @hi, '(]'))) s)`
		}
	}
	documents, with := "", ""
	if len(t.jsonColumns()) > 0 {
		documents, with = ", d.documents, d.restores", "LEFT JOIN rehome.migration_documents d ON d.plan = @number AND d.chunk_id = m.chunk_id"
	}
	excepted := `SELECT ordinal FROM rehome.migration_exceptions WHERE plan_id = @plan AND NOT undoing AND ordinal > @lo AND ordinal <= @hi`
	return strings.NewReplacer(
		"{table}", t.name(), "{has id}", t.hasID("p.chunk_id"), "{scope}", t.scope(), "{id}", t.column(t.m.ID),
		"{here}", t.locatorsAre("p."+d.from), "{there}", t.locatorsAre("p."+d.to), "{set}", t.assignments(d),
		"{found}", t.found(d), "{kept}", t.kept(d), "{documents}", documents, "{more}", of.more, "{with documents}", with,
		"{on update}", onUpdate, "{generated}", generated, "{read}", t.compares("m.ordinal", t.oneIn),
		"{rows}", of.rows, "{moves}", movesOf("@number", "@lo", "@hi"),
		"{skipped}", strings.ReplaceAll(skipped, "{excepted}", excepted), "{left}", strings.ReplaceAll(left, "{excepted}", excepted),
		"{account}", accounted, "{told}", told, "{stays}", stays, "{order}", order, "{undoing}", fmt.Sprint(d.undoing),
	).Replace(`
		WITH own AS MATERIALIZED (SELECT {on update} AS meddles, {generated} AS makes),
		planned AS NOT MATERIALIZED (
			SELECT m.ordinal, m.chunk_id, m.old_path, m.new_path, {stays} AS stays, {read} AS read{documents}{more}
			FROM {moves} {with documents} {skipped} {order}),
		due AS MATERIALIZED (SELECT {rows} - ({left}) AS rows),
		moved AS (
			UPDATE {table} t SET {set}
			{found}
			RETURNING p.ordinal, ({there} AND {kept}) IS TRUE AS verified),
		done AS (SELECT count(*) AS moved, coalesce(bool_and(verified), true) AS verified FROM moved),
		others AS MATERIALIZED (
			SELECT p.ordinal, p.stays, {id} IS NOT NULL AS present, {here} IS TRUE AS here
			FROM planned p LEFT JOIN {table} t ON {has id} AND {scope}
			WHERE (SELECT rows FROM due) > (SELECT moved FROM done) AND p.ordinal NOT IN (SELECT ordinal FROM moved)),
		stayed AS (
			INSERT INTO rehome.migration_exceptions (plan_id, ordinal, outcome, undoing)
			SELECT @plan, ordinal, CASE WHEN present THEN 'drifted' ELSE 'vanished' END, {undoing} FROM others WHERE NOT here
			ON CONFLICT DO NOTHING),
		wrong AS (
			SELECT ordinal FROM moved WHERE NOT verified
			UNION ALL SELECT ordinal FROM others WHERE here AND NOT stays),
		{account} AS (
		SELECT d.moved + o.rows, d.moved + o.present, d.moved + o.here, d.moved + o.stayed, (d.moved + o.rows = (SELECT rows FROM due)) IS NOT FALSE, d.verified
		FROM done d, (
			SELECT count(*) AS rows, count(*) FILTER (WHERE present) AS present, count(*) FILTER (WHERE here) AS here, count(*) FILTER (WHERE here AND stays) AS stayed
			FROM others) o)
		{told}`)
}

// comparesAll says whether all rows are compared in any case.
func (t renaming) comparesAll() bool { return t.oneIn == 1 || t.rewritesDocuments() }

// found joins the planned rows p to the rows t that the update writes and, where all
// are compared, to what they were. By itself a join goes mostly in the journal's order,
// since it finds rows by their ids; but of a small table the planner may think better.
func (t renaming) found(d direction) string {
	here := t.isHere(d)
	if !t.comparesAll() && !t.inOrder {
		return `FROM planned p WHERE NOT p.stays AND ` + here
	}
	was, order := "", ""
	if t.comparesAll() {
		was = ", " + t.asItWas()
	}
	if t.inOrder {
		order = "ORDER BY p.ordinal"
		if d.undoing {
			order += " DESC"
		}
	}
	// In one snapshot the rows are found again without their index.
	return fmt.Sprintf(`FROM (SELECT p.*, t.tableoid AS was_in, t.ctid AS was_at%s FROM planned p JOIN %s t ON %s WHERE NOT p.stays %s) p
			WHERE t.tableoid = p.was_in AND t.ctid = p.was_at`, was, t.name(), here, order)
}

// isHere holds for the row of p where it is when it is to move.
func (t table) isHere(d direction) string {
	// IS TRUE keeps an index on the path, which has all chunks of a file, from standing in for the one on the id.
	return t.hasID("p.chunk_id") + " AND " + t.locatorsAre("p."+d.from) + " IS TRUE AND " + t.scope()
}

// asItWas is what kept compares of a row before the move.
func (t table) asItWas() string {
	was := []string{t.column(t.m.Content) + " AS was_text"}
	if t.m.Embedding != "" {
		was = append(was, t.column(t.m.Embedding)+" AS was_embedding")
	}
	if t.apartMetadata() {
		was = append(was, t.column(t.m.Metadata)+" AS was_metadata")
	}
	for i, c := range t.documentColumns() {
		was = append(was, fmt.Sprintf("%s AS was_document%d", t.column(c), i))
	}
	return strings.Join(was, ", ")
}

// kept holds where a moved row that is compared is what it was, its path apart: the id,
// the text, the embedding, the rest of the documents that hold locators, and metadata
// that holds none, where a trigger or a rule could have changed it: it may be made of
// the path. What a row was is looked up in the snapshot of the statement, where found
// does not have it.
func (t renaming) kept(d direction) string {
	text := t.column(t.m.Content)
	same := []string{
		t.hasID("p.chunk_id"),
		fmt.Sprintf(`CASE WHEN p.read OR pg_column_compression(%s) IS NULL THEN %[1]s::text COLLATE "C" IS NOT DISTINCT FROM p.was_text::text COLLATE "C" ELSE %s END`,
			text, sameSize(text, "p.was_text")),
	}
	if t.m.Embedding != "" {
		embedding := t.column(t.m.Embedding)
		every := t.oneIn
		if every > 1 {
			every *= embeddingsOneIn
		}
		// Types of embeddings need not know equality; rows can be compared as they are stored.
		same = append(same, fmt.Sprintf(`CASE WHEN %s THEN (ROW(%s)::record) *= (ROW(p.was_embedding)::record) ELSE %s END`,
			t.compares("p.ordinal", every), embedding, sameSize(embedding, "p.was_embedding")))
	}
	if t.apartMetadata() {
		same = append(same, fmt.Sprintf("CASE WHEN (SELECT meddles FROM own) THEN (ROW(%s)::record) *= (ROW(p.was_metadata)::record) ELSE true END", t.column(t.m.Metadata)))
	}
	for i, c := range t.documentColumns() {
		now, was := t.column(c)+"::jsonb", fmt.Sprintf("p.was_document%d::jsonb", i)
		for n, l := range t.m.Locators {
			if l.Column == c {
				now, was = fmt.Sprintf("(%s #- @keys%d)", now, n), fmt.Sprintf("(%s #- @keys%d)", was, n)
			}
		}
		same = append(same, now+" IS NOT DISTINCT FROM "+was)
	}
	kept := strings.Join(same, "\n				AND ")
	if t.comparesAll() {
		return kept
	}
	return fmt.Sprintf(`CASE WHEN p.read THEN (SELECT bool_and(%s) FROM (SELECT p.*, %s FROM %s t WHERE %s) p) ELSE true END`, kept, t.asItWas(), t.name(), t.isHere(d))
}

// compares picks the first row of a batch and one of n after it, and every row where
// something of the table's own makes the new one.
func (t renaming) compares(ordinal string, n int) string {
	return fmt.Sprintf("((%s - @lo - 1) %% %d = 0 OR (SELECT meddles OR makes FROM own))", ordinal, n)
}

func sameSize(now, was string) string {
	return fmt.Sprintf("pg_column_size(%s) IS NOT DISTINCT FROM pg_column_size(%s)", now, was)
}

// apartMetadata says whether the table has metadata in a column without locators.
func (t table) apartMetadata() bool {
	return t.m.Metadata != "" && !slices.Contains(t.documentColumns(), t.m.Metadata)
}

// rewritesDocuments says whether the path stands in a document.
func (t table) rewritesDocuments() bool { return len(t.documentColumns()) > 0 }

// documentColumns lists the columns of type json or jsonb among the locators.
func (t table) documentColumns() []string {
	var columns []string
	seen := map[string]bool{}
	for _, l := range t.m.Locators {
		if len(l.Keys) > 0 && !seen[l.Column] {
			seen[l.Column] = true
			columns = append(columns, l.Column)
		}
	}
	return columns
}
