package dev

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// endWithUs has the kernel send signal to a child when we die, kill -9 included.
func endWithUs(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }

// commandLines lists what runs. It reads /proc, since a slim container has no
// ps. Zombies have no command line and are left out.
func commandLines(context.Context) ([]commandLine, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var lines []commandLine
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || len(text) == 0 {
			continue // it has ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		lines = append(lines, commandLine{pid, strings.ReplaceAll(strings.TrimRight(string(text), "\x00"), "\x00", " ")})
	}
	return lines, nil
}
