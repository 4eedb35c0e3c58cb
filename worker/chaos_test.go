package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/log"

	"rehome/resilience"
)

func silent() log.Logger { return log.NewStructuredLogger(slog.New(slog.DiscardHandler)) }

// chaosTime is for how long `make chaos` kills, as time.ParseDuration reads it, or in
// minutes.
const chaosTime = "REHOME_CHAOS"

// TestChaos moves chunks to and fro, also to another memory, with now and then an
// abort, while it kills whatever takes part, at random, and counts what must always
// hold.
func TestChaos(t *testing.T) {
	t.Parallel()
	long, rows := 3*time.Minute, 5_000
	if testing.Short() {
		long, rows = 20*time.Second, 2_000
	}
	if wish := os.Getenv(chaosTime); wish != "" {
		var err error
		if _, plain := strconv.Atoi(wish); plain == nil {
			wish += "m"
		}
		long, err = time.ParseDuration(wish)
		require.NoError(t, err, "%s=%s: want a duration, such as 10m", chaosTime, wish)
		rows = 20_000
	}
	r := newRig(t, rows)
	c := &chaos{rig: r, kills: map[string]int{}, until: time.Now().Add(long)}
	for here := "a"; time.Now().Before(c.until) || c.rounds == 0; {
		here = c.round(here)
	}
	r.quiet()
	require.NotEmpty(t, c.kills)
	c.report()
}

// chaos counts what was done and what held.
type chaos struct {
	*rig
	chance          *rand.Rand // of this round
	until           time.Time
	kills           map[string]int
	rounds, checks  int
	resumed         int // attempts at a step after its first
	moved, restored int64
}

// round is one migration with some kills, and returns where the chunks are then.
func (c *chaos) round(here string) string {
	c.rounds++
	c.chance = rand.New(rand.NewPCG(c.seed, uint64(c.rounds))) // how many choices the rounds before made is up to timing
	id, there := fmt.Sprintf("m-%d", c.rounds), here
	strategies := resilience.Strategies()
	way := travel{strategies[c.chance.IntN(len(strategies))], c.chance.IntN(2) == 0}
	if way.transfer {
		c.departs(id, way, c.slowly())
	} else {
		if there = "a"; here == "a" {
			there = "b"
		}
		c.migrate(id, way.strategy, here, there, float64(c.rows)/5)
	}
	ended := make(chan struct{})
	go func() { // waits beside the kills
		defer close(ended)
		for {
			plan, err := c.store.Plan(context.Background(), id)
			if err == nil && plan.Status.Ended() {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}()
	abort := c.chance.IntN(3) == 0
	for n := range 4 {
		select {
		case <-ended:
		case <-time.After(time.Duration(c.chance.IntN(2500)) * time.Millisecond):
			if abort && n == 1 {
				c.abort(id)
			}
			c.strike()
			continue
		}
		break
	}
	plan := c.ends(id)
	c.countResumes(id)
	switch plan.Status {
	case resilience.Completed:
		inGroups(c.T, c.store, id, way.strategy)
		c.moved += plan.Moved
		here = there
	case resilience.RolledBack, resilience.Cancelled:
		require.True(c, abort, "nobody aborted %s: %s", id, plan.Reason)
		c.settles(id)
		c.restored += plan.Moves
	default:
		require.Fail(c, "a migration ended as "+string(plan.Status))
	}
	require.Equal(c, plan.Status == resilience.Completed, plan.Moved == plan.Moves && plan.Moved == int64(c.rows))
	c.conserved(here)
	c.checks++
	return here
}

// countResumes counts how often a step of a migration was taken up again.
func (c *chaos) countResumes(id string) {
	c.insist("read the history of "+id, func(ctx context.Context) error {
		again := 0
		for events := c.client.GetWorkflowHistory(ctx, c.workflow(id), "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); events.HasNext(); {
			event, err := events.Next()
			if err != nil {
				return err
			}
			again += max(0, int(event.GetActivityTaskStartedEventAttributes().GetAttempt())-1)
		}
		c.resumed += again
		return nil
	})
}

// strike kills something.
func (c *chaos) strike() {
	what := []struct {
		name string
		do   func()
	}{{"worker killed", c.killWorker}, {"worker frozen", c.freezeWorker}, {"Postgres crashed", c.killPostgres}, {"Temporal killed", c.killTemporal}}
	chosen := what[c.chance.IntN(len(what))]
	c.kills[chosen.name]++
	c.Logf("%s: %s", time.Now().Format(time.TimeOnly), chosen.name)
	chosen.do()
}

func (c *chaos) report() {
	total := 0
	for _, n := range c.kills {
		total += n
	}
	c.Logf(`chaos is over
  kills       %d %v
  resumes     %d attempts at a step that was under way
  migrations  %d, all ended legally after what was killed
  rows        %d moved, %d planned and put back
  looks       %d by a reader: each saw every chunk once
  edits       %d by a writer: none lost
  checks      %d of every row: path, text, embedding`,
		total, c.kills, c.resumed, c.rounds, c.moved, c.restored, c.reads.Load(), c.writes.Load(), c.checks)
}
