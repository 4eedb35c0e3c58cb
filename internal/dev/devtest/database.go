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
	require.NoError(t, renew(target))
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

// StandInForPgvector gives a database an access method hnsw, with the operator class
// public.near_ops of type bigint: what counts of a vector index is the name of its method.
func StandInForPgvector(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	for _, s := range []string{
		`CREATE ACCESS METHOD hnsw TYPE INDEX HANDLER hashhandler`,
		`CREATE OPERATOR CLASS public.near_ops FOR TYPE bigint USING hnsw AS OPERATOR 1 =, FUNCTION 1 hashint8(bigint)`,
	} {
		_, err := pool.Exec(t.Context(), s)
		require.NoError(t, err)
	}
}

// create clones a database. The clone may not start while somebody is connected
// to its template, so nobody ever is.
func create(t testing.TB, from string) string {
	t.Helper()
	m, err := manager()
	require.NoError(t, err)
	name := fmt.Sprintf("test_%d", counter.Add(1))
	require.NoError(t, m.manage(`CREATE DATABASE `+name+` TEMPLATE `+from+m.strategy))
	t.Cleanup(func() { require.NoError(t, m.manage(`DROP DATABASE `+name+` WITH (FORCE)`)) })
	return m.url(name)
}

// renew gives a clone an installation of its own: the template's came along.
func renew(database string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return fmt.Errorf("connect to a clone of the template: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, `UPDATE rehome.installation SET id = DEFAULT`); err != nil {
		return fmt.Errorf("renew the installation's id: %w", err)
	}
	return nil
}

// databases makes and drops databases, on connections that stay: a new one
// costs more than most statements do.
type databases struct {
	server   string // a URL of the server
	pool     *pgxpool.Pool
	strategy string
}

var manager = sync.OnceValues(func() (*databases, error) {
	server, err := postgres()
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	d := &databases{server: server.URL}
	if d.pool, err = pgxpool.New(ctx, server.URL); err != nil {
		return nil, fmt.Errorf("connect to manage databases: %w", err)
	}
	// Copying files takes a third of the time of writing each page to the log,
	// which is the default since 15; before that it was the only way.
	var choice bool
	if err := d.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int >= 150000`).Scan(&choice); err != nil {
		return nil, fmt.Errorf("ask for the version of Postgres: %w", err)
	}
	if choice {
		d.strategy = ` STRATEGY FILE_COPY`
	}
	return d, nil
})

func (d *databases) manage(statement string) error {
	// Cleanups run when the test's own context has ended.
	if _, err := d.pool.Exec(context.Background(), statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// url returns the URL of a database of the server.
func (d *databases) url(database string) string {
	u, err := url.Parse(d.server)
	if err != nil {
		panic(fmt.Sprintf("our own database URL %q: %v", d.server, err))
	}
	u.Path = database
	return u.String()
}

// migrated makes the template.
var migrated = sync.OnceValue(func() error {
	m, err := manager()
	if err != nil {
		return err
	}
	if err := m.manage(`CREATE DATABASE ` + template); err != nil {
		return err
	}
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, m.url(template))
	if err != nil {
		return fmt.Errorf("connect to the template database: %w", err)
	}
	defer pool.Close()
	return store.New(pool).Migrate(ctx)
})
