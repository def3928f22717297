package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// logger writes runc's log lines, which callers parse:
//
//	{"level":"error","msg":"container does not exist","time":"2026-01-02T15:04:05Z"}
//	time="2026-01-02T15:04:05Z" level=error msg="container does not exist"
type logger struct {
	stderr io.Writer
	file   *os.File // nil: stderr
	json   bool
	least  slog.Level
}

func newLogger(stderr io.Writer) *logger { return &logger{stderr: stderr, least: slog.LevelInfo} }

// configure sends the log to a file, by its name, and sets format and level.
func (l *logger) configure(file, format string, debug bool) error {
	switch format {
	case "", "text":
	case "json":
		l.json = true
	default:
		return fmt.Errorf("invalid log-format: %s", format)
	}
	if debug {
		l.least = slog.LevelDebug
	}
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_SYNC, 0o644)
	if err != nil {
		return err
	}
	l.file = f
	return nil
}

func (l *logger) close() {
	if l.file != nil {
		l.file.Close()
	}
}

func (l *logger) warn(msg string) { l.write(slog.LevelWarn, msg) }

func (l *logger) debugf(format string, args ...any) {
	l.write(slog.LevelDebug, fmt.Sprintf(format, args...))
}

// fatal logs the error that ends the call; people see it in plain text too.
func (l *logger) fatal(err error) {
	text := words(err)
	l.write(slog.LevelError, text)
	if l.file != nil {
		fmt.Fprintln(l.stderr, text)
	}
}

// words is the text of an error without its class, which is for callers.
func words(err error) string {
	text := err.Error()
	for _, class := range []error{
		errdefs.ErrInvalidArgument, errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrFailedPrecondition,
		errdefs.ErrUnavailable, errdefs.ErrNotImplemented, errdefs.ErrDataLoss, // "permission denied" is EACCES's text too
	} {
		if errors.Is(err, class) {
			text = strings.TrimSuffix(text, ": "+class.Error())
		}
	}
	return text
}

func (l *logger) write(level slog.Level, msg string) {
	if level < l.least {
		return
	}
	w := l.stderr
	if l.file != nil {
		w = l.file
	}
	w.Write(l.line(level, msg, time.Now()))
}

var levelNames = map[slog.Level]string{
	slog.LevelDebug: "debug", slog.LevelInfo: "info", slog.LevelWarn: "warning", slog.LevelError: "error",
}

func (l *logger) line(level slog.Level, msg string, at time.Time) []byte {
	stamp := at.Format(time.RFC3339)
	if !l.json {
		return fmt.Appendf(nil, "time=%q level=%s msg=%s\n", stamp, levelNames[level], quoted(msg))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.Encode(struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Time  string `json:"time"`
	}{levelNames[level], msg, stamp})
	return b.Bytes()
}

// quoted puts a text in quotes unless it is one plain word.
func quoted(s string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._/@^+", r))
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return strconv.Quote(s)
}
