package devtest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// seedVariable has the seed of what tests choose at random, a number from 0 to 2⁶⁴-1.
const seedVariable = "REHOME_SEED"

// Seed returns what the environment says, or another number each time, and has a test
// that fails tell it: with it in REHOME_SEED the choices are made again, though not at
// the same moments.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if wish := os.Getenv(seedVariable); wish != "" {
		var err error
		seed, err = strconv.ParseUint(wish, 10, 64)
		require.NoError(t, err, "%s=%s: want the number that a test has told, such as 17", seedVariable, wish)
	}
	t.Logf("%s=%d makes the same choices", seedVariable, seed)
	return seed
}

// Random returns choices by a seed of their own. Not for several goroutines at once.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(Seed(t), 0))
}
