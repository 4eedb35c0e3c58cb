// Package store keeps everything in Postgres and is the only place with SQL.
//
// One file per thing kept: memories and the tables they map, the builtin
// chunks and the catalogue of files, aliases, scans and orphans, plans with
// their journal, quarantine, settings, claims. Methods take a context first and
// set no timeout of their own; identifiers from a mapping are quoted, values
// are parameters.
package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Store is one database with the schema rehome in it.
type Store struct {
	pool *pgxpool.Pool
}

// New returns a store over pool. The caller closes the pool.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

// Ping asks the database for an answer.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("reach Postgres: %w", interpret(err))
	}
	return nil
}

// inTx runs work in one transaction and commits when it returns nil.
func (s *Store) inTx(ctx context.Context, work func(pgx.Tx) error) error {
	return interpret(pgx.BeginFunc(ctx, s.pool, work))
}

// Installation returns the id that begins the names of this installation's
// task queues, workflows and schedules.
func (s *Store) Installation(ctx context.Context) (string, error) {
	var id string
	err := s.pool.QueryRow(ctx, `SELECT id FROM rehome.installation`).Scan(&id)
	if err != nil {
		return "", fmt.Errorf("read the installation's id: %w", interpret(err))
	}
	return id, nil
}

// session is a connection that is not given back: a lock and settings belong to it, and
// end with it.
func (s *Store) session(ctx context.Context) (*pgx.Conn, error) {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach Postgres: %w", interpret(err))
	}
	return pooled.Hijack(), nil
}
