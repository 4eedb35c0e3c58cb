package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
)

// The test binary is the worker too, so that it can be signalled and killed.
const asWorker = "REHOME_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) != "" {
		main()
	}
	devtest.Main(m)
}

// patience is for servers and processes on a busy machine.
const patience = 90 * time.Second

// workerProcess is a running worker.
type workerProcess struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  strings.Builder
	done chan struct{}

	mu   sync.Mutex
	logs []map[string]any
}

// launch starts a worker with an environment of its own.
func launch(t *testing.T, dir string, env []string, args ...string) *workerProcess {
	t.Helper()
	w := &workerProcess{t: t, cmd: exec.Command(os.Args[0], args...), done: make(chan struct{})}
	w.cmd.Dir = dir
	keep := []string{asWorker + "=1"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCACHE", "GOMODCACHE"} {
		keep = append(keep, name+"="+os.Getenv(name))
	}
	w.cmd.Env = append(keep, env...)
	w.cmd.Stdout = &w.out
	logs, err := w.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, w.cmd.Start())
	go w.read(logs)
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill() // it may have ended
		<-w.done
		if t.Failed() {
			for _, line := range w.logs {
				t.Log(line)
			}
		}
	})
	return w
}

func (w *workerProcess) read(logs io.Reader) {
	defer close(w.done)
	for lines := bufio.NewScanner(logs); lines.Scan(); {
		line := map[string]any{}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			line = map[string]any{"plain": lines.Text()}
		}
		w.mu.Lock()
		w.logs = append(w.logs, line)
		w.mu.Unlock()
	}
	_ = w.cmd.Wait() // tests look at its code
}

// logged returns the first log line with this message, nil when there is none.
func (w *workerProcess) logged(message string) map[string]any {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := slices.IndexFunc(w.logs, func(line map[string]any) bool { return line["msg"] == message })
	if at < 0 {
		return nil
	}
	return w.logs[at]
}

func (w *workerProcess) awaitLog(message string) map[string]any {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.logged(message) != nil }, patience, 20*time.Millisecond, message)
	return w.logged(message)
}

// get asks one of the pages.
func (w *workerProcess) get(page string) (int, string) {
	w.t.Helper()
	address := w.awaitLog("serving probes and metrics")["address"].(string)
	response, err := http.Get("http://" + address + page)
	require.NoError(w.t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	return response.StatusCode, string(body)
}

func (w *workerProcess) awaitReady(want int) string {
	w.t.Helper()
	var body string
	require.Eventually(w.t, func() bool {
		var status int
		status, body = w.get("/readyz")
		return status == want
	}, patience, 50*time.Millisecond)
	return body
}

func (w *workerProcess) signal(s syscall.Signal) {
	w.t.Helper()
	require.NoError(w.t, w.cmd.Process.Signal(s))
}

// code waits for the end.
func (w *workerProcess) code() int {
	w.t.Helper()
	select {
	case <-w.done:
	case <-time.After(patience):
		require.Fail(w.t, "the worker does not end")
	}
	return w.cmd.ProcessState.ExitCode()
}

// reason is why the worker ended, as it logs it.
func (w *workerProcess) reason() string {
	w.t.Helper()
	reason, _ := w.awaitLog("the worker ends")["reason"].(string)
	return reason
}

// ended runs a worker that is to end by itself.
func ended(t *testing.T, env []string, args ...string) *workerProcess {
	t.Helper()
	w := launch(t, t.TempDir(), env, args...)
	w.code()
	return w
}

// proxy stands before a server and can take it away.
type proxy struct {
	t        *testing.T
	target   string
	address  string
	mu       sync.Mutex
	listener net.Listener
	open     []net.Conn
}

// newProxy makes a proxy whose server is away.
func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{t: t, target: target, address: reserve(t)}
	p.up()
	p.down()
	t.Cleanup(p.down)
	return p
}

// reserve is an address that nobody else gets while nobody listens there: it is bound for as
// long as the test lasts.
func reserve(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(socket) })
	require.NoError(t, syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)) // so that the test may listen there
	require.NoError(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := syscall.Getsockname(socket)
	require.NoError(t, err)
	address, ok := name.(*syscall.SockaddrInet4)
	require.True(t, ok)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(address.Port))
}

func (p *proxy) up() {
	p.t.Helper()
	listener, err := net.Listen("tcp", p.address)
	require.NoError(p.t, err)
	p.listener = listener
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.join(conn)
		}
	}()
}

// join connects a client with the server, if there is one.
func (p *proxy) join(client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.open = append(p.open, client, server)
	go pass(server, client)
	go pass(client, server)
}

// pass goes on until one of them hangs up.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

// leadTo puts another server behind the address, or none, and hangs up on who is
// connected.
func (p *proxy) leadTo(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	p.hangUp()
}

func (p *proxy) down() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangUp()
}

func (p *proxy) hangUp() {
	for _, conn := range p.open {
		_ = conn.Close()
	}
	p.open = nil
}
