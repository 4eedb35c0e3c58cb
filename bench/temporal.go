package main

import (
	"context"
	"fmt"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

func (r *rig) temporalVersion(ctx context.Context) (string, error) {
	c, err := r.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	info, err := c.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	return info.GetServerVersion(), err
}

func (r *rig) dial(ctx context.Context) (client.Client, error) {
	return client.DialContext(ctx, client.Options{HostPort: r.stack.TemporalAddress, Namespace: r.stack.Namespace, Logger: silent})
}

// events counts those in the histories of a workflow's run and of all that it
// continues.
func (r *rig) events(ctx context.Context, workflow string) (int64, error) {
	c, err := r.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var all int64
	for run, more := "", true; more; more = run != "" {
		described, err := c.DescribeWorkflowExecution(ctx, workflow, run)
		if err != nil {
			return 0, err
		}
		info := described.GetWorkflowExecutionInfo()
		all += info.GetHistoryLength()
		first, err := c.GetWorkflowHistory(ctx, workflow, info.GetExecution().GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
		if err != nil {
			return 0, fmt.Errorf("read the first event of run %s: %w", info.GetExecution().GetRunId(), err)
		}
		run = first.GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId()
	}
	return all, nil
}
