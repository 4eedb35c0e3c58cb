package corpus_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"rehome/corpus"
)

func TestCleanAcceptsWhatPeopleWrite(t *testing.T) {
	t.Parallel()
	for given, key := range map[string]string{
		"guide/intro.md":              "guide/intro.md",
		"./guide//intro.md":           "guide/intro.md",
		"guide/":                      "guide",
		"guide/./a":                   "guide/a",
		"e\u0301t\u00e9":              "\u00e9t\u00e9",
		"\u1112\u1161\u11ab\u1100":    "\ud55c\u1100",
		"a b/…/#%20":                  "a b/…/#%20",
		"..a/b..":                     "..a/b..",
		"back\\slash":                 "back\\slash",
		strings.Repeat("x", 255):      strings.Repeat("x", 255),
		strings.Repeat("a/", 1000):    strings.Repeat("a/", 999) + "a",
		strings.Repeat("e\u0301", 85): strings.Repeat("\u00e9", 85),
	} {
		got, err := corpus.Clean(given)
		require.NoError(t, err, given)
		require.Equal(t, key, got)
	}
}

func TestCleanRefusesWithAReason(t *testing.T) {
	t.Parallel()
	for given, reason := range map[string]string{
		"":                              "is empty",
		"/etc/passwd":                   "is absolute",
		"../secret":                     "has a .. in it",
		"a/../../b":                     "has a .. in it",
		"a/..":                          "has a .. in it",
		".":                             "is the root itself",
		"./":                            "is the root itself",
		"a\x00b":                        "holds a NUL byte",
		"a\nb":                          "holds a line break",
		"a\rb":                          "holds a line break",
		"a\tb":                          "holds a control character",
		"a\u0085b":                      "holds a control character",
		"latin\xe9":                     "is not valid UTF-8",
		strings.Repeat("long/", 800):    "is 3999 bytes long: at most 2048",
		strings.Repeat("x", 256):        "has a component of 256 bytes",
		strings.Repeat("\u0958", 80):    "has a component of 480 bytes", // grows when it is normalised
		"d/" + strings.Repeat("y", 300): "has a component of 300 bytes",
	} {
		_, err := corpus.Clean(given)
		require.ErrorContains(t, err, reason)
		require.Less(t, len(err.Error()), 700, "a message stays readable")
		_, ok := corpus.Key(given)
		require.False(t, ok, given)
	}
}

func TestWalkOrderPutsADirectoryBeforeItsSiblings(t *testing.T) {
	t.Parallel()
	order := []string{".", "a", "a/b", "a/b/c", "a/c", "a!", "a-b", "a.b", "b", "é"}
	for i, a := range order {
		for j, b := range order {
			require.Equal(t, compare(i, j), corpus.WalkOrder(a, b), "%s against %s", a, b)
		}
	}
}

func compare(a, b int) int { return min(1, max(-1, a-b)) }

func FuzzClean(f *testing.F) {
	for _, seed := range []string{"", "a", "./a//b/", "..", "e\u0301", "\u0958", "a\x00", "\xff", "a/./b", strings.Repeat("z/", 2000)} {
		f.Add(seed)
	}
	f.Fuzz(checkClean[*testing.T])
}

func TestCleanProperties(t *testing.T) {
	t.Parallel()
	alphabet := rapid.SampledFrom([]rune("ab./ \u00e9\u0301e\u1112\u1161\u0958Å\n\x00\u0338"))
	rapid.Check(t, func(r *rapid.T) { checkClean(r, rapid.StringOf(alphabet).Draw(r, "path")) })
}

// checkClean is what must hold for every key: it is its own key, in normal form
// C, and made of components that stay below the root.
func checkClean[T require.TestingT](t T, given string) {
	key, err := corpus.Clean(given)
	if err != nil {
		require.Empty(t, key)
		require.True(t, utf8.ValidString(err.Error()))
		return
	}
	again, err := corpus.Clean(key)
	require.NoError(t, err)
	require.Equal(t, key, again)
	require.True(t, norm.NFC.IsNormalString(key))
	require.LessOrEqual(t, len(key), corpus.MaxPath)
	for component := range strings.SplitSeq(key, "/") {
		require.NotContains(t, []string{"", ".", ".."}, component)
		require.LessOrEqual(t, len(component), corpus.MaxComponent)
	}
	require.Equal(t, key, must(corpus.Clean(norm.NFD.String(given))), "spelling does not matter")
}

func must(key string, err error) string {
	if err != nil {
		return err.Error()
	}
	return key
}
