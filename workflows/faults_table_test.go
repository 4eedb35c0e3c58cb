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
// the 38 faults, and names tests that exist.
func TestEveryFaultHasItsTest(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("../docs/safety.md")
	require.NoError(t, err)
	files, err := filepath.Glob("../*/*_test.go")
	require.NoError(t, err)
	var tests strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		tests.Write(text)
	}
	for number := 1; number <= 38; number++ {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \|.*$`, number)).FindString(string(table))
		named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(row, -1)
		require.NotEmpty(t, named, "fault %d", number)
		for _, name := range named {
			require.Contains(t, tests.String(), "func "+name[1]+"(t *testing.T)", "fault %d", number)
		}
	}
}
