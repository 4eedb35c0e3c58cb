package workflows_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryFaultHasItsTest: the table of docs/safety.md has a row for each of
// the 38 faults, and each row names tests that exist, of which one has its number.
func TestEveryFaultHasItsTest(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("../docs/safety.md")
	require.NoError(t, err)
	files, err := filepath.Glob("../*/*_test.go")
	require.NoError(t, err)
	more, err := filepath.Glob("../internal/dev/*/*_test.go")
	require.NoError(t, err)
	files = append(files, more...)
	var tests strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		tests.Write(text)
	}
	numbers := 0
	for _, row := range regexp.MustCompile(`(?m)^\|( \d+)? \|.*$`).FindAllStringSubmatch(string(table), -1) {
		named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(row[0], -1)
		require.NotEmpty(t, named, row[0])
		for _, name := range named {
			require.Contains(t, tests.String(), "func "+name[1]+"(t *testing.T)", row[0])
		}
		if row[1] != "" {
			numbers++
			require.Equal(t, fmt.Sprintf(" %d", numbers), row[1])
			require.Regexp(t, fmt.Sprintf("`TestFault(\\d\\dAnd)?%02d", numbers), row[0])
		}
	}
	require.Equal(t, 38, numbers)
}
