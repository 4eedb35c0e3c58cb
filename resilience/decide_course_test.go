package resilience_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// steered lets a course go through so many batches, each of which takes as long as
// the server's true costs have it, and returns what was said.
func steered(c resilience.Course, n int, truth resilience.Forecast) (resilience.Course, []string) {
	var said []string
	for range n {
		rows := int64(c.Size())
		var word string
		if c, word = c.After(resilience.Timing{Rows: rows, MS: truth.Of(rows, rows)}, true); word != "" {
			said = append(said, word)
		}
	}
	return c, said
}

func course(rowMS float64) resilience.Course {
	g := resilience.Group{Rows: 1 << 30, BatchSize: 1000, TargetMS: 100, Forecast: resilience.Forecast{BatchMS: 1.5, RowMS: rowMS}}
	return g.Start(50)
}

func TestACourseThatIsRightOnlyAdapts(t *testing.T) {
	t.Parallel()
	truth := resilience.Forecast{BatchMS: 2, RowMS: 0.02}
	c, said := steered(course(0.021), 200, truth)
	require.Zero(t, c.Falls)
	require.NotEmpty(t, said)
	require.InDelta(t, 100, truth.Of(int64(c.Size()), int64(c.Size())), 20, "the size whose batches take what they should")
}

func TestACourseFallsBackWhenItsForecastIsOff(t *testing.T) {
	t.Parallel()
	truth := resilience.Forecast{BatchMS: 2, RowMS: 0.06}
	c, _ := steered(course(0.02), 19, truth)
	require.Zero(t, c.Falls, "19 batches do not tell")
	c, said := steered(c, 1, truth)
	require.Equal(t, 1, c.Falls)
	require.Equal(t, 50, c.Size(), "the plan's own size")
	require.Contains(t, said[0], "was off by")
	require.Contains(t, c.String(), "the forecast was off")
	c, said = steered(c, 20, truth)
	require.Len(t, said, 1)
	require.Contains(t, said[0], "measured")
	require.InDelta(t, 0.06, c.Forecast.RowMS, 0.001)
	require.InDelta(t, 2, c.Forecast.BatchMS, 0.1)
	c, _ = steered(c, 500, truth)
	require.Equal(t, 1, c.Falls, "what was measured holds")
}

// TestAServerThatChangesAllTheTimeIsTrustedLess: the forecast is given up for
// longer each time.
func TestAServerThatChangesAllTheTimeIsTrustedLess(t *testing.T) {
	t.Parallel()
	c := course(0.02)
	fallen, longest := 0, 0
	for i := range 4000 {
		truth := resilience.Forecast{BatchMS: 2, RowMS: []float64{0.01, 0.05}[i/7%2]}
		rows := int64(c.Size())
		c, _ = c.After(resilience.Timing{Rows: rows, MS: truth.Of(rows, rows)}, true)
		if longest = max(longest, c.Fallen); c.Fallen > 0 {
			fallen++
		}
	}
	require.Greater(t, c.Falls, 2)
	require.Equal(t, 320, longest)
	require.Greater(t, fallen, 2000)
}

func TestAShortOrFailedBatchIsTakenForWhatItIs(t *testing.T) {
	t.Parallel()
	c := course(0.02)
	same, said := c.After(resilience.Timing{Rows: 3, MS: 1}, true)
	require.Empty(t, said)
	require.Equal(t, c, same, "the rest of a group says nothing")
	eased, said := c.Eased(resilience.LockTimeout)
	require.Equal(t, 500, eased.Size())
	require.NotEmpty(t, said)
	same, said = c.Eased(resilience.NoTrouble)
	require.Empty(t, said)
	require.Equal(t, c, same)
}

// TestTroubleEndsAFall: the plan's own size may be the one that is too large.
func TestTroubleEndsAFall(t *testing.T) {
	t.Parallel()
	c := course(0.02)
	for c.Fallen == 0 {
		c, _ = c.After(resilience.Timing{Rows: int64(c.Size()), MS: 90}, true)
	}
	c.Default = 400
	require.Equal(t, 400, c.Size())
	for want := 200; want >= 50; want /= 2 {
		c, _ = c.Eased(resilience.LockTimeout)
		require.Equal(t, want, c.Size())
	}
}

// TestACourseKeepsToTheLogsBound: by its servo, by the plan's own size, which ends the
// fall, and when it goes on with what was measured.
func TestACourseKeepsToTheLogsBound(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	c, said := course(0.02).After(resilience.Timing{Rows: 1000, MS: 20, WALBytes: 64 * mib}, true)
	require.Equal(t, 500, c.Size())
	require.Equal(t, "1000 to 500 rows a batch: a batch wrote 64 MiB of WAL, and 32 are the most", said)
	c, said = course(0.02).After(resilience.Timing{Rows: 500, MS: 10, WALBytes: 64 * mib}, true)
	require.Equal(t, 500, c.Size(), "the rest of a group, too, by half at most")
	require.NotEmpty(t, said)

	fallen := func(plan int, each int64) resilience.Course {
		c := course(0.02)
		c.Default = plan
		for n := 0; c.Fallen == 0 && n < 100; n++ {
			c, _ = c.After(resilience.Timing{Rows: int64(c.Size()), MS: 90, WALBytes: int64(c.Size()) * each}, true)
		}
		return c
	}
	require.Zero(t, fallen(4000, 32<<10).Fallen, "the plan's own size would write too much")
	c = fallen(400, 32<<10)
	require.Equal(t, 400, c.Size())
	c, said = c.After(resilience.Timing{Rows: 400, MS: 8, WALBytes: 64 * mib}, true)
	require.Equal(t, 200, c.Size())
	require.Equal(t, "400 to 200 rows a batch: a batch wrote 64 MiB of WAL, and 32 are the most", said)
	c = fallen(10, 32<<10)
	left := c.Fallen
	c, said = c.After(resilience.Timing{Rows: 10, MS: 8, WALBytes: 64 * mib}, true)
	require.Equal(t, 10, c.Size(), "it is smaller than any that is adapted")
	require.Equal(t, left-1, c.Fallen)
	require.Empty(t, said)

	c = fallen(50, 32<<10)
	for c.Fallen > 0 {
		c, _ = c.After(resilience.Timing{Rows: 50, MS: 2, WALBytes: 50 * 80 << 10}, true)
	}
	require.Equal(t, 409, c.Size(), "80 KiB a row")
}

// TestACourseGrowsOnlyWhileAllIsCalm: neither step by step, nor when it has
// measured that it could.
func TestACourseGrowsOnlyWhileAllIsCalm(t *testing.T) {
	t.Parallel()
	for name, rowMS := range map[string]float64{"a forecast that is right": 0.02, "one that is off": 0.1} {
		truth := resilience.Forecast{BatchMS: 2, RowMS: 0.02}
		for _, calm := range []bool{true, false} {
			c, largest := course(rowMS), int64(0)
			for range 200 {
				rows := int64(c.Size())
				largest = max(largest, rows)
				c, _ = c.After(resilience.Timing{Rows: rows, MS: truth.Of(rows, rows)}, calm)
			}
			require.Equal(t, calm, largest > 1000, name)
		}
	}
}
