package activities_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"golang.org/x/sys/unix"

	"rehome/activities"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// ingestBundle is a builtin memory, docs, with a root, and one run that ingests it.
type ingestBundle struct {
	*testing.T
	pool  *pgxpool.Pool
	store *store.Store
	root  string
	env   *testsuite.TestActivityEnvironment
	run   int
}

func newIngestBundle(t *testing.T) *ingestBundle {
	t.Helper()
	b := &ingestBundle{T: t, pool: devtest.Pool(t), root: t.TempDir()}
	b.store = store.New(b.pool)
	require.NoError(t, b.store.AddMemory(t.Context(), resilience.Memory{Name: "docs", Root: b.root, Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	b.env = b.worker()
	return b
}

// worker is what runs the activity.
func (b *ingestBundle) worker() *testsuite.TestActivityEnvironment {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(&activities.Files{Store: b.store})
	return env
}

func (b *ingestBundle) write(path, content string) {
	b.Helper()
	at := filepath.Join(b.root, path)
	require.NoError(b, os.MkdirAll(filepath.Dir(at), 0o755))
	require.NoError(b, os.WriteFile(at, []byte(content), 0o644))
}

// claim begins another run.
func (b *ingestBundle) claim() {
	b.Helper()
	if b.run > 0 {
		require.NoError(b, b.store.ReleaseClaim(b.Context(), store.Claim{Memory: "docs", Kind: store.IngestClaim, RunID: b.owner().RunID}))
	}
	b.run++
	_, err := b.store.TakeClaim(b.Context(), store.Claim{Memory: "docs", Kind: store.IngestClaim, WorkflowID: b.owner().WorkflowID, RunID: b.owner().RunID})
	require.NoError(b, err)
}

func (b *ingestBundle) owner() activities.Owner {
	return activities.Owner{WorkflowID: "x/ingest/docs", RunID: fmt.Sprint("run-", b.run)}
}

// slice does one slice of the present run.
func (b *ingestBundle) slice(length time.Duration) (activities.IngestSliceResult, error) {
	var result activities.IngestSliceResult
	encoded, err := b.env.ExecuteActivity((*activities.Files)(nil).IngestSlice, activities.IngestSliceInput{
		Owner: b.owner(), Memory: "docs", MaxFileBytes: 1 << 20, Slice: activities.Slice{Time: activities.Duration(length)},
	})
	if err == nil {
		err = encoded.Get(&result)
	}
	return result, err
}

// ingest does a whole run in one slice.
func (b *ingestBundle) ingest() resilience.Ingested {
	b.Helper()
	b.claim()
	result, err := b.slice(time.Hour)
	require.NoError(b, err)
	require.True(b, result.Done)
	return result.Counts
}

// texts puts the chunks of each file together again.
func (b *ingestBundle) texts() map[string]string {
	b.Helper()
	rows, err := b.pool.Query(b.Context(), `SELECT path, string_agg(content, '' ORDER BY ordinal) FROM rehome.chunks GROUP BY path`)
	require.NoError(b, err)
	texts := map[string]string{}
	for rows.Next() {
		var path, text string
		require.NoError(b, rows.Scan(&path, &text))
		texts[path] = text
	}
	require.NoError(b, rows.Err())
	return texts
}

// rows are all chunks, byte for byte, with the version of each row.
func (b *ingestBundle) rows() (sum string) {
	b.Helper()
	require.NoError(b, b.pool.QueryRow(b.Context(), `SELECT md5(string_agg(xmin::text || c::text, '|' ORDER BY id)) FROM rehome.chunks c`).Scan(&sum))
	return sum
}

// prose is text that is cut into several chunks, its own for each name.
func prose(name string) string {
	var text strings.Builder
	for i := range 12 {
		fmt.Fprintf(&text, "## Section %d of %s\n\n%s\n\n", i, name, strings.Repeat(fmt.Sprintf("word%d ", i), 100))
	}
	return text.String()
}

// many makes a tree that takes several batches; returns what its files hold.
func (b *ingestBundle) many() map[string]string {
	b.Helper()
	texts := map[string]string{}
	for i := range 1300 {
		path := fmt.Sprintf("dir%d/file%d.md", i%3, i)
		if i%3 == 0 {
			path = fmt.Sprintf("dir0/sub%d/file.md", i)
		}
		texts[path] = "text of " + path
	}
	for i := range 3 {
		texts[fmt.Sprintf("z%d.md", i)] = prose(fmt.Sprint("z", i))
	}
	for path, text := range texts {
		b.write(path, text)
	}
	return texts
}

func TestIngestSliceTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	b := newIngestBundle(t)
	texts := map[string]string{"a.md": prose("a"), "sub/b.md": prose("b"), "sub/c.txt": "short"}
	for path, text := range texts {
		b.write(path, text)
	}
	first := b.ingest()
	require.Equal(t, texts, b.texts())
	require.Equal(t, resilience.IngestedFiles{Seen: 3, New: 3}, first.Files)
	require.Greater(t, first.Chunks.New, int64(6))
	before := b.rows()

	// The same call again, as after a lost answer, and another run.
	again, err := b.slice(time.Hour)
	require.NoError(t, err)
	require.Equal(t, activities.IngestSliceResult{Counts: first, Done: true}, again)
	require.Equal(t, resilience.IngestedFiles{Seen: 3, Unchanged: 3}, b.ingest().Files)
	require.Equal(t, before, b.rows())
}

func TestIngestSliceKeepsEmbeddingsOfUneditedText(t *testing.T) {
	t.Parallel()
	b := newIngestBundle(t)
	text := prose("a")
	b.write("a.md", text)
	all := b.ingest().Chunks.New
	_, err := b.pool.Exec(t.Context(), `UPDATE rehome.chunks SET embedding = ARRAY[id, 1]::real[]`)
	require.NoError(t, err)
	embedded := func() (n int64) {
		require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.chunks WHERE embedding = ARRAY[id, 1]::real[]`).Scan(&n))
		return n
	}
	edited := strings.Replace(text, "word6 ", "another ", 1)
	b.write("a.md", edited)
	counts := b.ingest()
	require.Equal(t, resilience.IngestedFiles{Seen: 1, Changed: 1}, counts.Files)
	require.LessOrEqual(t, counts.Chunks.New, int64(2))
	require.Equal(t, all, counts.Chunks.Kept+counts.Chunks.Replaced)
	require.Equal(t, counts.Chunks.Kept, embedded())
	require.Equal(t, edited, b.texts()["a.md"])
	var quarantined int64
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM rehome.quarantine WHERE reason = 'replaced'`).Scan(&quarantined))
	require.Equal(t, counts.Chunks.Replaced, quarantined)
}

// However a run is cut into attempts, it ends with every file once.
func TestIngestSliceGoesOnFromItsClaim(t *testing.T) {
	t.Parallel()
	b := newIngestBundle(t)
	texts := b.many()
	b.claim()
	var last resilience.Ingested
	attempts := 0
	for done := false; !done; attempts++ {
		result, err := b.slice(time.Nanosecond) // one batch
		require.NoError(t, err)
		require.GreaterOrEqual(t, result.Counts.Files.Seen, last.Files.Seen)
		last, done = result.Counts, result.Done
	}
	require.Greater(t, attempts, 2)
	require.Equal(t, resilience.IngestedFiles{Seen: int64(len(texts)), New: int64(len(texts))}, last.Files)
	require.Equal(t, texts, b.texts())
	require.Equal(t, last.Chunks.New, b.ingest().Chunks.Kept)
}

// An attempt that was given up for dead and its successor work at once: one of
// them stops, and what they did together is counted once.
func TestIngestSliceToleratesAZombie(t *testing.T) {
	t.Parallel()
	b := newIngestBundle(t)
	texts := b.many()
	b.claim()
	zombie := *b
	zombie.env = b.worker()
	ended := make(chan error)
	go func() {
		_, err := zombie.slice(time.Hour)
		ended <- err
	}()
	_, err := b.slice(time.Hour)
	for _, err := range []error{err, <-ended} {
		if err != nil {
			require.ErrorContains(t, err, "another attempt")
			var app *temporal.ApplicationError
			require.ErrorAs(t, err, &app)
			require.False(t, app.NonRetryable(), "the claim is still ours")
		}
	}
	result, err := b.slice(time.Hour)
	require.NoError(t, err)
	require.Equal(t, resilience.IngestedFiles{Seen: int64(len(texts)), New: int64(len(texts))}, result.Counts.Files)
	require.Equal(t, texts, b.texts())
}

// The tree changes between two attempts: what is new behind the cursor is
// found, what is gone is no error.
func TestIngestSliceGoesOnInAChangedTree(t *testing.T) {
	t.Parallel()
	b := newIngestBundle(t)
	texts := b.many()
	b.claim()
	_, err := b.slice(time.Nanosecond)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(b.root, "dir2")))
	b.write("dir2a/new.md", "new")
	for path := range texts {
		if strings.HasPrefix(path, "dir2/") {
			delete(texts, path)
		}
	}
	texts["dir2a/new.md"] = "new"
	result, err := b.slice(time.Hour)
	require.NoError(t, err)
	require.True(t, result.Done)
	stored := b.texts()
	for path, text := range texts {
		require.Equal(t, text, stored[path])
	}
}

func TestIngestSliceCountsWhatItSkips(t *testing.T) {
	t.Parallel()
	b := newIngestBundle(t)
	b.write("good.md", "text")
	b.write("binary", "\x7fELF\x00")
	b.write("latin.txt", "caf\xe9")
	b.write("huge.txt", strings.Repeat("x", 1<<20+1))
	b.write("name\n.md", "text")
	b.write("latin\xe9.md", "text")
	b.write(".git/config", "text")
	require.NoError(t, os.Symlink("good.md", filepath.Join(b.root, "link.md")))
	require.NoError(t, unix.Mkfifo(filepath.Join(b.root, "pipe"), 0o644))
	want := map[string]int64{
		"binary": 1, "invalid_utf8": 1, "too_large": 1, "unrepresentable_name": 2, "excluded": 1, "symlink": 1, "not_regular": 1,
	}
	b.write("caf\u00e9.md", "text")
	b.write("cafe\u0301.md", "text")
	if names, err := filepath.Glob(filepath.Join(b.root, "caf*.md")); err == nil && len(names) == 2 {
		want["conflict"] = 2
	}
	for range 2 {
		counts := b.ingest()
		require.Equal(t, want, counts.SkippedByReason)
		require.Equal(t, counts.Files.Seen, counts.Files.New+counts.Files.Unchanged+counts.Files.Skipped)
		require.Equal(t, "text", b.texts()["good.md"])
	}
	rows, err := b.pool.Query(t.Context(), `SELECT path || ' ' || skipped FROM rehome.files WHERE skipped IS NOT NULL ORDER BY 1`)
	require.NoError(t, err)
	var skipped []string
	for rows.Next() {
		var s string
		require.NoError(t, rows.Scan(&s))
		skipped = append(skipped, s)
	}
	require.Equal(t, []string{"binary binary", "huge.txt too_large", "latin.txt invalid_utf8"}, skipped)
}

func TestIngestSliceNeverDeletesForAFileThatIsGone(t *testing.T) {
	t.Parallel()
	b := newIngestBundle(t)
	b.write("a.md", "text")
	b.write("b.md", "text")
	b.ingest()
	require.NoError(t, os.Remove(filepath.Join(b.root, "a.md")))
	require.Equal(t, resilience.IngestedFiles{Seen: 1, Unchanged: 1}, b.ingest().Files)
	require.Equal(t, map[string]string{"a.md": "text", "b.md": "text"}, b.texts())
}

func TestIngestSliceRefuses(t *testing.T) {
	t.Parallel()
	b := newIngestBundle(t)
	_, err := b.slice(time.Hour)
	requireType(t, err, activities.Fenced, "does not hold the claim")
	b.claim()
	require.NoError(t, os.RemoveAll(b.root))
	_, err = b.slice(time.Hour)
	requireType(t, err, activities.Refused, b.root, "mount it")
	b.write("a.md", "text")
	result, err := b.slice(time.Hour)
	require.NoError(t, err)
	require.Equal(t, int64(1), result.Counts.Files.New)
}
