package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/internal/dev/workertest"
	"rehome/resilience"
	"rehome/workflows"
)

// The faults are numbered as in the table of docs/safety.md.

// way is how the chunks of a test travel: by a strategy, within their memory or
// to another. Some are in use just now, for which intelligent has a gradual group.
type way struct {
	name     string
	strategy resilience.Strategy
	transfer bool
	inUse    bool
}

// gentle reports whether rows wait for a server that is well.
func (w way) gentle() bool { return w.strategy == resilience.Gradual || w.inUse }

// write is how a row of the table gets to its new place. A trigger before updates
// would keep what is written to a copy from coming home.
func (w way) write() string {
	if w.transfer {
		return "INSERT"
	}
	return "UPDATE"
}

// halts are the gates that the middle row comes to on its way there. The row of a
// transfer leaves its memory after its copy was made.
func (w way) halts() []int {
	if w.transfer {
		return []int{away, leave}
	}
	return []int{away}
}

// waysFor are those a fault is tried on: all, and in the quick form one, another
// for each number; no gentle one, which a server that other tests load keeps waiting.
func waysFor(number int) []way {
	some := []way{
		{name: "batch", strategy: resilience.Batch},
		{name: "immediate", strategy: resilience.Immediate},
		{name: "intelligent", strategy: resilience.Intelligent},
		{name: "transfer", strategy: resilience.Batch, transfer: true},
		{name: "immediate transfer", strategy: resilience.Immediate, transfer: true},
		{name: "intelligent transfer", strategy: resilience.Intelligent, transfer: true},
	}
	if testing.Short() {
		return some[number%len(some):][:1]
	}
	return append(some, gentleWays()...)
}

func gentleWays() []way {
	return []way{
		{name: "gradual", strategy: resilience.Gradual},
		{name: "gradual transfer", strategy: resilience.Gradual, transfer: true},
		{name: "intelligent in use", strategy: resilience.Intelligent, inUse: true},
		{name: "intelligent transfer in use", strategy: resilience.Intelligent, transfer: true, inUse: true},
	}
}

// The rows 1 to travellers are to move. The application edits those up to steady;
// a test may delete the others. Those from firstUsed on are in files of their
// own directory, and used, so that intelligent has two groups, and they come last. Row
// middle, which no strategy but immediate has in its first batch, nor gradual in its first
// stage, waits for whoever holds the gate. An agent refers to each row whose number ends
// in cited, the application to every third that it edits, and an alias leads to the first
// file.
const (
	travellers = 240
	steady     = 220
	firstUsed  = 140
	middle     = 150
	remade     = 3 // which the application leaves alone, too
	cited      = 5
)

// unused is how many rows intelligent moves before those that are used.
const unused = firstUsed - 1

// file is the path of a row below a directory, in SQL.
var file = fmt.Sprintf(`CASE WHEN ordinal >= %d THEN '/used' ELSE '' END || '/f' || to_char(ordinal / 20, 'FM00') || '.md'`, firstUsed)

// journey is one way in an installation of its own, with an application that
// reads and writes all the while.
type journey struct {
	*installation
	way   way
	id    string
	run   client.WorkflowRun
	began map[int][]string // what every row was before
	stop  context.CancelFunc
	done  sync.WaitGroup
	mu    sync.Mutex
	edits [steady + 1]int64 // by row: the number of its last edit that was acknowledged
	cites [steady + 1]int64 // by row: how often the application referred to it
	wrong string            // what the application saw that must not be
	reads int
}

// eachWay runs a test of a fault on every way it applies to.
func eachWay(t *testing.T, number int, do func(j *journey)) {
	t.Helper()
	eachOf(t, waysFor(number), do)
}

// eachOf runs it on these ways.
func eachOf(t *testing.T, ways []way, do func(j *journey)) {
	t.Helper()
	require.NotEmpty(t, ways)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			do(newJourney(t, w))
		})
	}
}

func newJourney(t *testing.T, w way) *journey {
	t.Helper()
	j := newIdleJourney(t, w)
	workertest.Start(t, j.pool.Config().ConnString(), j.temporal, j.faults)
	return j
}

// newIdleJourney has no worker yet.
func newIdleJourney(t *testing.T, w way) *journey {
	t.Helper()
	return newJourneyIn(t, w, devtest.Connect(t, devtest.Database(t)))
}

func newJourneyIn(t *testing.T, w way, pool *pgxpool.Pool) *journey {
	t.Helper()
	j := &journey{installation: newIdleInstallation(t, pool), way: w}
	j.withArchive()
	j.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content, embedding)
		SELECT 'docs', 'guide' || `+file+`, ordinal, 'edit 0', ARRAY[ordinal, ordinal % 7]::real[] FROM generate_series(1, $1::int) ordinal`, travellers)
	j.exec(`INSERT INTO rehome.chunks (memory, path, ordinal, content) SELECT 'docs', 'other.md', 1000 + i, 'nobody''s business' FROM generate_series(1, 5) i`)
	j.exec(`INSERT INTO rehome.chunk_references (memory, chunk_id, referrer, last_referenced_at, reference_count) SELECT memory, id::text, 'agent ' || ordinal, now(), 1 FROM rehome.chunks WHERE ordinal <= $1 AND ordinal % 10 = $2`, steady, cited)
	j.exec(`INSERT INTO rehome.version_aliases (memory, original_path, current_path) VALUES ('docs', 'once.md', 'guide/f00.md')`)
	j.exec(`INSERT INTO rehome.chunk_access (memory, chunk_id, last_accessed_at, access_count)
		SELECT memory, id::text, now() - CASE WHEN $1 THEN interval '0' ELSE '2 days' END, 3 FROM rehome.chunks WHERE path LIKE 'guide/used/%'`, j.way.inUse)
	if j.way.strategy == resilience.Intelligent { // it has learned that rows are dear, and begins with few
		j.exec(`INSERT INTO rehome.performance_samples (memory, plan_id, kind, strategy, way, index_class, batch_size, rows, row_bytes, apply_ms, duration_ms, estimated_ms)
			SELECT 'docs', 'before ' || n, kind, 'batch', 'update', $1, 50, 1000, 100, 20000, 20000, 20000
			FROM generate_series(1, 3) n, unnest(ARRAY['rename', 'transfer']) kind`, resilience.PlainClass)
	}
	j.gates()
	j.began = j.identities()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	j.stop = stop
	j.done.Go(func() { j.read(ctx) })
	random := devtest.Random(t)
	j.done.Go(func() { j.write(ctx, random) })
	j.done.Go(func() { j.vacuum(ctx) })
	t.Cleanup(j.quiet)
	return j
}

// gates makes the middle row wait for an advisory lock, on its way there and on
// its way back.
func (j *journey) gates() {
	j.Helper()
	j.exec(`CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::bigint); RETURN coalesce(NEW, OLD); END $$`)
	passes := map[int]string{
		away: `UPDATE ON rehome.chunks FOR EACH ROW WHEN (OLD.ordinal = %d AND OLD.path LIKE 'guide/%%' AND NEW.path NOT LIKE 'guide/%%')`,
		home: `UPDATE ON rehome.chunks FOR EACH ROW WHEN (OLD.ordinal = %d AND NEW.path LIKE 'guide/%%' AND OLD.path NOT LIKE 'guide/%%')`,
	}
	if j.way.transfer {
		passes = map[int]string{
			away:  `INSERT ON rehome.chunks FOR EACH ROW WHEN (NEW.ordinal = %d AND NEW.memory = 'archive')`,
			leave: `DELETE ON rehome.chunks FOR EACH ROW WHEN (OLD.ordinal = %d AND OLD.memory = 'docs')`,
			home:  `DELETE ON rehome.chunks FOR EACH ROW WHEN (OLD.ordinal = %d AND OLD.memory = 'archive')`,
		}
	}
	for lock, passing := range passes {
		j.exec(fmt.Sprintf(`CREATE TRIGGER gate_%[1]d BEFORE %[2]s EXECUTE FUNCTION public.gate(%[1]d)`, lock, fmt.Sprintf(passing, middle)))
	}
}

func (j *journey) quiet() { j.stop(); j.done.Wait() }

// gate stands before the middle row. Whoever moves it waits until it opens.
type gate struct {
	j    *journey
	lock int
	tx   pgx.Tx
}

// The gates, by the locks they are.
const (
	away  = 42
	home  = 43
	leave = 44
)

func (j *journey) shut(lock int) *gate {
	j.Helper()
	g := &gate{j, lock, j.session()}
	_, err := g.tx.Exec(j.Context(), `SELECT pg_advisory_xact_lock($1::bigint)`, lock)
	require.NoError(j, err)
	return g
}

// waiter is the backend that waits at a gate, if there is one.
const waiter = `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %d AND objsubid = 1 AND NOT granted
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// waiting waits until somebody waits at the gate.
func (g *gate) waiting() {
	g.j.Helper()
	require.Eventually(g.j, func() bool { return g.j.number(fmt.Sprintf(`SELECT count(*) FROM (`+waiter+`) w`, g.lock)) > 0 }, patience, tick)
}

// end ends the backend that waits at the gate, whichever that is by then.
func (g *gate) end() {
	g.j.Helper()
	require.Eventually(g.j, func() bool {
		return g.j.number(fmt.Sprintf(`SELECT count(*) FROM (SELECT pg_terminate_backend(pid, 5000) AS ended FROM (`+waiter+`) w) e WHERE ended`, g.lock)) > 0
	}, patience, tick)
}

// patience is also for gentle ways, which wait for a server that other tests load.
const patience = 5 * time.Minute

// open lets the row pass. Its keeper may have gone home before.
func (g *gate) open() {
	g.j.Helper()
	if err := g.tx.Rollback(g.j.Context()); !errors.Is(err, pgx.ErrTxClosed) {
		require.NoError(g.j, err)
	}
}

// stopped starts the run, and lets something happen at each gate while the middle row
// waits there.
func (j *journey) stopped(do func(g *gate)) {
	j.Helper()
	var all []*gate
	for _, lock := range j.way.halts() {
		all = append(all, j.shut(lock))
	}
	j.depart()
	for _, g := range all {
		g.waiting()
		do(g)
		g.open()
	}
}

// depart starts the run.
func (j *journey) depart() {
	j.Helper()
	j.departs(func(*workflows.MigrateInput) {})
}

// departs starts a run that is ordered in another way.
func (j *journey) departs(otherwise func(in *workflows.MigrateInput)) {
	j.Helper()
	j.made++
	j.id = fmt.Sprintf("m-%d", j.made)
	id := j.id
	in := j.input(id)
	otherwise(&in)
	j.Cleanup(func() {
		if j.Failed() {
			gates, err := j.store.Gates(context.WithoutCancel(j.Context()), id)
			j.Log("what it waits for:", gates, err)
		}
	})
	j.run = j.start(workflows.MigrateID(j.installation.id, "docs", j.id), workflows.MigrateName(j.way.strategy), in)
}

// batchOfAJourney is how many rows a batch of it has, where its strategy takes that.
const batchOfAJourney = 10

func (j *journey) input(id string) workflows.MigrateInput {
	tuning := quick()
	tuning.Look = activities.Duration(100 * time.Millisecond)
	in := workflows.MigrateInput{
		Origin: activities.Origin{Installation: j.installation.id}, Memory: "docs", Migration: id, Approve: true,
		Policy: resilience.Policy{BatchSize: batchOfAJourney}, Tuning: tuning,
	}
	if j.way.transfer {
		soak := resilience.Seconds(0)
		in.TransferOrder = resilience.TransferOrder{To: "archive", Prefix: "guide", Soak: &soak}
	} else {
		in.Renames = []resilience.RenameRule{rule("guide", "manual")}
	}
	return in
}
