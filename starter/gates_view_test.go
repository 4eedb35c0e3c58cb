package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
)

func TestGatesAreShownWithTheirStart(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 24, 12, 0, 0, 0, time.Local)
	var out bytes.Buffer
	gateRows(&out, []resilience.Gate{
		{Name: resilience.WaitersGate, State: resilience.GateShut, Detail: "9 sessions wait for locks; 1 did before", Since: since},
		{Name: resilience.ConnectionsGate, State: resilience.GateNear, Detail: "75 % of the server's connections are in use", Since: since},
		{Name: resilience.ProbeGate, State: resilience.GateOpen, Detail: "nothing to tell"},
		{Name: resilience.ReplicaGate, State: resilience.GateNotAvailable, Detail: "no replica is attached"},
	})
	require.Equal(t, "waits\twaiters, since 2026-11-24 12:00:00: 9 sessions wait for locks; 1 did before\n"+
		"near its limit\tconnections, since 2026-11-24 12:00:00: 75 % of the server's connections are in use\n"+
		"not available\treplica_lag: no replica is attached\n", out.String())
}
