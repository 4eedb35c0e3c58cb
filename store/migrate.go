package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

const versionTable = "rehome.schema_version"

// schemaLock serialises whoever finds the schema missing or old.
const schemaLock = 0x7265686f6d65 // "rehome"

// Migrate brings schema rehome to the version of this binary, or does nothing
// when it is there. It goes forward only; a newer schema is ErrSchema. Processes
// that start together wait for the first of them.
func (s *Store) Migrate(ctx context.Context) error {
	conn, err := s.session(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing is left to lose on it
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(schemaLock)); err != nil {
		return fmt.Errorf("lock the schema: %w", interpret(err))
	}
	if err := checkEncoding(ctx, conn); err != nil {
		return err
	}
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT to_regnamespace('rehome') IS NOT NULL`).Scan(&exists); err != nil {
		return fmt.Errorf("look for schema rehome: %w", interpret(err))
	}
	if !exists {
		if _, err := conn.Exec(ctx, `CREATE SCHEMA rehome`); err != nil {
			return fmt.Errorf("create schema rehome: %w", interpret(err))
		}
	}
	return interpret(applySchema(ctx, conn))
}

func applySchema(ctx context.Context, conn *pgx.Conn) error {
	migrator, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return fmt.Errorf("read %s: %w", versionTable, err)
	}
	files, err := fs.Sub(schemaFiles, "schema")
	if err != nil {
		return fmt.Errorf("open the embedded schema: %w", err)
	}
	if err := migrator.LoadMigrations(files); err != nil {
		return fmt.Errorf("load the embedded schema: %w", err)
	}
	have, err := migrator.GetCurrentVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	want := int32(len(migrator.Migrations))
	if have > want {
		return newerSchema(have, want)
	}
	if have == want {
		return nil
	}
	if err := migrator.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate schema rehome from version %d to %d: %w", have, want, err)
	}
	return nil
}

// CheckSchema returns ErrSchema unless schema rehome is exactly what this
// binary works with. It changes nothing.
func (s *Store) CheckSchema(ctx context.Context) error {
	var exists bool
	err := s.pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, versionTable).Scan(&exists)
	if err != nil {
		return fmt.Errorf("look for schema rehome: %w", interpret(err))
	}
	if !exists {
		return problem(ErrSchema, "schema rehome is not in this database; start a worker, which installs it, and wait until it says serving, or check DATABASE_URL")
	}
	var have int32
	if err := s.pool.QueryRow(ctx, `SELECT version FROM rehome.schema_version`).Scan(&have); err != nil {
		return fmt.Errorf("read the schema's version: %w", interpret(err))
	}
	entries, err := schemaFiles.ReadDir("schema")
	if err != nil {
		return fmt.Errorf("list the embedded schema: %w", err)
	}
	switch want := int32(len(entries)); {
	case have == 0:
		return problem(ErrSchema, "schema rehome is not installed yet; a worker that starts is at it: wait until it says serving, or start one")
	case have > want:
		return newerSchema(have, want)
	case have < want:
		return problem(ErrSchema, "schema rehome is at version %d and this program needs %d; start a worker of this version, which brings it up to date, and wait until it says serving", have, want)
	}
	return nil
}

func newerSchema(have, want int32) error {
	return problem(ErrSchema, "schema rehome is at version %d, newer than the %d this program knows; run the newer program", have, want)
}

// checkEncoding refuses a database that cannot hold every path and text.
func checkEncoding(ctx context.Context, conn *pgx.Conn) error {
	var encoding string
	if err := conn.QueryRow(ctx, `SHOW server_encoding`).Scan(&encoding); err != nil {
		return fmt.Errorf("read the database's encoding: %w", interpret(err))
	}
	if encoding != "UTF8" {
		return problem(ErrRefused, "this database is encoded in %s; rehome needs UTF8, since paths are compared in Unicode normal form", encoding)
	}
	return nil
}
