package resilience_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestStages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		total int64
		ends  []int64
	}{
		{1_000_000, []int64{1000, 10_000, 50_000, 250_000, 500_000, 1_000_000}},
		{1_000, []int64{100, 100, 100, 250, 500, 1000}},
		{150, []int64{100, 100, 100, 100, 100, 150}},
		{30, []int64{30, 30, 30, 30, 30, 30}},
	} {
		for stage, end := range c.ends {
			require.Equal(t, end, resilience.StageEnd(stage, c.total), "stage %d of %d rows", stage, c.total)
		}
		for last := range c.total {
			stage := resilience.StageAt(last, c.total)
			require.Less(t, last, c.ends[stage])
			require.True(t, stage == 0 || last >= c.ends[stage-1])
		}
		require.Equal(t, 5, resilience.StageAt(c.total, c.total))
	}
}

func TestSoaksAreATenthOfTheWorkAtMost(t *testing.T) {
	t.Parallel()
	require.Equal(t, 5*time.Minute, resilience.SoakAfter(0, 24*time.Hour))
	require.Equal(t, 15*time.Minute, resilience.SoakAfter(4, 24*time.Hour))
	require.Equal(t, time.Second, resilience.SoakAfter(4, 10*time.Second))
	require.Zero(t, resilience.SoakAfter(5, 24*time.Hour), "after the last there is nothing to wait for")
	require.Equal(t, 60*time.Second, resilience.GradualTime(10*time.Second), "40 s with pauses, and 5 soaks of 4 s")
	require.Equal(t, 4*time.Hour+55*time.Minute, resilience.GradualTime(time.Hour))
}
