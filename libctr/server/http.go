package server

import (
	"expvar"
	"net/http"
	"net/http/pprof"
)

// httpServers are the debug and the metrics server, where configured.
func (s *Server) httpServers(m *callMetrics) []*http.Server {
	var out []*http.Server
	if a := s.cfg.Debug.Address; a != "" {
		out = append(out, &http.Server{Addr: a, Handler: debugHandler(), ReadHeaderTimeout: readHeaderTimeout})
	}
	if a := s.cfg.Metrics.Address; a != "" {
		mux := http.NewServeMux()
		mux.Handle("/v1/metrics", m.handler())
		out = append(out, &http.Server{Addr: a, Handler: mux, ReadHeaderTimeout: readHeaderTimeout})
	}
	return out
}

func debugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/debug/vars", expvar.Handler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
