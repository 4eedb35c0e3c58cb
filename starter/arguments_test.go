package main

import (
	"math"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
)

func TestParseRenames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ given, old, new string }{
		{"a=b", "a", "b"},
		{"a=b=c", "a", "b=c"},
		{`a\=b=c`, "a=b", "c"},
		{`a\=b=c\=d`, "a=b", "c=d"},
		{`a\\=b`, `a\`, "b"},
		{`a\b=c`, `a\b`, "c"},
		{"./a/=b//c", "a", "b/c"},
		{"cafe\u0301=x", "café", "x"},
	} {
		rules, err := parseRenames([]string{c.given})
		require.NoError(t, err, c.given)
		require.Equal(t, []resilience.RenameRule{{Old: c.old, New: c.new}}, rules)
	}
}

func TestRenameSurvivesQuoting(t *testing.T) {
	t.Parallel()
	quote := regexp.MustCompile(`[\\=]`)
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.StringMatching(`[a-z=\\ ]{1,12}`)
		before, after := path.Draw(t, "old"), path.Draw(t, "new")
		old, now, ok := cutRename(quote.ReplaceAllString(before, `\$0`) + "=" + quote.ReplaceAllString(after, `\$0`))
		require.True(t, ok)
		require.Equal(t, [2]string{before, after}, [2]string{old, now})
	})
}

func TestNewIDSorts(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `^m-\d{8}-\d{4}-[a-z2-7]{4}$`, newID("m"))
	first := newID("m")
	require.NotEqual(t, first, newID("m"))
}

func TestCheckPaceRefuses(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{-1, math.NaN(), math.Inf(1)} {
		require.Equal(t, exitUsage, exitCode(checkPace(rate, resilience.Pace{Rate: new(rate)}.Check())), rate)
	}
	require.NoError(t, checkPace(0, nil))
}

func TestSizesReadWell(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1023 B", size(1023))
	require.Equal(t, "1.5 KiB", size(1536))
	require.Equal(t, "8.0 EiB", size(math.MaxInt64))
}
