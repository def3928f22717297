package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// serveMetrics opens --metrics-addr, if there is one.
func (e *engine) serveMetrics() error {
	if e.daemon.Metrics == nil {
		return nil
	}
	l, err := net.Listen("tcp", e.cfg.MetricsAddr)
	if err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", e.daemon.Metrics.Handler())
	s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("metrics are not served any more", "err", err)
		}
	}()
	e.onStop(func(context.Context) error {
		err := s.Close()
		<-ended
		return err
	})
	e.log.Info("metrics API listens", "address", l.Addr().String())
	return nil
}
