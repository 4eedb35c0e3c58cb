package main

import (
	"context"
	"fmt"
	"strconv"

	"rehome/resilience"
)

func (d *demo) scan(ctx context.Context) (resilience.ScanResult, error) {
	r, err := command[resilience.ScanResult](ctx, d, "scan", "--memory", demoMemory)
	if err == nil {
		d.remember(ctx, "the scan "+r.ScanID, r.WorkflowID)
	}
	return r, err
}

func (d *demo) firstScan(ctx context.Context) (string, error) {
	before := d.checksum(ctx)
	r, err := d.scan(ctx)
	if err != nil {
		return "", err
	}
	moved := d.count(ctx, `SELECT count(*) FROM demo.moved`)
	return fmt.Sprintf("%d files missing, %d chunks", r.Files.Missing, r.Orphans.Total), d.claims(
		claim{"the scan read the whole tree", resilience.ScanComplete, r.Status},
		claim{"missing are the files that were moved or deleted", moved + deletedFiles, r.Files.Missing},
		claim{"changed are the files that were edited", int64(editedFiles), r.Files.Changed},
		claim{"new are the files at the new paths", moved, r.Files.New},
		claim{"orphans are the chunks of missing files", d.count(ctx, `
			SELECT count(*) FROM rehome.chunks WHERE path IN (SELECT old FROM demo.moved UNION ALL SELECT path FROM demo.deleted)`), r.Orphans.Total},
		claim{"the scan changed nothing in the table", before, d.checksum(ctx)},
	)
}

func (d *demo) secondScan(ctx context.Context) (string, error) {
	r, err := d.scan(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d files missing, %d chunks", r.Files.Missing, r.Orphans.Total), d.claims(
		claim{"the scan read the whole tree", resilience.ScanComplete, r.Status},
		claim{"missing are the deleted files", int64(deletedFiles), r.Files.Missing},
		claim{"orphans are their chunks", d.count(ctx, `SELECT count(*) FROM rehome.chunks JOIN demo.deleted USING (path)`), r.Orphans.Total},
		claim{"orphans among renamed files", int64(0), d.count(ctx, `
			SELECT count(*) FROM rehome.orphans o JOIN demo.moved m ON o.file_path IN (m.old, m.new)`)},
	)
}

func (d *demo) cleanup(ctx context.Context) (string, error) {
	doomed := d.count(ctx, `SELECT count(*) FROM rehome.chunks JOIN demo.deleted USING (path)`)
	all := d.count(ctx, `SELECT count(*) FROM rehome.chunks`)
	d.exec(ctx, `CREATE TABLE demo.doomed AS SELECT id, md5(record_send(c)) AS row FROM rehome.chunks c JOIN demo.deleted USING (path)`)
	r, err := command[resilience.CleanupResult](ctx, d, "cleanup", "--memory", demoMemory, "--max", "5000", "--grace", "0", "--confirm", demoMemory)
	if err != nil {
		return "", err
	}
	d.remember(ctx, "the cleanup "+r.RunID, r.WorkflowID)
	return fmt.Sprintf("%d chunks, %s", r.CleanedOrphans, size(r.BytesFreed)), d.claims(
		claim{"every chunk of a deleted file went to quarantine", doomed, r.CleanedOrphans},
		claim{"chunks that failed or were skipped", int64(0), r.FailedCleanups + r.Skipped},
		claim{"the table has that many chunks less", all - doomed, d.count(ctx, `SELECT count(*) FROM rehome.chunks`)},
		claim{"quarantine has them", doomed, d.count(ctx, `SELECT count(*) FROM rehome.quarantined WHERE reason = 'missing'`)},
	)
}

func (d *demo) restore(ctx context.Context) (string, error) {
	if _, err := command[any](ctx, d, "quarantine", "list", "--memory", demoMemory, "--limit", "3"); err != nil {
		return "", err
	}
	entry := d.count(ctx, `SELECT min(quarantine_id) FROM rehome.quarantined`)
	chunk := d.count(ctx, `SELECT chunk_id::bigint FROM rehome.quarantined WHERE quarantine_id = $1`, entry)
	r, err := command[resilience.RestoreResult](ctx, d, "quarantine", "restore", "--memory", demoMemory, strconv.FormatInt(entry, 10))
	if err != nil {
		return "", err
	}
	return "1 chunk", d.claims(
		claim{"one chunk came back", int64(1), r.Restored},
		claim{
			"its row is byte for byte what it was", ask[string](ctx, d, `SELECT row FROM demo.doomed WHERE id = $1`, chunk),
			ask[string](ctx, d, `SELECT md5(record_send(c)) FROM rehome.chunks c WHERE id = $1`, chunk),
		},
	)
}

func (d *demo) lastScan(ctx context.Context) (string, error) {
	all := d.count(ctx, `SELECT count(*) FROM rehome.chunks`)
	r, err := d.scan(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d chunks have their file, 1 is held", r.Classes[resilience.ClassAlive].Chunks, all), d.claims(
		claim{"the scan read the whole tree", resilience.ScanComplete, r.Status},
		claim{"orphans left", int64(0), r.Orphans.Total},
		claim{"the restored chunk is held, since a person wanted it back", int64(1), r.Classes[resilience.ClassHeld].Chunks},
		claim{"every other chunk has its file", all - 1, r.Classes[resilience.ClassAlive].Chunks},
	)
}
