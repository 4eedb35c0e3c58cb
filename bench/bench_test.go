package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The quick form runs all that the full one does, on small counts.
func TestQuickRunWritesEveryRow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "RESULTS.md")
	var out strings.Builder
	require.NoError(t, run(t.Context(), []string{"-quick", "-out", file}, &out, t.Output()))

	written, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, out.String(), string(written))
	for _, line := range []string{
		`rename of 2000 chunks, batch at 1000: apply \| \d+\.\d+ s \| \d+\.\d+ s \| \d+\.\d+× \| \d+\.\d+ \| ≤ 2.0× \| not judged`,
		`rename of 2000 chunks, batch at 1000: planning \| .* \| ≤ 0.6× \| not judged`,
		`rename of 2000 chunks, batch at 1000: end to end \| .* \|  \| `,
		`ingest of \d+ files into \d+ chunks, end to end \| .* \| ≤ 2.0× \| not judged`,
		`rehome.current_path among 2000 aliases and 2000 files \| .* \| ≥ 0.7× \| (not judged|skipped: .*)`,
		`Processor \| .+, \d+ cores`,
		`Postgres \| \d+.*, fsync=on, .*`,
		`Temporal \| \d+.*`,
	} {
		require.Regexp(t, `(?m)^\| `+line+` \|$`, string(written))
	}
}

func TestAMissedAimIsReported(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		aim    aim
		ratios []float64
		missed bool
	}{
		"at most, met by the median":     {atMost(2.0), []float64{9, 1, 2}, false},
		"at most, missed by the median":  {atMost(2.0), []float64{1, 2.1, 3}, true},
		"at least, met by the median":    {atLeast(0.7), []float64{0.7, 0.1, 0.9}, false},
		"at least, missed by the median": {atLeast(0.7), []float64{0.6, 0.9, 0.5}, true},
		"no aim":                         {aim{}, []float64{100}, false},
	} {
		r := report{scale: full, rows: []row{
			{figure: figure{"before", seconds, atMost(1)}, skipped: "there is none"},
			{figure: figure{"work", seconds, test.aim}, plain: test.ratios, ours: test.ratios, ratios: test.ratios},
		}}
		require.Equal(t, test.missed, r.missed(), name)
		require.Equal(t, test.missed, strings.Contains(r.markdown(), "**missed**"), name)
		require.Contains(t, r.markdown(), "| before | | | | | ≤ 1.0× | skipped: there is none |", name)
	}
}

func TestSidesTakeTurnsAndStartFromTheSameState(t *testing.T) {
	t.Parallel()
	var order []string
	note := func(what string) { order = append(order, what) }
	rows, err := contest{
		figures: []figure{{"first", seconds, aim{}}, {"second", seconds, aim{}}},
		reset:   func(context.Context) error { note("reset"); return nil },
		plain:   func(context.Context) (float64, error) { note("plain"); return 2, nil },
		ours:    func(context.Context) ([]float64, error) { note("ours"); return []float64{4, 1}, nil },
	}.run(t.Context(), &rig{scale: scale{rounds: 2}, talk: io.Discard})
	require.NoError(t, err)
	require.Equal(t, []string{"reset", "plain", "reset", "ours", "reset", "ours", "reset", "plain"}, order)
	require.Equal(t, []float64{2, 2}, rows[0].ratios)
	require.Equal(t, []float64{0.5, 0.5}, rows[1].ratios)
}

func TestBadArgumentsAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"surplus"}, {"-only", "nothing"}, {"-unknown"}} {
		var talk strings.Builder
		require.ErrorIs(t, run(t.Context(), args, io.Discard, &talk), errUsage)
		require.NotEmpty(t, talk.String())
	}
}
