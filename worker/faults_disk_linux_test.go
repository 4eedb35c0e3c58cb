package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	workflowpb "go.temporal.io/api/workflow/v1"

	"rehome/internal/dev"
	"rehome/resilience"
)

// TestFault24ATableOnAFullDiskIsWaitedFor lets the disk of the chunks run full in the
// middle of a migration: the server can do no batch, and the migration says so and tries
// again until there is room.
func TestFault24ATableOnAFullDiskIsWaitedFor(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a server of its own runs out of room under every strategy; in the quick form a trigger says that it did")
	}
	for name, transfer := range map[string]bool{"renames": false, "transfers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t, 64)
			r := newRig(t, 8_000)
			r.tell(`CREATE TABLESPACE small LOCATION '` + d.room(r.data()) + `'`)
			r.tell(`ALTER TABLE rehome.chunks SET TABLESPACE small`)
			for _, strategy := range resilience.Strategies() {
				r.waitsForRoom(d, travel{strategy, transfer})
			}
			r.quiet()
			r.conserved("a")
		})
	}
}

// waitsForRoom fills the disk of the table while a migration is inside, or before all of
// it is done in one batch, which is tried beside writers, and each try leaves room for the
// next.
func (r *rig) waitsForRoom(d *disk, way travel) {
	r.Helper()
	id := "m-" + way.String()
	r.tell(`VACUUM FULL rehome.chunks`) // no room is left in it by the migration before
	forget := r.remembers()
	if way.strategy == resilience.Immediate {
		d.fill()
		r.departs(id, way, 0)
	} else {
		r.departs(id, way, r.slowly()/2)
		r.inside(id)
		d.fill()
	}
	r.keepsTrying(id, "(SQLSTATE 53100)") // disk_full; "wrote only 4096 of 8192 bytes" where half of a page had room
	plan, err := r.store.Plan(r.Context(), id)
	require.NoError(r, err)
	require.Equal(r, resilience.Executing, plan.Status, "nothing was undone")
	at, err := r.store.Watermark(r.Context(), id)
	require.NoError(r, err)
	require.Less(r, at.Last, at.Total, "and nothing is passed over")
	d.empty()
	forget()
	r.arrives(id, way)
}

// remembers opens a session that may still want to see every chunk as it is now, so that
// no vacuum makes room in the table, until it ends.
func (r *rig) remembers() (forget func()) {
	r.Helper()
	session, err := pgx.Connect(context.Background(), r.database)
	require.NoError(r, err)
	forget = func() { _ = session.Close(context.Background()) } // the rig's cleanup may find it closed
	r.Cleanup(forget)
	_, err = session.Exec(context.Background(), `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1`)
	require.NoError(r, err)
	return forget
}

// TestFault24WithoutRoomForItsLogPostgresGoesDown and the migration waits for it: the
// server can go on only when it has room for what it writes before each change.
func TestFault24WithoutRoomForItsLogPostgresGoesDown(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a server of its own goes down for want of room; in the quick form TestFault13CrashesOfAllProcesses crashes one")
	}
	for name, transfer := range map[string]bool{"renames": false, "transfers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t, 192) // a segment has 16
			r := newRig(t, 8_000)
			r.logTo(d)
			for _, strategy := range resilience.Strategies() {
				way := travel{strategy, transfer}
				id := "m-" + way.String()
				fault := func() { r.runsOutOfLog(d, id) }
				if strategy == resilience.Immediate {
					r.insideOneBatch(id, way, fault, false)
				} else {
					r.survives(id, way, fault)
				}
			}
			r.quiet()
			r.conserved("a")
		})
	}
}

// logTo moves the log of changes to a disk.
func (r *rig) logTo(d *disk) {
	r.Helper()
	r.postgres.Stop()
	wal := filepath.Join(r.data(), "pg_wal")
	out, err := exec.Command("cp", "-a", wal, d.dir).CombinedOutput()
	require.NoError(r, err, "%s", out)
	require.NoError(r, os.RemoveAll(wal))
	require.NoError(r, os.Symlink(filepath.Join(d.dir, "pg_wal"), wal))
	r.postgres, err = dev.StartPostgres(context.Background(), dev.Options{Dir: r.dir})
	require.NoError(r, err)
}

// runsOutOfLog fills the disk of the log until the server falls, and has it started again
// once there is room.
func (r *rig) runsOutOfLog(d *disk, id string) {
	r.Helper()
	before := r.panics()
	d.fill()
	require.Eventually(r, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, _ = r.pool.Exec(ctx, `SELECT pg_switch_wal()`) // the next change needs another segment; one of them has no room
		return r.panics() > before
	}, patience, 10*time.Millisecond)
	r.keepsTrying(id, "cannot reach Postgres")
	r.meanwhile()
	d.empty()
	r.insist("bring Postgres back", func(ctx context.Context) error {
		if syscall.Kill(r.postgres.PID(), 0) != nil { // it recovers by itself, unless it had no room even for that
			again, err := dev.StartPostgres(context.Background(), dev.Options{Dir: r.dir})
			if err != nil {
				return err
			}
			r.postgres = again
		}
		return r.pool.Ping(ctx)
	})
}

// panics counts how often the server has fallen for want of room.
func (r *rig) panics() int {
	said, _ := os.ReadFile(filepath.Join(r.dir, "postgres.log")) // it is put aside when the server is started
	return len(regexp.MustCompile(`PANIC: .*No space left on device`).FindAll(said, -1))
}

// keepsTrying waits until a step was tried again and again, and says what is in the way.
func (r *rig) keepsTrying(id, says string) {
	r.Helper()
	require.Eventually(r, func() bool {
		d, err := r.client.DescribeWorkflowExecution(context.Background(), r.workflow(id), "")
		return err == nil && slices.ContainsFunc(d.GetPendingActivities(), func(a *workflowpb.PendingActivityInfo) bool {
			return a.GetAttempt() > 2 && strings.Contains(a.GetLastFailure().GetMessage(), says)
		})
	}, patience, 20*time.Millisecond, "no step of %s fails of %q", id, says)
}

// data is where the server keeps what it has.
func (r *rig) data() string { return filepath.Join(r.dir, "postgres", "data") }

// disk is a small one, which can be filled.
type disk struct {
	*testing.T
	dir string
}

func newDisk(t *testing.T, megabytes int) *disk {
	t.Helper()
	dir, err := os.MkdirTemp("", "rehome-disk-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.Remove(dir)) })
	err = syscall.Mount("rehome", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes))
	if errors.Is(err, os.ErrPermission) {
		t.Skip("only who may mount a disk can fill one: run it as root")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return &disk{t, dir}
}

// room makes a directory on it for whoever owns another one.
func (d *disk) room(other string) string {
	d.Helper()
	info, err := os.Stat(other)
	require.NoError(d, err)
	owner := info.Sys().(*syscall.Stat_t)
	dir := filepath.Join(d.dir, "room")
	require.NoError(d, os.Mkdir(dir, 0o700))
	require.NoError(d, os.Chown(dir, int(owner.Uid), int(owner.Gid)))
	return dir
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves no room on it.
func (d *disk) fill() {
	d.Helper()
	d.Cleanup(d.empty) // a server that is to end needs room
	ballast, err := os.Create(d.ballast())
	require.NoError(d, err)
	for err == nil {
		_, err = ballast.Write(make([]byte, 1<<20))
	}
	require.ErrorIs(d, err, syscall.ENOSPC)
	require.NoError(d, ballast.Close())
}

// empty gives the room back.
func (d *disk) empty() { _ = os.Remove(d.ballast()) } // it may have gone
