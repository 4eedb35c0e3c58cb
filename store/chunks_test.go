package store_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// ingests is a builtin memory that one run ingests into.
type ingests struct {
	*migrations
	memory resilience.Memory
}

func newIngests(t *testing.T) *ingests {
	t.Helper()
	in := &ingests{migrations: newMigrations(t, resilience.BuiltinMapping("docs"))}
	var err error
	in.memory, err = in.store.Builtin(t.Context(), "docs")
	require.NoError(t, err)
	_, err = in.store.TakeClaim(t.Context(), in.claim())
	require.NoError(t, err)
	return in
}

func (in *ingests) claim() store.Claim {
	return store.Claim{Memory: "docs", Kind: store.IngestClaim, WorkflowID: "x/ingest/docs", RunID: "run-1"}
}

// file is one whose pieces are given.
func file(path string, pieces ...string) store.File {
	hash := sha256.Sum256([]byte(strings.Join(pieces, "")))
	return store.File{
		Path: path, Raw: path, Size: int64(len(strings.Join(pieces, ""))),
		ModTime: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Hash: hash[:], Pieces: pieces,
	}
}

// next stores files behind the claim's cursor and returns the counts of just them.
func (in *ingests) next(files ...store.File) resilience.Ingested {
	in.Helper()
	claim, err := in.store.ReadClaim(in.Context(), "docs", store.IngestClaim, "run-1", nil)
	require.NoError(in, err)
	in.made++
	counts, err := in.store.Ingest(in.Context(), in.memory, claim, store.IngestBatch{Files: files, Next: fmt.Sprint("after ", in.made)})
	require.NoError(in, err)
	return counts
}

// embed lets the application fill in embeddings.
func (in *ingests) embed() {
	in.Helper()
	in.exec(`UPDATE rehome.chunks SET embedding = ARRAY[id, 0.5]::real[]`)
}

// state is every row that an ingest may write, with the version of the row, so
// that also a write of the same values shows.
func (in *ingests) state() []string {
	in.Helper()
	var all []string
	for _, table := range []string{"chunks", "files", "quarantine"} {
		all = append(all, in.rows(fmt.Sprintf(`(SELECT xmin, ctid, t.* FROM rehome.%s t)`, table))...)
	}
	return all
}

// chunks lists a file's chunks as id, ordinal, text and embedding.
func (in *ingests) chunks(path string) []string {
	in.Helper()
	return in.rows(fmt.Sprintf(`(SELECT ordinal, content, id, embedding FROM rehome.chunks WHERE path = '%s')`, path))
}

func TestIngestStoresFilesAndPieces(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	counts := in.next(file("a.md", "one ", "two "), file("empty"), file("b/c.md", "three"))
	require.Equal(t, resilience.Ingested{
		Files:  resilience.IngestedFiles{Seen: 3, New: 3},
		Chunks: resilience.IngestedChunks{New: 3}, Bytes: 13,
	}, counts)
	require.Equal(t, []string{`(0,"one ",1,)`, `(1,"two ",2,)`}, in.chunks("a.md"))
	require.Equal(t, []string{`(0,three,3,)`}, in.chunks("b/c.md"))
	require.Len(t, in.rows(`rehome.files`), 3)
}

func TestIngestAgainWritesNothing(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	files := []store.File{file("a.md", "one ", "two "), file("empty"), {Path: "bin", Raw: "bin", Size: 3, ModTime: time.Unix(1, 0), Skipped: "binary"}}
	in.next(files...)
	before := in.state()
	counts := in.next(files...)
	require.Equal(t, before, in.state())
	require.Equal(t, resilience.Ingested{
		Files:           resilience.IngestedFiles{Seen: 3, Unchanged: 2, Skipped: 1},
		SkippedByReason: map[string]int64{"binary": 1},
		Chunks:          resilience.IngestedChunks{Kept: 2}, Bytes: 8,
	}, counts)
}

func TestIngestReplacesOnlyTheChunksWhoseTextIsGone(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	in.next(file("a.md", "one ", "two ", "three "), file("b.md", "two "))
	in.embed()
	counts := in.next(file("a.md", "zero ", "one ", "2 ", "three "))
	require.Equal(t, resilience.IngestedChunks{New: 2, Kept: 2, Replaced: 1}, counts.Chunks)
	require.Equal(t, resilience.IngestedFiles{Seen: 1, Changed: 1}, counts.Files)
	require.Equal(t, []string{`(0,"zero ",5,)`, `(1,"one ",1,"{1,0.5}")`, `(2,"2 ",6,)`, `(3,"three ",3,"{3,0.5}")`}, in.chunks("a.md"))
	require.Equal(t, []string{`(0,"two ",4,"{4,0.5}")`}, in.chunks("b.md"), "the same text in another file is another chunk")
	require.Equal(t, []string{`(2,a.md,replaced,run-1)`}, in.rows(`(SELECT chunk_id, file_path, reason, run_id FROM rehome.quarantine)`))
}

func TestIngestTouchesOnlyTheCatalogueWhenOnlyTheTimeChanged(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	touched := file("a.md", "one ")
	in.next(touched)
	before := in.rows(`(SELECT xmin, t.* FROM rehome.chunks t)`)
	touched.ModTime = touched.ModTime.Add(time.Hour)
	require.Equal(t, int64(1), in.next(touched).Files.Unchanged)
	require.Equal(t, before, in.rows(`(SELECT xmin, t.* FROM rehome.chunks t)`))
	require.Equal(t, []string{`("2020-01-01 01:00:00")`}, in.rows(`(SELECT mtime AT TIME ZONE 'UTC' FROM rehome.files)`))
}

func TestIngestPutsBackChunksThatSomebodyDeleted(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	in.next(file("a.md", "one ", "two "))
	in.exec(`DELETE FROM rehome.chunks WHERE content = 'one '`)
	require.Equal(t, resilience.IngestedChunks{New: 1, Kept: 1}, in.next(file("a.md", "one ", "two ")).Chunks)
	require.Equal(t, []string{`(0,"one ",3,)`, `(1,"two ",2,)`}, in.chunks("a.md"))
}

func TestIngestWelcomesAFileThatCameBack(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	in.next(file("a.md", "one "))
	in.exec(`UPDATE rehome.files SET gone_at = now()`)
	in.exec(`DELETE FROM rehome.chunks`) // by a cleanup
	_, err := in.store.AddAlias(t.Context(), "docs", "a.md", "elsewhere.md", nil)
	require.NoError(t, err)
	require.Equal(t, resilience.IngestedFiles{Seen: 1, New: 1}, in.next(file("a.md", "one ")).Files)
	require.Equal(t, []string{`(0,"one ",2,)`}, in.chunks("a.md"))
	require.Equal(t, []string{`(t)`}, in.rows(`(SELECT gone_at IS NULL FROM rehome.files)`))
	require.Empty(t, in.rows(`rehome.version_aliases`), "where a file lives no alias leads away")
}

// A file that could be read before keeps its chunks when it cannot be read now.
func TestIngestLeavesTheChunksOfASkippedFile(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	in.next(file("a.md", "one "))
	in.embed()
	before := in.chunks("a.md")
	skipped := store.File{Path: "a.md", Raw: "a.md", Size: 4, ModTime: time.Unix(1, 0), Skipped: "unreadable"}
	counts := in.next(skipped)
	require.Equal(t, map[string]int64{"unreadable": 1}, counts.SkippedByReason)
	require.Equal(t, []string{`(unreadable,)`}, in.rows(`(SELECT skipped, content_hash FROM rehome.files)`))
	require.Equal(t, before, in.chunks("a.md"))
	require.Equal(t, resilience.IngestedChunks{Kept: 1}, in.next(file("a.md", "one ")).Chunks)
	require.Equal(t, before, in.chunks("a.md"))
}

func TestIngestNeverReplacesAHeldChunk(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	in.next(file("a.md", "one ", "two "))
	in.exec(`INSERT INTO rehome.holds (memory, chunk_id, reason) VALUES ('docs', '1', 'mine')`)
	require.Equal(t, resilience.IngestedChunks{New: 1, Replaced: 1}, in.next(file("a.md", "three ")).Chunks)
	require.Equal(t, []string{`(0,"one ",1,)`, `(0,"three ",3,)`}, in.chunks("a.md"))
}

// While a migration moves chunks between two paths, half of them are at either.
func TestIngestLeavesFilesInFlightAlone(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	in.next(file("old.md", "one "), file("other.md", "x "))
	require.NoError(t, in.store.CreatePlan(t.Context(), store.NewPlan{
		ID: "m-1", Memory: "docs", Strategy: resilience.Batch, Renames: []resilience.RenameRule{rule("old.md", "new.md")},
		Policy: resilience.Policy{BatchSize: 10}, WorkflowID: "w", RunID: "r", Rollback: []string{},
	}))
	require.NoError(t, in.store.Journal(t.Context(), "m-1"))
	before := in.state()
	counts := in.next(file("old.md", "edited "), file("new.md", "one "), file("other.md", "x "))
	require.Equal(t, map[string]int64{store.SkippedInFlight: 2}, counts.SkippedByReason)
	require.Equal(t, before, in.state())

	require.NoError(t, in.store.CancelPlan(t.Context(), "m-1", "", "enough"))
	counts = in.next(file("old.md", "edited "), file("new.md", "one "))
	require.Empty(t, counts.SkippedByReason)
	require.Equal(t, resilience.IngestedFiles{Seen: 2, New: 1, Changed: 1}, counts.Files)
}

func TestIngestIsFenced(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	stale, err := in.store.ReadClaim(t.Context(), "docs", store.IngestClaim, "run-1", nil)
	require.NoError(t, err)
	in.next(file("a.md", "one "))
	before := in.state()
	_, err = in.store.Ingest(t.Context(), in.memory, stale, store.IngestBatch{Files: []store.File{file("a.md", "two ")}, Next: "after 2"})
	require.ErrorIs(t, err, store.ErrFenced)
	require.Equal(t, before, in.state())
}

// A batch that fails half-way has done nothing, nor counted anything.
func TestIngestIsAllOrNothing(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	in.next(file("a.md", "one ", "two "))
	before := in.state()
	claim, err := in.store.ReadClaim(t.Context(), "docs", store.IngestClaim, "run-1", nil)
	require.NoError(t, err)
	so := resilience.Ingested{SkippedByReason: map[string]int64{"binary": 1}}
	skipped := store.File{Path: "c", Raw: "c", ModTime: time.Unix(1, 0), Skipped: "binary"}
	_, err = in.store.Ingest(t.Context(), in.memory, claim, store.IngestBatch{
		Files: []store.File{file("a.md", "1 ", "two "), skipped, file("b.md", "no text for Postgres: \x00")}, Next: "after 2", Counts: so,
	})
	require.ErrorIs(t, err, store.ErrUnfit)
	require.Equal(t, before, in.state())
	require.Equal(t, map[string]int64{"binary": 1}, so.SkippedByReason)
	after, err := in.store.ReadClaim(t.Context(), "docs", store.IngestClaim, "run-1", nil)
	require.NoError(t, err)
	require.Equal(t, claim, after)
}

func TestIngestKeepsItsCountsWithTheClaim(t *testing.T) {
	t.Parallel()
	in := newIngests(t)
	counts := in.next(file("a.md", "one "))
	var kept resilience.Ingested
	claim, err := in.store.ReadClaim(t.Context(), "docs", store.IngestClaim, "run-1", &kept)
	require.NoError(t, err)
	require.Equal(t, counts, kept)
	require.Equal(t, "after 1", claim.Cursor)
}

func TestOnlyBuiltinMemoriesAreIngested(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.Mapping{Schema: "public", Table: "docs", ID: "id", IDType: "text", Content: "body", Locators: []resilience.Locator{{Column: "path", Type: "text"}}})
	_, err := m.store.Builtin(t.Context(), "docs")
	require.ErrorIs(t, err, store.ErrRefused)
	require.ErrorContains(t, err, "public.docs of an application")
	_, err = m.store.Builtin(t.Context(), "none")
	require.ErrorIs(t, err, store.ErrNotFound)
}
