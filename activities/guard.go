package activities

import (
	"context"
	"fmt"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
)

// Guard refuses activities whose input comes from another installation: a
// worker whose DATABASE_URL was changed must not write to the wrong database.
type Guard struct {
	interceptor.WorkerInterceptorBase
	Installation string
}

// InterceptActivity puts the check before every activity.
func (g *Guard) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	inbound := &guardInbound{installation: g.Installation}
	inbound.Next = next
	return inbound
}

type guardInbound struct {
	interceptor.ActivityInboundInterceptorBase
	installation string
}

// ExecuteActivity runs the activity when its input is from this installation.
func (g *guardInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	for _, arg := range in.Args {
		from, ok := arg.(interface{ From() string })
		if !ok || from.From() != g.installation {
			return nil, temporal.NewNonRetryableApplicationError(
				fmt.Sprintf("this worker serves installation %s and the work is not from it; point DATABASE_URL of the worker at the database the workflow was started for", g.installation),
				Refused, nil)
		}
	}
	return g.Next.ExecuteActivity(ctx, in)
}
