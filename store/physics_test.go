package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

var (
	pathColumn = resilience.Locator{Column: "path", Type: "text"}
	inMetadata = resilience.Locator{Column: "metadata", Keys: []string{"source"}, Type: "jsonb"}
)

func mapped(table string, l resilience.Locator) resilience.Mapping {
	return resilience.Mapping{Schema: "public", Table: table, ID: "id", IDType: "bigint", Content: "content", Locators: []resilience.Locator{l}}
}

// chunkTable makes a table of rows of about 300 bytes in the heap, some of whose
// text is stored elsewhere.
func chunkTable(t *testing.T, pool *pgxpool.Pool, name string, fillfactor int, more ...string) {
	t.Helper()
	statements := append([]string{
		fmt.Sprintf(`CREATE TABLE public.%s (id bigint PRIMARY KEY, path text, content text, metadata jsonb) WITH (fillfactor = %d)`, name, fillfactor),
		fmt.Sprintf(`INSERT INTO public.%s
			SELECT i, 'guide/file' || i %% 100 || '.md',
				CASE WHEN i %% 50 = 0 THEN (SELECT string_agg(md5(i || ' ' || j), '') FROM generate_series(1, 100) j) ELSE repeat(md5(i::text), 4) END,
				jsonb_build_object('source', 'guide/file' || i %% 100 || '.md', 'title', 'title ' || i)
			FROM generate_series(1, 3000) i`, name),
	}, more...)
	for _, s := range statements {
		_, err := pool.Exec(t.Context(), s)
		require.NoError(t, err, s)
	}
}

// hotShare lets Postgres itself say what share of updates of the path is HOT.
func hotShare(t *testing.T, pool *pgxpool.Pool, table, set string) float64 {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), fmt.Sprintf(`UPDATE public.%s SET %s`, table, set))
	require.NoError(t, err)
	var share float64
	require.NoError(t, tx.QueryRow(t.Context(), `
		SELECT pg_stat_get_xact_tuples_hot_updated($1::regclass)::float8 / pg_stat_get_xact_tuples_updated($1::regclass)`, "public."+table).Scan(&share))
	return share
}

// TestPhysicsOfRealTables looks at a table of each kind, before and after
// Postgres has counted its rows, and compares what it says with what Postgres does.
func TestPhysicsOfRealTables(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	data := store.New(pool)
	for _, c := range []struct {
		name       string
		fillfactor int
		after      string
		path       resilience.Locator
		class      resilience.IndexClass
		touched    []string // indexes of the path
		gin        []string
	}{
		{name: "filled", fillfactor: 100, path: pathColumn, class: resilience.PlainClass},
		{name: "roomy", fillfactor: 45, path: pathColumn, class: resilience.HOTClass},
		{name: "between", fillfactor: 70, path: pathColumn, class: resilience.PlainClass},
		{name: "roomy_too_late", fillfactor: 100, after: `ALTER TABLE public.roomy_too_late SET (fillfactor = 45)`, path: pathColumn, class: resilience.PlainClass},
		{name: "emptied", fillfactor: 100, after: `DELETE FROM public.emptied WHERE id % 3 > 0`, path: pathColumn, class: resilience.HOTClass},
		{name: "by_path", fillfactor: 45, after: `CREATE INDEX by_path_i ON public.by_path (path)`, path: pathColumn, class: resilience.PlainClass, touched: []string{"by_path_i"}},
		{name: "by_lower", fillfactor: 45, after: `CREATE INDEX by_lower_i ON public.by_lower (lower(path))`, path: pathColumn, class: resilience.PlainClass, touched: []string{"by_lower_i"}},
		{name: "covering", fillfactor: 45, after: `CREATE UNIQUE INDEX covering_i ON public.covering (id) INCLUDE (path)`, path: pathColumn, class: resilience.PlainClass, touched: []string{"covering_i"}},
		{name: "partial", fillfactor: 45, after: `CREATE INDEX partial_i ON public.partial (id) WHERE path LIKE 'a%'`, path: pathColumn, class: resilience.PlainClass, touched: []string{"partial_i"}},
		{name: "bound", fillfactor: 45, after: `ALTER TABLE public.bound ADD CONSTRAINT bound_i UNIQUE (path, id)`, path: pathColumn, class: resilience.PlainClass, touched: []string{"bound_i"}},
		{name: "unrelated", fillfactor: 45, after: `CREATE INDEX unrelated_i ON public.unrelated ((metadata->>'source'))`, path: pathColumn, class: resilience.HOTClass},
		{name: "key", fillfactor: 45, after: `CREATE INDEX key_i ON public.key ((metadata->>'source'))`, path: inMetadata, class: resilience.PlainClass, touched: []string{"key_i"}},
		{name: "other_key", fillfactor: 45, after: `CREATE INDEX other_key_i ON public.other_key ((metadata->>'title'))`, path: inMetadata, class: resilience.PlainClass, touched: []string{"other_key_i"}},
		{name: "whole", fillfactor: 45, after: `CREATE INDEX whole_i ON public.whole USING gin (metadata)`, path: inMetadata, class: resilience.GINClass, touched: []string{"whole_i"}, gin: []string{"whole_i"}},
		{name: "made", fillfactor: 45, after: `ALTER TABLE public.made ADD lowered text GENERATED ALWAYS AS (lower(path) || (metadata->>'title')) STORED; CREATE INDEX made_i ON public.made (lowered)`, path: pathColumn, class: resilience.PlainClass, touched: []string{"made_i"}},
		{name: "made_key", fillfactor: 30, after: `ALTER TABLE public.made_key ADD src text GENERATED ALWAYS AS (metadata->>'source') STORED; CREATE INDEX made_key_i ON public.made_key (src)`, path: inMetadata, class: resilience.PlainClass, touched: []string{"made_key_i"}},
		{name: "made_other", fillfactor: 30, after: `ALTER TABLE public.made_other ADD title text GENERATED ALWAYS AS (metadata->>'title') STORED; CREATE INDEX made_other_i ON public.made_other (title)`, path: inMetadata, class: resilience.HOTClass},
		{name: "words", fillfactor: 100, after: `CREATE INDEX words_i ON public.words USING gin (to_tsvector('english', content))`, path: pathColumn, class: resilience.GINClass, gin: []string{"words_i"}},
		{name: "few_words", fillfactor: 45, after: `CREATE INDEX few_words_i ON public.few_words USING gin (to_tsvector('english', content))`, path: pathColumn, class: resilience.HOTClass, gin: []string{"few_words_i"}},
	} {
		chunkTable(t, pool, c.name, c.fillfactor, c.after)
		set := `path = 'm' || path`
		if c.path.Column == "metadata" {
			set = `metadata = jsonb_set(metadata, '{source}', to_jsonb('m' || (metadata->>'source')))`
		}
		for _, counted := range []string{"", `VACUUM ANALYZE public.` + c.name} {
			_, err := pool.Exec(t.Context(), counted)
			require.NoError(t, err)
			p, err := data.Physics(t.Context(), mapped(c.name, c.path))
			require.NoError(t, err)
			require.Equal(t, c.class, p.Class(), "%s: %+v", c.name, p)
			require.ElementsMatch(t, c.touched, p.PathIndexes, c.name)
			require.ElementsMatch(t, c.gin, p.GINIndexes, c.name)
			require.Empty(t, p.VectorIndexes, c.name)
			require.False(t, p.MayRebuild, c.name)
			require.InEpsilon(t, 3000, p.Rows, 2, c.name)
		}
		p, err := data.Physics(t.Context(), mapped(c.name, c.path))
		require.NoError(t, err)
		require.InDelta(t, hotShare(t, pool, c.name, set), p.HOTShare, 0.1, "%s: %+v", c.name, p)
	}
	var bytes int64 // when they were last counted, which was before the updates above
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT relpages * 8168 / reltuples::bigint FROM pg_class WHERE oid = 'public.filled'::regclass`).Scan(&bytes))
	p, err := data.Physics(t.Context(), mapped("filled", pathColumn))
	require.NoError(t, err)
	require.InEpsilon(t, bytes, p.RowBytes, 0.15)
	require.InEpsilon(t, 3000, p.Rows, 2)
}

// TestPhysicsOfVectorIndexes: what counts is the name of the access method, and whose
// the table is.
func TestPhysicsOfVectorIndexes(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	devtest.StandInForPgvector(t, pool)
	chunkTable(t, pool, "near", 100, `CREATE INDEX near_i ON public.near USING hnsw (id public.near_ops)`)
	p, err := store.New(pool).Physics(t.Context(), mapped("near", pathColumn))
	require.NoError(t, err)
	require.Equal(t, resilience.VectorClass, p.Class())
	require.Equal(t, []string{"near_i"}, p.VectorIndexes)
	require.True(t, p.MayRebuild)

	guest := fmt.Sprintf("guest_%d", time.Now().UnixNano())
	for _, s := range []string{`CREATE ROLE ` + guest, `GRANT USAGE ON SCHEMA public TO ` + guest, `GRANT SELECT, UPDATE ON public.near TO ` + guest} {
		_, err := pool.Exec(t.Context(), s)
		require.NoError(t, err)
	}
	t.Cleanup(func() { _, _ = pool.Exec(context.Background(), `DROP OWNED BY `+guest+`; DROP ROLE `+guest) })
	config := pool.Config()
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, `SET ROLE `+guest)
		return err
	}
	theirs, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer theirs.Close()
	p, err = store.New(theirs).Physics(t.Context(), mapped("near", pathColumn))
	require.NoError(t, err)
	require.Equal(t, []string{"near_i"}, p.VectorIndexes)
	require.False(t, p.MayRebuild, "not our table")
}

// TestPhysicsOfAPartitionedTable finds the index that one partition alone has,
// names those that all share once, and counts the rows of all.
func TestPhysicsOfAPartitionedTable(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	for _, s := range []string{
		`CREATE TABLE public.parted (id bigint PRIMARY KEY, path text, content text) PARTITION BY HASH (id)`,
		`CREATE TABLE public.parted_0 PARTITION OF public.parted FOR VALUES WITH (MODULUS 2, REMAINDER 0)`,
		`CREATE TABLE public.parted_1 (content text, path text, id bigint NOT NULL)`,
		`ALTER TABLE public.parted ATTACH PARTITION public.parted_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)`,
		`INSERT INTO public.parted SELECT i, 'a.md', 'text ' || i FROM generate_series(1, 2000) i`,
		`CREATE INDEX on_all ON public.parted (path)`,
		`CREATE INDEX on_one ON public.parted_1 (lower(path))`,
		`ANALYZE public.parted`,
	} {
		_, err := pool.Exec(t.Context(), s)
		require.NoError(t, err, s)
	}
	p, err := store.New(pool).Physics(t.Context(), mapped("parted", pathColumn))
	require.NoError(t, err)
	require.Equal(t, []string{"on_all", "on_one"}, p.PathIndexes)
	require.InEpsilon(t, 2000, p.Rows, 0.01)
	require.Equal(t, resilience.PlainClass, p.Class())

	p, err = store.New(pool).Physics(t.Context(), mapped("parted_1", pathColumn))
	require.NoError(t, err)
	require.Equal(t, []string{"on_one", "parted_1_path_idx"}, p.PathIndexes, "a partition that is mapped by itself")
}

func TestPhysicsOfAnEmptyTable(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	_, err := pool.Exec(t.Context(), `CREATE TABLE public.empty (id bigint PRIMARY KEY, path text, content text)`)
	require.NoError(t, err)
	p, err := store.New(pool).Physics(t.Context(), mapped("empty", pathColumn))
	require.NoError(t, err)
	require.Equal(t, int64(0), p.Rows)
	require.Equal(t, resilience.HOTClass, p.Class())
	for _, sql := range []string{`INSERT INTO public.empty SELECT i, 'a.md', 'text' FROM generate_series(1, 100) i`, `DELETE FROM public.empty`} {
		_, err = pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	p, err = store.New(pool).Physics(t.Context(), mapped("empty", pathColumn))
	require.NoError(t, err)
	require.Zero(t, p.RowBytes, "of rows that are gone nothing is known")

	_, err = store.New(pool).Physics(t.Context(), mapped("absent", pathColumn))
	require.ErrorContains(t, err, `"public"."absent"`)
}

// TestWhatIsCopiedIsMeasuredWhereItComesFrom, with what is stored out of line, whatever
// there is in the target.
func TestWhatIsCopiedIsMeasuredWhereItComesFrom(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(100, "a.md")
	m.exec(`UPDATE rehome.chunks SET embedding = (SELECT array_agg(sin(i * ordinal)) FROM generate_series(1, 1536) i)`)
	m.memory("wiki", notes(m, "bigint", "GENERATED BY DEFAULT AS IDENTITY"))
	m.exec(`INSERT INTO public.notes (body, meta, team) SELECT 'short', '{}', 'red' FROM generate_series(1, 1000)`)
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "wiki"})
	require.NoError(t, err)
	plan, err := m.store.Plan(t.Context(), id)
	require.NoError(t, err)
	facts, err := m.store.Facts(t.Context(), plan)
	require.NoError(t, err)
	require.Less(t, facts.Physics.RowBytes, int64(200), "in the heap of the target")
	require.InDelta(t, 4*1536, facts.Physics.StoredBytes, 500)
}

// TestTheFirstRowsOfATargetAreAsWideAsAtHome: and those that come back to a table that
// was emptied as wide as where they are.
func TestTheFirstRowsOfATargetAreAsWideAsAtHome(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(100, "a.md")
	there := notes(m, "bigint", "GENERATED BY DEFAULT AS IDENTITY")
	m.memory("wiki", there)
	width := func(mapping resilience.Mapping) int64 {
		p, err := m.store.Physics(t.Context(), mapping)
		require.NoError(t, err)
		return p.RowBytes
	}
	planned := func(id string) int64 {
		plan, err := m.store.Plan(t.Context(), id)
		require.NoError(t, err)
		facts, err := m.store.Facts(t.Context(), plan)
		require.NoError(t, err)
		return facts.Physics.RowBytes
	}
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "wiki"})
	require.NoError(t, err)
	require.Zero(t, width(there))
	require.Positive(t, planned(id))
	require.Equal(t, width(resilience.BuiltinMapping("docs")), planned(id))

	m.apply(id, -1)
	m.finish(id)
	back, err := m.transfer("docs", id, resilience.TransferOrder{})
	require.NoError(t, err)
	require.Zero(t, width(resilience.BuiltinMapping("docs")))
	require.Equal(t, width(there), planned(back))
}
