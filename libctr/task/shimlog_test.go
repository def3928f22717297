package task

import (
	"log/slog"
	"testing"
)

func TestLevelOfShimLog(t *testing.T) {
	for line, want := range map[string]slog.Level{
		`time=2026-01-01T00:00:00Z level=WARN msg="x" shim=a`:                   slog.LevelWarn,
		`time=2026-01-01T00:00:00Z level=INFO msg="level is low" shim=a`:        slog.LevelDebug,
		`time="2026-01-01T00:00:00Z" level=error msg="x"`:                       slog.LevelWarn,
		`time="2026-01-01T00:00:00Z" level=warning msg="x" id=a`:                slog.LevelWarn,
		`time="2026-01-01T00:00:00Z" level=info msg="starting signal loop"`:     slog.LevelDebug,
		`{"level":"error","msg":"x"}`:                                           slog.LevelWarn,
		`{"level":"debug","msg":"an error"}`:                                    slog.LevelDebug,
		`panic: whatever a shim prints that can not go on is seen by its death`: slog.LevelDebug,
	} {
		if got := levelOf([]byte(line)); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}
