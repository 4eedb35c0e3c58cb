package resilience_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestWaitNamesForWhom(t *testing.T) {
	t.Parallel()
	for text, w := range map[string]resilience.Wait{
		"":                           {},
		"m-1, m-2 at work":           {AtWork: []string{"m-1", "m-2"}},
		"m-3 before it":              {First: []string{"m-3"}},
		"m-1 at work, m-3 before it": {AtWork: []string{"m-1"}, First: []string{"m-3"}},
		"m-1 at work, a, b, c, d, e and 2 more before it": {
			AtWork: []string{"m-1"}, First: []string{"a", "b", "c", "d", "e", "f", "g"},
		},
	} {
		require.Equal(t, text, w.String())
	}
}
