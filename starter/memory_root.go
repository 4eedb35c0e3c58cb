package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rehome/corpus"
	"rehome/resilience"
)

// openRoot opens a root by its one true name: absolute, without links.
func openRoot(dir string) (*corpus.Root, error) {
	if dir == "" {
		return nil, fail(exitUsage, "no root given: want --root DIR, the directory that the memory's paths are relative to")
	}
	if !storable(dir) {
		return nil, fail(exitUsage, "--root %q: want a path in UTF-8 without NUL", dir)
	}
	absolute, err := filepath.Abs(dir)
	if err == nil {
		absolute, err = filepath.EvalSymlinks(absolute)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(exitNotFound, "--root %s: %w; make or mount it first", dir, err)
	}
	if err != nil {
		return nil, fail(exitUsage, "--root %s: %w", dir, err)
	}
	root, err := corpus.OpenRoot(absolute)
	if err != nil {
		return nil, fail(exitUsage, "--root %s: %w; want a directory that can be read", dir, err)
	}
	return root, nil
}

// checkSample looks under the root for files that the table names.
func (s *session) checkSample(ctx context.Context, root *corpus.Root, mapping resilience.Mapping) error {
	paths, err := s.data.SamplePaths(ctx, mapping, resilience.SampleSize)
	if err != nil {
		return err
	}
	exists := func(path string) bool {
		if _, ok := corpus.Key(path); !ok {
			return false // it would lead out of the root
		}
		entry, err := root.Stat(path)
		return err == nil && entry.Kind == corpus.File
	}
	var found, missing []string
	for _, path := range paths {
		if exists(path) {
			found = append(found, path)
		} else {
			missing = append(missing, path)
		}
	}
	if err := resilience.CheckSample(found, missing, exists); err != nil {
		return fail(exitRefused, "%w (--root, --path, --strip-prefix)", err)
	}
	return nil
}

// mark puts a marker into a root, or takes over the one that is there. What it
// returns takes a new one away again.
func mark(root string) (id string, forget func() error, err error) {
	path := filepath.Join(root, resilience.MarkerFile)
	forget = func() error { return nil }
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		content, err := os.ReadFile(path)
		id = strings.TrimSpace(string(content))
		if err != nil || id == "" || len(id) > 100 || !storable(id) {
			return "", forget, fail(exitConflict, "%s is there and is no marker of ours; remove it, or add the memory without --marker", path)
		}
		return id, forget, nil
	}
	if err != nil {
		return "", forget, fail(exitFailed, "write the marker: %w; add the memory without --marker where the root is read-only", err)
	}
	id = strings.ToLower(rand.Text())
	_, err = file.WriteString(id + "\n")
	if err := errors.Join(err, file.Close()); err != nil {
		return "", forget, errors.Join(fmt.Errorf("write the marker: %w", err), os.Remove(path))
	}
	return id, func() error { return os.Remove(path) }, nil
}
