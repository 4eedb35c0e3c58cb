package activities

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/store"
)

// A batch and its rest take as long as the niceness wants, or the rate, whichever
// is longer. A wait for a lock is neither work nor rest.
func TestARestIsAsLongAsNicenessOrRateWants(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		waited     time.Duration
		nice, rate float64
		want       time.Duration
	}{
		{0, 0, 0, 50 * time.Millisecond},
		{0, 3, 0, 200 * time.Millisecond},
		{0, 0, 1000, 100 * time.Millisecond},
		{0, 3, 1000, 200 * time.Millisecond},
		{0, 3, 100, time.Second},
		{0, 0, 10_000, 50 * time.Millisecond},
		{250 * time.Millisecond, 3, 0, 450 * time.Millisecond},
		{250 * time.Millisecond, 0, 1000, 300 * time.Millisecond},
	} {
		b := batch{rows: 100, took: store.Took{Time: 50 * time.Millisecond, Waited: c.waited}}
		require.Equal(t, c.want, b.lasts(c.nice, c.rate), c)
	}
}
