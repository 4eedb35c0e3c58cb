package devtest

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/store"
)

const template = "rehome_template"

// Database returns the URL of a fresh database with schema rehome in it and an
// installation of its own. It is dropped when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	require.NoError(t, migrated())
	target := create(t, template)
	// The template's id came along with the clone.
	run(t, target, `UPDATE rehome.installation SET id = DEFAULT`)
	return target
}

// EmptyDatabase returns the URL of a fresh database without schema rehome. It
// is dropped when the test ends.
func EmptyDatabase(t testing.TB) string {
	t.Helper()
	return create(t, "template1")
}

// Pool returns connections to a fresh Database, closed when the test ends.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return Connect(t, Database(t))
}

// Store returns a store over a fresh Database.
func Store(t testing.TB) *store.Store {
	t.Helper()
	return store.New(Pool(t))
}

// Connect returns connections to a database, closed when the test ends.
func Connect(t testing.TB, database string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// create clones a database. The clone may not start while somebody is connected
// to its template, so nobody ever is.
func create(t testing.TB, from string) string {
	t.Helper()
	server, err := postgres()
	require.NoError(t, err)
	name := fmt.Sprintf("test_%d", counter.Add(1))
	run(t, server.URL, `CREATE DATABASE `+name+` TEMPLATE `+from)
	t.Cleanup(func() { run(t, server.URL, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return named(server.URL, name)
}

// named returns the URL of another database of the same server.
func named(server, database string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(fmt.Sprintf("our own database URL %q: %v", server, err))
	}
	u.Path = database
	return u.String()
}

func run(t testing.TB, database, statement string) {
	t.Helper()
	require.NoError(t, execute(database, statement))
}

func execute(database, statement string) error {
	ctx := context.Background() // cleanups run when the test's own context has ended
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return fmt.Errorf("connect for %s: %w", statement, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// migrated makes the template.
var migrated = sync.OnceValue(func() error {
	server, err := postgres()
	if err != nil {
		return err
	}
	if err := execute(server.URL, `CREATE DATABASE `+template); err != nil {
		return err
	}
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, named(server.URL, template))
	if err != nil {
		return fmt.Errorf("connect to the template database: %w", err)
	}
	defer pool.Close()
	return store.New(pool).Migrate(ctx)
})
