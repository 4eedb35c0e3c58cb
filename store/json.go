package store

import (
	"encoding/json"
	"fmt"
)

// decode reads a jsonb value into target; a nil target or an empty value is left alone.
func decode(raw []byte, target any) error {
	if target == nil || len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, target); err != nil {
		return fmt.Errorf("decode %T: %w", target, err)
	}
	return nil
}
