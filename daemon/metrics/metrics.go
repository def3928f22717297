// Package metrics counts what the engine does, in the names of dockerd's metrics, for
// Prometheus. A nil *Set counts nothing: that is an engine without --metrics-addr.
//
// What others know already (states of containers, events, the host) is asked of them
// when somebody looks; only durations and health checks are noted as they happen.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Engine is what the info metric tells.
type Engine struct {
	Version, Commit, Architecture, Driver, Kernel, OS, OSType, OSVersion, ID string

	CPUs   int
	Memory uint64 // bytes
}

// Sources are asked when somebody looks; none may be nil.
type Sources struct {
	Containers  func() (running, paused, stopped int)
	Events      func() uint64 // published since the start
	Subscribers func() int
}

// Set are the metrics. It is safe for concurrent use.
type Set struct {
	registry     *prometheus.Registry
	containers   *prometheus.HistogramVec
	networks     *prometheus.HistogramVec
	images       *prometheus.HistogramVec
	host         *prometheus.HistogramVec
	checks       prometheus.Counter
	failedChecks prometheus.Counter
}

const prefix = "engine_daemon_"

// New makes the metrics.
func New(e Engine, s Sources) *Set {
	m := &Set{
		registry:     prometheus.NewRegistry(),
		containers:   histogram("container_actions", "The number of seconds it takes to process each container action", "action"),
		networks:     histogram("network_actions", "The number of seconds it takes to process each network action", "action"),
		images:       histogram("image_actions", "The number of seconds it takes to process each image action", "action"),
		host:         histogram("host_info_functions", "The number of seconds it takes to call functions gathering info about the host", "function"),
		checks:       prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "health_checks_total", Help: "The total number of health checks"}),
		failedChecks: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "health_checks_failed_total", Help: "The total number of failed health checks"}),
	}
	for _, action := range []string{"changes", "commit", "create", "delete", "start"} {
		m.containers.WithLabelValues(action).Observe(0) // there from the beginning, as dockerd has them
	}
	m.registry.MustRegister(
		m.containers, m.networks, m.images, m.host, m.checks, m.failedChecks,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		states(s.Containers),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: prefix + "events_total", Help: "The number of events logged"},
			func() float64 { return float64(s.Events()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "events_subscribers_total", Help: "The number of current subscribers to events"},
			func() float64 { return float64(s.Subscribers()) }),
	)
	m.registry.MustRegister(e.gauges()...)
	return m
}

func histogram(name, help, label string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name + "_seconds", Help: help}, []string{label})
}

func (e Engine) gauges() []prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: prefix + "engine_info", Help: "The information related to the engine and the OS it is running on",
		ConstLabels: prometheus.Labels{
			"version": e.Version, "commit": e.Commit, "architecture": e.Architecture, "graphdriver": e.Driver, "kernel": e.Kernel,
			"os": e.OS, "os_type": e.OSType, "os_version": e.OSVersion, "daemon_id": e.ID,
		},
	})
	info.Set(1)
	cpus := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "engine_cpus_cpus", Help: "The number of cpus that the host system of the engine has"})
	cpus.Set(float64(e.CPUs))
	memory := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "engine_memory_bytes", Help: "The number of bytes of memory that the host system of the engine has"})
	memory.Set(float64(e.Memory))
	return []prometheus.Collector{info, cpus, memory}
}

// states counts containers when it is asked.
type states func() (running, paused, stopped int)

var statesDesc = prometheus.NewDesc(prefix+"container_states_containers", "The count of containers in various states", []string{"state"}, nil)

func (states) Describe(ch chan<- *prometheus.Desc) { ch <- statesDesc }

func (s states) Collect(ch chan<- prometheus.Metric) {
	running, paused, stopped := s()
	for state, n := range map[string]int{"running": running, "paused": paused, "stopped": stopped} {
		ch <- prometheus.MustNewConstMetric(statesDesc, prometheus.GaugeValue, float64(n), state)
	}
}

// Handler serves the metrics.
func (m *Set) Handler() http.Handler {
	return promhttp.InstrumentMetricHandler(m.registry, promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
}

// Check notes a health check that has ended.
func (m *Set) Check(failed bool) {
	if m == nil {
		return
	}
	m.checks.Inc()
	if failed {
		m.failedChecks.Inc()
	}
}

// Network notes how long an action on a container's networks took: allocate, release.
func (m *Set) Network(action string, took time.Duration) {
	if m != nil {
		m.networks.WithLabelValues(action).Observe(took.Seconds())
	}
}
