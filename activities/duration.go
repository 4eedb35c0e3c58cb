package activities

import (
	"encoding/json"
	"time"
)

// Duration is written the way people write it, "3s", so that they can change it
// when they start a workflow in the web UI. It reads nanoseconds too.
type Duration time.Duration

// MarshalText writes "3s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalJSON reads "3s" or nanoseconds.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) != nil {
		return json.Unmarshal(data, (*time.Duration)(d))
	}
	parsed, err := time.ParseDuration(text)
	*d = Duration(parsed)
	return err
}
