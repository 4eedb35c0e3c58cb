package resilience

import (
	"fmt"
	"path"
	"strings"
)

// CheckRoot refuses a root that is not written as an absolute clean path, or
// that is, holds, or lies in the root of another memory: a file must belong to
// one memory, or two scans would judge it by different rules. Components are
// compared, so that /docs and /docs2 do not meet.
func CheckRoot(root string, others []Memory) error {
	if !path.IsAbs(root) || path.Clean(root) != root {
		return fmt.Errorf("root %q: want an absolute path without . and .. in it", root)
	}
	for _, m := range others {
		switch {
		case root == m.Root:
			return fmt.Errorf("root %s is the root of memory %s already; two memories cannot share one tree", root, m.Name)
		case Under(root, m.Root):
			return fmt.Errorf("root %s lies in the root of memory %s (%s); choose a tree outside of it", root, m.Name, m.Root)
		case Under(m.Root, root):
			return fmt.Errorf("root %s holds the root of memory %s (%s); choose a tree that does not", root, m.Name, m.Root)
		}
	}
	return nil
}

// Under reports whether a path lies below the directory dir.
func Under(path, dir string) bool {
	return dir == "/" && path != "/" || strings.HasPrefix(path, dir+"/")
}
