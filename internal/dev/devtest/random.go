package devtest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// seedVariable has the seed of choices that tests make at random, a number from 0 to 2⁶⁴-1.
const seedVariable = "REHOME_SEED"

// Random returns choices whose seed a failed test tells. With that seed in
// REHOME_SEED they are made again, though not at the same moments. Not for several
// goroutines at once.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if wish := os.Getenv(seedVariable); wish != "" {
		var err error
		seed, err = strconv.ParseUint(wish, 10, 64)
		require.NoError(t, err, "%s=%s: want a whole number", seedVariable, wish)
	}
	t.Logf("%s=%d makes the same choices", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 0))
}
