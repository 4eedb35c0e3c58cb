package resilience

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the zones are known wherever the binary runs
)

// Hours are times of the day at which a plan may work. The zero value is all of them.
type Hours struct {
	spans []daily
}

// daily is from a minute of the day up to another, by the clocks of a place.
// When it ends before it begins, it goes over midnight.
type daily struct {
	from, to int
	zone     *time.Location
}

// ParseHours reads "22:00-06:00 Europe/Berlin"; several are separated by
// commas, and without a zone they are in UTC. An empty text is all hours.
func ParseHours(text string) (Hours, error) {
	var h Hours
	if strings.TrimSpace(text) == "" {
		return h, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		s, err := parseDaily(strings.Fields(part))
		if err != nil {
			return Hours{}, fmt.Errorf(`hours %q: %w; want "22:00-06:00" or "22:00-06:00 Europe/Berlin", several separated by commas`, text, err)
		}
		h.spans = append(h.spans, s)
	}
	return h, nil
}

func parseDaily(words []string) (daily, error) {
	s := daily{zone: time.UTC}
	switch len(words) {
	case 1:
	case 2:
		zone, err := time.LoadLocation(words[1])
		if err != nil || words[1] == "Local" { // which is another on each machine
			return s, fmt.Errorf("%q is not a time zone", words[1])
		}
		s.zone = zone
	default:
		return s, fmt.Errorf("%q is not a span of hours", strings.Join(words, " "))
	}
	from, to, ok := strings.Cut(words[0], "-")
	if !ok {
		return s, fmt.Errorf("%q has no end", words[0])
	}
	var err error
	if s.from, err = parseMinute(from); err != nil {
		return s, err
	}
	if s.to, err = parseMinute(to); err != nil {
		return s, err
	}
	if s.from == s.to {
		return s, fmt.Errorf("%q ends when it begins", words[0])
	}
	if s.from == fullDay {
		return s, fmt.Errorf("%q begins at the end of a day", words[0])
	}
	return s, nil
}

const fullDay = 24 * 60 // minutes by the clock, on most days

// parseMinute reads "06:30" as minutes of the day; "24:00" is its end.
func parseMinute(text string) (int, error) {
	if text == "24:00" {
		return fullDay, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time of the day", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// Open reports whether a plan may work at t.
func (h Hours) Open(t time.Time) bool {
	return len(h.spans) == 0 || slices.ContainsFunc(h.spans, func(s daily) bool { return s.open(t) })
}

func (s daily) open(t time.Time) bool {
	local := t.In(s.zone)
	minute := local.Hour()*60 + local.Minute()
	if s.from < s.to {
		return s.from <= minute && minute < s.to
	}
	return minute >= s.from || minute < s.to
}

// Next is when a plan may work that may not at t: the first moment from t on
// at which the hours are open.
func (h Hours) Next(t time.Time) time.Time {
	if h.Open(t) {
		return t
	}
	var first time.Time
	for _, s := range h.spans {
		if next := s.next(t); first.IsZero() || next.Before(first) {
			first = next
		}
	}
	return first
}

// next is when the span begins after t, at which it is not open. Where the
// clocks are put forward over its beginning, it begins with the hour after.
func (s daily) next(t time.Time) time.Time {
	at := t.Truncate(time.Minute)
	for !s.open(at) {
		at = at.Add(s.step(at))
	}
	return at
}

// step is how far the span surely stays shut: by the clock until it begins, but
// at most to the next time at which clocks may be changed, which they are on
// the quarter of an hour.
func (s daily) step(at time.Time) time.Duration {
	local := at.In(s.zone)
	minute := local.Hour()*60 + local.Minute()
	left := (s.from - minute + fullDay) % fullDay
	const quarter = 15
	return time.Duration(min(left, quarter-minute%quarter)) * time.Minute
}
