package corpus_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"rehome/corpus"
)

func TestFoldIsEqualForWhatAPersonTakesForTheSame(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"Docs/README.md", "docs/readme.MD"},
		{norm.NFC.String("Ångström/é.md"), norm.NFD.String("Ångström/é.md")},
		{"a b.md", "a%20b.md"},
		{`docs\win.md`, "docs/win.md"},
		{"caf\xe9.md", "café.md"}, // Latin-1 bytes
		{"straße.md", "STRASSE.md"},
		{"ﬁle.md", "file.md"},
		{"100%.md", "100%.MD"}, // not an encoding
	} {
		for _, path := range same[1:] {
			require.Equal(t, corpus.Fold(same[0]), corpus.Fold(path), "%q and %q", same[0], path)
		}
	}
}

func TestFoldKeepsDifferentFilesApart(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{{"a.md", "b.md"}, {"docs/a", "docs2/a"}, {"a/b", "a-b"}, {"a%00b", "ab"}} {
		require.NotEqual(t, corpus.Fold(pair[0]), corpus.Fold(pair[1]))
	}
}

func TestFoldsGoUpToTheFirstComponent(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"a/b/c.md", "a/b", "a"}, corpus.Folds("A/b/C.md"))
	require.Equal(t, []string{"c.md"}, corpus.Folds("c.md"))
}
