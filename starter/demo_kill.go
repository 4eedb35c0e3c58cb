package main

import (
	"context"
	"fmt"
	"time"

	"rehome/resilience"
)

// killed is the rename whose migration loses its worker.
var killed = resilience.RenameRule{Old: "cmd/compile", New: "cmd/compiler"}

const (
	// killedTakes is how long that migration is made to take, so that there is
	// a middle to be killed in.
	killedTakes = 6 * time.Second
	// silence is how long a worker of the demo may be silent before its work is
	// given to another; it is half a minute outside of it.
	silence = 3 * time.Second
)

func (d *demo) kill(ctx context.Context) (string, error) {
	d.snapshot(ctx, "before")
	d.before = d.checksum(ctx)
	total := d.at(ctx, killed.Old)
	if err := d.tree.rename(killed); err != nil {
		return "", err
	}
	fmt.Fprintf(d.out, "   mv %s %s\n", killed.Old, killed.New)
	end := d.migrating(ctx, "--rename", killed.String(), "--rate", fmt.Sprint(total/int64(killedTakes.Seconds())))
	pid := d.stage.worker.PID()
	early, err := d.follow(ctx, end, func(done, total int64) bool { return 3*done >= total })
	if err != nil {
		return "", err
	}
	if early.ID != "" {
		return "", fmt.Errorf("migration %s ended before its worker could be killed", early.ID)
	}
	d.stage.worker.Kill()
	last, err := d.still(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(d.out, "   kill -9 %d: the worker is gone; %d of %d chunks have moved\n", pid, last, total)
	err = d.claims(
		claim{"the kill fell between the first chunk and the last", true, 0 < last && last < total},
		claim{"chunks at the new path are those up to the watermark", last, d.at(ctx, killed.New)},
		claim{"the others are where they were", total - last, d.at(ctx, killed.Old)},
	)
	if err != nil {
		return "", err
	}
	if err := d.stage.startWorker(ctx); err != nil {
		return "", err
	}
	fmt.Fprintf(d.out, "   worker started again, process %d\n", d.stage.worker.PID())
	if d.killed, err = d.follow(ctx, end, func(int64, int64) bool { return false }); err != nil {
		return "", err
	}
	d.remember(ctx, "the migration whose worker was killed", d.killed.WorkflowID)
	return fmt.Sprintf("killed at %d of %d chunks", last, total), d.claims(
		claim{"the migration is over", resilience.Completed, d.killed.Status},
		claim{"every chunk is at the new path", total, d.at(ctx, killed.New)},
		claim{"chunks left at the old path", int64(0), d.at(ctx, killed.Old)},
		claim{"each is the same row at its new path, byte for byte", total, d.count(ctx, `
			SELECT count(*) FROM rehome.chunks c JOIN demo.before b USING (id)
			WHERE starts_with(b.path, $1 || '/') AND c.path = $2 || substr(b.path, length($1) + 1) AND `+restOfRow+` = b.rest`, killed.Old, killed.New)},
		claim{"chunks in the table", d.count(ctx, `SELECT count(*) FROM demo.before`), d.count(ctx, `SELECT count(*) FROM rehome.chunks`)},
	)
}

// at counts the chunks below a directory.
func (d *demo) at(ctx context.Context, dir string) int64 {
	return d.count(ctx, `SELECT count(*) FROM rehome.chunks WHERE starts_with(path, $1 || '/')`, dir)
}

// still returns the watermark once the killed worker's last transaction is over.
func (d *demo) still(ctx context.Context) (int64, error) {
	for d.err == nil && d.count(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rehome worker'`) > 0 {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	done, _ := d.progress(ctx)
	return done, d.err
}

func (d *demo) rollback(ctx context.Context) (string, error) {
	if err := d.tree.rename(resilience.RenameRule{Old: killed.New, New: killed.Old}); err != nil {
		return "", err
	}
	fmt.Fprintf(d.out, "   mv %s %s\n", killed.New, killed.Old)
	p, err := command[resilience.Plan](ctx, d, "migration", "rollback", d.killed.ID)
	if err != nil {
		return "", err
	}
	d.remember(ctx, "its rollback", p.WorkflowID)
	return fmt.Sprintf("%d chunks in %s", p.Moved, resilience.Spell(p.ApplyMS)), d.claims(
		claim{"every chunk went back", d.killed.Moved, p.Moved},
		claim{"the checksum of the table is what it was before the migration", d.before, d.checksum(ctx)},
		claim{"the path resolves to itself again", killed.Old + "/main.go", ask[string](ctx, d, `SELECT rehome.current_path($1, $2)`, demoMemory, killed.Old+"/main.go")},
		claim{"the new path leads nowhere else", killed.New + "/main.go", ask[string](ctx, d, `SELECT rehome.current_path($1, $2)`, demoMemory, killed.New+"/main.go")},
	)
}
