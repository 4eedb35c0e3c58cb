package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"rehome/resilience"
)

// reorganisation is what people did to a tree.
type reorganisation struct {
	dirs    []resilience.RenameRule // directories that have another name now
	files   []resilience.RenameRule // files that lie in another folder now
	edited  []string
	deleted []string
}

// What the people of the demo do.
const (
	movedFiles   = 200
	editedFiles  = 100
	deletedFiles = 100
)

// copyGoSource copies Go's own source tree to the directory to.
func copyGoSource(ctx context.Context, to string) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("ask the go command for GOROOT: %w; the demo works on a copy of Go's source tree", err)
	}
	from := filepath.Join(strings.TrimSpace(string(out)), "src")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// tree is the copy that people work on.
type tree struct{ root string }

func (t tree) at(key string) string { return filepath.Join(t.root, filepath.FromSlash(key)) }

// files lists the regular files by their path relative to the root.
func (t tree) files() ([]string, error) {
	var found []string
	err := fs.WalkDir(os.DirFS(t.root), ".", func(key string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			found = append(found, key)
		}
		return err
	})
	return found, err
}

// reorganise does to the tree what people do. Which files it takes depends on
// the tree alone. No file is touched twice, so that each step can be checked.
func (t tree) reorganise() (reorganisation, error) {
	done := reorganisation{dirs: []resilience.RenameRule{
		{Old: "encoding", New: "codecs"},
		{Old: "internal/trace", New: "internal/tracing"},
	}}
	all, err := t.files()
	if err != nil {
		return done, err
	}
	for _, key := range all {
		dir, name := path.Split(key)
		if dir == "runtime/" && strings.Contains(name, "_") && len(done.files) < movedFiles {
			done.files = append(done.files, resilience.RenameRule{Old: key, New: "runtime/platform/" + name})
		}
	}
	// Code of some size, so that an edit changes a part of it.
	ordinary := slices.DeleteFunc(all, func(key string) bool {
		info, err := os.Stat(t.at(key))
		return err != nil || path.Ext(key) != ".go" || info.Size() < 10_000 || info.Size() > 100_000 ||
			under(key, "encoding", "internal/trace", "runtime", killed.Old)
	})
	if len(done.files) < movedFiles || len(ordinary) < 2*(editedFiles+deletedFiles) {
		return done, fmt.Errorf("the source tree has %d files to move and %d to edit or delete: too few for the demo", len(done.files), len(ordinary))
	}
	stride := len(ordinary) / (editedFiles + deletedFiles)
	for i := range editedFiles {
		done.edited = append(done.edited, ordinary[2*i*stride])
		done.deleted = append(done.deleted, ordinary[(2*i+1)*stride])
	}
	return done, t.apply(done)
}

// under reports whether a path lies in one of the directories.
func under(key string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return resilience.Under(key, dir) })
}

func (t tree) apply(what reorganisation) error {
	if err := t.rename(slices.Concat(what.dirs, what.files)...); err != nil {
		return err
	}
	for _, key := range what.edited {
		if err := t.edit(key); err != nil {
			return err
		}
	}
	for _, key := range what.deleted {
		if err := os.Remove(t.at(key)); err != nil {
			return err
		}
	}
	return nil
}

func (t tree) rename(renames ...resilience.RenameRule) error {
	for _, r := range renames {
		if err := os.MkdirAll(filepath.Dir(t.at(r.New)), 0o755); err != nil {
			return err
		}
		if err := os.Rename(t.at(r.Old), t.at(r.New)); err != nil {
			return err
		}
	}
	return nil
}

// edit puts a line into the middle of a file.
func (t tree) edit(key string) error {
	text, err := os.ReadFile(t.at(key))
	if err != nil {
		return err
	}
	middle := len(text) / 2
	middle += bytes.IndexByte(text[middle:], '\n') + 1
	return os.WriteFile(t.at(key), slices.Insert(text, middle, []byte("// Somebody has edited this place.\n")...), 0o644)
}
