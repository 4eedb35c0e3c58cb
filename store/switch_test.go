package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// tree is the truth that aliases have to tell: which file lives where, and
// which one a path meant last. Files are numbers, so they keep who they are.
type tree struct {
	lives map[string]int
	meant map[string]int
	next  int
}

func (w *tree) create(path string) {
	w.next++
	w.lives[path], w.meant[path] = w.next, w.next
}

// rename applies rules at once, the longest old path first. It reports false
// when two files would be in one place, or a rule moves nothing.
func (w *tree) rename(rules []resilience.RenameRule) bool {
	after := map[string]int{}
	idle := map[string]bool{}
	for _, r := range rules {
		idle[r.Old] = true
	}
	for path, file := range w.lives {
		target, longest := path, ""
		for _, r := range rules {
			if (path == r.Old || resilience.Under(path, r.Old)) && len(r.Old) > len(longest) {
				target, longest = r.New+path[len(r.Old):], r.Old
			}
		}
		if _, taken := after[target]; taken {
			return false
		}
		after[target] = file
		delete(idle, longest)
	}
	if len(idle) > 0 {
		return false
	}
	w.lives = after
	maps.Copy(w.meant, after)
	return true
}

// where is the place of the file that a path meant last; !ok when it is deleted.
func (w *tree) where(path string) (string, bool) {
	if _, lives := w.lives[path]; lives {
		return path, true
	}
	for place, file := range w.lives {
		if file == w.meant[path] {
			return place, true
		}
	}
	return "", false
}

func (w *tree) paths() []string { return slices.Sorted(maps.Keys(w.lives)) }

// Directories and files have names of their own: a file in the place of a
// directory ends that directory's alias, as the one at its own path.
var (
	directories = rapid.SampledFrom([]string{"a", "b", "c", "a/a", "a/b", "b/a", "a/a/b"})
	files       = rapid.Custom(func(t *rapid.T) string {
		dir := rapid.SampledFrom([]string{"", "a/", "b/", "c/", "a/a/", "a/b/", "b/a/", "a/a/b/"}).Draw(t, "dir")
		return dir + rapid.SampledFrom([]string{"x", "y"}).Draw(t, "file")
	})
)

// rule draws the rename of a file or a directory that is there.
func (w *tree) rule(t *rapid.T) resilience.RenameRule {
	old := rapid.SampledFrom(w.paths()).Draw(t, "file")
	if dir := path.Dir(old); dir != "." && rapid.Bool().Draw(t, "its directory") {
		return resilience.RenameRule{Old: dir, New: directories.Draw(t, "new")}
	}
	return resilience.RenameRule{Old: old, New: files.Draw(t, "new")}
}

// bench is one memory and what it takes to rename in it as a plan does.
type aliasBench struct {
	ctx    context.Context
	pool   *pgxpool.Pool
	store  *store.Store
	memory string
	plans  int
}

func newAliasBench(t require.TestingT, pool *pgxpool.Pool, memory string) *aliasBench {
	b := &aliasBench{ctx: context.Background(), pool: pool, store: store.New(pool), memory: memory}
	require.NoError(t, b.store.AddMemory(b.ctx, resilience.Memory{
		Name: memory, Root: "/src/" + memory, Builtin: true, Mapping: resilience.BuiltinMapping(memory),
	}))
	return b
}

func (b *aliasBench) see(t require.TestingT, path string) {
	hash := sha256.Sum256([]byte(path))
	_, err := b.pool.Exec(b.ctx, `
		INSERT INTO rehome.files (memory, path, raw_path, size, mtime, content_hash)
		VALUES ($1, $2, convert_to($2, 'UTF8'), 1, now(), $3)
		ON CONFLICT (memory, path) DO UPDATE SET gone_at = NULL, content_hash = excluded.content_hash`, b.memory, path, hash[:])
	require.NoError(t, err)
}

func (b *aliasBench) lose(t require.TestingT, path string) {
	_, err := b.pool.Exec(b.ctx, `UPDATE rehome.files SET gone_at = now() WHERE memory = $1 AND path = $2`, b.memory, path)
	require.NoError(t, err)
}

// plan records the rules of a migration and the files with chunks that it moves.
func (b *aliasBench) plan(t require.TestingT, rules []resilience.RenameRule) string {
	b.plans++
	id := fmt.Sprintf("%s-%d", b.memory, b.plans)
	require.NoError(t, b.store.CreatePlan(b.ctx, store.NewPlan{
		ID: id, Memory: b.memory, Strategy: resilience.Batch, Renames: rules, WorkflowID: id, RunID: id, Rollback: []string{},
	}))
	return id
}

func (b *aliasBench) switchTo(t require.TestingT, rules ...resilience.RenameRule) string {
	id := b.plan(t, rules)
	require.NoError(t, store.SwitchAliases(b.store, b.ctx, id, b.memory))
	return id
}

func (b *aliasBench) current(t require.TestingT, path string) string {
	var now string
	require.NoError(t, b.pool.QueryRow(b.ctx, `SELECT rehome.current_path($1, $2)`, b.memory, path).Scan(&now))
	return now
}

// state is everything kept of aliases and files, as text.
func (b *aliasBench) state(t require.TestingT) []string {
	rows, err := b.pool.Query(b.ctx, `
		SELECT a::text FROM rehome.version_aliases a WHERE memory = $1
		UNION ALL SELECT f::text FROM rehome.files f WHERE memory = $1 ORDER BY 1`, b.memory)
	require.NoError(t, err)
	state, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return state
}

// Whatever is created, deleted and renamed in whatever order, a path leads to
// the file it meant last; every switch can be repeated and undone.
func TestSwitchAliasesTellsTheTruth(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	memories := 0
	rapid.Check(t, func(t *rapid.T) {
		memories++
		b := newAliasBench(t, pool, fmt.Sprintf("m%d", memories))
		w := &tree{lives: map[string]int{}, meant: map[string]int{}}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"create", "create", "delete", "rename", "rename", "rename"}).Draw(t, "step") {
			case "create":
				path := files.Draw(t, "path")
				if _, there := w.lives[path]; !there {
					w.create(path)
					b.see(t, path)
				}
			case "delete":
				if len(w.lives) > 0 {
					path := rapid.SampledFrom(w.paths()).Draw(t, "path")
					delete(w.lives, path)
					b.lose(t, path)
				}
			case "rename":
				if len(w.lives) > 0 {
					rules := rapid.SliceOfN(rapid.Custom(w.rule), 1, 3).Draw(t, "rules")
					if resilience.CheckRenames(rules) == nil && w.rename(rules) {
						switchBackAndForth(t, b, rules)
					}
				}
			}
			requireTruth(t, b, w)
		}
	})
}

// What the random walk found, each a state in which an alias led to an aliased path.
func TestAnAliasLeadsToNoOther(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	walk := func(t *testing.T, memory string, files ...string) (b *aliasBench, w *tree, rename func(...resilience.RenameRule)) {
		b, w = newAliasBench(t, pool, memory), &tree{lives: map[string]int{}, meant: map[string]int{}}
		for _, path := range files {
			w.create(path)
			b.see(t, path)
		}
		return b, w, func(rules ...resilience.RenameRule) {
			require.True(t, w.rename(rules))
			switchBackAndForth(t, b, rules)
			requireTruth(t, b, w)
		}
	}
	t.Run("a deleted file's place is where another was", func(t *testing.T) {
		b, w, rename := walk(t, "deleted", "a/b/y", "a/a/y")
		rename(rule("a/a/y", "a/a/b/y"))
		delete(w.lives, "a/a/b/y")
		b.lose(t, "a/a/b/y")
		rename(rule("a/b/y", "a/a/b/x"))
		rename(rule("a/a/b", "a/b"))
		require.Equal(t, "a/a/y", b.current(t, "a/a/y"), "it is gone, and the other file is not it")
	})
	t.Run("a directory comes along to where another leaves", func(t *testing.T) {
		b, w, rename := walk(t, "leaves", "a/b/q", "b/a/x")
		rename(rule("a/b", "a/a"))
		rename(rule("a", "b"), rule("b/a", "c"))
		require.Equal(t, "b/a/q", b.current(t, "a/b/q"))
		require.Equal(t, "c/x", b.current(t, "b/a/x"))
		require.Len(t, w.lives, 2)
	})
	t.Run("a directory comes along to where another leaves, by the name that it had before", func(t *testing.T) {
		b, _, rename := walk(t, "renamed", "b/a/x", "a/b/y")
		rename(rule("b", "c"))
		rename(rule("a/b", "a/a"))
		rename(rule("c/a", "d"), rule("a", "b"))
		require.Equal(t, "d/x", b.current(t, "b/a/x"))
		require.Equal(t, "b/a/new", b.current(t, "b/a/new"))
	})
	t.Run("a directory comes along to where another was", func(t *testing.T) {
		b, w, rename := walk(t, "directory", "b/a/x")
		rename(rule("b/a", "c"))
		w.create("a/b/y")
		b.see(t, "a/b/y")
		rename(rule("a/b", "a/a"))
		rename(rule("a", "b"))
		require.Equal(t, "c/x", b.current(t, "b/a/x"))
		require.Equal(t, "b/a/new", b.current(t, "b/a/new"), "a file of the directory that is there now")
	})
}

func switchBackAndForth(t require.TestingT, b *aliasBench, rules []resilience.RenameRule) {
	plan := b.plan(t, rules)
	before := b.state(t)
	require.NoError(t, store.SwitchAliases(b.store, b.ctx, plan, b.memory))
	after := b.state(t)
	require.NoError(t, store.SwitchAliases(b.store, b.ctx, plan, b.memory))
	require.Equal(t, after, b.state(t), "switched twice")
	require.NoError(t, store.UnswitchAliases(b.store, b.ctx, plan, b.memory))
	require.Equal(t, before, b.state(t), "undone")
	require.NoError(t, store.UnswitchAliases(b.store, b.ctx, plan, b.memory))
	require.Equal(t, before, b.state(t), "undone twice")
	require.NoError(t, store.SwitchAliases(b.store, b.ctx, plan, b.memory))
}

func requireTruth(t require.TestingT, b *aliasBench, w *tree) {
	for path := range w.meant {
		if want, ok := w.where(path); ok {
			require.Equal(t, want, b.current(t, path), "where %s is", path)
		}
	}
	var loops int
	require.NoError(t, b.pool.QueryRow(b.ctx, `
		SELECT count(*) FROM rehome.version_aliases a JOIN rehome.version_aliases b USING (memory)
		WHERE memory = $1 AND a.current_path = b.original_path`, b.memory).Scan(&loops))
	require.Zero(t, loops, "aliases that lead to an aliased path")
}

// What the server knows of tables from before a plan wrote to them does not make
// it compare each file of the plan with each: that would take minutes here.
func TestManyFilesAreSwitchedInTheirTime(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	for _, dir := range []string{"first", "guide"} {
		m.exec(`
			INSERT INTO rehome.chunks (memory, path, ordinal, content)
			SELECT 'docs', $1 || '/' || i % 100 || '/' || i || '.md', 1, 'text' FROM generate_series(1, 50000) i`, dir)
	}
	_, err := m.plan("", rule("first", "then"))
	require.NoError(t, err)
	m.exec(`VACUUM ANALYZE`)
	m.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''20s''', current_database()); END $$`)
	m.pool.Reset() // so that it holds
	id, err := m.plan("", rule("guide", "pages"))
	require.NoError(t, err)
	require.NoError(t, store.SwitchAliases(m.store, t.Context(), id, "docs"))
	var now string
	require.NoError(t, m.pool.QueryRow(t.Context(), `SELECT rehome.where_is('docs', 'guide/7/7.md')`).Scan(&now))
	require.Equal(t, "pages/7/7.md", now)
}
