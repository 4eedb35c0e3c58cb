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

// A quick run does all that a full one does, on small counts; the short form of
// the test leaves some of it out.
func TestQuickRunWritesEveryRow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "RESULTS.md")
	var out strings.Builder
	args := []string{"-quick", "-out", file}
	if testing.Short() {
		args = append(args, "-only", "rename,rename_list,transfer,ingest,current_path")
	}
	require.NoError(t, run(t.Context(), args, &out, t.Output()))

	written, err := os.ReadFile(file)
	require.NoError(t, err)
	for name, text := range sectionsOf(string(written)) {
		require.True(t, strings.Contains(out.String(), text) || text == "Not measured yet.", "%s is in the file and not in what was printed", name)
	}
	const compared = `\d+\.\d+ s \| \d+\.\d+ s \| \d+\.\d+× \| \d+\.\d+×`
	lines := []string{
		`rename of 2000 chunks, immediate: apply \| ` + compared + ` \| ≤ 1.35× \| not judged`,
		`rename of 2000 chunks, batch at 1000: apply \| ` + compared + ` \| ≤ 1.5× \| not judged`,
		`rename of 2000 chunks, batch at 1000: planning \| ` + compared + ` \| ≤ 0.5× \| not judged`,
		`rename of 2000 chunks, batch at 1000: end to end \| ` + compared + ` \|  \| `,
		`rename of 2000 chunks, undo of batch at 1000: apply \| ` + compared + ` \| ≤ 1.7× \| not judged`,
		`rename of 2000 chunks, batch at 50: apply \| ` + compared + ` \| ≤ 4× \| not judged`,
		`rename of 2000 chunks, intelligent: apply \| ` + compared + ` \| ≤ 1.5× \| not judged`,
		`rename of 3000 small chunks by a list of 300 files, immediate: apply \| ` + compared + ` \| ≤ 1.35× \| not judged`,
		`rename of 3000 small chunks by a list of 300 files, batch at 1000: apply \| ` + compared + ` \| ≤ 1.5× \| not judged`,
		`rename of 3000 small chunks by a list of 300 files, batch at 1000: planning \| ` + compared + ` \| ≤ 0.5× \| not judged`,
		`rename of 3000 small chunks by a list of 300 files, undo of batch at 1000: apply \| ` + compared + ` \| ≤ 1.7× \| not judged`,
		`transfer of 2000 chunks, batch at 1000: copy and verify \| ` + compared + ` \| ≤ 2.1× \| not judged`,
		`undo of a transfer of 2000 chunks, batch at 1000: restore and delete \| ` + compared + ` \|  \| `,
		`ingest of \d+ files into \d+ chunks, end to end \| .* \| ≤ 2× \| not judged`,
		`rehome.current_path among 2000 aliases and 2000 files \| .* \| ≥ 0.7× \| (not judged|skipped: .*)`,
	}
	if testing.Short() {
		require.Contains(t, string(written), "## shape_plain\n\nNot measured yet.\n")
	} else {
		lines = append(lines,
			`rename of 3000 small chunks, batch at 50: apply \| `+compared+` \| ≤ 6× \| not judged`,
			`rename of 3000 small chunks, batch at 1000: Temporal events in a million rows \| \| [1-9]\d* \| \| \| ≤ 300 \| not judged`,
			`renames of 3000 small chunks: memory of the worker at its peak \| (\| [1-9]\d* MiB \| \| \| ≤ 128 MiB \| not judged|.* skipped: .*)`,
			`transfer of 3000 small chunks, batch at 1000: copy and verify \| `+compared+` \| ≤ 2.1× \| not judged`,
			`undo of a transfer of 3000 small chunks, batch at 1000: restore and delete \| `+compared+` \|  \| `,
			`transfer of 3000 small chunks, batch at 1000: Temporal events in a million rows \| \| [1-9]\d* \| \| \| ≤ 300 \| not judged`,
			`transfers of 3000 small chunks: memory of the worker at its peak \| (\| [1-9]\d* MiB \| \| \| ≤ 128 MiB \| not judged|.* skipped: .*)`,
			`intelligent on a shape of 96000 rows, plain table: apply, beside (immediate|batch) \| `+compared+` \| ≤ 1.15× \| not judged`,
			`intelligent on a shape of 1600 rows, HNSW without room for HOT: apply, beside a plain update \| (.* \| ≤ 0.2× \| not judged|.* skipped: no pgvector)`,
			`intelligent on a shape of 88000 rows, one hot directory under load: apply, beside (immediate|batch) \| `+compared+` \| ≤ 1.15× \| not judged`,
			`300 transactions a second beside gradual, 1200 of 8000 chunks: p95 \| .* ms \| .* ms \| .* \| ≤ \+3.0 ms \| not judged`,
			`300 transactions a second beside gradual, 1200 of 8000 chunks: p99 \| .* \| ≤ \+10.0 ms \| not judged`,
		)
		for _, kind := range []string{
			"renames by batch at 1000", "undos of renames by batch at 1000", "renames by immediate", "renames by intelligent", "renames by gradual", "renames by intelligent of chunks in use",
			"transfers by batch at 1000", "undos of transfers by batch at 1000", "transfers by immediate", "transfers back by intelligent", "transfers by gradual",
		} {
			lines = append(lines,
				`estimates of 10 `+kind+`, after 3: off the p50, in the median \| \| \d+ % \| \| \| ≤ 25 % \| not judged`,
				`estimates of 10 `+kind+`, after 3: within the p90 \| \| \d+ \| \| \| ≥ 9 \| not judged`,
			)
		}
	}
	for _, line := range lines {
		require.Regexp(t, `(?m)^\| `+line+` \|$`, string(written))
	}
	require.Regexp(t, `(?m)^Measured on \d{4}-.*: .+, \d+ cores, .*; Postgres \d+.* with fsync=on, .*; Temporal \d+.*; go.*\.$`, string(written))
}

func TestARunKeepsTheSectionsOfOthers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "RESULTS.md")
	of := func(name, what string) section {
		return section{benchmark{name: name, notes: []string{"a note on " + what}}, full, "Measured.", []row{single(figure{what, seconds, aim{}.by(alone)}, 1)}}
	}
	for _, s := range []section{of("transfer", "old"), of("rename", "first"), of("transfer", "new")} {
		require.NoError(t, s.keep(file))
	}
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	sections := sectionsOf(string(written))
	require.Len(t, sections, len(benchmarks))
	require.Equal(t, "Measured.\n\n| work | by hand | by rehome | compared | in the rounds | aim | |\n|---|--:|--:|--:|--:|--:|---|\n"+
		"| first | | 1.00 s | | |  |  |\n\n- a note on first", sections["rename"])
	require.Contains(t, sections["transfer"], "| new |")
	require.NotContains(t, string(written), "old")
	require.Equal(t, string(written), document(sections))
}

func TestAMissedAimIsReported(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		aim         aim
		plain, ours []float64
		missed      bool
		line        string
	}{
		"ratio at most, met by the median": {
			atMost(2.0),
			[]float64{1, 1, 1},
			[]float64{9, 1, 2},
			false,
			"| work | 1.00 s (1.00–1.00) | 2.00 s (1.00–9.00) | 2.00× | 9.00× 1.00× 2.00× | ≤ 2× | met |",
		},
		"ratio at most, missed by the median": {
			atMost(1.35),
			[]float64{1, 1, 2},
			[]float64{1, 2.1, 3},
			true,
			"| work | 1.00 s (1.00–2.00) | 2.10 s (1.00–3.00) | 1.50× | 1.00× 2.10× 1.50× | ≤ 1.35× | **missed** |",
		},
		"ratio at least, met":    {atLeast(0.7), []float64{1, 1, 1}, []float64{0.7, 0.1, 0.9}, false, "| ≥ 0.7× | met |"},
		"ratio at least, missed": {atLeast(0.7), []float64{1, 1, 1}, []float64{0.6, 0.9, 0.5}, true, "| ≥ 0.7× | **missed** |"},
		"excess, met": {
			atMost(3).by(excess),
			[]float64{1, 1, 2},
			[]float64{9, 1, 5},
			false,
			"| +3.00 s | +8.00 s +0.00 s +3.00 s | ≤ +3.00 s | met |",
		},
		"excess, missed": {atMost(3).by(excess), []float64{1, 1, 2}, []float64{9, 1, 6}, true, "| **missed** |"},
		"alone, met":     {atMost(3).by(alone), []float64{0, 0, 0}, []float64{9, 1, 3}, false, "| work | | 3.00 s (1.00–9.00) | | | ≤ 3.00 s | met |"},
		"alone, missed":  {atMost(3).by(alone), []float64{0}, []float64{4}, true, "| work | | 4.00 s | | | ≤ 3.00 s | **missed** |"},
		"no aim":         {aim{}, []float64{1}, []float64{100}, false, "| 100.00× | 100.00× |  |  |"},
	} {
		measured := row{figure: figure{"work", seconds, test.aim}}
		for i := range test.ours {
			measured.add(test.plain[i], test.ours[i])
		}
		r := section{scale: full, rows: []row{{figure: figure{"before", seconds, atMost(1)}, skipped: "there is none"}, measured}}
		require.Equal(t, test.missed, r.missed(), name)
		require.Contains(t, r.markdown(), test.line, name)
		require.Contains(t, r.markdown(), "| before | | | | | ≤ 1× | skipped: there is none |", name)
	}
}

func TestSidesTakeTurnsAndStartFromTheSameState(t *testing.T) {
	t.Parallel()
	var order []string
	note := func(what string) { order = append(order, what) }
	byHand := []float64{100, 100, 1, 3, 5, 7, 1, 1, 1, 1}
	work := contest{
		kind:  "work",
		reset: func(context.Context) error { note("reset"); return nil },
		plain: func(context.Context) (float64, error) {
			note("plain")
			took := byHand[0]
			byHand = byHand[1:]
			return took, nil
		},
		back: func(context.Context) (float64, error) { note("plain back"); return 4, nil },
		ours: []side{
			{
				figures: []figure{{"first", seconds, aim{}}, {"second", seconds, aim{}}},
				run:     func(context.Context) ([]float64, error) { note("ours"); return []float64{6, 12}, nil },
			},
			{
				figures: []figure{{"third", seconds, aim{}}},
				run:     func(context.Context) ([]float64, error) { note("other"); return []float64{18, 8}, nil },
				back:    []figure{{"undone", seconds, aim{}}},
			},
		},
	}
	r := &rig{scale: scale{rounds: 2, warmUps: 1}, talk: io.Discard, warm: map[string]bool{}}
	rows, err := work.run(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, []string{
		"reset", "other", "reset", "plain", "plain back", "reset", "ours", "reset", "plain", "plain back", // does not count
		"reset", "plain", "plain back", "reset", "ours", "reset", "plain", "plain back", "reset", "other",
		"reset", "other", "reset", "plain", "plain back", "reset", "ours", "reset", "plain", "plain back",
	}, order)
	for i, want := range [][]float64{{3, 1}, {6, 2}, {9, 3}, {2, 2}} {
		require.Equal(t, want, rows[i].outcomes)
	}

	order = nil
	_, err = work.run(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, order, 20, "it is warm")
}

func TestBadArgumentsAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"surplus"}, {"-only", "nothing"}, {"-unknown"}} {
		var talk strings.Builder
		require.ErrorIs(t, run(t.Context(), args, io.Discard, &talk), errUsage)
		require.NotEmpty(t, talk.String())
	}
}

// What is kept of earlier runs is laid out as a run would lay it out now.
func TestResultsAreASetOfSections(t *testing.T) {
	t.Parallel()
	kept, err := os.ReadFile("RESULTS.md")
	require.NoError(t, err)
	require.Equal(t, string(kept), document(sectionsOf(string(kept))))
}
