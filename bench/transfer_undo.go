package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// plainBack undoes by hand what plain did, after the source rows were set aside, as
// rehome puts them away at the end of a transfer.
func (b *transferring) plainBack(ctx context.Context) (float64, error) {
	err := b.exec(ctx, `DROP TABLE IF EXISTS public.aside`, `CREATE TABLE public.aside AS SELECT * FROM public.notes`, `DELETE FROM public.notes`)
	if err != nil {
		return 0, err
	}
	if err := b.settle(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	err = pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO public.notes SELECT * FROM public.aside;
			DELETE FROM public.documents WHERE path IN (SELECT file FROM public.aside);
			DROP TABLE public.aside`)
		return err
	})
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("undo a transfer by hand: %w", err)
	}
	return took.Seconds(), b.home(ctx)
}

// oursBack undoes a transfer of rehome once the tables are as they would be some time
// later. What a plan says of its apply begins with the copies; the source rows are
// home by then.
func (b *transferring) oursBack(ctx context.Context, migration string) ([]float64, error) {
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	plan, took, err := b.completed(ctx, "migration", "rollback", migration)
	if err != nil {
		return nil, err
	}
	all := measures(plan, took)
	err = b.pool.QueryRow(ctx, `
		SELECT extract(epoch FROM g.last_at - q.began)::float8
		FROM rehome.migration_progress g, (SELECT min(restored_at) AS began FROM rehome.quarantine) q -- as their transaction began
		WHERE g.plan_id = $1`, plan.ID).Scan(&all[0])
	if err != nil {
		return nil, fmt.Errorf("read how long the undo %s took: %w", plan.ID, err)
	}
	return all, b.home(ctx)
}

// home checks that all is where it was before the transfer, bit for bit.
func (b *transferring) home(ctx context.Context) error {
	var home, same, copies int
	err := b.pool.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM public.notes), (SELECT count(*) FROM public.notes n JOIN public.kept k USING (id) WHERE n *= k), (SELECT count(*) FROM public.documents)`).
		Scan(&home, &same, &copies)
	if err != nil {
		return fmt.Errorf("look at what came home: %w", err)
	}
	if home != b.crop.rows || same != b.crop.rows || copies > 0 {
		return fmt.Errorf("after the undo %d of %d chunks are home, %d of them as they were, and %d copies are left", home, b.crop.rows, same, copies)
	}
	return nil
}
