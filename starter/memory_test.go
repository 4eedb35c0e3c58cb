package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// rag makes a table of somebody else's, with absolute paths in json.
func (b *bundle) rag(root string, files ...string) {
	b.t.Helper()
	b.exec(`CREATE TABLE public.rag (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant int NOT NULL DEFAULT 7,
		body text NOT NULL, meta jsonb NOT NULL, kept int GENERATED ALWAYS AS (length(body)) STORED)`)
	for _, file := range files {
		b.exec(`INSERT INTO public.rag (body, meta) VALUES ('text of ' || $1, jsonb_build_object('source', $2::text || '/' || $1))`, file, root)
	}
}

func TestMapATableOfYourOwn(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	root := rootWith(t, "guide/a.md", "b.md")
	b.rag(root, "guide/a.md", "b.md")
	added := b.has("memory add docs --root "+root+" --table rag --id id --content body --path meta->source --scope tenant=7 --strip-prefix "+root+"/",
		"name root mapping.id_type mapping.locators[].keys[] mapping.locators[].type mapping.scope[].column surroundings.generated[] notes[]")
	require.Equal(t, "docs", added["name"])
	require.NoFileExists(t, filepath.Join(root, resilience.MarkerFile))

	b.ok("migrate", "--memory", "docs", "--rename", "guide=handbook")
	var moved int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM public.rag WHERE meta->>'source' = $1`, root+"/handbook/a.md").Scan(&moved))
	require.Equal(t, 1, moved)
	require.Equal(t, "handbook/a.md\n", b.ok("resolve", "--memory", "docs", "guide/a.md").out)
	require.Equal(t, root+"/handbook/a.md\n", b.ok("resolve", "--memory", "docs", root+"/guide/a.md").out)
	b.refuses(bad{"ingest --memory docs", exitRefused, "ingest is for builtin memories"})
}

func TestMarkerOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	root := rootWith(t, "a.md")
	added := b.has("memory add docs --marker --root "+root, "name marker")
	content, err := os.ReadFile(filepath.Join(root, resilience.MarkerFile))
	require.NoError(t, err)
	require.Equal(t, added["marker"], strings.TrimSpace(string(content)))

	// A refused memory leaves no marker.
	other := rootWith(t, "a.md")
	b.refuses(bad{"memory add docs --marker --root " + other, exitConflict, "memory docs exists already"})
	require.NoFileExists(t, filepath.Join(other, resilience.MarkerFile))
}

// TestBadMemories gives "memory add" what it must refuse before it writes.
func TestBadMemories(t *testing.T) {
	t.Parallel()
	b := setup(t)
	root := rootWith(t, "guide/a.md", "b.md", "taken/c.md")
	elsewhere := rootWith(t, "x.md")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(root, link))
	b.rag(root, "guide/a.md", "b.md")
	b.exec(`CREATE VIEW public.seen AS SELECT * FROM public.rag`)
	b.ok("memory", "add", "taken", "--root", filepath.Join(root, "taken"))
	mapped := " --table public.rag --id id --content body --path meta->source "
	before := b.checksum()
	for _, c := range []bad{
		{"memory add", exitUsage, "want NAME, got 0 arguments"},
		{"memory add docs", exitUsage, "want --root DIR"},
		{"memory add Docs! --root " + root, exitUsage, `memory name "Docs!"`},
		{"memory add docs --root " + root + "/nowhere", exitNotFound, "make or mount it first"},
		{"memory add docs --root " + root + "/b.md", exitUsage, "want a directory"},
		{"memory add docs --root " + root + "␀", exitUsage, "without NUL"},
		{"memory add docs --root " + root, exitConflict, "holds the root of memory taken"},
		{"memory add docs --root " + link, exitConflict, "holds the root of memory taken"},
		{"memory add docs --root " + root + "/taken", exitConflict, "is the root of memory taken already"},
		{"memory add taken --root " + elsewhere, exitConflict, "memory taken exists already"},
		{"memory add docs --id id --root " + elsewhere, exitUsage, "add --table"},
		{"memory add docs --table rag --root " + elsewhere, exitUsage, "want --id, --content and at least one --path"},
		{"memory add docs --table a.b.c --root " + elsewhere, exitUsage, "want TABLE or SCHEMA.TABLE"},
		{"memory add docs --table nope --id id --content body --path p --root " + elsewhere, exitNotFound, "there is no such table; there is rag"},
		{"memory add docs --table seen --id id --content body --path meta->source --root " + elsewhere, exitUsage, "is a view"},
		{"memory add docs --table rag --id nope --content body --path meta->source --root " + elsewhere, exitNotFound, `no column "nope"`},
		{"memory add docs --table rag --id tenant --content body --path meta->source --root " + elsewhere, exitUsage, "not unique"},
		{"memory add docs --table rag --id id --content body --path meta --root " + elsewhere, exitUsage, "name the key"},
		{"memory add docs --table rag --id id --content body --path meta->-> --root " + elsewhere, exitUsage, "want COLUMN or COLUMN->key"},
		{"memory add docs --scope tenant=seven --root " + elsewhere + mapped, exitUsage, "scope"},
		{"memory add docs --scope tenant --root " + elsewhere + mapped, exitUsage, "want COLUMN=VALUE"},
		{"memory add docs --strip-prefix " + root + "/ --root " + elsewhere + mapped, exitRefused, "sampled paths are files under the root"},
	} {
		c.args = strings.TrimSpace(c.args)
		b.refuses(c)
		require.Equal(t, before, b.checksum(), c.args)
	}
	require.NoFileExists(t, filepath.Join(elsewhere, resilience.MarkerFile))
}
