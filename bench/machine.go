package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// machine is what the figures depend on, and the day.
type machine string

func describeMachine(ctx context.Context, r *rig) (machine, error) {
	var postgres string
	if err := r.pool.QueryRow(ctx, `SHOW server_version`).Scan(&postgres); err != nil {
		return "", fmt.Errorf("ask Postgres for its version: %w", err)
	}
	temporal, err := r.temporalVersion(ctx)
	if err != nil {
		return "", fmt.Errorf("ask Temporal for its version: %w", err)
	}
	return machine(fmt.Sprintf("Measured on %s: %s, %d cores, %s of memory, %s/%s; Postgres %s with %s; Temporal %s, the dev server on its database file; %s.",
		time.Now().UTC().Format(time.DateOnly), processor(ctx), runtime.NumCPU(), memory(ctx), runtime.GOOS, runtime.GOARCH,
		postgres, strings.Join(postgresSettings, ", "), temporal, runtime.Version())), nil
}

// unknown is a fact that this system does not tell.
const unknown = "unknown"

var (
	modelName = regexp.MustCompile(`(?m)^model name\s*:\s*(.+)$`)
	memTotal  = regexp.MustCompile(`(?m)^MemTotal:\s*(\d+) kB$`)
)

func processor(ctx context.Context) string {
	return fact("/proc/cpuinfo", modelName, sysctl(ctx, "machdep.cpu.brand_string"))
}

func memory(ctx context.Context) string {
	var bytes float64
	if _, err := fmt.Sscan(fact("/proc/meminfo", memTotal, ""), &bytes); err == nil {
		bytes *= 1024
	} else if _, err := fmt.Sscan(sysctl(ctx, "hw.memsize"), &bytes); err != nil {
		return unknown
	}
	return fmt.Sprintf("%.0f GB", bytes/1e9)
}

// fact finds a fact in a file of Linux, or takes what another system says.
func fact(file string, line *regexp.Regexp, otherwise string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return otherwise
	}
	if found := line.FindSubmatch(text); found != nil {
		return string(found[1])
	}
	return unknown
}

func sysctl(ctx context.Context, name string) string {
	out, err := exec.CommandContext(ctx, "sysctl", "-n", name).Output()
	if err != nil {
		return unknown
	}
	return strings.TrimSpace(string(out))
}
