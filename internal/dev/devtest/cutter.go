package devtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Cut is when a Cutter cuts a connection at a COMMIT.
type Cut string

// The cuts: before Postgres has the COMMIT, or after it answered, so that the client
// cannot know.
const (
	BeforeCommit Cut = "before"
	AfterCommit  Cut = "after"
)

// Cutter stands between clients and Postgres, and cuts a connection at the next COMMIT
// after it was armed.
type Cutter struct {
	URL    string // of the database, by way of the cutter
	target string
	mu     sync.Mutex
	armed  Cut
}

// CutCommits puts a cutter before a database, until the test ends.
func CutCommits(t testing.TB, database string) *Cutter {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	c := &Cutter{target: u.Host}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go c.serve(l)
	u.Host = l.Addr().String()
	u.RawQuery = "sslmode=disable" // it reads along
	c.URL = u.String()
	return c
}

// Arm lets the next COMMIT be cut.
func (c *Cutter) Arm(cut Cut) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = cut
}

// Take disarms the cutter, and returns the cut that nobody has met; empty: there is none.
func (c *Cutter) Take() Cut {
	c.mu.Lock()
	defer c.mu.Unlock()
	cut := c.armed
	c.armed = ""
	return cut
}

func (c *Cutter) serve(l net.Listener) {
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
func (c *Cutter) pass(conn, server net.Conn) {
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
		if n > 0 && commits(buf[:n]) {
			switch c.Take() {
			case BeforeCommit:
				return
			case AfterCommit:
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

// commits says whether a message has a COMMIT carried out: a query of its own, or a
// prepared statement under the name the driver gives it.
func commits(message []byte) bool {
	digest := sha256.Sum256([]byte("commit"))
	return bytes.Contains(message, []byte("Q\x00\x00\x00\x0bcommit\x00")) || bytes.Contains(message, fmt.Appendf(nil, "\x00stmtcache_%x\x00", digest[:24]))
}
