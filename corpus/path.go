package corpus

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of a key, in bytes.
const (
	// MaxPath is what an index entry of Postgres, at most a third of its page,
	// holds together with the name of the memory.
	MaxPath = 2048
	// MaxComponent is what file systems take.
	MaxComponent = 255
)

// Clean turns a path that a person gave into its canonical key: relative to the
// root, separated by slashes, in Unicode normal form C, without empty and dot
// components. It refuses what names no file of the tree, and says why.
func Clean(given string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", fmt.Errorf("path %q %s", shorten(given), why)
	}
	switch {
	case given == "":
		return refuse("is empty: want a path relative to the memory's root, such as guide/intro.md")
	case strings.HasPrefix(given, "/"):
		return refuse("is absolute: want it relative to the memory's root")
	case !utf8.ValidString(given):
		return refuse("is not valid UTF-8: rename the file to a name that is")
	case strings.ContainsRune(given, 0):
		return refuse("holds a NUL byte, which no file name can")
	case strings.ContainsAny(given, "\r\n"):
		return refuse("holds a line break: give one path, without it")
	case strings.ContainsFunc(given, unicode.IsControl):
		return refuse("holds a control character: rename the file to a name without it")
	}
	for component := range strings.SplitSeq(given, "/") {
		if component == ".." {
			return refuse("has a .. in it: write it from the memory's root down")
		}
	}
	key := norm.NFC.String(path.Clean(given))
	if key == "." {
		return refuse("is the root itself: want a file or a directory in it")
	}
	if len(key) > MaxPath {
		return refuse(fmt.Sprintf("is %d bytes long: at most %d can be kept", len(key), MaxPath))
	}
	for component := range strings.SplitSeq(key, "/") {
		if len(component) > MaxComponent {
			return refuse(fmt.Sprintf("has a component of %d bytes: no file name is longer than %d", len(component), MaxComponent))
		}
	}
	return key, nil
}

// Key turns a relative path as the file system gave it into its canonical key.
// It is not ok when there is none: the name is not valid UTF-8, holds a control
// character, or is too long.
func Key(raw string) (key string, ok bool) {
	key, err := Clean(raw)
	return key, err == nil
}

// shorten keeps a message readable whatever was given.
func shorten(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// walkOrder compares two directory keys as a walk visits them: what lies in a
// directory comes right after it, before its next sibling.
func walkOrder(a, b string) int { return strings.Compare(sortable(a), sortable(b)) }

// sortable maps a key to a string that sorts in walk order. No key holds a NUL,
// so the separator sorts before every other byte.
func sortable(dir string) string {
	if dir == "." {
		return ""
	}
	return strings.ReplaceAll(dir, "/", "\x00")
}

// leadsTo reports whether path is dir or lies below it.
func leadsTo(dir, path string) bool {
	return dir == "." || dir == path || strings.HasPrefix(path, dir+"/")
}
