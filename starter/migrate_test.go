package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMigrateAndRollback(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("docs")
	b.chunks("docs", 3, "guide/a.md", "guide/sub/b.md", "other.md")
	start := b.checksum("migration_plans", "migration_runs", "migration_progress", "migration_events", "migration_paths", "migration_renames")

	var plan map[string]any
	b.result(&plan, "migrate", "--memory", "docs", "--rename", "guide=handbook", "--batch-size", "7")
	require.Equal(t, "completed", plan["status"])
	require.EqualValues(t, 6, plan["moved"])
	id := plan["migration_id"].(string)
	require.NotEqual(t, start, b.checksum("migration_plans", "migration_runs", "migration_progress", "migration_events", "migration_paths", "migration_renames"))

	a := b.ok("resolve", "--memory", "docs", "guide/sub/b.md")
	require.Equal(t, "handbook/sub/b.md\n", a.out)

	var undo map[string]any
	b.result(&undo, "migration", "rollback", id)
	require.Equal(t, "completed", undo["status"])
	require.Equal(t, id, undo["undoes"])
	require.EqualValues(t, 7, undo["policy"].(map[string]any)["batch_size"], "as it went")

	var shown map[string]any
	b.result(&shown, "migration", "show", id)
	require.Equal(t, "rolled_back", shown["status"])
	require.Len(t, shown["renames"], 1)
	_, err := json.Marshal(shown)
	require.NoError(t, err)
}

// TestAnUndoHasItsTime: what ended longer ago than the window is refused, until
// the window is longer.
func TestAnUndoHasItsTime(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 3, "guide/a.md")
	var plan map[string]any
	b.result(&plan, "migrate", "--rename", "guide=handbook")
	id := plan["migration_id"].(string)
	b.exec(`UPDATE rehome.migration_plans SET finished_at = finished_at - interval '8 days'`)
	b.refuses(bad{"migration rollback " + id, exitRefused, "could be undone for 168h0m0s after that"})
	b.exec(`INSERT INTO rehome.settings (key, value) VALUES ('undo_window', '30d')`)
	require.Equal(t, "completed", b.has("migration rollback "+id, "status")["status"])
}
