package main

import (
	"context"
	"fmt"
	"time"

	"rehome/resilience"
)

// ended is how a migration ended that ran beside the demo.
type ended struct {
	plan resilience.Plan
	err  error
}

// migrating runs a migration while the demo looks at it.
func (d *demo) migrating(ctx context.Context, args ...string) <-chan ended {
	end := make(chan ended, 1)
	go func() {
		plan, err := command[resilience.Plan](ctx, d, append([]string{"migrate", "--memory", demoMemory}, args...)...)
		end <- ended{plan, err}
	}()
	return end
}

// follow shows how far the migration is, where no progress bar does, until it
// ends or what is looked for has come.
func (d *demo) follow(ctx context.Context, end <-chan ended, come func(done, total int64) bool) (resilience.Plan, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	shown := int64(0)
	for looks := 0; ; looks++ {
		select {
		case e := <-end:
			return e.plan, e.err
		case <-tick.C:
		}
		done, total := d.progress(ctx)
		if done > shown && looks%10 == 0 && !isTerminal(d.talk.err) {
			shown = done
			fmt.Fprintf(d.out, "   %d of %d chunks have moved\n", done, total)
		}
		if total > 0 && come(done, total) {
			return resilience.Plan{}, d.err
		}
	}
}

// progress is the watermark of the running migration and where it is going.
func (d *demo) progress(ctx context.Context) (done, total int64) {
	const query = `SELECT coalesce(max(done), 0), coalesce(max(moves), 0) FROM rehome.migrations WHERE status = 'executing'`
	if err := d.sql.QueryRow(ctx, query).Scan(&done, &total); err != nil && d.err == nil {
		d.err = fmt.Errorf("ask how far the migration is: %w", err)
	}
	return done, total
}

// renames writes renames as flags.
func renames(rules []resilience.RenameRule) []string {
	var flags []string
	for _, r := range rules {
		flags = append(flags, "--rename", r.String())
	}
	return flags
}

func (d *demo) migrate(ctx context.Context) (string, error) {
	toMove := d.count(ctx, `SELECT count(*) FROM rehome.chunks c JOIN demo.moved m ON m.old = c.path`)
	args := append([]string{"--strategy", "batch", "--rate", "2000"}, renames(append(d.done.dirs, d.done.files...))...)
	ended := d.migrating(ctx, args...)
	p, err := d.follow(ctx, ended, func(int64, int64) bool { return false })
	if err != nil {
		return "", err
	}
	d.remember(ctx, "the migration "+p.ID, p.WorkflowID)
	return fmt.Sprintf("%d chunks in %s", p.Moved, resilience.Spell(p.ApplyMS)), d.claims(
		claim{"the migration is over", resilience.Completed, p.Status},
		claim{"every chunk of a renamed file moved", toMove, p.Moved},
		claim{"chunks left at an old path", int64(0), d.count(ctx, `SELECT count(*) FROM rehome.chunks c JOIN demo.moved m ON m.old = c.path`)},
		claim{"each is the same row at its new path, byte for byte", toMove, d.count(ctx, `
			SELECT count(*) FROM rehome.chunks c JOIN demo.first f USING (id) JOIN demo.moved m ON m.old = f.path
			WHERE c.path = m.new AND `+restOfRow+` = f.rest`)},
		claim{"embeddings that are not what they were", int64(0), d.count(ctx, `
			SELECT count(*) FROM rehome.chunks c JOIN demo.first f USING (id) WHERE md5(array_send(c.embedding)) IS DISTINCT FROM f.embedding`)},
		claim{"other chunks that differ in any byte", int64(0), d.count(ctx, `
			SELECT count(*) FROM demo.first f LEFT JOIN rehome.chunks c USING (id)
			WHERE f.path NOT IN (SELECT old FROM demo.moved) AND (c.path, `+restOfRow+`) IS DISTINCT FROM (f.path, f.rest)`)},
	)
}

func (d *demo) resolve(ctx context.Context) (string, error) {
	const below = "encoding/json/decode.go"
	file := d.done.files[0]
	dir, err := command[resilience.Resolution](ctx, d, "resolve", "--memory", demoMemory, below)
	if err != nil {
		return "", err
	}
	single, err := command[resilience.Resolution](ctx, d, "resolve", "--memory", demoMemory, file.Old)
	if err != nil {
		return "", err
	}
	const query = `SELECT rehome.current_path('` + demoMemory + `', '` + below + `')`
	inSQL := ask[string](ctx, d, query)
	fmt.Fprintf(d.out, "   %s\n   %s\n", query, inSQL)
	return "every moved path", d.claims(
		claim{"a file below a renamed directory is found", "codecs/json/decode.go", dir.CurrentPath},
		claim{"a moved file is found", file.New, single.CurrentPath},
		claim{"an application finds the same in SQL", dir.CurrentPath, inSQL},
		claim{"all moved paths lead to their files", d.count(ctx, `SELECT count(*) FROM demo.moved`), d.count(ctx, `
			SELECT count(*) FROM demo.moved WHERE rehome.current_path($1, old) = new`, demoMemory)},
	)
}
