package activities_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rehome/activities"
	"rehome/corpus"
	"rehome/internal/dev/devtest"
	"rehome/resilience"
)

// faultyPool fails the n-th statement, once.
type faultyPool struct {
	failAt int // zero: none
	calls  int
}

func (f *faultyPool) next(ctx context.Context) context.Context {
	f.calls++
	if f.calls != f.failAt {
		return ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

func (f *faultyPool) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return f.next(ctx)
}
func (f *faultyPool) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (f *faultyPool) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return f.next(ctx)
}
func (f *faultyPool) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

// newFaultBundle is a small tree of which some files are gone.
func newFaultBundle(t *testing.T) (*scanBundle, *faultyPool) {
	t.Helper()
	config, err := pgxpool.ParseConfig(devtest.Database(t))
	require.NoError(t, err)
	faults := &faultyPool{}
	config.ConnConfig.Tracer = faults
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	root := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.Mkdir(root, 0o755))
	b := newScanBundleIn(t, pool, resilience.Memory{Name: "docs", Root: root, Builtin: true, Mapping: resilience.BuiltinMapping("docs")})
	b.source("a.md", "b/1.md", "b/2.md", "b/c/3.md", "b/c/4.md", "d/5.md", "d/6.md", "e/f/g/7.md", "e/8.md")
	b.scan()
	b.remove("b/1.md")
	b.remove("b/c/3.md")
	b.remove("d/5.md")
	b.remove("e/f")
	return b, faults
}

// reset takes back what a scan recorded.
func (b *scanBundle) reset() {
	b.Helper()
	b.sql(`DELETE FROM rehome.orphan_chunks`)
	b.sql(`UPDATE rehome.files SET gone_at = NULL`)
	b.hooks = hooks{}
}

// stride is how many calls go by between two faults: in the full form none.
func stride() int {
	if testing.Short() {
		return 4
	}
	return 1
}

// eventually runs a scan of which each step is repeated until it succeeds, as
// Temporal does it. What no retry mends ends it.
func (b *scanBundle) eventually() {
	b.Helper()
	s := b.begin(resilience.ScanPolicy{})
	for _, step := range []func() error{s.walk, s.judge, s.recheck} {
		if err := step(); err != nil {
			if err := step(); err != nil {
				_, _ = s.end(err)
				return
			}
		}
	}
	if _, err := s.end(nil); err != nil {
		requireType(b.T, err, activities.Refused)
	}
}

func TestT75FaultsOfTheFileSystemOnlyShrinkTheOrphans(t *testing.T) {
	t.Parallel()
	b, _ := newFaultBundle(t)
	b.reset()
	b.eventually()
	want, calls := b.orphans(), b.hooks.calls
	require.ElementsMatch(t, []string{"b/1.md", "b/c/3.md", "d/5.md", "e/f/g/7.md"}, want)
	require.Greater(t, calls, 10)

	broken := &fs.PathError{Op: "read", Path: "injected", Err: unix.EIO}
	faults := map[string]func(n int) hooks{
		"no listing": func(n int) hooks {
			return hooks{listing: func(call int, l *corpus.Listing) {
				if call >= n {
					l.Entries, l.Err = nil, broken
				}
			}}
		},
		"one listing": func(n int) hooks {
			return hooks{listing: func(call int, l *corpus.Listing) {
				if call == n {
					l.Entries, l.Err = nil, broken
				}
			}}
		},
		"part of a listing": func(n int) hooks {
			return hooks{listing: func(call int, l *corpus.Listing) {
				if call == n {
					l.Entries, l.Err = l.Entries[:len(l.Entries)/2], broken
				}
			}}
		},
		"one look": func(n int) hooks {
			return hooks{stat: func(call int, _ string) error {
				if call == n {
					return broken
				}
				return nil
			}}
		},
		"opening": func(n int) hooks {
			return hooks{open: func(call int) error {
				if call == n {
					return broken
				}
				return nil
			}}
		},
	}
	shrunk := 0
	for name, fault := range faults {
		for n := 1; n <= calls; n += stride() {
			b.reset()
			b.hooks = fault(n)
			b.eventually()
			got := b.orphans()
			require.Subset(t, want, got, "%s, from call %d", name, n)
			if len(got) < len(want) {
				shrunk++
			}
		}
	}
	require.Greater(t, shrunk, calls/stride(), "the faults do reach the scan")
}

func TestT75FaultsOfTheDatabaseChangeNothing(t *testing.T) {
	t.Parallel()
	b, faults := newFaultBundle(t)
	b.reset()
	s := b.begin(resilience.ScanPolicy{})
	faults.calls = 0
	_, err := s.rest()
	require.NoError(t, err)
	want, calls := b.orphans(), faults.calls
	require.Greater(t, calls, 20)
	failed := 0
	for n := 1; n <= calls; n += stride() {
		b.reset()
		s := b.begin(resilience.ScanPolicy{})
		faults.calls, faults.failAt = 0, n
		for _, step := range []func() error{s.walk, s.judge, s.recheck} {
			if err := step(); err != nil {
				failed++
				require.NoError(t, step(), "statement %d", n)
			}
		}
		if _, err := do[resilience.ScanResult](b, "FinishScan", s.in); err != nil {
			failed++
			require.Empty(t, b.orphans(), "all or nothing: statement %d", n)
		}
		faults.failAt = 0
		_, err := s.end(nil)
		require.NoError(t, err)
		require.Equal(t, want, b.orphans(), "statement %d", n)
	}
	require.Greater(t, failed, calls/2/stride(), "the faults do reach the scan")
}
