package dev

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
)

// SearchAttributes are what rehome's workflows set, all of them keywords.
var SearchAttributes = []string{"RehomeMemory", "RehomeStrategy", "RehomeRisk", "RehomePhase"}

// Temporal is a running Temporal dev server of ours.
type Temporal struct {
	Address string // host:port
	UI      string // the web UI, empty when there is none
	Program string // what it runs, which is Temporal's command line, too

	process *process
	name    string // a namespace that no other server has
}

// StartTemporal starts the Temporal dev server on 127.0.0.1 with its data in
// opts.Dir, or in memory. It answers when this returns.
func StartTemporal(ctx context.Context, opts Options) (*Temporal, error) {
	opts = opts.withDefaults()
	program, err := temporalProgram(ctx, opts)
	if err != nil {
		return nil, err
	}
	kept, err := readKept(opts.Dir)
	if err != nil {
		return nil, err
	}
	name := mark("temporal", opts.Dir)
	if err := endLeftovers(ctx, name, step{syscall.SIGTERM, 15 * time.Second}); err != nil {
		return nil, err
	}
	for range 3 {
		if err := kept.chooseTemporalPorts(opts); err != nil {
			return nil, err
		}
		var t *Temporal
		if t, err = runTemporal(ctx, opts, program, kept); err == nil {
			return t, kept.write(opts)
		}
		if !errors.Is(err, errEnded) {
			break
		}
	}
	return nil, err
}

func (k *kept) chooseTemporalPorts(opts Options) error {
	var err error
	if opts.Ephemeral {
		if k.TemporalPort, err = freePort(); err == nil && opts.UI {
			k.UIPort, err = freePort()
		}
		return err
	}
	if k.TemporalPort == 0 {
		k.TemporalPort, k.UIPort = 7233, 8233
	}
	if k.TemporalPort, err = choosePort(k.TemporalPort, "Temporal", opts.Log); err != nil {
		return err
	}
	k.UIPort, err = choosePort(k.UIPort, "Temporal's web UI", opts.Log)
	return err
}

func runTemporal(ctx context.Context, opts Options, program string, kept kept) (*Temporal, error) {
	t := &Temporal{Address: "127.0.0.1:" + strconv.Itoa(kept.TemporalPort), Program: program, name: mark("temporal", opts.Dir)}
	args := []string{
		"server", "start-dev", "--namespace=" + t.name, "--ip=127.0.0.1", "--port=" + strconv.Itoa(kept.TemporalPort), "--log-level=warn",
		// Without it a fresh search attribute is refused for a minute.
		"--dynamic-config-value=system.forceSearchAttributesCacheRefreshOnRead=true",
	}
	for _, name := range SearchAttributes {
		args = append(args, "--search-attribute="+name+"=Keyword")
	}
	if !opts.Ephemeral {
		args = append(args, "--db-filename="+filepath.Join(opts.Dir, "temporal.db"))
	}
	if opts.Ephemeral && !opts.UI {
		args = append(args, "--headless=true")
	} else {
		args = append(args, "--headless=false", "--ui-port="+strconv.Itoa(kept.UIPort))
		t.UI = "http://127.0.0.1:" + strconv.Itoa(kept.UIPort)
	}
	cmd := exec.Command(program, args...) // it outlives ctx
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	endWithUs(cmd.SysProcAttr, syscall.SIGTERM)
	var err error
	if t.process, err = launch("Temporal", cmd, filepath.Join(opts.Dir, "temporal.log")); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := t.process.await(ctx, t.check); err != nil {
		t.Stop()
		return nil, err
	}
	return t, nil
}

// check asks the server whether it serves. Another checkout that starts at the
// same time may have taken the port from us; its server does not have our
// namespace.
func (t *Temporal) check(ctx context.Context) error {
	c, err := client.DialContext(ctx, client.Options{
		HostPort: t.Address, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return fmt.Errorf("connect to Temporal: %w", err)
	}
	defer c.Close()
	_, err = c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: t.name})
	if err != nil {
		return fmt.Errorf("look for our namespace in Temporal: %w", err)
	}
	return nil
}

// PID returns the server's process id.
func (t *Temporal) PID() int { return t.process.cmd.Process.Pid }

// Stop ends the server in good order.
func (t *Temporal) Stop() {
	t.process.stop(step{syscall.SIGTERM, 15 * time.Second})
}

// temporalProgram finds the Temporal CLI on PATH, or builds the one that
// tools/go.mod pins.
func temporalProgram(ctx context.Context, opts Options) (string, error) {
	if path, err := exec.LookPath("temporal"); err == nil {
		answer, err := exec.CommandContext(ctx, path, "--version").Output()
		if err == nil && newEnough(string(answer)) {
			return path, nil
		}
	}
	root, err := moduleRoot(opts.Dir)
	if err != nil {
		return "", err
	}
	pins, err := os.ReadFile(filepath.Join(root, "tools", "go.sum"))
	if err != nil {
		return "", fmt.Errorf("find the pinned Temporal CLI: %w", err)
	}
	// Asking the go command where it keeps the program takes seconds.
	note := filepath.Join(cacheDir(opts.Dir), fmt.Sprintf("temporal-%x", sha256.Sum256(pins))[:25])
	if path, err := os.ReadFile(note); err == nil {
		if _, err := os.Stat(string(path)); err == nil {
			return string(path), nil
		}
	}
	held, err := lock(note+".lock", 30*time.Minute) // tests of several packages start together
	if err != nil {
		return "", fmt.Errorf("build the Temporal CLI: %w", err)
	}
	defer func() { _ = held.Close() }()
	path, err := buildTemporal(ctx, root, opts)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(note, []byte(path), 0o644); err != nil {
		return "", fmt.Errorf("remember the Temporal CLI: %w", err)
	}
	return path, nil
}

func buildTemporal(ctx context.Context, root string, opts Options) (string, error) {
	_, _ = fmt.Fprintln(opts.Log, "Looking up the Temporal CLI of tools/go.mod; the first time it is built, which takes some minutes")
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=tools/go.mod", "-n", "temporal")
	cmd.Dir = root
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build the Temporal CLI by %s in %s: %w\n%s\nInstall it (https://docs.temporal.io/cli), or set TEMPORAL_ADDRESS to a Temporal you have", cmd, root, err, problems.String())
	}
	return strings.TrimSpace(string(out)), nil
}

var temporalVersion = regexp.MustCompile(`^temporal version (\d+)\.(\d+)\.`)

// newEnough says whether a CLI that answers so to --version is 1.5.0 or newer,
// with which this was tried.
func newEnough(answer string) bool {
	found := temporalVersion.FindStringSubmatch(answer)
	if found == nil {
		return false
	}
	major, _ := strconv.Atoi(found[1]) // digits by the expression
	minor, _ := strconv.Atoi(found[2])
	return major > 1 || major == 1 && minor >= 5
}

// moduleRoot walks up from the working directory, then from dir, to the checkout.
func moduleRoot(dir string) (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for _, start := range []string{here, dir} {
		for at := start; ; at = filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "tools", "go.mod")); err == nil {
				return at, nil
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return "", errors.New("there is no temporal 1.5.0 or newer on PATH, and no checkout of rehome here to build it from; install it (https://docs.temporal.io/cli), or run this in the checkout")
}
