package main

import (
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
)

// newMetrics returns what /metrics shows, and the handler through which the SDK
// and our activities (by activity.GetMetricsHandler) count.
func newMetrics(logger *slog.Logger) (*prometheus.Registry, client.MetricsHandler, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, nil, fmt.Errorf("prepare metrics: %w", err)
	}
	meter := metric.NewMeterProvider(metric.WithReader(exporter)).Meter("rehome")
	handler := opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter:                meter,
		UseMonotonicCounters: true, // else Prometheus would see gauges
		OnError: func(err error) { // the default panics
			logger.Warn("a metric was not counted", "reason", err.Error())
		},
	})
	return registry, handler, nil
}

// observePool shows the use of the connections to Postgres, for which
// activities wait when there are too few.
func observePool(registry *prometheus.Registry, pool *pgxpool.Pool) {
	for state, read := range map[string]func(*pgxpool.Stat) int32{
		"in_use": (*pgxpool.Stat).AcquiredConns,
		"idle":   (*pgxpool.Stat).IdleConns,
		"max":    (*pgxpool.Stat).MaxConns,
	} {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rehome_postgres_connections", Help: "Connections of this worker to Postgres.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(read(pool.Stat())) }))
	}
}
