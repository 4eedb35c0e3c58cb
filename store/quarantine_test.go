package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// everyType is a table with a column of each type a row may have, under names
// that must be quoted.
const everyType = `
	CREATE SCHEMA "My App";
	CREATE TYPE "My App".mood AS ENUM ('sad', 'ok', 'happy');
	CREATE TYPE "My App".pair AS (a int, b text);
	CREATE DOMAIN "My App".positive AS int CHECK (VALUE > 0);
	CREATE TABLE "My App"."Chunks" (
		"Id" uuid PRIMARY KEY, "select" text, "path""s" text, "Inhalt ü" text NOT NULL,
		serial bigint GENERATED ALWAYS AS IDENTITY, counted bigserial UNIQUE,
		doubled int GENERATED ALWAYS AS (length("Inhalt ü") * 2) STORED,
		t_varchar varchar(10), t_char char(5), t_name name, t_c text COLLATE "C", t_bytea bytea, t_bool boolean,
		t_int2 smallint, t_int4 int, t_float4 real, t_float8 double precision, t_numeric numeric, t_scaled numeric(12, 4), t_money money,
		t_date date, t_time time, t_timetz timetz, t_timestamp timestamp, t_timestamptz timestamptz(3), t_interval interval,
		t_json json, t_jsonb jsonb, t_xml xml, t_inet inet, t_cidr cidr, t_mac macaddr, t_mac8 macaddr8,
		t_point point, t_line line, t_lseg lseg, t_box box, t_path path, t_polygon polygon, t_circle circle,
		t_bit bit(3), t_varbit varbit, t_tsvector tsvector, t_tsquery tsquery,
		t_int4range int4range, t_numrange numrange, t_tstzrange tstzrange, t_multirange int4multirange,
		t_oid oid, t_regtype regtype, t_lsn pg_lsn, t_xid8 xid8, "t_char1" "char",
		t_ints int[], t_texts text[][], t_moods "My App".mood[], t_mood "My App".mood, t_pair "My App".pair, t_pairs "My App".pair[],
		t_domain "My App".positive, t_embedding real[] NOT NULL DEFAULT '{}');
	INSERT INTO "My App"."Chunks" VALUES (
		'11111111-1111-1111-1111-111111111111', 'x', 'docs/a.md', E'text with \\ "quotes" and \t tab ☕', DEFAULT, DEFAULT, DEFAULT,
		'ten chars ', 'ab', 'a_name', 'Ä', '\x00ff', true,
		-32768, 2147483647, 'NaN', '-0', 'NaN', 1.1000, '12.50',
		'infinity', '24:00', '13:14:15.123456+05:30', '-infinity', 'infinity', '1 year -3 days 04:05:06.789',
		E'{"b" : 1,\n  "a":  [1 ,2], "b": 2}', '{"b": 1, "a": null}', '<a>x</a>', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
		'(1.5,-0)', '{1,2,3}', '[(0,0),(1,1)]', '((1,1),(0,0))', '[(0,0),(1,1)]', '((0,0),(1,1),(1,0))', '<(0,0),2>',
		'101', '10110', 'a:1A fat:2B,4C', 'fat & (rat | cat)', '[1,5)', '(,3.14]', '[2020-01-01,infinity)', '{[1,3),[7,9)}',
		4294967295, 'int4', 'FF/1', '123456789012', 'z',
		'[0:1]={7,8}', '{{a,NULL},{"c,d","e\"f"}}', '{sad,happy}', 'ok', '(1,"x, y")', '{"(1,a)","(,)"}', 7, '{1,-0,NaN,Infinity,1e-38}');
	INSERT INTO "My App"."Chunks" ("Id", "path""s", "Inhalt ü", t_float8, t_timestamptz)
	VALUES ('22222222-2222-2222-2222-222222222222', 'docs/b.md', '', 'Infinity', '2024-02-29 23:59:59.999+14'),
		('33333333-3333-3333-3333-333333333333', 'other/c.md', 'c', NULL, NULL);
	INSERT INTO "My App"."Chunks" ("Id", "path""s", "Inhalt ü", t_bytea)
	VALUES ('44444444-4444-4444-4444-444444444444', 'docs/big.md', repeat('long text, compressed and out of line. ', 20000), decode(repeat('deadbeef', 5000), 'hex'))`

func everyTypeMemory(t *testing.T, s *store.Store, pool *pgxpool.Pool) resilience.Memory {
	t.Helper()
	_, err := pool.Exec(t.Context(), everyType)
	require.NoError(t, err)
	m := resilience.Memory{Name: "docs", Root: "/srv/docs", Mapping: resilience.Mapping{
		Schema: "My App", Table: "Chunks", ID: "Id", IDType: "uuid", Content: "Inhalt ü", Embedding: "t_embedding",
		Locators: []resilience.Locator{{Column: `path"s`, Type: "text"}},
	}}
	require.NoError(t, s.AddMemory(t.Context(), m))
	return m
}

// bytesOf returns every row of the table as text and as the bytes of each column.
func bytesOf(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	return column[string](t, pool, `SELECT t::text || ' ' || md5(record_send(t)) FROM "My App"."Chunks" t ORDER BY 1`)
}

func column[T any](t *testing.T, pool *pgxpool.Pool, query string, args ...any) []T {
	t.Helper()
	rows, err := pool.Query(t.Context(), query, args...)
	require.NoError(t, err)
	defer rows.Close()
	found := []T{}
	for rows.Next() {
		var v T
		require.NoError(t, rows.Scan(&v))
		found = append(found, v)
	}
	require.NoError(t, rows.Err())
	return found
}

func execute(t *testing.T, pool *pgxpool.Pool, statement string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), statement, args...)
	require.NoError(t, err)
}

const (
	chunkA = "11111111-1111-1111-1111-111111111111"
	chunkB = "22222222-2222-2222-2222-222222222222"
	chunkC = "33333333-3333-3333-3333-333333333333"
	chunkD = "44444444-4444-4444-4444-444444444444"
)

func TestRestoreGivesBackEveryTypeByteForByte(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	m := everyTypeMemory(t, s, pool)
	before := bytesOf(t, pool)

	require.NoError(t, s.QuarantineReplaced(t.Context(), m, []string{chunkA, chunkB, chunkD}, "run1"))
	require.Equal(t, []string{chunkC}, column[string](t, pool, `SELECT "Id"::text FROM "My App"."Chunks"`))
	entries, err := s.Quarantined(t.Context(), "docs", store.QuarantineFilter{PathPrefix: "docs"}, 10)
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.ElementsMatch(t, []string{"docs/a.md", "docs/b.md", "docs/big.md"}, []string{entries[0].FilePath, entries[1].FilePath, entries[2].FilePath})
	require.Equal(t, resilience.ReasonReplaced, entries[0].Reason)

	back, err := s.Restore(t.Context(), "docs", store.QuarantineFilter{Run: "run1"})
	require.NoError(t, err)
	require.EqualValues(t, 3, back.Restored)
	require.Empty(t, back.Left)
	require.Equal(t, before, bytesOf(t, pool))
	require.Equal(t, []int64{0}, column[int64](t, pool, `SELECT count(*) FROM rehome.quarantine_docs`))

	_, err = s.Restore(t.Context(), "docs", store.QuarantineFilter{Run: "run1"})
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestQuarantineSurvivesChangesOfTheTable(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	m := everyTypeMemory(t, s, pool)
	ctx := t.Context()
	require.NoError(t, s.QuarantineReplaced(ctx, m, []string{chunkA}, "run1"))

	// None of this may be blocked by the twin, or break it.
	execute(t, pool, `
		ALTER TABLE "My App"."Chunks" DROP COLUMN t_embedding, DROP COLUMN t_xml, ADD COLUMN added text NOT NULL DEFAULT 'by default',
			ADD CONSTRAINT short CHECK (length(t_varchar) < 100), ALTER COLUMN t_int4 TYPE bigint`)
	require.NoError(t, s.QuarantineReplaced(ctx, m, []string{chunkB}, "run2"))
	require.NoError(t, s.QuarantineReplaced(ctx, m, []string{chunkC}, "run3"))
	execute(t, pool, `ALTER TABLE "My App"."Chunks" ADD COLUMN later int DEFAULT 5`)
	require.NoError(t, s.QuarantineReplaced(ctx, m, []string{chunkD}, "run4"))
	require.Equal(t, []string{"quarantine_docs", "quarantine_docs.2"},
		column[string](t, pool, `SELECT DISTINCT twin FROM rehome.quarantine ORDER BY 1`), "a column of another type makes another twin")

	for _, run := range []string{"run1", "run2", "run3", "run4"} {
		back, err := s.Restore(ctx, "docs", store.QuarantineFilter{Run: run})
		require.NoError(t, err)
		require.EqualValues(t, 1, back.Restored, run)
		if run == "run1" {
			require.Equal(t, []string{"t_xml", "t_embedding"}, back.Dropped)
		}
	}
	require.Equal(t, []string{"2147483647 by default 5 docs/a.md"}, column[string](t, pool,
		`SELECT concat_ws(' ', t_int4, added, later, "path""s") FROM "My App"."Chunks" WHERE "Id" = $1`, chunkA))
	require.Equal(t, []int64{4}, column[int64](t, pool, `SELECT count(*) FROM "My App"."Chunks" WHERE added = 'by default' AND later = 5`))
	execute(t, pool, `DROP TABLE "My App"."Chunks"`)
}

func TestRestoreLeavesWhatMeetsARowThatStandsThere(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	m := everyTypeMemory(t, s, pool)
	ctx := t.Context()
	require.NoError(t, s.QuarantineReplaced(ctx, m, []string{chunkA, chunkB, chunkC, chunkD}, "run1"))
	execute(t, pool, `INSERT INTO "My App"."Chunks" ("Id", "path""s", "Inhalt ü") VALUES ($1, 'docs/a.md', 'made anew')`, chunkA)
	execute(t, pool, `ALTER TABLE "My App"."Chunks" ADD CHECK ("Inhalt ü" <> '')`)

	back, err := s.Restore(ctx, "docs", store.QuarantineFilter{Run: "run1"})
	require.NoError(t, err)
	require.EqualValues(t, 2, back.Restored, "the rows before and behind the bad ones come back")
	require.Len(t, back.Left, 2)
	why := map[string]string{back.Left[0].ChunkID: back.Left[0].Why, back.Left[1].ChunkID: back.Left[1].Why}
	require.Contains(t, why[chunkA], "stands in the table")
	require.Contains(t, why[chunkB], "check constraint")
	require.Equal(t, []string{"made anew"}, column[string](t, pool, `SELECT "Inhalt ü" FROM "My App"."Chunks" WHERE "Id" = $1`, chunkA))
	require.Equal(t, []int64{2}, column[int64](t, pool, `SELECT count(*) FROM rehome.quarantine_docs`), "nothing is lost")
}

func TestT59RestoreDoesNotDoubleAChunkThatWasReadInAgain(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	ctx := t.Context()
	m := resilience.Memory{Name: "docs", Root: "/srv/docs", Builtin: true, Mapping: resilience.BuiltinMapping("docs")}
	require.NoError(t, s.AddMemory(ctx, m))
	ids := column[string](t, pool, `
		INSERT INTO rehome.chunks (memory, path, ordinal, content)
		VALUES ('docs', 'a.md', 1, 'one'), ('docs', 'a.md', 2, 'two'), ('docs', 'a.md', 3, 'two') RETURNING id::text`)
	require.NoError(t, s.QuarantineReplaced(ctx, m, ids, "run1"))
	execute(t, pool, `INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', 'a.md', 1, 'one')`)

	back, err := s.Restore(ctx, "docs", store.QuarantineFilter{PathPrefix: "a.md"})
	require.NoError(t, err)
	require.EqualValues(t, 2, back.Restored)
	require.Len(t, back.Left, 1)
	require.Equal(t, ids[0], back.Left[0].ChunkID)
	require.Equal(t, []string{"one", "two", "two"}, column[string](t, pool, `SELECT content FROM rehome.chunks ORDER BY content`))
}

func TestRestoreOfAReusedIDTakesTheNewest(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	m := everyTypeMemory(t, s, pool)
	ctx := t.Context()
	require.NoError(t, s.QuarantineReplaced(ctx, m, []string{chunkC}, "run1"))
	execute(t, pool, `INSERT INTO "My App"."Chunks" ("Id", "path""s", "Inhalt ü") VALUES ($1, 'other/c.md', 'second life')`, chunkC)
	require.NoError(t, s.QuarantineReplaced(ctx, m, []string{chunkC}, "run2"))

	back, err := s.Restore(ctx, "docs", store.QuarantineFilter{PathPrefix: "other"})
	require.NoError(t, err)
	require.EqualValues(t, 1, back.Restored)
	require.Len(t, back.Left, 1)
	require.Equal(t, []string{"second life"}, column[string](t, pool, `SELECT "Inhalt ü" FROM "My App"."Chunks" WHERE "Id" = $1`, chunkC))
}

func TestT60OfTwoRestoresAtOnceOneWins(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	m := everyTypeMemory(t, s, pool)
	before := bytesOf(t, pool)
	for round := range 5 {
		run := fmt.Sprintf("run%d", round)
		require.NoError(t, s.QuarantineReplaced(t.Context(), m, []string{chunkA, chunkB}, run))
		restored := make([]int64, 4)
		group, ctx := errgroup.WithContext(t.Context())
		for i := range restored {
			group.Go(func() error {
				back, err := s.Restore(ctx, "docs", store.QuarantineFilter{Run: run})
				restored[i] = back.Restored
				if err != nil && !strings.Contains(err.Error(), "holds nothing of that") {
					return err
				}
				return nil
			})
		}
		require.NoError(t, group.Wait())
		require.EqualValues(t, 2, restored[0]+restored[1]+restored[2]+restored[3])
		require.Equal(t, before, bytesOf(t, pool))
	}
}

func TestQuarantinedFilters(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	s := store.New(pool)
	m := everyTypeMemory(t, s, pool)
	require.NoError(t, s.QuarantineReplaced(t.Context(), m, []string{chunkA}, "run1"))
	require.NoError(t, s.QuarantineReplaced(t.Context(), m, []string{chunkC, chunkB}, "run2"))
	all, err := s.Quarantined(t.Context(), "docs", store.QuarantineFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, all, 3)
	for _, c := range []struct {
		filter store.QuarantineFilter
		want   int
	}{
		{store.QuarantineFilter{Run: "run2"}, 2},
		{store.QuarantineFilter{PathPrefix: "docs"}, 2},
		{store.QuarantineFilter{PathPrefix: "doc"}, 0}, // by component, not by letters
		{store.QuarantineFilter{PathPrefix: "docs/a.md"}, 1},
		{store.QuarantineFilter{IDs: []int64{all[0].ID, all[1].ID}}, 2},
		{store.QuarantineFilter{Reason: resilience.ReasonMissing}, 0},
		{store.QuarantineFilter{Run: "run2", PathPrefix: "docs"}, 1},
	} {
		got, err := s.Quarantined(context.Background(), "docs", c.filter, 10)
		require.NoError(t, err)
		require.Len(t, got, c.want, "%+v", c.filter)
	}
	_, err = s.Restore(t.Context(), "docs", store.QuarantineFilter{})
	require.ErrorIs(t, err, store.ErrInvalid)
}
