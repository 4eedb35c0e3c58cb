package dev

import (
	"context"
	"io"
)

// Binaries looks for Postgres, and brings it, with other usual places.
func Binaries(ctx context.Context, places []string, download string, log io.Writer) (string, error) {
	as, err := unprivileged(download)
	if err != nil {
		return "", err
	}
	return install{places: places, download: download, log: log}.binaries(ctx, as, 0)
}

// NewEnough says whether a Temporal CLI of this version can serve.
var NewEnough = newEnough
