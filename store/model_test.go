package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/internal/dev/model"
	"rehome/resilience"
)

// TestModelTransactions: the transactions that can happen in the model do in Postgres what
// they do there. Where the application writes once that is all of them, where it writes
// twice those that begin in some of the states; the quick form tries a few.
func TestModelTransactions(t *testing.T) {
	t.Parallel()
	const all = 1 << 30
	tries := []struct {
		limits model.Limits
		states int
	}{
		{model.Limits{Writes: 1, Faults: 2, Pauses: 1, Fails: 1}, all},
		{model.Limits{Writes: 2, Faults: 1, Pauses: 1, Fails: 1}, 1500},
	}
	if testing.Short() {
		tries = tries[:1]
		tries[0].limits.Faults, tries[0].states = 0, 60
	}
	chance := devtest.Random(t)
	for _, try := range tries {
		states := beginnings(model.New(try.limits).Transactions())
		some := slices.Clone(states)
		chance.Shuffle(len(some), func(i, k int) { some[i], some[k] = some[k], some[i] })
		some = some[:min(try.states, len(some))]
		t.Logf("%+v: %d of %d transactions, which begin in %d of %d states", try.limits, count(some), count(states), len(some), len(states))
		require.NotEmpty(t, some)
		for n, half := range [][]*begun{some[:len(some)/2], some[len(some)/2:]} {
			t.Run(fmt.Sprintf("%d-%d", try.limits.Writes, n+1), func(t *testing.T) {
				t.Parallel()
				r := newMigrations(t, resilience.BuiltinMapping("docs")).replica("dir")
				for _, b := range half {
					r.from(b)
				}
			})
		}
	}
}

// TestModelWalks: what happens in the model one after another does in Postgres what it
// does there, with all that is not in the model.
func TestModelWalks(t *testing.T) {
	t.Parallel()
	walks := 150
	if testing.Short() {
		walks = 25
	}
	chance := devtest.Random(t)
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	did := map[model.Transaction]bool{}
	ends, all := map[resilience.Status]int{}, 0
	for walk := 0; walk < walks || ends[resilience.Completed] == 0 || ends[resilience.RolledBack] == 0; walk++ { // by chance a few do not end in both
		require.Less(t, walk, 10*walks, "of which none ends in one of the two: %v", ends)
		r := m.replica(fmt.Sprintf("walk%d", walk))
		var way []string
		steps, broken := model.New(model.Limits{Writes: 2, Faults: 4, Pauses: 2, Fails: 1}).Walk(chance)
		for _, s := range steps {
			way = append(way, s.What)
			if s.Act == model.None {
				r.write(s.Before, s.After)
				continue
			}
			r.follow(s.Transaction, strings.Join(way, "\n"))
			did[s.Transaction] = true
			all++
		}
		require.Empty(t, broken, strings.Join(way, "\n"))
		ends[r.read().Status]++
	}
	t.Logf("%d transactions, %d of them different; ends: %v", all, len(did), ends)
}
