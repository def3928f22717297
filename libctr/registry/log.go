package registry

import (
	"context"
	"io"
	"log/slog"
	"slices"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// quiet lets the resolver, which logs what its errors say again, and each host that it
// tries, speak at the level of debugging.
func quiet(ctx context.Context, l *slog.Logger) context.Context {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(toDebug{l})
	return log.WithLogger(ctx, logrus.NewEntry(logger))
}

type toDebug struct{ log *slog.Logger }

// Levels implements logrus.Hook.
func (toDebug) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (h toDebug) Fire(e *logrus.Entry) error {
	var attrs []any
	for k, v := range e.Data {
		attrs = append(attrs, slog.Any(k, v))
	}
	slices.SortFunc(attrs, func(a, b any) int {
		if a.(slog.Attr).Key < b.(slog.Attr).Key {
			return -1
		}
		return 1
	})
	h.log.Debug("registry: "+e.Message, attrs...)
	return nil
}
