package store

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
)

// mostSeen is how many chunks an error names: enough to find what they have in common.
const mostSeen = 3

// see tells a person which chunks to look at: the first of those rows of the journal of
// @plan that are wrong, by their ids as they were when it was written. It is empty where
// none are.
func see(ctx context.Context, q querier, args pgx.NamedArgs, wrong []int64) (string, error) {
	if len(wrong) == 0 {
		return "", nil
	}
	args = maps.Clone(args)
	args["wrong"] = wrong[:min(len(wrong), mostSeen)]
	rows, err := q.Query(ctx, `
		SELECT r.chunk_ids[(n - r.first)::integer + 1]
		FROM rehome.migration_plans p CROSS JOIN unnest(@wrong::bigint[]) n CROSS JOIN LATERAL (
			SELECT * FROM rehome.migration_runs r WHERE r.plan = p.number AND r.last >= n ORDER BY r.last LIMIT 1) r
		WHERE p.plan_id = @plan AND r.first <= n ORDER BY n`, args)
	if err != nil {
		return "", err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(ids) == 0 {
		return "", err
	}
	chunks, more := "chunk", ""
	if len(wrong) > 1 {
		chunks = "chunks"
	}
	if n := len(wrong) - len(ids); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf(" (see %s %s%s)", chunks, strings.Join(ids, ", "), more), nil
}
