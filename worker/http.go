package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readiness is what /readyz answers from. It is not ready until the worker has
// set a check, and again when it drains.
type readiness struct {
	check atomic.Pointer[func(context.Context) map[string]error]
	why   atomic.Pointer[string] // while there is no check
}

func (r *readiness) not(why string) {
	r.why.Store(&why)
	r.check.Store(nil)
}

func (r *readiness) by(check func(context.Context) map[string]error) { r.check.Store(&check) }

// report is the JSON answer of /readyz: for each server "ok" or what is wrong.
type report struct {
	Ready   bool              `json:"ready"`
	Reason  string            `json:"reason,omitempty"`
	Servers map[string]string `json:"servers,omitempty"`
}

func (r *readiness) report(ctx context.Context) report {
	check := r.check.Load()
	if check == nil {
		return report{Reason: *r.why.Load()}
	}
	answer := report{Ready: true, Servers: map[string]string{}}
	for server, err := range (*check)(ctx) {
		answer.Servers[server] = "ok"
		if err != nil {
			answer.Ready, answer.Reason = false, "a server does not answer, or the schema is not this program's"
			answer.Servers[server] = err.Error()
		}
	}
	return answer
}

func (r *readiness) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	ctx, cancel := context.WithTimeout(request.Context(), 2*time.Second) // probes give up after a few seconds
	defer cancel()
	answer := r.report(ctx)
	w.Header().Set("Content-Type", "application/json")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer) // the asker has gone
}

// listen opens the address for probes and metrics. In a development stack the
// next free port will do when it is taken.
func listen(ctx context.Context, address string, sidestep bool) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil && sidestep {
		listener, err = config.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("listen for probes: %w; choose another address by -listen", err)
	}
	return listener, nil
}

// serveHTTP answers probes and metrics until the returned function is called.
func serveHTTP(listener net.Listener, ready *readiness, metrics prometheus.Gatherer, logger *slog.Logger) func() {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok") // the asker has gone
	})
	mux.Handle("/readyz", ready)
	mux.Handle("/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("probes and metrics are not served any more", "reason", err.Error())
		}
	}()
	return func() { _ = server.Close() }
}
