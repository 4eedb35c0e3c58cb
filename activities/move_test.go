package activities

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A batch and its rest take as long as the niceness wants, or the rate, whichever
// is longer.
func TestARestIsAsLongAsNicenessOrRateWants(t *testing.T) {
	t.Parallel()
	b := batch{rows: 100, took: 50 * time.Millisecond}
	for _, c := range []struct {
		nice, rate float64
		want       time.Duration
	}{
		{0, 0, 50 * time.Millisecond},
		{3, 0, 200 * time.Millisecond},
		{0, 1000, 100 * time.Millisecond},
		{3, 1000, 200 * time.Millisecond},
		{3, 100, time.Second},
		{0, 10_000, 50 * time.Millisecond},
	} {
		require.Equal(t, c.want, b.lasts(c.nice, c.rate), c)
	}
}
