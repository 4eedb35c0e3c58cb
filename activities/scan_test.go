package activities_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"rehome/activities"
	"rehome/corpus"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// scanBundle is a memory, its root, and the activities that scan and clean it.
type scanBundle struct {
	*testing.T
	pool   *pgxpool.Pool
	store  *store.Store
	memory resilience.Memory
	root   string
	env    *testsuite.TestActivityEnvironment
	runs   int
	hooks  hooks

	twice  bool // run each activity two times
	dryRun bool // cleanups
}

// hooks put faults and events into a root. Each gets the number of the call.
type hooks struct {
	open    func(n int) error
	listing func(n int, l *corpus.Listing)
	stat    func(n int, raw string) error
	calls   int
}

type hookedTree struct {
	activities.Tree
	hooks *hooks
}

func (h hookedTree) Walk(ctx context.Context, after string, visit func(corpus.Listing) error) error {
	return h.Tree.Walk(ctx, after, func(l corpus.Listing) error {
		h.hooks.calls++
		if h.hooks.listing != nil {
			h.hooks.listing(h.hooks.calls, &l)
		}
		return visit(l)
	})
}

func (h hookedTree) Stat(raw string) (corpus.Entry, error) {
	h.hooks.calls++
	if h.hooks.stat != nil {
		if err := h.hooks.stat(h.hooks.calls, raw); err != nil {
			return corpus.Entry{}, err
		}
	}
	return h.Tree.Stat(raw)
}

func newScanBundle(t *testing.T) *scanBundle {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.Mkdir(root, 0o755))
	return newScanBundleOf(t, resilience.Memory{Name: "docs", Root: root, Builtin: true, Mapping: resilience.BuiltinMapping("docs")})
}

func newScanBundleOf(t *testing.T, m resilience.Memory) *scanBundle {
	t.Helper()
	return newScanBundleIn(t, devtest.Pool(t), m)
}

func newScanBundleIn(t *testing.T, pool *pgxpool.Pool, m resilience.Memory) *scanBundle {
	t.Helper()
	b := &scanBundle{T: t, pool: pool, memory: m, root: m.Root}
	b.store = store.New(b.pool)
	require.NoError(t, b.store.AddMemory(t.Context(), m))
	files := activities.FilesOver(activities.Files{Store: b.store}, func(dir string) (activities.Tree, error) {
		b.hooks.calls++
		if b.hooks.open != nil {
			if err := b.hooks.open(b.hooks.calls); err != nil {
				return nil, err
			}
		}
		tree, err := activities.OpenReal(dir)
		return hookedTree{Tree: tree, hooks: &b.hooks}, err
	})
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	b.env = suite.NewTestActivityEnvironment()
	b.env.RegisterActivity(files)
	b.env.RegisterActivity(&activities.Database{Store: b.store})
	return b
}

// chunk gives a path a chunk and returns its id.
func (b *scanBundle) chunk(path, text string) string {
	b.Helper()
	var id string
	require.NoError(b, b.pool.QueryRow(b.Context(), `
		INSERT INTO rehome.chunks (memory, path, ordinal, content) VALUES ('docs', $1, 1, $2) RETURNING id::text`, path, text).Scan(&id))
	return id
}

// file makes a file.
func (b *scanBundle) file(path string) {
	b.Helper()
	full := filepath.Join(b.root, path)
	require.NoError(b, os.MkdirAll(filepath.Dir(full), 0o755))
	require.NoError(b, os.WriteFile(full, []byte("text of "+path), 0o644))
}

// source makes files with a chunk each.
func (b *scanBundle) source(paths ...string) {
	b.Helper()
	for _, path := range paths {
		b.file(path)
		b.chunk(path, "text of "+path)
	}
}

func (b *scanBundle) remove(path string) {
	b.Helper()
	require.NoError(b, os.RemoveAll(filepath.Join(b.root, path)))
}

func (b *scanBundle) rename(from, to string) {
	b.Helper()
	require.NoError(b, os.MkdirAll(filepath.Dir(filepath.Join(b.root, to)), 0o755))
	require.NoError(b, os.Rename(filepath.Join(b.root, from), filepath.Join(b.root, to)))
}

// sql runs one statement.
func (b *scanBundle) sql(statement string, args ...any) {
	b.Helper()
	_, err := b.pool.Exec(b.Context(), statement, args...)
	require.NoError(b, err)
}

// do runs an activity, with the name of its method.
func do[T any](b *scanBundle, name string, in any) (T, error) {
	b.Helper()
	var result T
	times := 1
	if b.twice {
		times = 2
	}
	for range times {
		value, err := b.env.ExecuteActivity(name, in)
		if err != nil {
			return result, err
		}
		if value.HasValue() {
			require.NoError(b, value.Get(&result))
		}
	}
	return result, nil
}

// claim takes a claim for a new run and returns the origin of its steps.
func (b *scanBundle) claim(kind string) activities.Owner {
	b.Helper()
	b.runs++
	owner := activities.Owner{WorkflowID: fmt.Sprintf("%s/%d", kind, b.runs), RunID: fmt.Sprintf("run-%d", b.runs)}
	_, err := b.store.TakeClaim(b.Context(), store.Claim{Memory: "docs", Kind: kind, WorkflowID: owner.WorkflowID, RunID: owner.RunID})
	require.NoError(b, err)
	return owner
}

func (b *scanBundle) release(kind string, owner activities.Owner) {
	b.Helper()
	require.NoError(b, b.store.ReleaseClaim(b.Context(), store.Claim{Memory: "docs", Kind: kind, WorkflowID: owner.WorkflowID, RunID: owner.RunID}))
}

// scanning is a scan that a test takes step by step.
type scanning struct {
	*scanBundle
	in activities.ScanInput
}

func (b *scanBundle) begin(policy resilience.ScanPolicy) *scanning {
	b.Helper()
	owner := b.claim(store.ScanClaim)
	s := &scanning{b, activities.ScanInput{Owner: owner, Memory: "docs", ScanID: "scan-" + owner.RunID, Policy: policy}}
	var err error
	s.in.Listed, err = do[store.Listed](b, "BeginScan", s.in)
	require.NoError(b, err)
	return s
}

func (s *scanning) walk() error {
	_, err := do[activities.ScanSlice](s.scanBundle, "WalkTree", s.in)
	return err
}

func (s *scanning) judge() error {
	_, err := do[int64](s.scanBundle, "JudgeSources", s.in)
	return err
}

func (s *scanning) recheck() error {
	_, err := do[activities.ScanSlice](s.scanBundle, "RecheckSources", s.in)
	return err
}

// end finishes the scan, or aborts it for err.
func (s *scanning) end(err error) (resilience.ScanResult, error) {
	s.Helper()
	defer s.release(store.ScanClaim, s.in.Owner)
	var result resilience.ScanResult
	if err == nil {
		result, err = do[resilience.ScanResult](s.scanBundle, "FinishScan", s.in)
	}
	if err != nil {
		_, abortErr := do[struct{}](s.scanBundle, "AbortScan", activities.AbortScanInput{ScanInput: s.in, Reason: err.Error()})
		require.NoError(s, abortErr)
	}
	return result, err
}

// rest takes all steps from the walk on.
func (s *scanning) rest() (resilience.ScanResult, error) {
	s.Helper()
	for _, step := range []func() error{s.walk, s.judge, s.recheck} {
		if err := step(); err != nil {
			return s.end(err)
		}
	}
	return s.end(nil)
}

// scan runs a scan that succeeds.
func (b *scanBundle) scan() resilience.ScanResult {
	b.Helper()
	result, err := b.begin(resilience.ScanPolicy{}).rest()
	require.NoError(b, err)
	return result
}

// orphans lists the paths of the orphans that stand recorded.
func (b *scanBundle) orphans() []string {
	b.Helper()
	orphans, err := b.store.Orphans(b.Context(), "docs", 1000)
	require.NoError(b, err)
	paths := make([]string, len(orphans))
	for i, o := range orphans {
		paths[i] = o.FilePath
	}
	return paths
}

// requireType asserts an error that ends a step by its type and parts of its message.
func requireType(t *testing.T, err error, typ string, parts ...string) {
	t.Helper()
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	require.Equal(t, typ, app.Type(), err)
	require.True(t, app.NonRetryable())
	for _, part := range parts {
		require.Contains(t, app.Message(), part)
	}
}
