package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browser is a page of a headless Chromium, driven over a pipe by the protocol of
// its own developer tools: messages of JSON, each ended by a zero byte.
type browser struct {
	t       testing.TB
	in      io.Writer
	out     *bufio.Reader
	session string
	sent    int
}

// openBrowser starts Chromium until the test ends, and skips the test where
// there is none.
func openBrowser(t testing.TB) *browser {
	t.Helper()
	program, err := findChromium()
	if err != nil {
		t.Skip("no Chromium on this machine: apt-get install chromium")
	}
	toBrowser, in, err := os.Pipe()
	require.NoError(t, err)
	out, fromBrowser, err := os.Pipe()
	require.NoError(t, err)
	c := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--window-size=1400,1600", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	c.ExtraFiles = []*os.File{toBrowser, fromBrowser} // which it finds as 3 and 4
	require.NoError(t, c.Start())
	require.NoError(t, toBrowser.Close())
	require.NoError(t, fromBrowser.Close())
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		b.session = ""
		b.call("Browser.close", nil, nil) // so that nothing writes to its directory any more
		_ = c.Wait()
		_, _ = in.Close(), out.Close()
	})
	b.attach()
	return b
}

func findChromium() (string, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		path, err = exec.LookPath("google-chrome")
	}
	return path, err
}

// attach makes a page of its own and talks to it from here on.
func (b *browser) attach() {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
}

func (b *browser) open(address string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": address}, nil)
}

// text is what a person reads on the page, nothing while it loads. Markdown is shown
// in frames.
func (b *browser) text() string {
	b.t.Helper()
	const expression = `[document, ...[...document.querySelectorAll('iframe')].map(f => f.contentDocument)]
		.map(d => d?.body?.innerText ?? '').join('\n')`
	var text string
	_ = b.evaluate(expression, &text)
	return text
}

// evaluate reads what JavaScript on the page comes to. It fails while the page loads.
func (b *browser) evaluate(expression string, into any) error {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	if err := b.ask("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &answer); err != nil {
		return err
	}
	if len(answer.ExceptionDetails) > 0 {
		return fmt.Errorf("%s: %s", expression, answer.ExceptionDetails)
	}
	return json.Unmarshal(answer.Result.Value, into)
}

// click presses the mouse on what a selector finds and a person reads these words
// on, as soon as it is there, can be used, stands still and nothing lies above it.
func (b *browser) click(selector, words string) {
	b.t.Helper()
	var at, before []float64
	b.until(fmt.Sprintf("%s with %q can be clicked", selector, words), func() bool {
		at, before = b.clickable(selector, words), at
		return at != nil && slices.Equal(at, before)
	})
	b.press(at)
}

// clickable is where the mouse would press what a selector finds and these words
// stand on; nil: it cannot now.
func (b *browser) clickable(selector, words string) (at []float64) {
	b.t.Helper()
	expression := fmt.Sprintf(`(() => {
		const it = [...document.querySelectorAll(%q)].find(e => e.innerText.includes(%q) && e.checkVisibility({visibilityProperty: true, opacityProperty: true}))
		if (!it || it.disabled || it.ariaDisabled === 'true') return null
		it.scrollIntoView({block: 'nearest'})
		const r = it.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2
		return it.contains(document.elementFromPoint(x, y)) ? [x, y] : null
	})()`, selector, words)
	if b.evaluate(expression, &at) != nil {
		return nil
	}
	return at
}

func (b *browser) press(at []float64) {
	b.t.Helper()
	for _, event := range []string{"mouseMoved", "mousePressed", "mouseReleased"} {
		b.call("Input.dispatchMouseEvent", map[string]any{"type": event, "x": at[0], "y": at[1], "button": "left", "clickCount": 1}, nil)
	}
}

// choose clicks on an item of a menu until what it opens is there. A page that is still
// loading does not listen to the button that opens the menu, and one that shows
// something new may close it.
func (b *browser) choose(menu, item, opens string) {
	b.t.Helper()
	looks, open := 0, false
	b.until(opens, func() bool {
		if b.evaluate("!!document.querySelector('"+opens+"')", &open) == nil && open {
			return true
		}
		if at := b.clickable("[role=menuitem]", item); at != nil {
			b.press(at)
		} else if looks%40 == 0 { // every two seconds
			b.click("button", menu)
		}
		looks++
		return false
	})
}

// write types text into what was clicked last.
func (b *browser) write(text string) {
	b.t.Helper()
	b.call("Input.insertText", map[string]any{"text": text}, nil)
}

// shows waits until an expression holds on the page.
func (b *browser) shows(expression string) {
	b.t.Helper()
	var holds bool
	b.until(expression, func() bool { return b.evaluate("!!("+expression+")", &holds) == nil && holds })
}

// until looks at the page again and again.
func (b *browser) until(what string, holds func() bool) {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); !holds(); {
		select {
		case <-late:
			require.Fail(b.t, "it does not come to this on the page: "+what, b.text())
		case <-tick.C:
		}
	}
}

// says waits until the page has all these words. It loads the page again now and
// then: what the web UI asks of the workflow it asks once.
func (b *browser) says(words ...string) {
	b.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	again := time.NewTicker(10 * time.Second)
	defer again.Stop()
	for late := time.After(time.Minute); ; {
		text := b.text()
		missing := ""
		for _, w := range words {
			if !strings.Contains(text, w) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-late:
			require.Fail(b.t, "the page does not say: "+missing, text)
		case <-again.C:
			b.call("Page.reload", nil, nil)
		case <-tick.C:
		}
	}
}

// screenshot is the page as a PNG.
func (b *browser) screenshot() []byte {
	b.t.Helper()
	var answer struct{ Data []byte } // in base64, as JSON has bytes
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &answer)
	return answer.Data
}

// call sends a command and waits for its answer; events in between are of no
// interest here.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	require.NoError(b.t, b.ask(method, params, result))
}

// ask is call, for what the browser may not do at this time.
func (b *browser) ask(method string, params, result any) error {
	b.t.Helper()
	b.sent++
	command := map[string]any{"id": b.sent, "method": method}
	if params != nil {
		command["params"] = params
	}
	if b.session != "" {
		command["sessionId"] = b.session
	}
	text, err := json.Marshal(command)
	require.NoError(b.t, err)
	_, err = b.in.Write(append(text, 0))
	require.NoError(b.t, err)
	for {
		line, err := b.out.ReadBytes(0)
		require.NoError(b.t, err, method)
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		require.NoError(b.t, json.Unmarshal(line[:len(line)-1], &answer))
		if answer.ID != b.sent {
			continue
		}
		if answer.Error != nil {
			return fmt.Errorf("%s: %s", method, answer.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(answer.Result, result)
	}
}
