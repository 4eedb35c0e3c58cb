package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestShowSaysWhatIsTriedAgain: a full disk is waited out, and who looks is told why
// nothing moves.
func TestShowSaysWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 20, "guide/a.md")
	b.exec(`CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no space is left' USING ERRCODE = 'disk_full'; END $$`)
	b.exec(`CREATE TRIGGER disk BEFORE UPDATE ON rehome.chunks FOR EACH ROW EXECUTE FUNCTION public.full()`)
	var left detached
	b.result(&left, "migrate", "--rename", "guide=handbook", "--detach")
	b.await(left.Migration, "executing")
	require.Eventually(t, func() bool {
		shown := b.ok("migration", "show", left.Migration).out
		return strings.Contains(shown, "tries again") && strings.Contains(shown, "no space is left")
	}, time.Minute, 100*time.Millisecond)
	var shown shownPlan
	b.result(&shown, "migration", "show", left.Migration)
	require.Len(t, shown.Tries, 1)
	require.Equal(t, "MoveSlice", shown.Tries[0].Step)
	require.Greater(t, shown.Tries[0].Attempt, int32(1))
	require.Equal(t, "executing", string(shown.Status))

	address := b.env["TEMPORAL_ADDRESS"]
	b.env["TEMPORAL_ADDRESS"] = "127.0.0.1:9"
	require.Contains(t, b.ok("migration", "show", left.Migration).out, "unknown: cannot reach Temporal at 127.0.0.1:9")
	b.env["TEMPORAL_ADDRESS"] = address

	b.exec(`DROP TRIGGER disk ON rehome.chunks`)
	b.await(left.Migration, "completed")
	require.NotContains(t, b.ok("migration", "show", left.Migration).out, "tries again")
}
