package activities_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"rehome/resilience"
)

func TestT13NormalFormsAreOneSource(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	for _, name := range []string{"Ångström/é.md", "한글.md", "a\u0323\u0307.md"} {
		nfc, nfd := norm.NFC.String(name), norm.NFD.String(name)
		require.NotEqual(t, nfc, nfd)
		b.file("composed/" + nfc)
		b.chunk("composed/"+nfd, "x")
		b.file("decomposed/" + nfd)
		b.chunk("decomposed/"+nfc, "x")
	}
	result := b.scan()
	require.EqualValues(t, 6, result.Classes[resilience.ClassAlive].Chunks)
	require.Empty(t, b.orphans())
}

func TestT14TwoNormalFormsOnDiskAreAConflict(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.file(norm.NFC.String("é.md"))
	b.file(norm.NFD.String("é.md"))
	b.chunk("é.md", "x")
	result := b.scan()
	require.EqualValues(t, 1, result.Conflicts)
	require.Zero(t, result.Orphans.Total)
}

func TestT10ConflictIsWhatALivingFileEqualsButForCaseOrEncoding(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("keep.md")
	b.file("guide/README.md")
	b.file("a b.md")
	b.file("win/x.md")
	require.NoError(t, os.WriteFile(filepath.Join(b.root, "caf\xe9.md"), nil, 0o644)) // Latin-1
	for _, path := range []string{"guide/Readme.md", "Guide/README.MD", "a%20b.md", `win\x.md`, "café.md"} {
		b.chunk(path, "x")
	}
	for range 3 { // it does not become certain by being seen often
		result := b.scan()
		require.EqualValues(t, 5, result.Classes[resilience.ClassConflict].Chunks)
		require.EqualValues(t, 5, result.Conflicts)
		require.Empty(t, b.orphans())
	}
}

func TestT18OfTwoFilesThatDifferByCaseTheDeletedOneIsMissing(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("README.md", "readme.md", "other.md")
	b.scan()
	b.remove("README.md")
	for range 2 {
		b.scan()
		require.Equal(t, []string{"README.md"}, b.orphans())
	}
}

func TestT17RenameOfCaseOnlyIsAConflict(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("README.md", "other.md")
	b.scan()
	b.rename("README.md", "readme.md")
	for range 3 {
		require.EqualValues(t, 1, b.scan().Conflicts)
		require.Empty(t, b.orphans())
	}
}

func TestT19SiblingsWithTheSamePrefixAreApart(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("docs/a.md", "docs/b.md", "docs2/a.md", "docs-old/a.md", "docs.md")
	b.scan()
	b.remove("docs2")
	b.scan()
	require.Equal(t, []string{"docs2/a.md"}, b.orphans())
}
