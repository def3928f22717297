package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/sirupsen/logrus"

	"gantry/api/reqctx"
	"gantry/daemon/config"
)

// newLog makes the daemon's logger; level can be changed while it runs. What
// libraries log through logrus goes the same way.
func newLog(c *config.Config, level *slog.LevelVar) *slog.Logger {
	level.Set(levelOf(c.Level()))
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, opts)
	if c.LogFormat == "json" {
		h = slog.NewJSONHandler(os.Stderr, opts)
	}
	log := slog.New(requestAttrs{h})
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.InfoLevel)
	logrus.AddHook(toSlog{log})
	return log
}

func levelOf(name string) slog.Level {
	switch name {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error", "fatal":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// requestAttrs adds what the context of a request carries.
type requestAttrs struct{ slog.Handler }

func (h requestAttrs) Handle(ctx context.Context, r slog.Record) error {
	if id := reqctx.RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request", id))
	}
	r.AddAttrs(reqctx.Attrs(ctx)...)
	return h.Handler.Handle(ctx, r)
}

func (h requestAttrs) WithAttrs(a []slog.Attr) slog.Handler {
	return requestAttrs{h.Handler.WithAttrs(a)}
}
func (h requestAttrs) WithGroup(n string) slog.Handler { return requestAttrs{h.Handler.WithGroup(n)} }

type toSlog struct{ log *slog.Logger }

func (toSlog) Levels() []logrus.Level { return logrus.AllLevels }

func (t toSlog) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	switch {
	case e.Level <= logrus.ErrorLevel:
		level = slog.LevelError
	case e.Level == logrus.WarnLevel:
		level = slog.LevelWarn
	}
	attrs := make([]any, 0, 2*len(e.Data))
	for k, v := range e.Data {
		attrs = append(attrs, k, v)
	}
	t.log.Log(context.Background(), level, e.Message, attrs...)
	return nil
}
