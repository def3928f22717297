package boot

import (
	"io"
	"log/slog"

	"golang.org/x/sys/unix"
)

// newLogger writes to the fifo "log" in the bundle, which the engine copies to
// its own log; without one nowhere.
func newLogger(debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	var w io.Writer = io.Discard
	// Both ends are opened, so that nothing waits for the engine.
	if fd, err := unix.Open("log", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		w = lossy(fd)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// lossy is a non-blocking descriptor: lines that do not fit are dropped, as when
// the engine is away for long.
type lossy int

func (fd lossy) Write(p []byte) (int, error) {
	unix.Write(int(fd), p) //nolint:errcheck // dropped, see above
	return len(p), nil
}
