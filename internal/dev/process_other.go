//go:build unix && !linux

package dev

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// endWithUs does nothing: this kernel has no signal on the parent's death. The
// next start finds what was left and stops it.
func endWithUs(*syscall.SysProcAttr, syscall.Signal) {}

// commandLines lists what runs.
func commandLines(ctx context.Context) ([]commandLine, error) {
	out, err := exec.CommandContext(ctx, "ps", "-axww", "-o", "pid=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes by ps: %w", err)
	}
	var lines []commandLine
	for line := range strings.Lines(string(out)) {
		number, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pid, err := strconv.Atoi(number); err == nil {
			lines = append(lines, commandLine{pid, text})
		}
	}
	return lines, nil
}
