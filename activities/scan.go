package activities

import (
	"context"

	"rehome/resilience"
	"rehome/store"
)

// BeginScan stamps the cutoff and lists the sources to be found.
func (a *Database) BeginScan(ctx context.Context, in ScanInput) (store.Listed, error) {
	var listed store.Listed
	err := beating(ctx, func(ctx context.Context) (err error) {
		listed, err = a.Store.BeginScan(ctx, in.scan(), in.Policy)
		return err
	})
	return listed, classify("begin the scan", err)
}

// JudgeSources gives the sources that the walk did not see their first verdict
// and returns how many are to be looked for again.
func (a *Database) JudgeSources(ctx context.Context, in ScanInput) (int64, error) {
	var suspects int64
	err := beating(ctx, func(ctx context.Context) (err error) {
		suspects, err = a.Store.JudgeSources(ctx, in.scan())
		return err
	})
	return suspects, outrun("judge the sources", err)
}

// FinishScan records orphans, refreshes the catalogue, and closes the scan.
func (a *Database) FinishScan(ctx context.Context, in ScanInput) (resilience.ScanResult, error) {
	var result resilience.ScanResult
	err := beating(ctx, func(ctx context.Context) (err error) {
		result, err = a.Store.FinishScan(ctx, in.scan())
		return err
	})
	return result, outrun("finish the scan", err)
}

// AbortScanInput ends a scan.
type AbortScanInput struct {
	ScanInput
	Reason string `json:"reason"`
}

// AbortScan records that a scan found nothing to be relied on, and why.
func (a *Database) AbortScan(ctx context.Context, in AbortScanInput) error {
	return classify("abort the scan", a.Store.AbortScan(ctx, in.scan(), in.Reason))
}
