package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// goSource is Go's own source tree: other people's real files.
func goSource(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("ask the go command for GOROOT: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src"), nil
}

// text returns at least so many bytes of Go source, less when there are no more.
func text(ctx context.Context, size int) (string, error) {
	dir, err := goSource(ctx)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		b.Write(content)
		if b.Len() >= size {
			return fs.SkipAll
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read %s: %w", dir, err)
	}
	return b.String(), nil
}
