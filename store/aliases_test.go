package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

func (b *aliasBench) alias(t *testing.T, original, current string) resilience.Alias {
	t.Helper()
	alias, err := b.store.AddAlias(b.ctx, b.memory, original, current, nil)
	require.NoError(t, err)
	return alias
}

func (b *aliasBench) requireAliases(t *testing.T, want ...string) {
	t.Helper()
	aliases, err := b.store.Aliases(b.ctx, b.memory, 100)
	require.NoError(t, err)
	var got []string
	for _, a := range aliases {
		got = append(got, a.OriginalPath+"="+a.CurrentPath)
	}
	require.Equal(t, want, got)
}

func TestAliasesLeadInOneStep(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	b.alias(t, "a.md", "b.md")
	b.alias(t, "b.md", "c.md")
	b.requireAliases(t, "a.md=c.md", "b.md=c.md")
	answer, err := b.store.Resolve(b.ctx, "docs", "a.md")
	require.NoError(t, err)
	require.True(t, answer.Aliased)
	require.Equal(t, "c.md", answer.CurrentPath)
	require.Equal(t, "b.md", answer.History[0].Path, "newest last")
	require.Equal(t, "c.md", answer.History[1].Path)

	b.alias(t, "c.md", "a.md")
	b.requireAliases(t, "b.md=a.md", "c.md=a.md")
	require.Equal(t, "a.md", b.current(t, "a.md"), "no alias is left at a.md, and no loop")
}

func TestAliasesOfDirectories(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	b.alias(t, "docs", "guide")
	b.alias(t, "docs/old", "attic")
	b.alias(t, "guide/a.md", "guide/b.md")
	for path, want := range map[string]string{
		"docs/x.md": "guide/x.md", "docs/sub/x.md": "guide/sub/x.md", "docs": "guide",
		"docs/old/x.md": "attic/x.md",                   // the longest prefix
		"docs2/x.md":    "docs2/x.md", "docs2": "docs2", // components, not letters
		"docs/a.md":  "guide/b.md", // moved after the directory did
		"guide/b.md": "guide/b.md", "other.md": "other.md",
	} {
		require.Equal(t, want, b.current(t, path), path)
	}
	b.alias(t, "guide/x.md", "docs/x.md")
	require.Equal(t, "docs/x.md", b.current(t, "docs/x.md"), "it came back below a directory that has an alias")
	require.Equal(t, "docs/x.md", b.current(t, "guide/x.md"))
	require.Equal(t, "guide/y.md", b.current(t, "docs/y.md"))

	answer, err := b.store.Resolve(b.ctx, "docs", "docs/sub/x.md")
	require.NoError(t, err)
	require.Equal(t, "guide/sub/x.md", answer.History[0].Path, "told of the path below the directory")
}

func TestAFileThatComesBackEndsItsAlias(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	b.alias(t, "a.md", "b.md")
	b.alias(t, "docs", "guide")
	b.see(t, "a.md")
	b.see(t, "docs/x.md")
	b.requireAliases(t, "docs=guide")
	require.Equal(t, "a.md", b.current(t, "a.md"))
	require.Equal(t, "docs/x.md", b.current(t, "docs/x.md"), "a living file is at home")
	require.Equal(t, "guide/y.md", b.current(t, "docs/y.md"))
	b.lose(t, "a.md")
	require.Equal(t, "a.md", b.current(t, "a.md"), "an alias that ended does not begin again")
	b.alias(t, "a.md", "c.md")
	b.see(t, "a.md") // an update this time
	b.requireAliases(t, "docs=guide")
}

func TestAliasHistoryIsTrimmed(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	_, err := b.pool.Exec(b.ctx, `INSERT INTO rehome.settings VALUES ('max_version_history', '3')`)
	require.NoError(t, err)
	for i := range 6 {
		b.alias(t, fmt.Sprintf("v%d", i), fmt.Sprintf("v%d", i+1))
	}
	alias, err := b.store.Alias(b.ctx, "docs", "v0")
	require.NoError(t, err)
	var kept []string
	for _, v := range alias.History {
		kept = append(kept, v.Path)
	}
	require.Equal(t, []string{"v4", "v5", "v6"}, kept)
	b.alias(t, "v0", "v6")
	again, err := b.store.Alias(b.ctx, "docs", "v0")
	require.NoError(t, err)
	require.Equal(t, alias, again, "said again, nothing changes")
}

func TestAddAliasKeepsMetadata(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	_, err := b.store.AddAlias(b.ctx, "docs", "a", "b", map[string]string{"by": "me", "why": "typo"})
	require.NoError(t, err)
	alias, err := b.store.AddAlias(b.ctx, "docs", "a", "c", map[string]string{"why": "plan"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"by": "me", "why": "plan"}, alias.Metadata)
	require.Empty(t, alias.MigrationID)
}

func TestAddAliasRefuses(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	b.see(t, "lives.md")
	for _, c := range []struct {
		original, current string
		kind              error
		say               string
	}{
		{"a", "a", store.ErrInvalid, "leads to itself"},
		{"a", "a/b", store.ErrInvalid, "moved into itself"},
		{"a/b", "a", store.ErrInvalid, "taken the place"},
		{"", "a", store.ErrInvalid, "want two paths"},
		{"/etc/a", "b", store.ErrInvalid, "relative"},
		{"a/../b", "c", store.ErrInvalid, "relative"},
		{"a", "b//c", store.ErrInvalid, "relative"},
		{"u\u0308ber", "b", store.ErrInvalid, "NFC"},
		{"lives.md", "b", store.ErrConflict, "a file lives at lives.md"},
	} {
		_, err := b.store.AddAlias(b.ctx, "docs", c.original, c.current, nil)
		require.ErrorIs(t, err, c.kind, c.say)
		require.ErrorContains(t, err, c.say)
	}
	_, err := b.store.AddAlias(b.ctx, "nowhere", "a", "b", nil)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.ErrorIs(t, b.store.RemoveAlias(b.ctx, "docs", "a"), store.ErrNotFound)
	require.ErrorIs(t, b.store.RemoveAlias(b.ctx, "nowhere", "a"), store.ErrNotFound)
	_, err = b.store.Alias(b.ctx, "docs", "a")
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = b.store.Aliases(b.ctx, "nowhere", 1)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = b.store.Resolve(b.ctx, "nowhere", "a")
	require.ErrorIs(t, err, store.ErrNotFound)
	b.requireAliases(t)
}

func TestRemoveAlias(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	b.alias(t, "a", "b")
	b.alias(t, "c", "d")
	require.NoError(t, b.store.RemoveAlias(b.ctx, "docs", "a"))
	b.requireAliases(t, "c=d")
	require.Equal(t, "a", b.current(t, "a"))
}

func TestExpiredAliasesDoNotResolve(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	b.alias(t, "docs", "guide")
	b.alias(t, "docs/a.md", "c.md")
	_, err := b.pool.Exec(b.ctx, `UPDATE rehome.version_aliases SET expires_at = now() - interval '1s' WHERE original_path = 'docs/a.md'`)
	require.NoError(t, err)
	require.Equal(t, "guide/a.md", b.current(t, "docs/a.md"), "the directory's alias is left")
	b.alias(t, "c.md", "d.md")
	b.requireAliases(t, "c.md=d.md", "docs=guide", "docs/a.md=c.md")
	alias := b.alias(t, "docs/a.md", "e.md")
	require.Nil(t, alias.ExpiresAt, "said again, it begins anew")
	require.Equal(t, "e.md", b.current(t, "docs/a.md"))
}

// A memory whose table was never scanned has no catalogue: the files that a plan
// moves are known from the plan alone.
func TestSwitchWithoutACatalogue(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	rules := []resilience.RenameRule{{Old: "docs", New: "guide"}, {Old: "guide", New: "attic"}, {Old: "x.md", New: "y.md"}, {Old: "y.md", New: "x.md"}}
	plan := b.plan(t, rules)
	for _, pair := range []string{"docs/a.md=guide/a.md", "docs/b.md=guide/b.md", "guide/b.md=attic/b.md", "guide/c.md=attic/c.md", "x.md=y.md", "y.md=x.md"} {
		before, after, _ := strings.Cut(pair, "=")
		_, err := b.pool.Exec(b.ctx, `
			INSERT INTO rehome.migration_paths (plan_id, old_path, old_key, new_path, new_key, rule) VALUES ($1, $2, $2, $3, $3, 1)`, plan, before, after)
		require.NoError(t, err)
	}
	require.NoError(t, store.SwitchAliases(b.store, b.ctx, plan, "docs"))
	for path, want := range map[string]string{
		"docs/a.md": "guide/a.md", "docs/b.md": "guide/b.md", "docs/picture.png": "guide/picture.png",
		"guide/c.md": "attic/c.md", // another file's directory took the place
		"guide/b.md": "guide/b.md", // docs/b.md is there now
		"guide/a.md": "guide/a.md", "x.md": "x.md", "y.md": "y.md",
	} {
		require.Equal(t, want, b.current(t, path), path)
	}
	alias, err := b.store.Alias(b.ctx, "docs", "guide/c.md")
	require.NoError(t, err)
	require.Equal(t, plan, alias.MigrationID)
	require.NoError(t, store.UnswitchAliases(b.store, b.ctx, plan, "docs"))
	b.requireAliases(t)
}

func TestUnswitchLeavesWhatChangedSince(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	for _, path := range []string{"docs/a.md", "docs/b.md", "docs/c.md"} {
		b.see(t, path)
	}
	b.alias(t, "first", "docs")
	b.alias(t, "second", "docs")
	plan := b.switchTo(t, resilience.RenameRule{Old: "docs", New: "guide"})
	require.Equal(t, "guide/a.md", b.current(t, "first/a.md"))
	_, err := b.store.Resolve(b.ctx, "docs", "first/a.md")
	require.NoError(t, err)
	b.alias(t, "second", "elsewhere")
	_, err = b.pool.Exec(b.ctx, `UPDATE rehome.files SET content_hash = 'edited' WHERE path = 'guide/b.md'`)
	require.NoError(t, err)
	b.see(t, "docs/c.md")

	require.NoError(t, store.UnswitchAliases(b.store, b.ctx, plan, "docs"))
	b.requireAliases(t, "first=docs", "second=elsewhere")
	alias, err := b.store.Alias(b.ctx, "docs", "first")
	require.NoError(t, err)
	require.EqualValues(t, 1, alias.AccessCount, "what was counted stays counted")
	rows, err := b.pool.Query(b.ctx, `SELECT path FROM rehome.files WHERE gone_at IS NULL ORDER BY 1`)
	require.NoError(t, err)
	living := []string{}
	for rows.Next() {
		var path string
		require.NoError(t, rows.Scan(&path))
		living = append(living, path)
	}
	require.Equal(t, []string{"docs/a.md", "docs/b.md", "docs/c.md", "guide/b.md"}, living)
}

// What is written in another normal form keeps it, but for what a rule says.
func TestSwitchKeepsRawPaths(t *testing.T) {
	t.Parallel()
	b := newAliasBench(t, devtest.Pool(t), "docs")
	_, err := b.pool.Exec(b.ctx, `
		INSERT INTO rehome.files (memory, path, raw_path, size, mtime)
		VALUES ('docs', $1, convert_to($2, 'UTF8'), 7, now())`, "\u00fcber/\u00e9.md", "u\u0308ber/e\u0301.md")
	require.NoError(t, err)
	b.switchTo(t, resilience.RenameRule{Old: "\u00fcber", New: "about"})
	var raw string
	require.NoError(t, b.pool.QueryRow(b.ctx, `
		SELECT convert_from(raw_path, 'UTF8') FROM rehome.files WHERE path = $1 AND size = 7 AND gone_at IS NULL`, "about/\u00e9.md").Scan(&raw))
	require.Equal(t, "about/e\u0301.md", raw)
	require.Equal(t, "about/e\u0301.md", b.current(t, "u\u0308ber/e\u0301.md"))
}

func TestSwitchManyRules(t *testing.T) {
	t.Parallel()
	files := 20_000
	if testing.Short() {
		files = 2_000
	}
	b := newAliasBench(t, devtest.Pool(t), "docs")
	ctx := context.Background()
	_, err := b.pool.Exec(ctx, `
		INSERT INTO rehome.files (memory, path, raw_path, size, mtime)
		SELECT 'docs', p, convert_to(p, 'UTF8'), 1, now() FROM (SELECT 'd' || i % 50 || '/f' || i AS p FROM generate_series(1, $1) i) x`, files)
	require.NoError(t, err)
	rules := make([]resilience.RenameRule, files)
	for i := range rules {
		rules[i] = resilience.RenameRule{Old: fmt.Sprintf("d%d/f%d", (i+1)%50, i+1), New: fmt.Sprintf("e%d/g%d", (i+1)%60, i+1)}
	}
	b.switchTo(t, rules...)
	var moved int
	require.NoError(t, b.pool.QueryRow(ctx, `
		SELECT count(*) FROM rehome.version_aliases a JOIN rehome.files f ON f.memory = a.memory AND f.path = a.current_path AND f.gone_at IS NULL`).Scan(&moved))
	require.Equal(t, files, moved)
}
