package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// TakeIndexes drops the indexes of a plan's table that have one of the access
// methods, for as long as its rows move, and keeps their definitions, in one
// transaction. It does so once: an attempt that comes late, or one with another
// epoch than the plan's, takes nothing. It returns the names of those that are
// away.
func (s *Store) TakeIndexes(ctx context.Context, plan string, epoch int64, methods []string) ([]string, error) {
	var away []string
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		t, fresh, err := lockForIndexes(ctx, tx, plan, epoch)
		if err != nil {
			return err
		}
		if fresh {
			if err := takeIndexes(ctx, tx, plan, t, methods); err != nil {
				return err
			}
		}
		rows, err := tx.Query(ctx, `SELECT name FROM rehome.migration_indexes WHERE plan_id = $1 AND built_at IS NULL ORDER BY name`, plan)
		if err != nil {
			return err
		}
		away, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take the indexes away for plan %s: %w", plan, err)
	}
	return away, nil
}

// lockForIndexes holds the plan as it is, whose owner may be turning it round,
// and says whether no index was taken yet.
func lockForIndexes(ctx context.Context, tx pgx.Tx, plan string, epoch int64) (t table, fresh bool, err error) {
	var have int64
	var wish resilience.Wish
	err = tx.QueryRow(ctx, `
		SELECT p.mapping, g.epoch, g.wish FROM rehome.migration_progress g JOIN rehome.migration_plans p USING (plan_id)
		WHERE plan_id = $1 FOR UPDATE OF g`, plan).Scan(&t.m, &have, &wish)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, false, problem(ErrNotFound, "migration %s has no journal; see `starter migration show %s`", plan, plan)
	}
	if err != nil {
		return t, false, err
	}
	if have != epoch || wish == resilience.WishUndo {
		return t, false, problem(ErrFenced, "migration %s was turned round; its indexes are left alone", plan)
	}
	err = tx.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM rehome.migration_indexes WHERE plan_id = $1)`, plan).Scan(&fresh)
	return t, fresh, err
}

// takeIndexes notes and drops what a rebuild is about. What a constraint or
// another table's index depends on is not for us to drop.
func takeIndexes(ctx context.Context, tx pgx.Tx, plan string, t table, methods []string) error {
	if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '2s'`); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		INSERT INTO rehome.migration_indexes (plan_id, name, definition, tablespace, comment, bytes)
		SELECT $1, c.relname, pg_get_indexdef(c.oid), coalesce(s.spcname, ''), obj_description(c.oid, 'pg_class'), pg_relation_size(c.oid)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
		WHERE i.indrelid = $2::regclass AND m.amname = ANY ($3) AND i.indisvalid AND c.relkind = 'i' AND NOT c.relispartition
			AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid)
		RETURNING name`, plan, t.name(), methods)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := tx.Exec(ctx, `DROP INDEX `+quote(t.m.Schema, name)); err != nil {
			return err
		}
		if err := recordEvent(ctx, tx, event{Plan: plan, What: "index taken away", Detail: name}); err != nil {
			return err
		}
	}
	return nil
}

// missing is an index that a plan took away.
type missing struct {
	Name, Definition, Tablespace string
	Comment                      *string
	Bytes                        int64
}

// BuildIndexes builds the indexes again that a plan took away, without keeping
// anybody from writing, and checks that they are as they were. It returns how many it
// built. A half-built one, of an attempt that was cut off, is dropped first; one that
// is there is left. With nothing away it does nothing.
func (s *Store) BuildIndexes(ctx context.Context, plan string) (int, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT name, definition, tablespace, comment, bytes FROM rehome.migration_indexes
		WHERE plan_id = $1 AND built_at IS NULL ORDER BY name`, plan)
	if err != nil {
		return 0, fmt.Errorf("read which indexes plan %s took away: %w", plan, interpret(err))
	}
	away, err := pgx.CollectRows(rows, pgx.RowToStructByPos[missing])
	if err != nil || len(away) == 0 {
		return 0, interpret(err)
	}
	var t table
	if err := s.pool.QueryRow(ctx, `SELECT mapping FROM rehome.migration_plans WHERE plan_id = $1`, plan).Scan(&t.m); err != nil {
		return 0, fmt.Errorf("read the mapping of plan %s: %w", plan, interpret(err))
	}
	b := builder{store: s, plan: plan, table: t}
	if b.conn, err = s.session(ctx); err != nil {
		return 0, err
	}
	defer func() { _ = b.conn.Close(context.WithoutCancel(ctx)) }() // nothing is left to lose on it
	for i, index := range away {
		if err := b.build(ctx, index); err != nil {
			return i, fmt.Errorf("build the index %s of %s again: %w", index.Name, t.name(), interpret(err))
		}
	}
	return len(away), nil
}

// builder builds indexes outside transactions, in a session of its own.
type builder struct {
	store *Store
	conn  *pgx.Conn
	plan  string
	table table
}

// lock waits until no other attempt builds: its half of an index is not ours to drop.
// It asks again and again, since a statement that waits holds a snapshot, for which the
// other's build would wait at its end.
func (b builder) lock(ctx context.Context) error {
	again := time.NewTicker(lockPoll)
	defer again.Stop()
	for {
		var ours bool
		err := b.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('rehome indexes ' || $1, 0))`, b.plan).Scan(&ours)
		if err != nil || ours {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const lockPoll = 200 * time.Millisecond

func (b builder) build(ctx context.Context, index missing) error {
	if err := b.lock(ctx); err != nil {
		return err
	}
	const settings = `SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false), set_config('default_tablespace', $1, false),
		set_config('maintenance_work_mem', greatest(pg_size_bytes(current_setting('maintenance_work_mem')), least($2::bigint * 3 / 2, 1024 * 1024 * 1024)) / 1024 || 'kB', false)`
	if _, err := b.conn.Exec(ctx, settings, index.Tablespace, index.Bytes); err != nil {
		return err
	}
	valid, definition, err := b.look(ctx, index.Name)
	if err != nil {
		return err
	}
	name := quote(b.table.m.Schema, index.Name)
	if definition != "" && !valid {
		if _, err := b.conn.Exec(ctx, `DROP INDEX CONCURRENTLY `+name); err != nil {
			return err
		}
		definition = ""
	}
	if definition == "" {
		create := strings.Replace(index.Definition, "CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)
		if _, err := b.conn.Exec(ctx, create); err != nil {
			return errors.Join(err, b.discard(ctx, index.Name))
		}
		if valid, definition, err = b.look(ctx, index.Name); err != nil {
			return err
		}
	}
	if !valid || definition != index.Definition {
		return problem(ErrVerify, "the index %s is not what it was: %s; it should be %s. Rename or drop it, then `starter migration rollback %s`", name, definition, index.Definition, b.plan)
	}
	return b.record(ctx, index, name)
}

// discard drops the half of an index that a build which failed or was cancelled has left:
// nobody searches it, and all who write would keep it up. One that another attempt is
// building by now is left to that.
func (b builder) discard(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	_ = b.conn.Close(ctx) // the lock goes with it
	var err error
	if b.conn, err = b.store.session(ctx); err != nil {
		return fmt.Errorf("drop what there is of it: %w", err)
	}
	defer func() { _ = b.conn.Close(context.WithoutCancel(ctx)) }()
	if err := b.dropHalf(ctx, name); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("drop what there is of it: %w", interpret(err))
	}
	return nil
}

func (b builder) dropHalf(ctx context.Context, name string) error {
	if err := b.lock(ctx); err != nil {
		return err
	}
	valid, definition, err := b.look(ctx, name)
	if err != nil || valid || definition == "" {
		return err
	}
	_, err = b.conn.Exec(ctx, `DROP INDEX CONCURRENTLY `+quote(b.table.m.Schema, name))
	return err
}

// look finds an index of the table's schema by name; without one, the
// definition is empty.
func (b builder) look(ctx context.Context, name string) (valid bool, definition string, err error) {
	err = b.conn.QueryRow(ctx, `
		SELECT i.indisvalid AND i.indisready, pg_get_indexdef(i.indexrelid)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, b.table.m.Schema, name).Scan(&valid, &definition)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return valid, definition, err
}

// record notes that an index is there again, with the comment it had.
func (b builder) record(ctx context.Context, index missing, name string) error {
	return pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		if index.Comment != nil {
			var comment string // the statement takes no parameters
			if err := tx.QueryRow(ctx, `SELECT format('COMMENT ON INDEX %s IS %L', $1::text, $2::text)`, name, *index.Comment).Scan(&comment); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, comment); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `
			UPDATE rehome.migration_indexes SET built_at = now() WHERE plan_id = $1 AND name = $2 AND built_at IS NULL`, b.plan, index.Name)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return recordEvent(ctx, tx, event{Plan: b.plan, What: "index built again", Detail: index.Name})
	})
}
