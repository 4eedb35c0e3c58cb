package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// A batch holds an advisory lock while it runs, so that whoever looks at
// pg_locks, which shows every role's sessions, knows which of them are ours.
const batchLock = 7105

// waiting lists the sessions of this database that wait for a lock, and since
// how many milliseconds; ours, the sessions in which a batch runs; blocked, those
// of the former that wait for one of the latter.
const waiting = `
	WITH RECURSIVE ours AS (
		SELECT pid, objid FROM pg_locks
		WHERE locktype = 'advisory' AND classid = @batch_lock::integer::oid AND objsubid = 2 AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
	waiting AS (
		SELECT l.pid, coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)), 0)::float8 * 1000 AS ms
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE NOT l.granted AND a.datname = current_database() AND l.pid NOT IN (SELECT pid FROM ours)
		GROUP BY l.pid),
	blocked AS (
		SELECT w.pid, w.ms, o.pid AS by, o.objid FROM waiting w JOIN ours o ON o.pid = ANY (pg_blocking_pids(w.pid)))`

// vitals are the signals that one statement can read.
const vitals = waiting + `,
	replicas AS (
		SELECT count(*) FILTER (WHERE state IS DISTINCT FROM 'backup') AS attached, count(*) FILTER (WHERE state IS NULL) AS unreadable,
			coalesce(max(extract(epoch FROM replay_lag)), 0)::float8 * 1000 AS ms,
			coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::float8 AS bytes
		FROM pg_stat_replication),
	parts AS ( -- pg_partition_tree would wait where the table is locked
		SELECT @table::regclass::oid AS relid UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON i.inhparent = p.relid),
	tuples AS (
		SELECT coalesce(sum(n_dead_tup), 0)::float8 AS dead, coalesce(sum(n_live_tup), 0)::float8 AS live
		FROM pg_stat_all_tables JOIN parts USING (relid))
	SELECT (SELECT count(DISTINCT pid) FROM blocked), (SELECT coalesce(max(ms), 0) FROM blocked), (SELECT count(*) FROM waiting),
		r.attached, r.unreadable, r.ms, r.bytes, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8,
		(SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL)::float8 / current_setting('max_connections')::integer,
		t.dead, t.live
	FROM replicas r, tuples t`

// Sample looks at the server as an application would find it: on a connection
// of its own, which an exhausted server refuses.
func (s *Store) Sample(ctx context.Context, plan string) (resilience.Sample, error) {
	sample, err := s.sample(ctx, plan)
	if err != nil {
		return sample, fmt.Errorf("look at the server's health for plan %s: %w", plan, interpret(err))
	}
	return sample, nil
}

func (s *Store) sample(ctx context.Context, plan string) (resilience.Sample, error) {
	sample := resilience.Sample{WALRate: -1}
	config := s.pool.Config().ConnConfig.Copy()
	config.RuntimeParams["statement_timeout"] = "5s"
	config.RuntimeParams["lock_timeout"] = "1s"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return sample, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	var t table
	var chunk *string
	err = conn.QueryRow(ctx, `
		SELECT mapping, (SELECT m.chunk_ids[1] FROM rehome.migration_runs m WHERE m.plan = p.number ORDER BY m.last LIMIT 1)
		FROM rehome.migration_plans p WHERE plan_id = $1`, plan).Scan(&t.m, &chunk)
	if errors.Is(err, pgx.ErrNoRows) {
		return sample, problem(ErrNotFound, "there is no migration %s; see `starter migration list`", plan)
	}
	if err != nil {
		return sample, err
	}
	err = conn.QueryRow(ctx, vitals, pgx.NamedArgs{"batch_lock": batchLock, "table": t.name()}).Scan(
		&sample.Blocked, &sample.BlockedMS, &sample.Waiters, &sample.Replicas, &sample.Unreadable, &sample.LagMS, &sample.LagBytes,
		&sample.WALBytes, &sample.Connections, &sample.Dead, &sample.Live)
	sample.At = time.Now()
	if err != nil || chunk == nil { // nothing is planned, so nothing is there to read
		return sample, err
	}
	sample.ProbeMS, err = probe(ctx, conn, t, *chunk)
	return sample, err
}

// Bounds of a probe: so many reads, unless they take long by then.
const (
	probeReads = 20
	probeTime  = 200 * time.Millisecond
)

// probe reads one chunk again and again, as an application would, and returns
// the time within which 95 of 100 reads were answered. A read that meets a lock
// for longer than it waits has taken as long as it did.
func probe(ctx context.Context, conn *pgx.Conn, t table, chunk string) (float64, error) {
	read := fmt.Sprintf(`SELECT %s FROM %s t WHERE %s AND %s`, t.text(), t.name(), t.hasID("@chunk"), t.scope())
	args := t.args(pgx.NamedArgs{"chunk": chunk})
	var reads []resilience.Timing
	for began := time.Now(); len(reads) < probeReads && time.Since(began) < probeTime; {
		start := time.Now()
		var text string
		err := conn.QueryRow(ctx, read, args).Scan(&text)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) && TroubleOf(err) != resilience.LockTimeout { // vanished, and locked, are answers too
			return 0, err
		}
		reads = append(reads, resilience.Timing{Rows: 1, MS: float64(time.Since(start)) / float64(time.Millisecond)})
	}
	return resilience.Quantile(reads, 0.95), nil
}

// Blocking says how many sessions wait for a batch of a plan, and the longest
// for how many milliseconds. A batch that keeps one waiting for longer than a
// limit is cancelled; cancelled says so.
func (s *Store) Blocking(ctx context.Context, plan string, limitMS float64) (sessions int, longestMS float64, cancelled bool, err error) {
	const query = waiting + `,
		mine AS (SELECT * FROM blocked WHERE objid = hashtext(@plan)::bit(32)::bigint::oid),
		cancelled AS (SELECT pg_cancel_backend(by) AS done FROM (SELECT by FROM mine GROUP BY by HAVING max(ms) > @limit) b)
		SELECT (SELECT count(DISTINCT pid) FROM mine), (SELECT coalesce(max(ms), 0) FROM mine), (SELECT coalesce(bool_or(done), false) FROM cancelled)`
	err = s.pool.QueryRow(ctx, query, pgx.NamedArgs{"batch_lock": batchLock, "plan": plan, "limit": limitMS}).Scan(&sessions, &longestMS, &cancelled)
	if err != nil {
		return 0, 0, false, fmt.Errorf("see whom plan %s keeps waiting: %w", plan, interpret(err))
	}
	return sessions, longestMS, cancelled, nil
}

// Vacuum clears the dead row versions of the table of a plan, gently, where our
// role may; elsewhere Postgres skips it.
func (s *Store) Vacuum(ctx context.Context, plan string) error {
	var t table
	err := s.pool.QueryRow(ctx, `SELECT mapping FROM rehome.migration_plans WHERE plan_id = $1`, plan).Scan(&t.m)
	if err != nil {
		return fmt.Errorf("read the mapping of plan %s: %w", plan, interpret(err))
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("vacuum %s: %w", t.name(), interpret(err))
	}
	defer conn.Release()
	defer conn.Exec(context.WithoutCancel(ctx), `RESET vacuum_cost_delay`) //nolint:errcheck // a lost connection has no settings
	if _, err := conn.Exec(ctx, `SET vacuum_cost_delay = '1ms'`); err != nil {
		return fmt.Errorf("vacuum %s: %w", t.name(), interpret(err))
	}
	if _, err := conn.Exec(ctx, `VACUUM (SKIP_LOCKED) `+t.name()); err != nil {
		return fmt.Errorf("vacuum %s: %w", t.name(), interpret(err))
	}
	return nil
}
