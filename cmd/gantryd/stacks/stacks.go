// Package stacks tells what every goroutine of the process is doing.
package stacks

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Dump writes the stack of every goroutine to a new file below dir.
func Dump(dir string, log *slog.Logger) {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	path := filepath.Join(dir, fmt.Sprintf("goroutine-stacks-%s.log", time.Now().UTC().Format("2006-01-02T150405.000Z")))
	if err := os.WriteFile(path, buf, 0o600); err != nil {
		log.Error("write goroutine stacks", "err", err)
		return
	}
	log.Info("goroutine stacks written", "path", path)
}
