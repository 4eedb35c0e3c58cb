package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

func TestResolveCountsEveryAccess(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	b := newAliasBench(t, pool, "docs")
	b.alias(t, "docs", "guide")
	b.alias(t, "a.md", "b.md")
	const callers, calls = 16, 25
	var wait sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		wait.Go(func() {
			for range calls {
				for _, path := range []string{"docs/x.md", "a.md", "none.md"} {
					if _, err := pool.Exec(b.ctx, `SELECT rehome.resolve('docs', $1)`, path); err != nil {
						errs[i] = err
					}
				}
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	for _, original := range []string{"docs", "a.md"} {
		alias, err := b.store.Alias(b.ctx, "docs", original)
		require.NoError(t, err)
		require.EqualValues(t, callers*calls, alias.AccessCount, original)
		require.NotNil(t, alias.LastAccessedAt)
	}
	b.current(t, "a.md")
	alias, err := b.store.Alias(b.ctx, "docs", "a.md")
	require.NoError(t, err)
	require.EqualValues(t, callers*calls, alias.AccessCount, "current_path counts nothing")
}

// A path comes back in the form in which it was given.
func TestPathsInTheMemorysOwnForm(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	m := resilience.Memory{Name: "docs", Root: "/srv/docs", Mapping: resilience.BuiltinMapping("docs")}
	m.Mapping.StripPrefix = "/srv/docs/"
	s := store.New(pool)
	ctx := context.Background()
	require.NoError(t, s.AddMemory(ctx, m))
	b := &aliasBench{ctx: ctx, pool: pool, store: s, memory: "docs"}
	b.alias(t, "old", "new")
	b.alias(t, "a.md", "b.md")
	b.see(t, "old/lives.md")
	for path, want := range map[string]string{
		"/srv/docs/old/x.md": "/srv/docs/new/x.md", "old/x.md": "new/x.md", "./old/x.md": "./new/x.md",
		"/srv/docs/a.md": "/srv/docs/b.md", "/srv/docs/old/lives.md": "/srv/docs/old/lives.md",
		"/elsewhere/old/x.md": "/elsewhere/old/x.md", "https://e.org/old/x.md": "https://e.org/old/x.md",
		"old/../x": "old/../x", "": "", "/": "/", "old/": "old/",
	} {
		require.Equal(t, want, b.current(t, path), path)
		var resolved string
		require.NoError(t, pool.QueryRow(ctx, `SELECT rehome.resolve('docs', $1)`, path).Scan(&resolved))
		require.Equal(t, want, resolved, path)
	}
	alias, err := s.Alias(ctx, "docs", "old")
	require.NoError(t, err)
	require.EqualValues(t, 3, alias.AccessCount)
	answer, err := s.Resolve(ctx, "docs", "/srv/docs/a.md")
	require.NoError(t, err)
	require.Equal(t, "/srv/docs/b.md", answer.CurrentPath)
	require.Equal(t, "/srv/docs/b.md", answer.History[0].Path)
	var null *string
	require.NoError(t, pool.QueryRow(ctx, `SELECT rehome.current_path('docs', NULL)`).Scan(&null))
	require.Nil(t, null)
}

// A caller's column may be collated in any way: the answer is the same, and comes
// from an index.
func TestCurrentPathOfCollatedColumns(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	b := newAliasBench(t, pool, "docs")
	b.alias(t, "docs", "guide")
	b.alias(t, "a.md", "b.md")
	for _, collation := range []string{"C", "POSIX", "ucs_basic", "default"} {
		query := fmt.Sprintf(`
			SELECT string_agg(rehome.current_path(m, p) || rehome.resolve(m, p), ' ' ORDER BY n)
			FROM (SELECT n, 'docs' COLLATE %[1]q AS m, p COLLATE %[1]q AS p FROM unnest(ARRAY['a.md', 'docs/x', 'y']) WITH ORDINALITY AS e (p, n)) x`, collation)
		var got string
		require.NoError(t, pool.QueryRow(b.ctx, query).Scan(&got), collation)
		require.Equal(t, "b.mdb.md guide/xguide/x yy", got)
	}
}

func TestFunctionsSayThatAMemoryIsUnknown(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	for _, call := range []string{
		`rehome.current_path('nowhere', 'a')`, `rehome.resolve('nowhere', 'a')`, `rehome.touch('nowhere', '{1}')`,
		`rehome.refer('nowhere', '1', 'me')`, `rehome.current_path(NULL, 'a')`,
	} {
		_, err := pool.Exec(context.Background(), `SELECT `+call)
		require.ErrorContains(t, err, "there is no memory", call)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg)
		require.Equal(t, "P0002", pg.Code)
		require.Contains(t, pg.Hint, "starter memory add")
	}
}

func TestTouchAndRefer(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	newAliasBench(t, pool, "docs")
	ctx := context.Background()
	var wait sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wait.Go(func() {
			for _, call := range []string{`touch('docs', '{2,1,NULL,2}')`, `touch('docs', '{1,2}')`, `refer('docs', '1', 'agent')`} {
				if _, err := pool.Exec(ctx, `SELECT rehome.`+call); err != nil {
					errs[i] = err
				}
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	for query, want := range map[string]int64{
		`SELECT access_count FROM rehome.chunk_access WHERE memory = 'docs' AND chunk_id = '1'`:                               32,
		`SELECT access_count FROM rehome.chunk_access WHERE memory = 'docs' AND chunk_id = '2'`:                               48,
		`SELECT count(*) FROM rehome.chunk_access`:                                                                            2,
		`SELECT reference_count FROM rehome.chunk_references WHERE memory = 'docs' AND chunk_id = '1' AND referrer = 'agent'`: 16,
	} {
		var got int64
		require.NoError(t, pool.QueryRow(ctx, query).Scan(&got), query)
		require.Equal(t, want, got, query)
	}
}

// An application's role needs nothing but USAGE on the schema, and cannot make
// the functions that run with our rights run code of its own.
func TestFunctionsServeAnUnprivilegedRole(t *testing.T) {
	t.Parallel()
	url := devtest.Database(t)
	pool := devtest.Connect(t, url)
	b := newAliasBench(t, pool, "docs")
	b.alias(t, "docs", "guide")
	role := roleFor(t, pool)
	_, err := pool.Exec(b.ctx, `GRANT USAGE ON SCHEMA rehome TO `+role)
	require.NoError(t, err)
	inSchema(t, pool, "evil", `GRANT USAGE, CREATE ON SCHEMA evil TO `+role)
	low := connectAs(t, url, role)

	conn, err := low.Acquire(b.ctx)
	require.NoError(t, err)
	defer conn.Release()
	for _, statement := range []string{
		`CREATE FUNCTION evil.say(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'taken over' $$`,
		`CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.say)`,
		`CREATE FUNCTION evil.normalize(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'taken over' $$`,
		`SET search_path = evil, pg_catalog`,
	} {
		_, err := conn.Exec(b.ctx, statement)
		require.NoError(t, err, statement)
	}
	var now string
	require.NoError(t, conn.QueryRow(b.ctx, `SELECT rehome.resolve('docs', 'docs/x.md')`).Scan(&now))
	require.Equal(t, "guide/x.md", now)
	_, err = conn.Exec(b.ctx, `RESET search_path`)
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(b.ctx, `SELECT rehome.current_path('docs', 'docs/x.md')`).Scan(&now))
	require.Equal(t, "guide/x.md", now)
	_, err = conn.Exec(b.ctx, `SELECT rehome.touch('docs', '{1}'), rehome.refer('docs', '1', 'me')`)
	require.NoError(t, err)
	for _, statement := range []string{
		`DELETE FROM rehome.version_aliases`, `SELECT FROM rehome.chunk_access`, `SELECT FROM rehome.aliases`, `SELECT content_hash FROM rehome.files`, `UPDATE rehome.memories SET root = '/'`,
	} {
		_, err := conn.Exec(b.ctx, statement)
		require.ErrorContains(t, err, "permission denied", statement)
	}
	_, err = pool.Exec(b.ctx, `GRANT SELECT ON rehome.aliases TO `+role)
	require.NoError(t, err)
	var count int64
	require.NoError(t, conn.QueryRow(b.ctx, `SELECT access_count FROM rehome.aliases WHERE original_path = 'docs'`).Scan(&count))
	require.EqualValues(t, 1, count)
}

func TestViews(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	b := newAliasBench(t, pool, "docs")
	b.alias(t, "a", "b")
	plan := b.plan(t, []resilience.RenameRule{{Old: "x", New: "y"}})
	for _, statement := range []string{
		`INSERT INTO rehome.orphan_chunks (memory, chunk_id, file_path, locator, reason, bytes, content_hash, priority, first_missing_at, last_missing_at, missing_scans, last_scan)
			SELECT 'docs', i, 'f', 'f', 'gone', 1, '', 0.5, now(), now(), 1, 's' FROM generate_series(1, 2) i`,
		`INSERT INTO rehome.holds (memory, chunk_id, reason) VALUES ('docs', '1', 'mine')`,
		`INSERT INTO rehome.quarantine (memory, chunk_id, file_path, reason, run_id, twin, bytes, retain_until, restored_at)
			SELECT 'docs', i, 'f', 'missing', 'r', 't', 1, now(), CASE i WHEN 2 THEN now() END FROM generate_series(1, 2) i`,
	} {
		_, err := pool.Exec(b.ctx, statement)
		require.NoError(t, err, statement)
	}
	for query, want := range map[string]string{
		`SELECT original_path || current_path || versions || expired FROM rehome.aliases`: "ab1false",
		`SELECT string_agg(chunk_id || held, ' ' ORDER BY chunk_id) FROM rehome.orphans`:  "1true 2false",
		`SELECT migration_id || ' ' || status || done FROM rehome.migrations`:             plan + " pending0",
		`SELECT string_agg(chunk_id, ' ') FROM rehome.quarantined`:                        "1",
	} {
		var got string
		require.NoError(t, pool.QueryRow(b.ctx, query).Scan(&got), query)
		require.Equal(t, want, got, query)
	}
}
