package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// theirs gives each path of public.notes, as it is written there, a chunk of a team.
func (m *migrations) theirs(team string, paths ...string) {
	m.Helper()
	m.exec(`
		INSERT INTO public.notes (id, body, meta, team)
		SELECT team || path, 'theirs', jsonb_build_object('loc', jsonb_build_object('source', path)), team FROM unnest($2::text[]) path, CAST($1 AS text) team`, team, paths)
}

// kinds are the conflicts of a plan without their words, which all have.
func (m *migrations) kinds(id string) []resilience.Conflict {
	m.Helper()
	got := m.conflicts(id)
	for i := range got {
		require.NotEmpty(m, got[i].Detail)
		got[i].Detail = ""
	}
	return got
}

func TestEveryConflictOfATransferIsListed(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "text", ""))
	m.fill(2, "guide/a.md", "guide/b/x.md", "guide/c", "guide/Read.md", "guide/\u00e9.md", "guide/id.md", "guide/free.md", "/srv/guide/free.md", "guide/own.md", "zoo.md")
	m.theirs("blue", "/srv/guide/a.md", "/srv/guide/b", "/srv/guide/c/deep.md", "/srv/guide/READ.md", "/srv/guide/e\u0301.md", "/srv/zoology.md")
	m.theirs("red", "/srv/zoo.md")
	m.exec(`UPDATE public.notes SET id = (SELECT max(id) FROM rehome.chunks WHERE path = 'guide/id.md') WHERE team = 'red'`)
	owner, err := m.plan("", rule("guide/own.md", "elsewhere.md"))
	require.NoError(t, err)
	start := m.tables()

	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "is being moved by migration "+owner)
	require.ErrorContains(t, err, "starter migration show "+id)
	want := []resilience.Conflict{
		found(resilience.OtherPlan, "guide", "guide"),
		found(resilience.TargetTaken, "guide/a.md", "guide/a.md"),
		found(resilience.TargetTaken, "guide/b/x.md", "guide/b/x.md"),
		found(resilience.TargetTaken, "guide/c", "guide/c"),
		found(resilience.Lookalike, "guide/Read.md", "guide/Read.md"),
		found(resilience.Lookalike, "guide/\u00e9.md", "guide/\u00e9.md"),
		found(resilience.DuplicateTarget, "guide/free.md", "guide/free.md"),
		found(resilience.TakenID, "guide/id.md", "guide/id.md"),
	}
	require.ElementsMatch(t, want, m.kinds(id))
	plan, err := m.store.Plan(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, len(want), plan.Conflicts)
	require.Equal(t, start, m.tables())
	require.Zero(t, m.count(`SELECT count(*) FROM rehome.migration_paths WHERE plan_id = $1`, id))

	// Nothing of it is left to stand in the way when it is tried again.
	require.ErrorIs(t, m.store.Journal(t.Context(), id), store.ErrConflict)
	require.ElementsMatch(t, want, m.kinds(id))
	m.exec(`DELETE FROM public.notes`)
	m.exec(`DELETE FROM rehome.chunks WHERE path = '/srv/guide/free.md'`)
	require.NoError(t, m.store.CancelPlan(t.Context(), owner, "", "a test"))
	require.NoError(t, m.store.Journal(t.Context(), id))
	require.Empty(t, m.conflicts(id))
}

func TestAPathThatIsTooLongForTheTargetIsAConflict(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.exec(`CREATE TABLE public.short (id bigserial PRIMARY KEY, body text, source varchar(9), rest jsonb)`)
	m.memory("short", resilience.Mapping{
		Schema: "public", Table: "short", ID: "id", IDType: "bigint", Content: "body", Metadata: "rest",
		Locators: []resilience.Locator{{Column: "source", Type: "character varying"}},
	})
	m.fill(1, "fits.md", "is too long.md")
	m.exec(`UPDATE rehome.chunks SET embedding = NULL`)
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "short"})
	require.ErrorIs(t, err, store.ErrConflict)
	require.Equal(t, []resilience.Conflict{found(resilience.TooLong, "is too long.md", "is too long.md")}, m.kinds(id))
}

func TestATransferOfNothingIsListed(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("other", resilience.BuiltinMapping("other"))
	for _, prefix := range []string{"", "nothing"} {
		id, err := m.transfer("docs", "", resilience.TransferOrder{To: "other", Prefix: prefix})
		require.ErrorIs(t, err, store.ErrNotFound)
		require.Equal(t, []resilience.Conflict{found(resilience.NoSource, prefix, prefix)}, m.kinds(id))
	}
}

// TestALookalikeThatComesLateIsFound, when the plan is looked at again, and by the sweep.
func TestALookalikeThatComesLateIsFound(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "text", ""))
	m.fill(3, "guide/a.md")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
	require.NoError(t, err)
	m.theirs("blue", "/srv/guide/A.md")
	require.Equal(t, "chunks of guide/A.md came to be where it would move others", m.recheck(id))
	m.exec(`DELETE FROM public.notes`)
	require.Empty(t, m.recheck(id))

	m.apply(id, -1)
	require.Empty(t, m.recheck(id), "its own copies are not in its way")
	m.theirs("blue", "/srv/guide/B.md")
	m.fill(2, "guide/b.md", "guide/c.md")
	left, err := m.store.Sweep(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 2, left)
	require.Equal(t, []resilience.Conflict{found(resilience.Lookalike, "guide/b.md", "guide/b.md")}, m.kinds(id))
}
