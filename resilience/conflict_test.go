package resilience_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestConflictsAreExplained(t *testing.T) {
	t.Parallel()
	for kind, says := range map[resilience.ConflictKind]string{
		resilience.TargetTaken:     "a.md cannot go to B.md: the target is taken, there already are chunks of x",
		resilience.DuplicateTarget: "a.md and x would both go to B.md",
		resilience.Lookalike:       "a.md cannot go to B.md: it is x but for case or Unicode form",
		resilience.OtherPlan:       "a.md is being moved by migration x",
		resilience.SharedTable:     "chunks of memory a.md, which is over the same table, are being moved by migration x; wait until it has ended, or roll it back",
		resilience.NoSource:        "there is no chunk at or under a.md: those of x stayed there when it was renamed by alias only; name them by that path",
		resilience.NestedScope:     "a.md cannot go to B.md: one lies in the other",
		resilience.SamePath:        "a.md would go to where it is",
		resilience.Circle:          "a.md cannot go to B.md: files change places, and x; go by a free name, in three migrations: the first file there, the others, the first from there",
		resilience.TooLong:         "a.md cannot go to B.md: that is too long for the column of paths, which is x",
		resilience.TakenID:         "a.md cannot go to B.md: the id x of a chunk of it is taken in the table there, whose column of ids makes none by itself; give that column a default",
	} {
		require.Equal(t, says, resilience.Conflict{Kind: kind, Source: "a.md", Target: "B.md"}.Explain("x"))
	}
}

// TestConflictsOfATransferAreExplained, in which a path stays what it is.
func TestConflictsOfATransferAreExplained(t *testing.T) {
	t.Parallel()
	for kind, says := range map[resilience.ConflictKind]string{
		resilience.TargetTaken: "a.md cannot go to the other memory: the target is taken, there already are chunks of x",
		resilience.Lookalike:   "a.md cannot go to the other memory: it is x but for case or Unicode form",
		resilience.TooLong:     "a.md cannot go to the other memory: that is too long for the column of paths, which is x",
	} {
		require.Equal(t, says, resilience.Conflict{Kind: kind, Source: "a.md", Target: "a.md"}.Explain("x"))
	}
	require.Equal(t, "there is no chunk at or under a.md", resilience.Conflict{Kind: resilience.NoSource, Source: "a.md", Target: "B.md"}.Explain(""))
	require.Equal(t, "there is no chunk with a path", resilience.Conflict{Kind: resilience.NoSource}.Explain(""))
}

func TestConflictRefusalNamesThree(t *testing.T) {
	t.Parallel()
	some := []resilience.Conflict{{Detail: "one"}, {Detail: "two"}, {Detail: "three"}, {Detail: "four"}}
	require.Contains(t, resilience.ConflictRefusal("m-1", some, 1200), "one; two; three; and 1197 more. ")
	require.Contains(t, resilience.ConflictRefusal("m-1", some[:1], 1), "one. Nothing was moved; see `starter migration show m-1`")
	require.NotContains(t, resilience.ConflictRefusal("m-1", some[:3], 3), "more")
}
