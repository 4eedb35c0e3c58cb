package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// names writes what a JSON result consists of, as a.b and a[].b, sorted.
func names(prefix string, value any) []string {
	var all []string
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			all = append(all, names(strings.TrimPrefix(prefix+"."+key, "."), v[key])...)
		}
	case []any:
		for _, item := range v {
			all = append(all, names(prefix+"[]", item)...)
		}
	}
	if len(all) == 0 {
		all = []string{prefix}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// has requires that a command is done and that its JSON has these names. More
// may come; none may go.
func (b *bundle) has(command, expected string) map[string]any {
	b.t.Helper()
	var result map[string]any
	b.result(&result, strings.Fields(command)...)
	require.Subset(b.t, names("", result), strings.Fields(expected), command)
	return result
}

// TestStableNames carries chunks through their life and holds the names that
// scripts read.
func TestStableNames(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	root := b.memory("default", "guide/a.md", "guide/b.md", "gone.md")
	b.has("ingest", `memory files.seen files.new files.changed files.unchanged files.skipped skipped_by_reason
		chunks.new chunks.kept chunks.replaced bytes duration_ms workflow_id`)

	require.NoError(t, os.Remove(filepath.Join(root, "gone.md")))
	b.has("scan", `scan_id memory status files.seen files.new files.changed files.missing files.renamed
		orphans.total orphans.bytes orphans.by_kind.missing conflicts aliases_created migrations duration_ms workflow_id`)
	b.has("scan --dry-run", `scan_id dry_run orphans.total`)
	b.ok("scan")
	orphans := b.has("orphans list", `orphans[].chunk_id orphans[].file_path orphans[].kind orphans[].priority orphans[].bytes
		orphans[].owners orphans[].confirmed orphans[].first_missing_at orphans[].missing_scans`)
	chunk := orphans["orphans"].([]any)[0].(map[string]any)["chunk_id"].(string)
	b.has("orphans show "+chunk, "chunk_id file_path kind reason")
	b.has("orphans hold "+chunk+" --reason kept", "memory chunk_id held reason")
	b.has("orphans unhold "+chunk, "memory chunk_id held")
	b.ok("scan")
	b.ok("scan")
	waived := "cleanup --grace 0 --confirm default"
	b.has(waived+" --dry-run", "run_id memory dry_run total_orphans limit")
	require.Contains(t, b.ok(strings.Fields(waived+" --dry-run --max 1")...).out, "1 in one run; clean up again for what is left")
	cleaned := b.has(waived, `run_id memory dry_run total_orphans cleaned_orphans failed_cleanups skipped bytes_freed
		aliases_expired purged duration_ms workflow_id`)
	require.EqualValues(t, 1, cleaned["cleaned_orphans"])
	b.has("quarantine list --path gone.md", `quarantined[].id quarantined[].chunk_id quarantined[].file_path quarantined[].reason
		quarantined[].run_id quarantined[].bytes quarantined[].quarantined_at quarantined[].retain_until`)
	require.EqualValues(t, 1, b.has("quarantine restore --run "+cleaned["run_id"].(string), "memory restored bytes left dropped")["restored"])

	migrated := b.has("migrate --rename guide=handbook", `migration_id memory strategy kind status moves moved stayed drifted
		vanished disagree plan_hash duration_ms apply_ms planning_ms workflow_id policy.batch_size rollback_plan[]
		estimate.ways[].way estimate.ways[].ms estimate.ways[].note estimate.ways[].taken`)
	id := migrated["migration_id"].(string)
	b.has("migration show "+id, "migration_id status link renames[].old renames[].new events[].at events[].event")
	b.has("migration list", "migrations[].migration_id migrations[].status")
	b.has("resolve guide/a.md", "path current_path aliased history[].path history[].at")
	b.has("alias list", `aliases[].original_path aliases[].current_path aliases[].history[].path aliases[].access_count aliases[].migration_id`)
	b.has("alias history guide", "original_path history[].path")
	b.has("alias add old.md new.md --meta ticket=7", "original_path current_path metadata.ticket")
	b.has("alias remove old.md", "original_path")
	b.has("memory list", "memories[].name memories[].root memories[].builtin")
	b.has("memory show default", "name root mapping.id mapping.locators[].column")
	status := b.has("status", `installation memories[].name memories[].chunks memories[].scanned_at aliases orphans
		migrations.completed quarantine.chunks schedules healthy problems`)
	require.Equal(t, true, status["healthy"])
}

// TestPeopleReadTables looks at what a person sees without --json.
func TestPeopleReadTables(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 1, "a.md")
	a := b.ok("migrate", "--rename", "a.md=b.md")
	require.Regexp(t, `(?m)^status +completed$`, a.out)
	require.Regexp(t, `^started r\w+/migrate/default/m-\S+ at http://ui.test/namespaces/default/workflows/\S+/history\n$`, a.err)
	require.Equal(t, "b.md\n", b.ok("resolve", "a.md").out)
	require.Regexp(t, `(?m)^OLD PATH +NOW +USED +CHANGED +BY\na.md +b.md +1 `, b.ok("alias", "list").out)
	require.Regexp(t, `(?m)^memory default +never scanned$`, b.ok("status").out)
}

func TestCompletionAndHelp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		require.Contains(t, b.ok("completion", shell).out, "starter", shell)
	}
	require.Contains(t, b.ok("__complete", "migration", "").out, "rollback\tUndo a migration")
	root := newRoot(&session{}, nil)
	for _, c := range root.Commands() {
		for _, verb := range append(c.Commands(), c) {
			help := b.ok(append(strings.Fields(verb.CommandPath())[1:], "--help")...).out
			require.Contains(t, help, "EXIT STATUS", verb.CommandPath())
			require.Contains(t, help, "Examples:", verb.CommandPath())
		}
	}
}
