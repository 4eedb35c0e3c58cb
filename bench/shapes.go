package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"rehome/resilience"
)

var shapesNotes = []string{
	"**shape**: a table of an application, all of whose chunks are renamed by intelligent, and by the fixed strategies that it is compared with: batch at 1000, and immediate where " +
		"it does not refuse to lock them for a minute, as it does beside an HNSW index and for more than a million; gradual rests by design. In place of by hand stands " +
		"the one that was the quickest in the median; it is named. Its runs take half a minute and more, so that what intelligent " +
		"finds out at their beginning does not decide. " +
		"No round goes before those that count.",
	"The apply of a rebuild begins before the vector index is taken away and ends when it is there again.",
}

// shape is a kind of table on which strategies may fare differently.
type shape struct {
	name      string
	table     string // name, without its schema
	rows      int
	columns   string             // of the table
	values    string             // a SELECT list for row i, in the directory path_dir, of the file path
	path      string             // the locator, as it is typed
	setPath   string             // assigns p.new_path, as a person would
	indexes   []string           // besides the primary key
	mapping   resilience.Mapping // more of it
	extension string             // that the server has to offer
	load      bool               // an application works in one directory
	dear      bool               // a plain update is to be beaten
}

// Rows have no room for another version of themselves on their page: the
// tables are filled to the brim. There are twenty directories, and a file has
// twenty chunks.
const (
	content  = `repeat(md5(i::text), 12)`
	plainRow = `i, path, ` + content + `, ARRAY[i, -i]::real[], i % 20`
)

var shapes = []shape{
	{
		name: "plain table", table: "shape_plain", rows: 4_800_000,
		columns: `id bigint PRIMARY KEY, path text NOT NULL, content text NOT NULL, embedding real[], ordinal int`, values: plainRow,
		path: "path", setPath: `path = p.new_path`,
	},
	{
		name: "path indexed", table: "shape_indexed", rows: 4_400_000,
		columns: `id bigint PRIMARY KEY, path text NOT NULL, content text NOT NULL, embedding real[], ordinal int`, values: plainRow,
		path: "path", setPath: `path = p.new_path`, indexes: []string{`(path)`},
	},
	{
		name: "GIN over the path's jsonb", table: "shape_gin", rows: 1_500_000,
		columns: `id bigint PRIMARY KEY, metadata jsonb NOT NULL, content text NOT NULL`,
		values: `i, jsonb_build_object('source', path, 'page', i % 20, 'tags', jsonb_build_array(md5((i % 1000)::text), md5((i % 777)::text)),
			'hash', md5(i::text), 'loc', jsonb_build_object('from', i * 7, 'to', i * 7 + 40)), ` + content,
		path: "metadata->source", setPath: `metadata = jsonb_set(t.metadata, '{source}', to_jsonb(p.new_path))`,
		indexes: []string{`USING gin (metadata)`}, mapping: resilience.Mapping{Metadata: "metadata"},
	},
	{
		name: "HNSW without room for HOT", table: "shape_hnsw", rows: 80_000,
		columns: `id bigint PRIMARY KEY, path text NOT NULL, content text NOT NULL, embedding vector(768) NOT NULL`,
		values:  `i, path, ` + content + `, ARRAY(SELECT sin(i / 20 * d) + random() FROM generate_series(1, 768) d)::vector`,
		path:    "path", setPath: `path = p.new_path`, indexes: []string{`USING hnsw (embedding vector_cosine_ops)`},
		mapping: resilience.Mapping{Embedding: "embedding"}, extension: "vector", dear: true,
	},
	{
		name: "one hot directory under load", table: "shape_hot", rows: 4_400_000,
		columns: `id bigint PRIMARY KEY, path text NOT NULL, content text NOT NULL, embedding real[], ordinal int, used_at timestamptz, uses int NOT NULL`,
		values:  plainRow + `, CASE WHEN path LIKE '%/section-00/%' THEN now() ELSE now() - interval '90 days' END, 1`,
		path:    "path", setPath: `path = p.new_path`, indexes: []string{`(path)`},
		mapping: resilience.Mapping{Accessed: "used_at", AccessCount: "uses"}, load: true,
	},
}

// onShapes are the benchmarks that let every strategy rename all chunks of a
// shape, one for each.
func onShapes() []benchmark {
	all := make([]benchmark, len(shapes))
	for i, of := range shapes {
		all[i] = benchmark{of.table, shapesNotes, func(ctx context.Context, r *rig) ([]row, error) {
			of.rows = r.part(of.rows)
			return (&shaped{rig: r, shape: of, at: "guide", to: "pages"}).compare(ctx)
		}}
	}
	return all
}

// shaped is a memory of a shape; each rename takes its chunks to the other name.
type shaped struct {
	*rig
	shape
	at, to string
}

// compare measures the strategies on the shape, and a plain update where that is
// to be beaten.
func (s *shaped) compare(ctx context.Context) ([]row, error) {
	if offered, err := s.offered(ctx); err != nil || !offered {
		return s.rowsOf("", nil, nil, nil), err
	}
	if err := s.fill(ctx); err != nil {
		return nil, fmt.Errorf("fill the table: %w", err)
	}
	strategies := []resilience.Strategy{resilience.Batch, resilience.Intelligent}
	if s.rows <= resilience.MaxImmediateRows && !s.dear {
		strategies = slices.Insert(strategies, 0, resilience.Immediate)
	}
	contest := contest{reset: s.reset}
	measure := func(way string, run func(context.Context) (float64, error)) {
		contest.ours = append(contest.ours, side{figures: []figure{{way, seconds, aim{}.by(alone)}}, run: func(ctx context.Context) ([]float64, error) {
			took, err := run(ctx)
			return []float64{took}, err
		}})
	}
	for _, strategy := range strategies {
		measure(string(strategy), s.underLoad(func(ctx context.Context) (float64, error) { return s.ours(ctx, strategy) }))
	}
	if s.dear {
		measure("a plain update", s.plain)
	}
	cold := *s.rig // runs are long, and a warm-up as long as they are
	cold.warmUps = 0
	rows, err := contest.run(ctx, &cold)
	if err != nil {
		return nil, err
	}
	last := len(strategies) - 1
	fixed, intelligent := rows[:last], rows[last]
	var plain []float64
	if s.dear {
		plain = rows[last+1].ours
	}
	best := slices.MinFunc(fixed, func(a, b row) int { return cmp.Compare(median(a.ours), median(b.ours)) })
	return s.rowsOf(best.what, best.ours, intelligent.ours, plain), s.exec(ctx, `DROP TABLE public.`+s.table)
}

// offered reports whether the server has what the table needs.
func (s *shaped) offered(ctx context.Context) (offered bool, err error) {
	if s.extension == "" {
		return true, nil
	}
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = $1)`, s.extension).Scan(&offered)
	if err != nil {
		return false, fmt.Errorf("ask which extensions there are: %w", err)
	}
	return offered, nil
}

// rowsOf compares intelligent with the best of the fixed strategies, and where
// an update is dear with that. Without measures the rows are skipped.
func (s *shaped) rowsOf(best string, fixed, intelligent, plain []float64) []row {
	what := fmt.Sprintf("intelligent on a shape of %d rows, %s: apply", s.rows, s.name)
	rows := []row{{figure: figure{what + ", beside " + cmp.Or(best, "a fixed strategy"), seconds, atMost(1.15)}}}
	if s.dear {
		rows = append(rows, row{figure: figure{what + ", beside a plain update", seconds, atMost(0.2)}})
	}
	for i := range intelligent {
		rows[0].add(fixed[i], intelligent[i])
		if s.dear {
			rows[1].add(plain[i], intelligent[i])
		}
	}
	if best == "" {
		for i := range rows {
			rows[i].skipped = "no pg" + s.extension
		}
	}
	return rows
}

// fill makes the table and its memory.
func (s *shaped) fill(ctx context.Context) error {
	if s.extension != "" {
		if err := s.exec(ctx, `CREATE EXTENSION IF NOT EXISTS `+s.extension); err != nil {
			return err
		}
	}
	statements := []string{
		`CREATE TABLE public.` + s.table + ` (` + s.columns + `) WITH (fillfactor = 100)`,
		fmt.Sprintf(`INSERT INTO public.%s SELECT %s FROM generate_series(0, %d) i,
			LATERAL (SELECT format('%s/section-%%s/page-%%s.md', to_char(i * 20 / %d, 'FM00'), i / 20) AS path) p`, s.table, s.values, s.rows-1, s.at, s.rows),
	}
	for _, index := range s.indexes {
		statements = append(statements, `CREATE INDEX ON public.`+s.table+` `+index)
	}
	if err := s.exec(ctx, statements...); err != nil {
		return err
	}
	mapping := s.mapping
	mapping.Table = s.table
	return s.overTable(ctx, mapping, s.path)
}

// reset rewrites the table and its indexes without their dead rows, forgets
// former migrations, but not what they taught, and lists the pairs for the plain statement.
func (s *shaped) reset(ctx context.Context) error {
	column, key, inside := strings.Cut(s.path, "->")
	old := column
	if inside {
		old += ` ->> ` + "'" + key + "'"
	}
	return s.exec(ctx,
		forgetPlans,
		`DROP TABLE IF EXISTS pairs`,
		`CREATE TABLE pairs AS SELECT id, old_path, '`+s.to+`' || substr(old_path, `+strconv.Itoa(len(s.at)+1)+`) AS new_path
			FROM (SELECT id, `+old+` AS old_path FROM public.`+s.table+`) t`,
		`ALTER TABLE pairs ADD PRIMARY KEY (id)`,
		`VACUUM FULL public.`+s.table,
		`VACUUM ANALYZE`,
		`CHECKPOINT`)
}

func (s *shaped) plain(ctx context.Context) (float64, error) {
	began := time.Now()
	tag, err := s.pool.Exec(ctx, `UPDATE public.`+s.table+` t SET `+s.setPath+` FROM pairs p WHERE p.id = t.id`)
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("rename by hand: %w", err)
	}
	return took.Seconds(), s.moved(tag.RowsAffected())
}

// ours is the time that a strategy takes for its rows and, where it took them
// away, for its indexes.
func (s *shaped) ours(ctx context.Context, strategy resilience.Strategy) (float64, error) {
	size := "1000"
	if strategy == resilience.Immediate {
		size = "0" // it has none to be told
	}
	plan, err := s.approved(ctx, "migrate", "--memory", s.table, "--strategy", string(strategy), "--rename", s.at+"="+s.to, "--batch-size", size)
	if err != nil {
		return 0, err
	}
	var took float64
	err = s.pool.QueryRow(ctx, `
		SELECT extract(epoch FROM greatest(g.last_at, max(e.at)) - least(g.first_at, min(e.at)))
		FROM rehome.migration_progress g LEFT JOIN rehome.migration_events e ON e.plan_id = g.plan_id AND e.event LIKE 'index %'
		WHERE g.plan_id = $1 GROUP BY g.plan_id, g.first_at, g.last_at`, plan.ID).Scan(&took)
	if err != nil {
		return 0, fmt.Errorf("read what migration %s took: %w", plan.ID, err)
	}
	return took, s.moved(plan.Moved)
}

// moved turns round for the next rename.
func (s *shaped) moved(rows int64) error {
	if rows != int64(s.rows) {
		return fmt.Errorf("%d of %d chunks were renamed", rows, s.rows)
	}
	s.at, s.to = s.to, s.at
	return nil
}

// underLoad lets an application work in one directory of the table meanwhile,
// where the shape is about that.
func (s *shaped) underLoad(work func(context.Context) (float64, error)) func(context.Context) (float64, error) {
	if !s.load {
		return work
	}
	return func(ctx context.Context) (took float64, err error) {
		hot := s.rows / 20 // the first directory
		_, trafficErr := traffic{
			rate: loadRate, connections: loadConnections,
			do: func(ctx context.Context, conn *pgxpool.Conn, n int) error {
				id := rand.IntN(hot)
				return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
					var text string
					if err := tx.QueryRow(ctx, `SELECT content FROM public.`+s.table+` WHERE id = $1`, id).Scan(&text); err != nil {
						return err
					}
					_, err := tx.Exec(ctx, `UPDATE public.`+s.table+` SET content = $2, used_at = now(), uses = uses + 1 WHERE id = $1`, id, strconv.Itoa(n)+text)
					return err
				})
			},
		}.during(ctx, s.rig, func(ctx context.Context) error {
			took, err = work(ctx)
			return err
		})
		return took, cmp.Or(err, trafficErr)
	}
}

// The load on the hot directory.
const (
	loadRate        = 100 // transactions a second
	loadConnections = 4
)
