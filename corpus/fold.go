package corpus

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Fold maps a path, as a file system or a table spells it, to a text that is
// equal for all paths a person may take for the same: in other case or Unicode
// form, percent-encoded, with backslashes, or in Latin-1. A path that equals a
// living file in nothing but its fold is in conflict with it, and no orphan.
func Fold(path string) string {
	if decoded, err := url.PathUnescape(path); err == nil && !strings.ContainsFunc(decoded, unicode.IsControl) {
		path = decoded
	}
	path = strings.ReplaceAll(path, `\`, "/")
	if isASCII(path) {
		return strings.ToLower(path)
	}
	if !utf8.ValidString(path) {
		path = fromLatin1(path)
	}
	// Folding can undo the form, and the form can make more letters to fold.
	return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(path)))
}

// Folds returns the folds of a path and of the directories above it, longest first.
func Folds(path string) []string {
	folds := []string{Fold(path)}
	for cut := strings.LastIndexByte(path, '/'); cut > 0; cut = strings.LastIndexByte(path, '/') {
		path = path[:cut]
		folds = append(folds, Fold(path))
	}
	return folds
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func fromLatin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}
