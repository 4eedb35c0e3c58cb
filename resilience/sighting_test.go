package resilience_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestT54DoubtBeginsAboveHalfAndAboveASmallLoss(t *testing.T) {
	t.Parallel()
	root := func(before, lost int64) resilience.Sighting {
		return resilience.Sighting{Files: before - lost, Known: before, Regions: []resilience.Region{{Path: ".", Before: before, Lost: lost}}}
	}
	dir := func(before, lost int64) resilience.Sighting {
		s := root(1000, lost)
		s.Regions = append(s.Regions, resilience.Region{Path: "guide", Before: before, Lost: lost})
		return s
	}
	for _, c := range []struct {
		name  string
		seen  resilience.Sighting
		doubt string
	}{
		{"49 of 100 gone", root(100, 49), ""},
		{"50 of 100 gone", root(100, 50), ""},
		{"51 of 100 gone", root(100, 51), "51 of the 100 files known in it are gone"},
		{"1 of 3 gone", root(3, 1), ""},
		{"10 of 11 gone", root(11, 10), ""},
		{"11 of 12 gone", root(12, 11), "11 of the 12 files"},
		{"3 of 3 gone", root(3, 3), "there is no file in it"},
		{"nothing there, nothing known", resilience.Sighting{}, ""},
		{"nothing there that could be read, and nothing called missing", resilience.Sighting{Known: 9}, ""},
		{"a small directory gone", dir(10, 10), ""},
		{"a directory gone", dir(11, 11), "its directory guide"},
		{"half a directory gone", dir(40, 20), ""},
		{"one canary left", resilience.Sighting{Chunks: 1, Files: 9, Known: 9, Canaries: 20, CanariesGone: 19}, ""},
		{"no canary left", resilience.Sighting{Chunks: 1, Files: 9, Known: 9, Canaries: 8, CanariesGone: 8}, "none of 8 files"},
		{"other device, all canaries", resilience.Sighting{Chunks: 1, Files: 9, Known: 9, Canaries: 20, OtherDevice: true}, ""},
		{"other device, a canary gone", resilience.Sighting{Chunks: 1, Files: 9, Known: 9, Canaries: 20, CanariesGone: 1, OtherDevice: true}, "another device"},
		{"half of the sample", resilience.Sighting{Chunks: 1, Files: 9, Known: 9, Sampled: 200, SampledGone: 100}, ""},
		{"less than half of the sample", resilience.Sighting{Chunks: 1, Files: 9, Known: 9, Sampled: 200, SampledGone: 101}, "of 200 sampled source paths"},
	} {
		doubt := c.seen.Doubt()
		if c.doubt == "" {
			require.Empty(t, doubt, c.name)
		} else {
			require.Contains(t, doubt, c.doubt, c.name)
		}
	}
}

func TestRefusalSaysWhatWouldHaveHappenedAndTheWayOn(t *testing.T) {
	t.Parallel()
	text := resilience.Refusal("docs", "/srv/docs", "it is empty", "12 chunks")
	for _, part := range []string{"/srv/docs", "it is empty", "12 chunks missing", "nothing was changed", "mounted", "--accept-shrinkage docs"} {
		require.Contains(t, text, part)
	}
}

func TestT62ConfirmationKeepsItsFloorAndTwoScans(t *testing.T) {
	t.Parallel()
	settings := resilience.DefaultSettings()
	require.Equal(t, resilience.Confirmation{Scans: 2, Gap: time.Hour, Grace: 7 * day}, settings.Confirmation(false))
	settings.OrphanGrace = time.Minute
	require.Equal(t, day, settings.Confirmation(false).Grace, "a setting below the floor does not count")
	require.Equal(t, resilience.Confirmation{Scans: 2}, settings.Confirmation(true))
}
