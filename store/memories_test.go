package store_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// roleFor makes a role that can log in, named after the database so that tests
// do not meet.
func roleFor(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	role := "app_" + pool.Config().ConnConfig.Database
	ctx := context.Background()
	_, err := pool.Exec(ctx, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'low'`, role))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := pool.Exec(ctx, fmt.Sprintf(`DROP OWNED BY %[1]s; DROP ROLE %[1]s`, role))
		require.NoError(t, err)
	})
	return role
}

func connectAs(t *testing.T, database, role string) *pgxpool.Pool {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "low")
	return devtest.Connect(t, u.String())
}

func builtin(name string) resilience.Memory {
	return resilience.Memory{Name: name, Root: "/src/" + name, Builtin: true, Mapping: resilience.BuiltinMapping(name)}
}

func TestAddMemory(t *testing.T) {
	t.Parallel()
	s := devtest.Store(t)
	ctx := context.Background()
	mapped := resilience.Memory{Name: "answers", Root: "/home/me/docs", Marker: "id", Mapping: resilience.Mapping{
		Schema: "s", Table: "t", ID: "i", IDType: "uuid", Content: "c", StripPrefix: "/x/",
		Locators: []resilience.Locator{{Column: "m", Keys: []string{"a", "b"}, Type: "jsonb"}}, Scope: []resilience.Scope{{Column: "k", Value: "v"}},
	}}
	require.NoError(t, s.AddMemory(ctx, mapped))
	got, err := s.Memory(ctx, "answers")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), got.CreatedAt, time.Minute)
	got.CreatedAt = mapped.CreatedAt
	require.Equal(t, mapped, got)

	for say, bent := range map[string]resilience.Memory{
		"exists already":          {Name: "answers", Root: "/elsewhere"},
		"cannot share one tree":   {Name: "b", Root: "/home/me/docs"},
		"lies in the root of":     {Name: "b", Root: "/home/me/docs/sub"},
		"holds the root of":       {Name: "b", Root: "/home"},
		"want an absolute path":   {Name: "b", Root: "docs"},
		"without . and ..":        {Name: "b", Root: "/home/../x"},
		"want 1 to 41 of a-z":     {Name: "B c", Root: "/b"},
		"lies in the root of mem": {Name: "b", Root: "/home/me/docs/a/b"},
	} {
		require.ErrorContains(t, s.AddMemory(ctx, bent), say)
	}
	require.NoError(t, s.AddMemory(ctx, resilience.Memory{Name: "b", Root: "/home/me/docs2"}), "components count, not letters")

	_, err = s.Memory(ctx, "c")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.ErrorContains(t, err, "there is answers, b")
}

func TestAddMemoryAtOnce(t *testing.T) {
	t.Parallel()
	s := devtest.Store(t)
	var wait sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wait.Go(func() {
			errs[i] = s.AddMemory(context.Background(), resilience.Memory{Name: fmt.Sprintf("m%d", i), Root: "/src" + strings.Repeat("/in", i)})
		})
	}
	wait.Wait()
	added := 0
	for _, err := range errs {
		if err == nil {
			added++
			continue
		}
		require.ErrorIs(t, err, store.ErrConflict)
	}
	require.Equal(t, 1, added, "roots that lie in each other")
}

func TestRemoveMemoryKeepsWhatPeopleOwn(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	ctx := context.Background()
	for _, name := range []string{"docs", "other"} {
		require.NoError(t, s.AddMemory(ctx, builtin(name)))
		_, err := s.AddAlias(ctx, name, "a", "b", nil)
		require.NoError(t, err)
		for _, statement := range []string{
			`INSERT INTO rehome.files (memory, path, raw_path, size, mtime) VALUES ($1, 'b', 'b', 1, now())`,
			`INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ($1, 'b', 1, 'text')`,
			`INSERT INTO rehome.holds (memory, chunk_id, reason) VALUES ($1, '1', 'mine')`,
			`INSERT INTO rehome.scans (scan_id, memory, workflow_id, run_id, policy) VALUES ($1, $1, 'w', 'r', '{}')`,
		} {
			_, err := pool.Exec(ctx, statement, name)
			require.NoError(t, err, statement)
		}
	}
	require.NoError(t, s.RemoveMemory(ctx, "docs"))
	require.ErrorIs(t, s.RemoveMemory(ctx, "docs"), store.ErrNotFound)
	for table, want := range map[string]int{
		"memories WHERE name = 'docs'": 0, "files WHERE memory = 'docs'": 0, "version_aliases WHERE memory = 'docs'": 0, "scans WHERE memory = 'docs'": 0,
		"chunks WHERE memory = 'docs'": 1, "holds WHERE memory = 'docs'": 1,
		"files WHERE memory = 'other'": 1, "version_aliases WHERE memory = 'other'": 1,
	} {
		var rows int
		require.NoError(t, pool.QueryRow(ctx, `SELECT count(*) FROM rehome.`+table).Scan(&rows))
		require.Equal(t, want, rows, table)
	}
	require.NoError(t, s.AddMemory(ctx, builtin("docs")))
}

func TestRemoveMemoryInUse(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	ctx := context.Background()
	b := newAliasBench(t, pool, "docs")
	plan := b.plan(t, []resilience.RenameRule{{Old: "a", New: "b"}})
	_, err := s.TakeClaim(ctx, store.Claim{Memory: "docs", Kind: store.ScanClaim, WorkflowID: "w/scan", RunID: "r"})
	require.NoError(t, err)
	err = s.RemoveMemory(ctx, "docs")
	require.ErrorIs(t, err, store.ErrRefused)
	require.ErrorContains(t, err, "migration "+plan+" is pending")
	require.ErrorContains(t, err, "its scan is being done by w/scan")
	_, err = s.Memory(ctx, "docs")
	require.NoError(t, err)
}

func TestSettingsOverDefaults(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	ctx := context.Background()
	got, err := s.Settings(ctx)
	require.NoError(t, err)
	require.Equal(t, resilience.DefaultSettings(), got)

	_, err = pool.Exec(ctx, `INSERT INTO rehome.settings VALUES ('max_version_history', '3'), ('orphan_grace', '2d'), ('orphan_scan_gap', '90m')`)
	require.NoError(t, err)
	got, err = s.Settings(ctx)
	require.NoError(t, err)
	want := resilience.DefaultSettings()
	want.MaxVersionHistory, want.OrphanGrace, want.OrphanScanGap = 3, 48*time.Hour, 90*time.Minute
	require.Equal(t, want, got)

	for _, bad := range [][2]string{{"orphan_grace", "1h"}, {"orphan_grace", "soon"}, {"migration_batch_size", "0"}, {"nonsense", "1"}} {
		_, err = pool.Exec(ctx, `DELETE FROM rehome.settings`)
		require.NoError(t, err)
		_, err = pool.Exec(ctx, `INSERT INTO rehome.settings VALUES ($1, $2)`, bad[0], bad[1])
		require.NoError(t, err)
		_, err = s.Settings(ctx)
		require.ErrorIs(t, err, store.ErrInvalid)
		require.ErrorContains(t, err, bad[0])
	}
}
