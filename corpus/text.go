package corpus

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// DefaultMaxFileBytes is the size above which a file is taken for data, not for
// text that somebody wrote: the largest hand-written sources are below 1 MiB.
const DefaultMaxFileBytes = 4 << 20

// Reason says why something in the tree holds no text for a memory.
type Reason string

// The reasons.
const (
	Binary      Reason = "binary" // holds a NUL byte
	TooLarge    Reason = "too_large"
	InvalidUTF8 Reason = "invalid_utf8"
	Unreadable  Reason = "unreadable"
	NotRegular  Reason = "not_regular" // a link, a device, a socket, a FIFO
	Vanished    Reason = "vanished"    // listed, then gone
)

// Skip is the error of a file that is left out.
type Skip struct {
	Raw    string
	Reason Reason
	Err    error // what the system said, if it did
}

// Error names the file and the reason.
func (s *Skip) Error() string {
	if s.Err != nil {
		return fmt.Sprintf("%q is skipped as %s: %v", s.Raw, s.Reason, s.Err)
	}
	return fmt.Sprintf("%q is skipped as %s", s.Raw, s.Reason)
}

// Unwrap returns what the system said.
func (s *Skip) Unwrap() error { return s.Err }

// Text is a file that is text: whole, without NUL, valid UTF-8.
type Text struct {
	Content string
	Hash    [sha256.Size]byte
	Size    int64
	ModTime time.Time
}

// ReadText reads the file at raw, a path relative to the root as the file
// system spells it. Its only error is *Skip. A limit of zero or less means
// DefaultMaxFileBytes.
func (r *Root) ReadText(raw string, limit int64) (Text, error) {
	if limit <= 0 {
		limit = DefaultMaxFileBytes
	}
	skip := func(reason Reason, err error) (Text, error) {
		return Text{}, &Skip{Raw: raw, Reason: reason, Err: err}
	}
	f, err := r.open(raw, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return skip(Vanished, err)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO): // a link; a socket, or a device without a driver
		return skip(NotRegular, err)
	case err != nil:
		return skip(Unreadable, err)
	}
	defer f.Close() //nolint:errcheck // nothing was written to it
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return skip(Unreadable, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return skip(NotRegular, nil)
	}
	if st.Size > limit {
		return skip(TooLarge, nil)
	}
	var content bytes.Buffer
	content.Grow(int(st.Size) + bytes.MinRead) // one read finds the end, too
	// A file that grows while it is read, or that lies about its size, ends at the limit as well.
	if _, err := content.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return skip(Unreadable, err)
	}
	switch data := content.Bytes(); {
	case int64(len(data)) > limit:
		return skip(TooLarge, nil)
	case bytes.IndexByte(data, 0) >= 0:
		return skip(Binary, nil)
	case !utf8.Valid(data):
		return skip(InvalidUTF8, nil)
	default:
		return Text{Content: string(data), Hash: sha256.Sum256(data), Size: int64(len(data)), ModTime: modTime(&st)}, nil
	}
}
