package activities_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/activities"
	"rehome/resilience"
	"rehome/store"
)

// cleaning is a cleanup that a test takes step by step.
type cleaning struct {
	*scanBundle
	in activities.CleanupInput
}

// planned plans a cleanup for which grace does not count.
func (b *scanBundle) planned(limit int) (*cleaning, resilience.CleanupResult) {
	b.Helper()
	owner := b.claim(store.CleanupClaim)
	c := &cleaning{b, activities.CleanupInput{Owner: owner, Memory: "docs", CleanupID: "cleanup-" + owner.RunID, Max: limit, Waived: true, DryRun: b.dryRun}}
	plan, err := do[resilience.CleanupResult](b, "PlanCleanup", c.in)
	require.NoError(b, err)
	return c, plan
}

func (c *cleaning) clean() error {
	for {
		slice, err := do[activities.CleanupSlice](c.scanBundle, "CleanOrphans", c.in)
		if err != nil || slice.Done {
			return err
		}
	}
}

func (c *cleaning) end() resilience.CleanupResult {
	c.Helper()
	result, err := do[resilience.CleanupResult](c.scanBundle, "FinishCleanup", c.in)
	require.NoError(c, err)
	c.release(store.CleanupClaim, c.in.Owner)
	return result
}

// cleanup runs a cleanup that succeeds.
func (b *scanBundle) cleanup() resilience.CleanupResult {
	b.Helper()
	c, _ := b.planned(0)
	require.NoError(b, c.clean())
	return c.end()
}

// newCleanupBundle is a memory with confirmed orphans of gone-0.md, gone-1.md …
// and one living file.
func newCleanupBundle(t *testing.T, orphans int) (*scanBundle, []string) {
	t.Helper()
	b := newScanBundle(t)
	b.source("keep.md")
	b.scan()
	ids := make([]string, orphans)
	for i := range ids {
		ids[i] = b.chunk(fmt.Sprintf("gone-%d.md", i), fmt.Sprintf("text %d", i))
	}
	b.scan()
	b.scan()
	require.Len(t, b.orphans(), orphans)
	return b, ids
}

func (b *scanBundle) paths() []string {
	b.Helper()
	rows, err := b.pool.Query(b.Context(), `SELECT path FROM rehome.chunks ORDER BY path`)
	require.NoError(b, err)
	defer rows.Close()
	var paths []string
	for rows.Next() {
		var path string
		require.NoError(b, rows.Scan(&path))
		paths = append(paths, path)
	}
	return paths
}

func TestT40EachStepOfACleanupRunTwiceIsDoneOnce(t *testing.T) {
	t.Parallel()
	b, ids := newCleanupBundle(t, 3)
	b.sql(`INSERT INTO rehome.chunk_references VALUES ('docs', $1, 'app', now(), 3)`, ids[0])
	b.twice = true
	result := b.cleanup()
	require.EqualValues(t, 3, result.TotalOrphans)
	require.EqualValues(t, 3, result.CleanedOrphans)
	require.Zero(t, result.Skipped+result.FailedCleanups)
	require.EqualValues(t, len("text 0")*3, result.BytesFreed)
	require.Equal(t, []string{"keep.md"}, b.paths())
	require.Empty(t, b.orphans())
	var references, entries int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM rehome.chunk_references), (SELECT count(*) FROM rehome.quarantine)`).Scan(&references, &entries))
	require.Equal(t, 1, references, "who refers to it is kept")
	require.Equal(t, 3, entries)
}

func TestCleanupTakesThoseMostInTheWayFirstAndNoMoreThanAsked(t *testing.T) {
	t.Parallel()
	b, ids := newCleanupBundle(t, 4)
	b.sql(`UPDATE rehome.orphan_chunks SET priority = CASE chunk_id WHEN $1 THEN 0.9 WHEN $2 THEN 0.8 ELSE 0.1 END`, ids[2], ids[1])
	c, plan := b.planned(2)
	require.EqualValues(t, 2, plan.TotalOrphans)
	require.NoError(t, c.clean())
	require.EqualValues(t, 2, c.end().CleanedOrphans)
	require.Equal(t, []string{"gone-0.md", "gone-3.md", "keep.md"}, b.paths())
}

func TestGraceAndGapCountUnlessAPersonWaivesThem(t *testing.T) {
	t.Parallel()
	b, ids := newCleanupBundle(t, 3)
	b.sql(`UPDATE rehome.orphan_chunks SET first_missing_at = now() - interval '8 d'`)
	b.sql(`UPDATE rehome.orphan_chunks SET first_missing_at = now() - interval '6 d' WHERE chunk_id = $1`, ids[0])
	b.sql(`UPDATE rehome.orphan_chunks SET last_missing_at = first_missing_at + interval '59 min' WHERE chunk_id = $1`, ids[1])
	confirmed := map[string]bool{}
	orphans, err := b.store.Orphans(t.Context(), "docs", 10)
	require.NoError(t, err)
	for _, o := range orphans {
		confirmed[o.ChunkID] = o.Confirmed
	}
	require.Equal(t, map[string]bool{ids[0]: false, ids[1]: false, ids[2]: true}, confirmed)
	owner := b.claim(store.CleanupClaim)
	plan, err := do[resilience.CleanupResult](b, "PlanCleanup", activities.CleanupInput{Owner: owner, Memory: "docs", CleanupID: "c1"})
	require.NoError(t, err)
	require.EqualValues(t, 1, plan.TotalOrphans)
	b.release(store.CleanupClaim, owner)
	b.sql(`UPDATE rehome.orphan_chunks SET missing_scans = 1 WHERE chunk_id = $1`, ids[0])
	_, plan = b.planned(0)
	require.EqualValues(t, 2, plan.TotalOrphans, "two scans are never waived")
}

func TestWhatChangedSinceTheScansStaysAndIsCounted(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *scanBundle, id string){
		"T29 the file is back": func(b *scanBundle, _ string) { b.file("gone-0.md") },
		"T37 the text was changed": func(b *scanBundle, id string) {
			b.sql(`UPDATE rehome.chunks SET content = 'new' WHERE id = $1::text::bigint`, id)
		},
		"the path was changed": func(b *scanBundle, id string) {
			b.sql(`UPDATE rehome.chunks SET path = 'x.md' WHERE id = $1::text::bigint`, id)
		},
		"the chunk left the memory": func(b *scanBundle, id string) {
			b.sql(`UPDATE rehome.chunks SET memory = 'other' WHERE id = $1::text::bigint`, id)
		},
		"T32 the chunk is gone already": func(b *scanBundle, id string) { b.sql(`DELETE FROM rehome.chunks WHERE id = $1::text::bigint`, id) },
		"T61 a person holds it":         func(b *scanBundle, id string) { require.NoError(b, b.store.Hold(b.Context(), "docs", id, "mine")) },
		"a scan took it off the list":   func(b *scanBundle, id string) { b.sql(`DELETE FROM rehome.orphan_chunks WHERE chunk_id = $1`, id) },
		"ingest has seen the file": func(b *scanBundle, _ string) {
			b.sql(`INSERT INTO rehome.files (memory, path, raw_path, size, mtime) VALUES ('docs', 'gone-0.md', 'gone-0.md', 1, now())`)
		},
		"an alias leads to where the file went": func(b *scanBundle, _ string) {
			_, err := b.store.AddAlias(b.Context(), "docs", "gone-0.md", "keep.md", nil)
			require.NoError(b, err)
			orphans, err := b.store.Orphans(b.Context(), "docs", 10)
			require.NoError(b, err)
			require.Equal(b, []string{"keep.md"}, append(orphans[0].Owners, orphans[1].Owners...))
		},
		"a migration is to move it":           func(b *scanBundle, _ string) { b.plan("gone-0.md", "kept.md") },
		"a migration is to move into its way": func(b *scanBundle, _ string) { b.plan("kept", "gone-0.md") },
		"the file cannot be looked for": func(b *scanBundle, _ string) {
			b.hooks.stat = func(_ int, raw string) error {
				if raw == "gone-0.md" {
					return os.ErrPermission
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := newCleanupBundle(t, 2)
			c, _ := b.planned(0)
			change(b, ids[0])
			require.NoError(t, c.clean())
			result := c.end()
			require.EqualValues(t, 2, result.TotalOrphans)
			require.EqualValues(t, 1, result.Skipped)
			require.EqualValues(t, 1, result.CleanedOrphans)
			require.Zero(t, result.FailedCleanups)
		})
	}
}

func (b *scanBundle) plan(from, to string) {
	b.Helper()
	require.NoError(b, b.store.CreatePlan(b.Context(), store.NewPlan{
		ID: "m1", Memory: "docs", Strategy: resilience.Batch,
		Renames: []resilience.RenameRule{{Old: from, New: to}}, WorkflowID: "w", RunID: "r", Rollback: []string{},
	}))
}

func TestRowThatSomebodyHasLockedIsSkipped(t *testing.T) {
	t.Parallel()
	b, ids := newCleanupBundle(t, 3)
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE rehome.chunks SET embedding = '{1}' WHERE id = $1::text::bigint`, ids[1])
	require.NoError(t, err)
	result := b.cleanup()
	require.NoError(t, tx.Rollback(t.Context()))
	require.EqualValues(t, 2, result.CleanedOrphans)
	require.EqualValues(t, 1, result.Skipped)
}

func TestBadRowFailsAlone(t *testing.T) {
	t.Parallel()
	b, ids := newCleanupBundle(t, 9)
	b.sql(`CREATE TABLE public.quotes (chunk bigint REFERENCES rehome.chunks (id) DEFERRABLE INITIALLY DEFERRED)`)
	b.sql(`INSERT INTO public.quotes VALUES ($1::text::bigint)`, ids[4])
	b.sql(`CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$`)
	b.sql(fmt.Sprintf(`CREATE TRIGGER keep BEFORE DELETE ON rehome.chunks FOR EACH ROW WHEN (old.id = %s) EXECUTE FUNCTION public.keep()`, ids[7]))
	result := b.cleanup()
	require.EqualValues(t, 7, result.CleanedOrphans)
	require.EqualValues(t, 2, result.FailedCleanups)
	require.Zero(t, result.Skipped)
	require.Equal(t, []string{"gone-4.md", "gone-7.md", "keep.md"}, b.paths())
}

func TestCleanupIsRefusedWhereADeletionWouldChangeOtherRows(t *testing.T) {
	t.Parallel()
	b, _ := newCleanupBundle(t, 1)
	b.sql(`CREATE TABLE public.quotes (chunk bigint REFERENCES rehome.chunks (id) ON DELETE CASCADE)`)
	owner := b.claim(store.CleanupClaim)
	_, err := do[resilience.CleanupResult](b, "PlanCleanup", activities.CleanupInput{Owner: owner, Memory: "docs", CleanupID: "c1", Waived: true})
	requireType(t, err, activities.Refused, "CASCADE", "Nothing was changed")
}

func TestCleanupOfAWrongRootIsRefused(t *testing.T) {
	t.Parallel()
	b, _ := newCleanupBundle(t, 2)
	c, _ := b.planned(0)
	require.NoError(t, os.Rename(b.root, b.root+".old"))
	requireType(t, c.clean(), activities.Refused, "mount it")
	require.NoError(t, os.Mkdir(b.root, 0o755))
	requireType(t, c.clean(), activities.Refused, "none of 1 files that the last scan saw is there", "Nothing was cleaned")
	require.Len(t, b.paths(), 3)
	// T5: it is replaced between the look and the act.
	require.NoError(t, os.Remove(b.root))
	require.NoError(t, os.Rename(b.root+".old", b.root))
	b.hooks.stat = func(_ int, raw string) error {
		if raw == "gone-0.md" {
			require.NoError(t, os.Rename(b.root, b.root+".old"))
			require.NoError(t, os.Mkdir(b.root, 0o755))
		}
		return nil
	}
	requireType(t, c.clean(), activities.Refused, "was replaced while it was read")
	require.Len(t, b.paths(), 3)
}

func TestLookThatIsTooOldIsVoid(t *testing.T) {
	t.Parallel()
	b, _ := newCleanupBundle(t, 2)
	c, _ := b.planned(0)
	run := store.Cleanup{ID: c.in.CleanupID, Memory: "docs", WorkflowID: c.in.WorkflowID, RunID: c.in.RunID}
	doomed, err := b.store.NextDoomed(t.Context(), run, 10)
	require.NoError(t, err)
	doomed.ReadAt = doomed.ReadAt.Add(-resilience.LookExpires - time.Second)
	require.ErrorIs(t, b.store.Quarantine(t.Context(), run, doomed, []int64{1, 2}), store.ErrOutdated)
	require.Len(t, b.paths(), 3)
	require.NoError(t, c.clean(), "the next attempt looks again")
	require.EqualValues(t, 2, c.end().CleanedOrphans)
}

func TestT41CleanupThatWasReplacedCanDoNothing(t *testing.T) {
	t.Parallel()
	b, _ := newCleanupBundle(t, 2)
	c, _ := b.planned(0)
	run := store.Cleanup{ID: c.in.CleanupID, Memory: "docs", WorkflowID: c.in.WorkflowID, RunID: c.in.RunID}
	doomed, err := b.store.NextDoomed(t.Context(), run, 10)
	require.NoError(t, err)
	owner := store.Claim{Memory: "docs", Kind: store.CleanupClaim, WorkflowID: c.in.WorkflowID, RunID: c.in.RunID, Epoch: 1}
	_, err = b.store.ReplaceClaim(t.Context(), owner, store.Claim{Memory: "docs", Kind: store.CleanupClaim, WorkflowID: "w2", RunID: "r2"})
	require.NoError(t, err)
	require.ErrorIs(t, b.store.Quarantine(t.Context(), run, doomed, []int64{1, 2}), store.ErrFenced)
	require.Len(t, b.paths(), 3)
}

func TestDryRunOfACleanupTakesTheSamePlanAndNothingElse(t *testing.T) {
	t.Parallel()
	b, ids := newCleanupBundle(t, 4)
	require.NoError(t, b.store.Hold(t.Context(), "docs", ids[0], "mine"))
	before := b.database()
	b.twice = true
	b.dryRun = true
	rehearsal := b.cleanup()
	require.True(t, rehearsal.DryRun)
	b.dryRun = false
	require.EqualValues(t, 3, rehearsal.CleanedOrphans)
	after := b.database()
	delete(before, "cleanup_runs")
	delete(after, "cleanup_runs")
	require.Equal(t, before, after, "a dry run leaves its own record and nothing else")
	real := b.cleanup()
	require.Equal(t, rehearsal.CleanedOrphans, real.CleanedOrphans)
	require.Equal(t, rehearsal.BytesFreed, real.BytesFreed)
}

func TestT63FileThatComesBackAfterACleanupIsReadAgain(t *testing.T) {
	t.Parallel()
	b := newScanBundle(t)
	b.source("a.md", "keep.md")
	b.scan()
	b.sql(`UPDATE rehome.files SET content_hash = '\x01'`) // ingest has read them
	b.remove("a.md")
	b.scan()
	b.scan()
	require.EqualValues(t, 1, b.cleanup().CleanedOrphans)
	b.file("a.md")
	b.scan()
	var known bool
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT content_hash IS NOT NULL FROM rehome.files WHERE path = 'a.md' AND gone_at IS NULL`).Scan(&known))
	require.False(t, known)
}

func TestCleanupOfAMappedTable(t *testing.T) {
	t.Parallel()
	b := newMappedBundle(t, "/srv/docs/")
	for i := range 4 {
		b.file(fmt.Sprintf("%d.md", i))
		b.row(fmt.Sprintf("/srv/docs/%d.md", i))
	}
	b.row("/srv/docs/./odd.md") // names no file as it is written
	b.scan()
	b.remove("1.md")
	b.scan()
	b.scan()
	require.Equal(t, []string{"1.md"}, b.orphans())
	result := b.cleanup()
	require.EqualValues(t, 1, result.CleanedOrphans)
	var left int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM public.docs`).Scan(&left))
	require.Equal(t, 4, left)
	back, err := b.store.Restore(t.Context(), "docs", store.QuarantineFilter{PathPrefix: "1.md"})
	require.NoError(t, err)
	require.EqualValues(t, 1, back.Restored)
	require.EqualValues(t, 1, b.begin(resilience.ScanPolicy{}).classes()[resilience.ClassHeld].Chunks)
	b.sql(`UPDATE public.docs SET body = 'changed since' WHERE source = '/srv/docs/1.md'`)
	require.EqualValues(t, 1, b.scan().Orphans.Total, "the exemption ends with the next change")
}
