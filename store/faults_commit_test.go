package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// TestFault11ALostCommitIsReadBack loses the answer to the COMMIT of each step of
// a migration in turn, and the COMMIT itself. Whoever tries again looks first.
func TestFault11ALostCommitIsReadBack(t *testing.T) {
	t.Parallel()
	for name, journey := range map[string]func(*lossy){
		"a rename":                   func(l *lossy) { l.rename(3) },
		"a rename in joined batches": func(l *lossy) { l.join = 2; l.rename(2) },
		"the aliases":                (*lossy).aliases,
		"a transfer":                 (*lossy).transferred,
		"an aborted transfer":        (*lossy).aborted,
	} {
		for _, how := range []devtest.Cut{devtest.BeforeCommit, devtest.AfterCommit} {
			t.Run(name+", "+string(how), func(t *testing.T) {
				t.Parallel()
				journey(newLossy(t, how))
			})
		}
	}
}

// rename takes ten rows there and twelve back, in so many steps.
func (l *lossy) rename(steps int) {
	l.fill(10, "a.md")
	start := l.rows("rehome.chunks")
	id := l.begins(store.NewPlan{ID: "m-1", Memory: "docs", Renames: []resilience.RenameRule{rule("a.md", "b.md")}})
	require.Equal(l, steps, l.move("a batch", id, done, (*store.Mover).Apply))
	l.fill(2, "a.md")
	l.twice("the sweep", func(ctx context.Context) error { _, err := l.shaky.Sweep(ctx, id); return err })
	require.Equal(l, 1, l.move("a batch of late rows", id, done, (*store.Mover).Apply))
	require.Equal(l, map[string]int{"b.md": 12}, l.at())
	l.turn(id)
	require.Equal(l, steps, l.move("a batch back", id, undone, (*store.Mover).Revert))
	l.step("the end of the undo", id, (*store.Store).EndUndo)
	require.Equal(l, map[string]int{"a.md": 12}, l.at())
	require.Subset(l, l.rows("rehome.chunks"), start)
	l.accountedEvents(id, "rolled back")
}

// aliases are switched where some lead to the old path already, and files are
// known there; then they are switched back, and once more by the undo of a plan
// that was completed.
func (l *lossy) aliases() {
	l.fill(3, "guide/a.md", "guide/b.md")
	b := &aliasBench{ctx: l.Context(), pool: l.pool, memory: "docs"}
	b.see(l, "guide/a.md")
	b.see(l, "guide/b.md")
	_, err := l.store.AddAlias(l.Context(), "docs", "old", "guide", nil)
	require.NoError(l, err)
	start := b.state(l)
	pages := func(undoes string) string {
		l.made++
		id := l.begins(store.NewPlan{ID: fmt.Sprintf("m-%d", l.made), Memory: "docs", Undoes: undoes, Renames: []resilience.RenameRule{rule("guide", "pages")}})
		l.move("a batch", id, done, (*store.Mover).Apply)
		l.step("the switch", id, (*store.Store).Switch)
		return id
	}
	led := func(to string) {
		for _, path := range []string{"old/b.md", "guide/b.md", "pages/b.md"} {
			require.Equal(l, to+"/b.md", b.current(l, path), path)
		}
	}
	first := pages("")
	led("pages")
	switched := l.rows("(SELECT original_path, current_path, jsonb_array_length(version_history) FROM rehome.version_aliases)")
	l.turn(first)
	l.step("the switch back", first, (*store.Store).UndoSwitch)
	require.Equal(l, start, b.state(l))
	l.move("a batch back", first, undone, (*store.Mover).Revert)
	l.step("the end of the undo", first, (*store.Store).EndUndo)

	second := pages("")
	require.Equal(l, switched, l.rows("(SELECT original_path, current_path, jsonb_array_length(version_history) FROM rehome.version_aliases)"))
	l.step("the end", second, (*store.Store).Complete)
	undo := pages(second)
	l.step("the end", undo, (*store.Store).Complete)
	require.Equal(l, start, b.state(l))
	for _, id := range []string{first, second, undo} {
		l.accountedEvents(id, map[string]string{first: "rolled back", second: "undone", undo: "completed"}[id])
	}
}

// transferring is a transfer of ten chunks that are referred to, read, held and
// led to by an alias, up to its last row.
func (l *lossy) transferring() string {
	l.Helper()
	directions[1].set(l.migrations)
	for _, id := range l.ids("docs")[:3] {
		l.exec(`SELECT rehome.refer('docs', $1, 'answer'), rehome.touch('docs', ARRAY[$1])`, id)
	}
	l.hold("docs")
	_, err := l.store.AddAlias(l.Context(), "docs", "old", "guide", nil)
	require.NoError(l, err)
	return "t-1"
}

// there does all of a transfer but its end.
func (l *lossy) there(id string) {
	l.Helper()
	l.begins(store.NewPlan{ID: id, Memory: "docs", Transfer: resilience.TransferOrder{To: "notes", Prefix: "guide"}})
	require.Equal(l, 3, l.move("a batch of copies", id, done, (*store.Mover).Apply))
	require.Len(l, l.ids("notes"), 10)
	l.step("the switch of references", id, (*store.Store).SwitchReferences)
	l.exec(`UPDATE rehome.chunks SET content = 'late' WHERE id::text = $1`, l.ids("docs")[4]) // so that a copy is brought up to date
	require.Equal(l, 3, l.retirement("a batch that is retired", id, done, (*store.Retirer).Apply))
	require.Empty(l, l.ids("docs"))
	require.Len(l, l.ids("notes"), 10)
	require.Equal(l, 10, l.count(`SELECT count(*) FROM rehome.quarantine WHERE memory = 'docs' AND restored_at IS NULL`))
	require.Equal(l, 3, l.count(`SELECT sum(reference_count) FROM rehome.chunk_references WHERE memory = 'notes' AND chunk_id = ANY ($1)`, l.ids("notes")))
	require.Equal(l, 3, l.count(`SELECT sum(access_count) FROM rehome.chunk_access WHERE memory = 'notes' AND chunk_id = ANY ($1)`, l.ids("notes")))
	require.Equal(l, 1, l.count(`SELECT count(*) FROM public.notes WHERE body = 'late'`))
}

// restart is what the tables are once they are as before, the late edit apart.
func (l *lossy) restart() map[string][]string {
	l.exec(`UPDATE rehome.chunks SET content = 'text ' || ordinal || ' of ' || path WHERE content = 'late'`)
	return l.tables()
}

func (l *lossy) transferred() {
	id := l.transferring()
	start := l.tables()
	l.there(id)
	l.step("the end", id, (*store.Store).Complete)
	l.accountedEvents(id, "completed")
	require.EqualValues(l, 10, l.accounted(id).Moved)

	undo := l.begins(store.NewPlan{ID: "t-2", Memory: "docs", Undoes: id})
	require.Equal(l, 3, l.retirement("a batch that comes back", undo, done, (*store.Retirer).Apply))
	l.step("the switch of references", undo, (*store.Store).SwitchReferences)
	require.Equal(l, 3, l.move("a batch of copies that go", undo, done, (*store.Mover).Apply))
	l.step("the end", undo, (*store.Store).Complete)
	require.Equal(l, start, l.restart())
	require.EqualValues(l, 10, l.accounted(undo).Moved)
	l.accountedEvents(undo, "completed")
}

func (l *lossy) aborted() {
	id := l.transferring()
	start := l.tables()
	l.there(id)
	l.turn(id)
	require.Equal(l, 3, l.retirement("a batch that comes back", id, undone, (*store.Retirer).Revert))
	l.step("the switch of references back", id, (*store.Store).UndoSwitchReferences)
	require.Equal(l, 3, l.move("a batch of copies that go", id, undone, (*store.Mover).Revert))
	l.step("the end of the undo", id, (*store.Store).EndUndo)
	require.Equal(l, start, l.restart())
	l.accountedEvents(id, "rolled back")
}
