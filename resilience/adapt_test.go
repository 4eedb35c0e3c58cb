package resilience_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// batches feeds a servo so many batches of its size that each take ms.
func batches(s resilience.Servo, n int, ms float64, calm bool) (resilience.Servo, resilience.Adjustment) {
	var a resilience.Adjustment
	for range n {
		s, a = s.After(resilience.Timing{Rows: int64(s.Size), MS: ms}, calm)
	}
	return s, a
}

func TestWhatPartOfABatchTook(t *testing.T) {
	t.Parallel()
	whole := resilience.Timing{Rows: 500, MS: 100}
	require.Equal(t, resilience.Timing{Rows: 50, MS: 10}, whole.Of(50))
	require.Equal(t, whole, whole.Of(500))
	require.Equal(t, whole, whole.Of(1000))
	require.Equal(t, whole, whole.Of(0), "it had no size")
	require.Zero(t, resilience.Timing{}.Of(50))
	whole.LockMS, whole.WALBytes = 30, 1001
	require.Equal(t, resilience.Timing{Rows: 50, MS: 10, LockMS: 30, WALBytes: 101}, whole.Of(50), "fewer rows wait for as long")
	for timing, kept := range map[resilience.Timing]string{
		{Rows: 500, MS: 100}: `{"rows":500,"ms":100}`, // as in histories from before there was more
		whole:                `{"rows":500,"ms":100,"lock_ms":30,"wal_bytes":1001}`,
	} {
		text, err := json.Marshal(timing)
		require.NoError(t, err)
		require.JSONEq(t, kept, string(text))
		var back resilience.Timing
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, timing, back)
	}
}

func TestAServoStartsByTheRowsBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		aim         resilience.Aim
		bytes       int64
		reindexes   bool
		size, least int
		most        int
	}{
		{"small rows", resilience.GradualAim, 100, false, 1000, 20, 2000},
		{"rows with a vector", resilience.GradualAim, 8 << 10, false, 512, 20, 2000},
		{"large rows", resilience.IntelligentAim, 100 << 10, false, 100, 20, 163},
		{"huge rows", resilience.IntelligentAim, 1 << 20, false, 16, 16, 16},
		{"a row over the cap goes alone", resilience.GradualAim, 20 << 20, false, 1, 1, 1},
		{"put into a vector index again", resilience.GradualAim, 1000, true, 20, 20, 2000},
		{"no bytes known", resilience.IntelligentAim, 0, false, 1000, 20, 10_000},
	} {
		s := resilience.NewServo(c.aim, c.bytes, c.reindexes)
		require.Equal(t, [3]int{c.size, c.least, c.most}, [3]int{s.Size, s.Least, s.Most}, c.name)
	}
}

func TestAServoFollowsWhatItMeasures(t *testing.T) {
	t.Parallel()
	start := resilience.NewServo(resilience.GradualAim, 4000, false) // 1000 rows, 50 ms
	for _, c := range []struct {
		name string
		n    int
		ms   float64
		calm bool
		want int
	}{
		{"nine batches decide nothing", 9, 10, true, 1000},
		{"growth is bounded", 10, 10, true, 1500},
		{"twice, and by the largest size", 20, 10, true, 2000},
		{"no growth unless it is calm", 10, 10, false, 1000},
		{"a little growth", 10, 37.5, true, 1333},
		{"dead band below", 10, 40, true, 1000},
		{"dead band above", 10, 55, true, 1000},
		{"shrinks by what is over", 10, 80, true, 625},
		{"shrinks when it is not calm", 10, 80, false, 625},
		{"twice is not more than twice", 1, 100, true, 1000},
		{"more than twice halves at once", 1, 101, true, 500},
		{"more than five times takes a tenth", 1, 251, true, 100},
		{"down to the floor", 3, 251, true, 20},
		{"too fast to measure", 10, 0, true, 1500},
	} {
		s, _ := batches(start, c.n, c.ms, c.calm)
		require.Equal(t, c.want, s.Size, c.name)
	}
}

// TestABatchWritesABoundedLog: one that wrote more than 32 MiB is followed by smaller ones
// at once, and no size is grown to that would write as much.
func TestABatchWritesABoundedLog(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	start := resilience.NewServo(resilience.GradualAim, 4000, false) // 1000 rows, 50 ms
	for _, c := range []struct {
		name string
		n    int
		b    resilience.Timing
		want int
		why  string
	}{
		{"in proportion", 1, resilience.Timing{Rows: 1000, MS: 50, WALBytes: 40 * mib}, 800, "a batch wrote 40 MiB of WAL, and 32 are the most"},
		{"a byte more is more", 1, resilience.Timing{Rows: 1000, MS: 50, WALBytes: 32*mib + 1}, 999, "a batch wrote 33 MiB of WAL, and 32 are the most"},
		{"as much as it may", 10, resilience.Timing{Rows: 1000, MS: 50, WALBytes: 32 * mib}, 1000, ""},
		{"a short one by half, since others may have written it", 1, resilience.Timing{Rows: 100, MS: 5, WALBytes: 64 * mib}, 500, "a batch wrote 64 MiB of WAL, and 32 are the most"},
		{"slow, and that makes it smaller", 1, resilience.Timing{Rows: 1000, MS: 101, WALBytes: 40 * mib}, 500, "a batch took 101 ms, more than twice the 50 wanted"},
		{"slow, and its log makes it smaller", 1, resilience.Timing{Rows: 1000, MS: 101, WALBytes: 128 * mib}, 250, "a batch wrote 128 MiB of WAL, and 32 are the most"},
		{"down to the floor", 1, resilience.Timing{Rows: 1000, MS: 50, WALBytes: 1 << 40}, 20, "a batch wrote 1048576 MiB of WAL, and 32 are the most"},
		{"growth to what there is room for", 10, resilience.Timing{Rows: 1000, MS: 10, WALBytes: 25 * mib}, 1280, "9 of 10 batches took 10.0 ms or less, and 50 are wanted"},
		{"none where there is little", 10, resilience.Timing{Rows: 1000, MS: 10, WALBytes: 26 * mib}, 1000, ""},
		{"growth where there is much", 10, resilience.Timing{Rows: 1000, MS: 10, WALBytes: mib}, 1500, "9 of 10 batches took 10.0 ms or less, and 50 are wanted"},
		{"a slow window, though there is room", 10, resilience.Timing{Rows: 1000, MS: 80, WALBytes: mib}, 625, "9 of 10 batches took 80.0 ms or less, and 50 are wanted"},
	} {
		s, a := start, resilience.Adjustment{}
		for range c.n {
			s, a = s.After(c.b, true)
		}
		require.Equal(t, c.want, s.Size, c.name)
		require.Equal(t, c.why, a.Why, c.name)
	}
	s := start
	for i := range 10 { // the one that wrote most decides
		s, _ = s.After(resilience.Timing{Rows: 1000, MS: 10, WALBytes: int64(1+i%2*24) * mib}, true)
	}
	require.Equal(t, 1280, s.Size)
	huge := resilience.NewServo(resilience.GradualAim, 20<<20, false)
	alone, a := huge.After(resilience.Timing{Rows: 1, MS: 50, WALBytes: 50 * mib}, true)
	require.Equal(t, 1, alone.Size, "a row over the bound goes alone")
	require.Zero(t, a)
}

// TestTheLogComesToRest: whatever a row writes, the size settles within the bound, and is
// not told of again and again.
func TestTheLogComesToRest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		chance := rand.New(rand.NewPCG(seed, 3))
		each := 1 + chance.Int64N(1<<20)
		s := resilience.NewServo(resilience.IntelligentAim, 1000, false)
		changes := 0
		for n := range 600 {
			written := int64(float64(each*int64(s.Size)) * (0.9 + 0.1*chance.Float64()))
			var a resilience.Adjustment
			if s, a = s.After(resilience.Timing{Rows: int64(s.Size), MS: 1, WALBytes: written}, true); n >= 300 && a.Why != "" {
				changes++
			}
		}
		require.LessOrEqual(t, changes, 3, "seed %d", seed)
		require.LessOrEqual(t, 0.9*float64(each)*float64(s.Size), float64(32<<20), "seed %d", seed)
		require.True(t, s.Size == s.Most || float64(each)*float64(s.Size) > 20<<20, "seed %d: %d rows of %d bytes", seed, s.Size, each)
	}
}

func TestAServoSaysWhyItChanged(t *testing.T) {
	t.Parallel()
	s := resilience.NewServo(resilience.GradualAim, 4000, false)
	_, a := batches(s, 10, 80, true)
	require.Equal(t, resilience.Adjustment{From: 1000, To: 625, P90MS: 80, Why: "9 of 10 batches took 80.0 ms or less, and 50 are wanted"}, a)
	require.Equal(t, "1000 to 625 rows a batch: 9 of 10 batches took 80.0 ms or less, and 50 are wanted", a.String())
	_, a = batches(s, 10, 50, true)
	require.Zero(t, a)
}

func TestTroubleMakesBatchesSmaller(t *testing.T) {
	t.Parallel()
	s := resilience.NewServo(resilience.GradualAim, 4000, false)
	for trouble, want := range map[resilience.Trouble]int{
		resilience.LockTimeout: 500, resilience.InTheWay: 500, resilience.Deadlock: 700, resilience.StatementTimeout: 250, resilience.NoTrouble: 1000,
	} {
		eased, a := s.Eased(trouble)
		require.Equal(t, want, eased.Size, trouble)
		require.Equal(t, want != 1000, a.Why != "", trouble)
	}
	for range 20 {
		s, _ = s.Eased(resilience.StatementTimeout)
	}
	require.Equal(t, 20, s.Size)
}

// TestAShortBatchSaysNothing: the last one, or one under a rate, is fast since
// it is small.
func TestAShortBatchSaysNothing(t *testing.T) {
	t.Parallel()
	s := resilience.NewServo(resilience.GradualAim, 4000, false)
	for range 50 {
		s, _ = s.After(resilience.Timing{Rows: 5, MS: 1}, true)
	}
	require.Equal(t, 1000, s.Size)
	s, _ = s.After(resilience.Timing{Rows: 5, MS: 101}, true)
	require.Equal(t, 500, s.Size, "a slow one does")
}

// TestAServoComesToRest: whatever a row and a batch cost, the size settles where
// a batch takes about the target, or at a bound.
func TestAServoComesToRest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		chance := rand.New(rand.NewPCG(seed, 1))
		s := resilience.NewServo(resilience.IntelligentAim, 1+chance.Int64N(20_000), seed%2 == 0)
		fixed, each := chance.Float64()*20, 0.001+chance.Float64()*2
		cost := func(rows int) float64 { return fixed + each*float64(rows) }
		for range 600 {
			s, _ = s.After(resilience.Timing{Rows: int64(s.Size), MS: cost(s.Size)}, true)
		}
		if s.Size != s.Most && s.Size != s.Least {
			require.InDelta(t, s.TargetMS, cost(s.Size), 0.25*s.TargetMS, "seed %d: %d rows", seed, s.Size)
		}
		require.True(t, s.Size == s.Least || cost(s.Size) <= 1.1*s.TargetMS, "seed %d: a batch of %d rows takes %.0f ms", seed, s.Size, cost(s.Size))
	}
}

// TestAServoKeepsItsPromises for whatever comes: bounds, bounded growth, none
// when it is not calm, and no change of the servo it was called on.
func TestAServoKeepsItsPromises(t *testing.T) {
	t.Parallel()
	troubles := []resilience.Trouble{resilience.LockTimeout, resilience.Deadlock, resilience.StatementTimeout, resilience.InTheWay}
	for seed := range uint64(100) {
		chance := rand.New(rand.NewPCG(seed, 2))
		s := resilience.NewServo(resilience.GradualAim, 1+chance.Int64N(1<<20), seed%3 == 0)
		for range 500 {
			before, window := s, len(s.Window)
			calm := chance.IntN(2) == 0
			var a resilience.Adjustment
			if chance.IntN(10) == 0 {
				s, a = s.Eased(troubles[chance.IntN(len(troubles))])
				require.LessOrEqual(t, s.Size, before.Size)
			} else {
				s, a = s.After(resilience.Timing{Rows: int64(s.Size), MS: chance.ExpFloat64() * 40, WALBytes: chance.Int64N(40 << 20)}, calm)
			}
			require.True(t, s.Size >= s.Least && s.Size <= s.Most)
			require.LessOrEqual(t, float64(s.Size), float64(before.Size)*1.5+1)
			require.True(t, calm || s.Size <= before.Size)
			require.Equal(t, s.Size != before.Size, a != resilience.Adjustment{})
			require.Len(t, before.Window, window)
			require.Less(t, len(s.Window), 10)
		}
	}
}

func TestRetriesBackOff(t *testing.T) {
	t.Parallel()
	require.Equal(t, 100*time.Millisecond, resilience.RetryAfter(0, 0.5))
	require.Equal(t, 50*time.Millisecond, resilience.RetryAfter(0, 0))
	require.Equal(t, 800*time.Millisecond, resilience.RetryAfter(3, 0.5))
	require.Equal(t, 10*time.Second, resilience.RetryAfter(9, 0.5))
	require.Equal(t, 10*time.Second, resilience.RetryAfter(1000, 1))
}
