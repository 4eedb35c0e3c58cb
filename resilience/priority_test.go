package resilience_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rehome/resilience"
)

const day = 24 * time.Hour

func TestPriorityIsAsItsTableSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want float64
		of   resilience.Burden
	}{
		{0.300, resilience.Burden{}},
		{0.400, resilience.Burden{Bytes: 100}},
		{0.458, resilience.Burden{Bytes: 1500}},
		{0.658, resilience.Burden{Bytes: 1500, Age: 7 * day}},
		{0.426, resilience.Burden{Bytes: 1500, Age: 7 * day, Uses: 10}},
		{0.497, resilience.Burden{Bytes: 1500, Age: 7 * day, Uses: 10, Unused: 90 * day}},
		{0.783, resilience.Burden{Bytes: 1500, Age: 30 * day}},
		{0.971, resilience.Burden{Bytes: 1 << 20, Age: 90 * day}},
		{0.327, resilience.Burden{Bytes: 1 << 20, Uses: 1000}},
	} {
		require.InDelta(t, c.want, resilience.Priority(c.of), 0.001, "%+v", c.of)
	}
}

func TestPriorityIsMonotoneInEachFactorAndStaysInBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		burden := func(name string) resilience.Burden {
			return resilience.Burden{
				Bytes:  rapid.Int64().Draw(t, name+" bytes"),
				Age:    time.Duration(rapid.Int64().Draw(t, name+" age")),
				Uses:   rapid.Int64().Draw(t, name+" uses"),
				Unused: time.Duration(rapid.Int64().Draw(t, name+" unused")),
			}
		}
		a, b := burden("a"), burden("b")
		p := resilience.Priority(a)
		require.True(t, p >= 0 && p <= 1, "%v of %+v", p, a)
		for _, more := range []resilience.Burden{
			{Bytes: max(a.Bytes, b.Bytes), Age: a.Age, Uses: a.Uses, Unused: a.Unused},
			{Bytes: a.Bytes, Age: max(a.Age, b.Age), Uses: a.Uses, Unused: a.Unused},
			{Bytes: a.Bytes, Age: a.Age, Uses: min(a.Uses, b.Uses), Unused: a.Unused},
			{Bytes: a.Bytes, Age: a.Age, Uses: a.Uses, Unused: max(a.Unused, b.Unused)},
		} {
			require.GreaterOrEqual(t, resilience.Priority(more), p, "%+v against %+v", more, a)
		}
	})
}
