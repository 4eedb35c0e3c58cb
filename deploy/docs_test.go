package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// documents returns the Markdown files of the project, by their names from root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "bench/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, path := range found {
			name, err := filepath.Rel(root, path)
			require.NoError(t, err)
			texts[name] = read(t, name)
		}
	}
	return texts
}

// code returns what a document gives as code: lines of fenced blocks, and what
// stands between backticks.
func code(text string) []string {
	var pieces []string
	fenced := false
	inline := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fenced = !fenced
		case fenced:
			pieces = append(pieces, strings.TrimSpace(line))
		default:
			for _, match := range inline.FindAllStringSubmatch(line, -1) {
				pieces = append(pieces, match[1])
			}
		}
	}
	return pieces
}

func TestDocumentsLinkToWhatExists(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	for name, text := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") || strings.HasPrefix(match[1], "mailto:") {
				continue
			}
			_, err := os.Stat(filepath.Join(root, filepath.Dir(name), match[1]))
			require.NoError(t, err, "a link in %s", name)
		}
	}
}

func TestDocumentsNameTargetsOfTheMakefile(t *testing.T) {
	t.Parallel()
	makefile, named := read(t, "Makefile"), 0
	target := regexp.MustCompile(`^make ([a-z-]+)`)
	for name, text := range documents(t) {
		for _, piece := range code(text) {
			if match := target.FindStringSubmatch(piece); match != nil {
				require.Regexp(t, `(?m)^`+match[1]+`:`, makefile, "%s says `%s`", name, piece)
				named++
			}
		}
	}
	require.Positive(t, named)
}

// TestDocumentsNameCommandsThatExist asks the program itself, by what it gives
// to shell completion and by its help.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	t.Parallel()
	starter := filepath.Join(t.TempDir(), "starter")
	ask := func(program string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", cmd, out)
		return string(out)
	}
	ask("go", "build", "-o", starter, "./starter")
	verbs := func(words ...string) []string {
		var names []string
		for line := range strings.Lines(ask(starter, slices.Concat([]string{"__complete"}, words, []string{""})...)) {
			if name, _, described := strings.Cut(line, "\t"); described {
				names = append(names, name)
			}
		}
		return names
	}
	top, named := verbs(), 0
	// After it: words, then flags and arguments up to a comment or another command.
	command := regexp.MustCompile(`(?:^|[ /])starter ([a-z][^#|;&)]*)`)
	for name, text := range documents(t) {
		for _, piece := range code(text) {
			match := command.FindStringSubmatch(piece)
			if match == nil {
				continue
			}
			words := strings.Fields(match[1])
			require.Contains(t, top, words[0], "%s says `%s`", name, piece)
			path := words[:1]
			if under := verbs(words[0]); len(under) > 0 && len(words) > 1 && regexp.MustCompile(`^[a-z-]+$`).MatchString(words[1]) {
				require.Contains(t, under, words[1], "%s says `%s`", name, piece)
				path = words[:2]
			}
			help := ask(starter, append(slices.Clone(path), "--help")...)
			for _, word := range words {
				if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") {
					require.Contains(t, help, flag+" ", "%s says `%s`", name, piece)
				}
			}
			named++
		}
	}
	require.Positive(t, named)
}
