package resilience

import (
	"fmt"
	"time"
)

// Alias says that what was at OriginalPath, a file or a directory, is now at
// CurrentPath, in one step.
type Alias struct {
	OriginalPath   string            `json:"original_path"`
	CurrentPath    string            `json:"current_path"`
	History        []Version         `json:"history"` // newest last
	AccessCount    int64             `json:"access_count"`
	LastAccessedAt *time.Time        `json:"last_accessed_at,omitempty"`
	Metadata       map[string]string `json:"metadata,omitempty"`
	MigrationID    string            `json:"migration_id,omitempty"` // the migration that made or last changed it
	CreatedAt      time.Time         `json:"created_at"`
	UpdatedAt      time.Time         `json:"updated_at"`
	ExpiresAt      *time.Time        `json:"expires_at,omitempty"`
}

// Version is one place an alias has led to.
type Version struct {
	Path string    `json:"path"`
	At   time.Time `json:"at"`
}

// Resolution is the answer to where the file of a path is now.
type Resolution struct {
	Path        string    `json:"path"`
	CurrentPath string    `json:"current_path"`
	Aliased     bool      `json:"aliased"`
	History     []Version `json:"history"` // of the alias that answered, newest last
}

// CheckAlias refuses an alias that leads to its own path, or into or out of
// itself: no file can be found by it.
func CheckAlias(original, current string) error {
	switch {
	case original == "" || current == "":
		return fmt.Errorf("alias %q to %q: want two paths", original, current)
	case original == current:
		return fmt.Errorf("alias %s: it leads to itself; a path without an alias does that already", original)
	case Under(current, original):
		return fmt.Errorf("alias %s to %s: a directory cannot have moved into itself", original, current)
	case Under(original, current):
		return fmt.Errorf("alias %s to %s: a directory cannot have taken the place of the one it lay in", original, current)
	}
	return nil
}
