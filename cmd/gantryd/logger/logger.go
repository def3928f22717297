// Package logger makes the log of a process of this command: the engine, or the core
// alone.
package logger

import (
	"context"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"

	"gantry/api/reqctx"
)

// New writes to w in a format, "json" or else text, what is at least of the level,
// which can be changed while the process runs. What libraries log through logrus goes
// the same way.
func New(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	log := slog.New(requestAttrs{h})
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.InfoLevel)
	logrus.AddHook(toSlog{log})
	return log
}

// Level is the one of a name; "info" of any that it does not know.
func Level(name string) slog.Level {
	switch name {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error", "fatal", "panic":
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
