package resilience_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

// at reads a time of 2026 as RFC 3339 without its year.
func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, "2026-"+text)
	require.NoError(t, err)
	return when
}

func TestHours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, hours, now, next string }{
		{"all", "", "11-24T12:00:00Z", "11-24T12:00:00Z"},
		{"inside", "09:00-17:00", "11-24T12:00:00Z", "11-24T12:00:00Z"},
		{"the first moment is in", "09:00-17:00", "11-24T09:00:00Z", "11-24T09:00:00Z"},
		{"the last is not", "09:00-17:00", "11-24T17:00:00Z", "11-25T09:00:00Z"},
		{"to the second", "09:00-17:00", "11-24T08:59:59Z", "11-24T09:00:00Z"},
		{"over midnight, before it", "22:00-06:00", "11-24T23:30:00Z", "11-24T23:30:00Z"},
		{"over midnight, after it", "22:00-06:00", "11-24T05:59:59Z", "11-24T05:59:59Z"},
		{"over midnight, outside", "22:00-06:00", "11-24T06:00:00Z", "11-24T22:00:00Z"},
		{"to the end of the day", "20:00-24:00", "11-24T23:59:00Z", "11-24T23:59:00Z"},
		{"from the start of the day", "00:00-01:30", "11-24T23:59:00Z", "11-25T00:00:00Z"},
		{"another zone", "22:00-06:00 Europe/Berlin", "11-24T20:00:00Z", "11-24T21:00:00Z"},
		{"another zone, in summer", "22:00-06:00 Europe/Berlin", "07-24T19:30:00Z", "07-24T20:00:00Z"},
		{"a zone off the hour", "09:00-10:00 Asia/Kathmandu", "11-24T03:00:00Z", "11-24T03:15:00Z"},
		{"several, the sooner", "12:00-13:00, 02:00-03:00 America/New_York", "11-24T06:30:00Z", "11-24T07:00:00Z"},
		{"several, inside the second", "12:00-13:00, 02:00-03:00 America/New_York", "11-24T07:30:00Z", "11-24T07:30:00Z"},
		// In Berlin 2:00 becomes 3:00 on March 29, and 3:00 becomes 2:00 on October 25.
		{"clocks forward before it begins", "04:00-05:00 Europe/Berlin", "03-29T00:30:00Z", "03-29T02:00:00Z"},
		{"clocks forward over its beginning", "02:30-04:00 Europe/Berlin", "03-29T00:00:00Z", "03-29T01:00:00Z"},
		{"clocks forward over all of it", "02:15-02:45 Europe/Berlin", "03-29T00:30:00Z", "03-30T00:15:00Z"},
		{"clocks back before it begins", "04:00-05:00 Europe/Berlin", "10-25T00:30:00Z", "10-25T03:00:00Z"},
		{"clocks back: the hour comes twice", "02:30-02:45 Europe/Berlin", "10-25T00:45:00Z", "10-25T01:30:00Z"},
		{"a shift of half an hour", "03:00-04:00 Australia/Lord_Howe", "10-03T15:00:00Z", "10-03T16:00:00Z"}, // 2:00 becomes 2:30
	} {
		h, err := resilience.ParseHours(c.hours)
		require.NoError(t, err, c.name)
		now, next := at(t, c.now), at(t, c.next)
		require.Equal(t, next.Equal(now), h.Open(now), c.name)
		require.WithinDuration(t, next, h.Next(now), 0, c.name)
		require.True(t, h.Open(h.Next(now)), c.name)
	}
}

// TestNextIsTheFirstOpenMinute compares with asking about every minute.
func TestNextIsTheFirstOpenMinute(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"02:10-02:20 Europe/Berlin", "23:50-00:05 America/St_Johns", "01:59-02:31 Australia/Lord_Howe", "22:00-06:00"} {
		h, err := resilience.ParseHours(text)
		require.NoError(t, err)
		for _, start := range []string{"03-28T12:00:00Z", "10-03T00:00:00Z", "10-24T12:00:00Z", "10-31T20:00:00Z"} {
			open := at(t, start)
			for now := open; now.Before(at(t, start).Add(48 * time.Hour)); now = now.Add(7 * time.Minute) {
				for open = latest(open, now); !h.Open(open); open = open.Add(time.Minute) {
				}
				require.WithinDuration(t, open, h.Next(now), 0, "%s at %s", text, now)
			}
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func TestHoursThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"always", "22:00", "22:00-25:00", "22-06", "22:00-22:00", "24:00-06:00", "22:00-06:00 Mars", "22:00-06:00 Local", "1:00-2:00 UTC extra", "22:00-06:00,", "22:00–06:00"} {
		_, err := resilience.ParseHours(text)
		require.ErrorContains(t, err, "want \"22:00-06:00\"", text)
	}
}

func FuzzParseHours(f *testing.F) {
	f.Add("22:00-06:00 Europe/Berlin, 12:00-13:00")
	f.Add("00:00-24:00")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := resilience.ParseHours(text)
		if err != nil {
			return
		}
		now := noon
		if next := h.Next(now); !h.Open(next) || next.Before(now) {
			t.Fatalf("%q at %s: next is %s", text, now, next)
		}
	})
}
