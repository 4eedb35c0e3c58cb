package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal returns both ends of a pseudo-terminal.
func terminal(t testing.TB) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	return ours, theirs
}

func TestProgressBarOnATerminal(t *testing.T) {
	t.Parallel()
	b := setup(t).serve()
	b.memory("default")
	b.chunks("default", 40, "a.md")
	ours, theirs := terminal(t)
	drawn := make(chan string)
	go func() {
		var all bytes.Buffer
		_, _ = io.Copy(&all, ours) // ends in EIO when the other end is closed
		drawn <- all.String()
	}()
	var out bytes.Buffer
	p := process{in: strings.NewReader(""), out: &out, err: theirs, env: b.env, dir: "."}
	code := execute(t.Context(), p, strings.Fields("migrate --rename a.md=b.md --rate 20 --batch-size 2"))
	require.NoError(t, theirs.Close())
	screen := <-drawn
	require.NoError(t, ours.Close())
	require.Equal(t, exitDone, code, screen)
	require.Regexp(t, `Moving chunks +\d+% \|.*\d+/40`, screen)
	require.NotContains(t, out.String(), "Moving chunks")

	piped := b.ok("migrate", "--rename", "b.md=c.md")
	require.NotContains(t, piped.err, "Moving chunks")
	require.NotContains(t, piped.err, "\r")
}
