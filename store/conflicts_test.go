package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

func (m *migrations) conflicts(id string) []resilience.Conflict {
	m.Helper()
	found, err := m.store.Conflicts(m.Context(), id, resilience.KeptConflicts)
	require.NoError(m, err)
	return found
}

// found is a conflict without its words.
func found(kind resilience.ConflictKind, source, target string) resilience.Conflict {
	return resilience.Conflict{Kind: kind, Source: source, Target: target}
}

func TestFault02And03EveryConflictIsListed(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.fill(1, "a.md", "b.md", "c.md", "d/x.md", "d/y.md", "e/x.md", "f/ü.md", "lone.md", "Readme.md", "owned/1.md", "owned/2.md",
		"nfd/e\u0301.md", "nfc.md", "up/README.md", "down.md", "swap1", "swap2", "case.md")
	owner, err := m.plan("", rule("owned", "theirs"))
	require.NoError(t, err)
	before := m.rows("rehome.chunks")

	id, err := m.plan("",
		rule("a.md", "b.md"),              // taken
		rule("d", "e"),                    // one of the two is taken
		rule("c.md", "q/1.md"),            // two to one
		rule("f", "q"),                    // fine: ü.md goes to q/ü.md
		rule("lone.md", "q/Ü.md"),         // and this looks like it
		rule("down.md", "README.md"),      // as Readme.md, which stays
		rule("nothing.md", "n.md"),        // not there
		rule("up", "up"),                  // same
		rule("nfd", "nfd/below"),          // nested
		rule("nfc.md", "elsewhere/1.md"),  // fine
		rule("owned/1.md", "mine/1.md"),   // another's
		rule("swap1", "swap2"),            // fine
		rule("swap2", "swap1"),            // fine
		rule("case.md", "CASE.md"),        // fine: it leaves its own place
		rule("e/nothing.md", "e/none.md")) // not there
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "is being moved by migration "+owner)
	require.ErrorContains(t, err, "starter migration show "+id)

	got := m.kinds(id)
	require.ElementsMatch(t, []resilience.Conflict{
		found(resilience.OtherPlan, "owned/1.md", "mine/1.md"),
		found(resilience.TargetTaken, "a.md", "b.md"),
		found(resilience.TargetTaken, "d/x.md", "e/x.md"),
		found(resilience.Lookalike, "lone.md", "q/Ü.md"),
		found(resilience.Lookalike, "down.md", "README.md"),
		found(resilience.NoSource, "nothing.md", "n.md"),
		found(resilience.NoSource, "e/nothing.md", "e/none.md"),
		found(resilience.SamePath, "up", "up"),
		found(resilience.NestedScope, "nfd", "nfd/below"),
	}, got)
	plan, err := m.store.Plan(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, len(got), plan.Conflicts)
	require.Equal(t, before, m.rows("rehome.chunks"))

	// Nothing of it is left to stand in another's way, nor when it is tried again.
	require.ErrorIs(t, m.store.Journal(t.Context(), id), store.ErrConflict)
	require.Len(t, m.conflicts(id), len(got))
	_, err = m.plan("", rule("c.md", "q/1.md"))
	require.NoError(t, err)
}

func TestTwoFilesToOnePlaceConflict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		paths []string
		rules []resilience.RenameRule
		want  resilience.Conflict
	}{
		"Same":        {[]string{"d/x.md", "a.md"}, []resilience.RenameRule{rule("d", "q"), rule("a.md", "q/x.md")}, found(resilience.DuplicateTarget, "d/x.md", "q/x.md")},
		"Rules":       {[]string{"a", "b/x"}, []resilience.RenameRule{rule("a", "q"), rule("b", "q")}, found(resilience.DuplicateTarget, "b", "q")},
		"Case":        {[]string{"d/x.md", "a.md"}, []resilience.RenameRule{rule("d", "q"), rule("a.md", "q/X.MD")}, found(resilience.Lookalike, "d/x.md", "q/x.md")},
		"Sigma":       {[]string{"d/ος", "a.md"}, []resilience.RenameRule{rule("d", "q"), rule("a.md", "q/ΟΣ")}, found(resilience.Lookalike, "d/ος", "q/ος")},
		"Form":        {[]string{"d/e\u0301", "f/\u00e9"}, []resilience.RenameRule{rule("d", "q/s"), rule("f/\u00e9", "q/s/\u00e9")}, found(resilience.Lookalike, "f/\u00e9", "q/s/\u00e9")},
		"Compatible":  {[]string{"d/ﬁ", "a.md"}, []resilience.RenameRule{rule("d", "q"), rule("a.md", "q/fi")}, found(resilience.Lookalike, "d/ﬁ", "q/ﬁ")},
		"ExistingNFD": {[]string{"e\u0301.md", "a.md"}, []resilience.RenameRule{rule("a.md", "\u00e9.md")}, found(resilience.Lookalike, "a.md", "\u00e9.md")},
		"BelowAFile":  {[]string{"D", "a.md"}, []resilience.RenameRule{rule("a.md", "d/a.md")}, found(resilience.Lookalike, "a.md", "d/a.md")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(1, c.paths...)
			id, err := m.plan("", c.rules...)
			require.ErrorIs(t, err, store.ErrConflict)
			got := m.conflicts(id)
			require.Len(t, got, 1, got)
			got[0].Detail = ""
			require.Equal(t, c.want, got[0])
		})
	}
}

// TestWhatOnlyLooksLikeAConflictIsNone: case and form of one's own path may change.
func TestWhatOnlyLooksLikeAConflictIsNone(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string][]resilience.RenameRule{
		"CaseOfAFile":      {rule("Guide/a.md", "Guide/A.md")},
		"CaseOfADirectory": {rule("Guide", "guide")},
		"PartOfIt":         {rule("Guide/a.md", "guide/a.md")},
		"SwapOfCase":       {rule("x.md", "X.md"), rule("X.md", "x.md")},
		"AlikeAlready":     {rule("alike", "q")},
		"OneOfThem":        {rule("x.md", "x.MD")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.fill(1, "Guide/a.md", "Guide/b.md", "x.md", "X.md", "alike/a", "alike/A")
			_, err := m.plan("", rules...)
			require.NoError(t, err)
		})
	}
}

func TestConflictsAreCountedBeyondThoseKept(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', d || '/' || i, 0, '' FROM generate_series(1, 1500) i, unnest(ARRAY['a', 'b']) d`)
	id, err := m.plan("", rule("a", "b"))
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "and 1497 more")
	require.Len(t, m.conflicts(id), resilience.KeptConflicts)
	plan, err := m.store.Plan(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 1500, plan.Conflicts)
	require.Empty(t, m.rows("rehome.migration_paths"))

	m.exec(`DELETE FROM rehome.chunks WHERE path LIKE 'b/%'`)
	require.NoError(t, m.store.Journal(t.Context(), id), "the targets are free by now")
	require.Empty(t, m.conflicts(id))
}

// TestPlanningIsNotQuadratic plans a rename for every file of a memory. Ten
// times as many may not take a hundred times as long.
func TestPlanningIsNotQuadratic(t *testing.T) {
	t.Parallel()
	few, many := 2_000, 100_000
	if testing.Short() {
		many = 20_000
	}
	spent := func(n int) time.Duration {
		m := newMigrations(t, resilience.BuiltinMapping("docs"))
		m.exec(`DROP INDEX rehome.chunks_source`) // where none holds the path chains are looked for
		m.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content)
			SELECT 'docs', format('dir%s/sub/file %s.md', i % 100, i), 0, 'text' FROM generate_series(1, $1::int) i`, n)
		m.exec(`INSERT INTO rehome.migration_staged (plan_id, line, old_path, new_path)
			SELECT 'm-1', i, format('dir%s/sub/file %s.md', i % 100, i), format('dir%s/sub/file %s.md', i % 100, (i + 99) % $1 + 1) FROM generate_series(1, $1::int) i`, n)
		began := time.Now()
		id, err := m.plan("")
		require.NoError(t, err)
		plan, err := m.store.Plan(t.Context(), id)
		require.NoError(t, err)
		require.EqualValues(t, n, plan.Moves)
		facts, err := m.store.Facts(t.Context(), plan)
		require.NoError(t, err)
		require.True(t, facts.Settled, "each takes a place that another leaves")
		t.Logf("%d renames: %s", n, time.Since(began))
		return time.Since(began)
	}
	least := spent(few)
	require.Less(t, spent(many), least*time.Duration(4*many/few)+2*time.Second, fmt.Sprint(least))
}

// TestRulesThatABatchCannotBeWrittenUnderAreRefused when it is planned: else it would be
// tried for ever. Those on what the plan does not write are let be.
func TestRulesThatABatchCannotBeWrittenUnderAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule    string
		renames bool // all the same
	}{
		"Also":    {`ON UPDATE TO rehome.chunks DO ALSO INSERT INTO public.log VALUES (NEW.id)`, false},
		"Instead": {`ON UPDATE TO rehome.chunks DO INSTEAD INSERT INTO public.log VALUES (NEW.id)`, false},
		"Nothing": {`ON UPDATE TO rehome.chunks WHERE NEW.id = 7 DO INSTEAD NOTHING`, false},
		"Delete":  {`ON DELETE TO rehome.chunks DO ALSO INSERT INTO public.log VALUES (OLD.id)`, true},
		"Insert":  {`ON INSERT TO rehome.chunks DO ALSO INSERT INTO public.log VALUES (NEW.id)`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.memory("notes", notes(m, "text", ""))
			m.fill(3, "a.md")
			m.exec(`CREATE TABLE public.log (id bigint)`)
			m.exec(`CREATE RULE noted AS ` + c.rule)
			_, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
			require.ErrorIs(t, err, store.ErrRefused)
			require.ErrorContains(t, err, "has rules (noted)")
			if !c.renames {
				_, err := m.plan("", rule("a.md", "b.md"))
				require.ErrorIs(t, err, store.ErrRefused)
				m.exec(`ALTER TABLE rehome.chunks DISABLE RULE noted`)
			}
			require.EqualValues(t, 3, m.migrate("", rule("a.md", "b.md")).Moved)
		})
	}
}
