package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// callMetrics counts the gRPC calls of one server, under the names that the
// usual dashboards know.
type callMetrics struct {
	registry *prometheus.Registry
	handled  *prometheus.CounterVec
	seconds  *prometheus.HistogramVec // nil unless configured
	answered func()                   // may be nil
}

func newCallMetrics(cfg MetricsConfig) *callMetrics {
	m := &callMetrics{
		registry: prometheus.NewRegistry(),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grpc_server_handled_total",
			Help: "RPCs completed on the server, regardless of success or failure.",
		}, []string{"grpc_service", "grpc_method", "grpc_code"}),
	}
	m.registry.MustRegister(m.handled, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if cfg.GRPCHistogram {
		m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "grpc_server_handling_seconds",
			Help: "Time from the start of an RPC to its end on the server.",
		}, []string{"grpc_service", "grpc_method"})
		m.registry.MustRegister(m.seconds)
	}
	return m
}

func (m *callMetrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *callMetrics) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	start := time.Now()
	resp, err := handle(ctx, req)
	m.observe(info.FullMethod, start, err)
	return resp, err
}

func (m *callMetrics) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	start := time.Now()
	err := handle(srv, ss)
	m.observe(info.FullMethod, start, err)
	return err
}

func (m *callMetrics) observe(full string, start time.Time, err error) {
	if m.answered != nil {
		m.answered()
	}
	service, method, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	m.handled.WithLabelValues(service, method, status.Code(err).String()).Inc()
	if m.seconds != nil {
		m.seconds.WithLabelValues(service, method).Observe(time.Since(start).Seconds())
	}
}
