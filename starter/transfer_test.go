package main

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// TestTransferFromTheCommandLine there and back, and what is refused.
func TestTransferFromTheCommandLine(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default", "guide/a.md", "other.md")
	b.memory("archive")
	b.chunks("default", 3, "guide/a.md", "other.md")
	b.exec(`CREATE TABLE public.narrow (id uuid PRIMARY KEY, body text, path text, tenant int NOT NULL)`)
	b.ok("memory", "add", "narrow", "--root", rootWith(t, "guide/a.md"), "--table", "public.narrow", "--id", "id", "--content", "body", "--path", "path")

	seen := slices.Concat(planTables, []string{"migration_transfers"})
	before := b.checksum(seen...)
	for _, c := range []bad{
		{"migrate --to-memory default", exitUsage, "cannot be transferred to itself"},
		{"migrate --to-memory nope", exitNotFound, `there is no memory "nope"`},
		{"migrate --to-memory archive --prefix ../x", exitUsage, "has a .. in it"},
		{"migrate --to-memory archive --soak -1s", exitUsage, "want 0 or more"},
		{"migrate --to-memory archive --strategy intelligent --way trickle", exitUsage, "bound its pace with --rate"},
		{"migrate --rename a=b --prefix guide", exitUsage, "name it with --to-memory"},
		{"migrate --to-memory archive --rename a=b", exitUsage, "none of the others can be"},
		{"migrate --to-memory archive --prefix nothing", exitNotFound, "no chunk at or under nothing"},
		{"migrate --to-memory narrow", exitFailed, `column "tenant" must have a value`},
	} {
		b.refuses(c)
		require.Equal(t, before, b.checksum(seen...), c.args)
	}

	var plan resilience.Plan
	b.result(&plan, "migrate", "--to-memory", "archive", "--prefix", "guide", "--soak", "0")
	require.Equal(t, resilience.Completed, plan.Status)
	require.Equal(t, resilience.Transfer, plan.Kind)
	require.EqualValues(t, 3, plan.Moved)
	require.Equal(t, "archive", plan.Transfer.To)
	b.ok("migration", "rollback", plan.ID)
	b.result(&plan, "migration", "show", plan.ID)
	require.Equal(t, resilience.RolledBack, plan.Status)
}
