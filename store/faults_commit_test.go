package store_test

import (
	"bytes"
	"context"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

// cutter stands between a client and Postgres, and cuts the connection at the
// next COMMIT: before Postgres has it, or after it answered, so that the client
// cannot know.
type cutter struct {
	target string
	mu     sync.Mutex
	armed  string // "", "before" or "after"
}

func (c *cutter) arm(how string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = how
}

func (c *cutter) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	how := c.armed
	c.armed = ""
	return how
}

func (c *cutter) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.target)
		if err != nil {
			_ = conn.Close()
			continue
		}
		go c.pass(conn, server)
	}
}

// pass copies both ways until the cut, or until one side ends.
func (c *cutter) pass(conn, server net.Conn) {
	defer func() { _, _ = conn.Close(), server.Close() }()
	var lost sync.Mutex // held for ever once the answers are to be lost
	answered := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if n > 0 {
				if !lost.TryLock() {
					answered <- struct{}{}
					return
				}
				_, err = conn.Write(buf[:n])
				lost.Unlock()
			}
			if err != nil {
				_ = conn.Close()
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 && bytes.Contains(buf[:n], []byte("commit\x00")) {
			switch c.take() {
			case "before":
				return
			case "after":
				lost.Lock()
				if _, err := server.Write(buf[:n]); err == nil {
					<-answered // it is committed
				}
				return
			}
		}
		if n > 0 {
			_, err = server.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// TestFault11ALostCommitIsReadBack loses the answer to the COMMIT of each step of
// a migration in turn, and the COMMIT itself. Whoever tries again looks first.
func TestFault11ALostCommitIsReadBack(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"before", "after"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			database := devtest.Database(t)
			u, err := url.Parse(database)
			require.NoError(t, err)
			c := &cutter{target: u.Host}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			go c.serve(l)
			u.Host = l.Addr().String()
			u.RawQuery = "sslmode=disable"
			shaky, err := pgxpool.New(t.Context(), u.String())
			require.NoError(t, err)
			t.Cleanup(shaky.Close)
			m := &migrations{T: t, pool: devtest.Connect(t, database)}
			m.store = store.New(m.pool)
			lossy(m, store.New(shaky), c, how)
		})
	}
}

func lossy(m *migrations, s *store.Store, c *cutter, how string) {
	ctx := m.Context()
	require.NoError(m, m.store.AddMemory(ctx, resilience.Memory{Name: "docs", Root: m.TempDir(), Builtin: true, Mapping: resilience.BuiltinMapping("docs")}))
	m.fill(10, "a.md")
	start := m.rows("rehome.chunks")
	lost := 0
	// twice does a step whose COMMIT is lost, and then as an activity is tried again.
	twice := func(do func(ctx context.Context) error) {
		m.Helper()
		c.arm(how)
		if err := do(ctx); err != nil {
			lost++
		} else if c.take() != "" {
			return // it had nothing to commit
		}
		require.NoError(m, do(ctx))
	}
	id := "m-1"
	twice(func(ctx context.Context) error {
		return s.CreatePlan(ctx, store.NewPlan{
			ID: id, Memory: "docs", Strategy: resilience.Batch, Renames: []resilience.RenameRule{rule("a.md", "b.md")},
			Policy: resilience.Policy{BatchSize: 4}, WorkflowID: "w", RunID: "r", Rollback: []string{"undo"},
		})
	})
	twice(func(ctx context.Context) error { return s.Journal(ctx, id) })
	twice(func(ctx context.Context) error { return s.Queue(ctx, id) })
	twice(func(ctx context.Context) error { return s.Begin(ctx, id) })
	slice := func(step func(*store.Mover, context.Context, resilience.Watermark, store.Bounds) (resilience.Watermark, error)) func(context.Context) error {
		return func(ctx context.Context) error {
			at, err := s.Watermark(ctx, id)
			if err != nil {
				return err
			}
			mover, err := s.Mover(ctx, id)
			if err != nil {
				return err
			}
			_, err = step(mover, ctx, at, store.Bounds{})
			return err
		}
	}
	for range 3 {
		twice(slice((*store.Mover).Apply))
	}
	m.fill(2, "a.md")
	twice(func(ctx context.Context) error { _, err := s.Sweep(ctx, id); return err })
	twice(slice((*store.Mover).Apply))
	twice(slice((*store.Mover).Apply))
	require.Equal(m, map[string]int{"b.md": 12}, m.at())
	twice(func(ctx context.Context) error { return s.Switch(ctx, id) })
	twice(func(ctx context.Context) error { _, err := s.BeginUndo(ctx, id, "a test", ""); return err })
	twice(func(ctx context.Context) error { return s.UndoSwitch(ctx, id) })
	for range 5 {
		twice(slice((*store.Mover).Revert))
	}
	twice(func(ctx context.Context) error { return s.EndUndo(ctx, id) })
	require.GreaterOrEqual(m, lost, 12, "COMMITs were lost")
	require.Equal(m, map[string]int{"a.md": 12}, m.at())
	require.Subset(m, m.rows("rehome.chunks"), start)
	m.accountedEvents(id)
}

// accountedEvents checks that nothing is recorded twice.
func (m *migrations) accountedEvents(id string) {
	m.Helper()
	events, err := m.store.Events(m.Context(), id)
	require.NoError(m, err)
	seen := map[string]int{}
	for _, e := range events {
		seen[e.What]++
		require.Equal(m, 1, seen[e.What], e.What)
	}
	require.Equal(m, 1, seen["rolled back"])
}
